//! Playlists, manifest, segments and pictures of a recording, from the segment index. File names are `{rung}-{ordinal}-{number}.m4s`
//! (`.vtt` of text, which is in `{rung}-{ordinal}-all.vtt` in one piece), `{rung}-{ordinal}-init.mp4`, `{rung}.m3u8`,
//! `{rung}-iframes.m3u8`, `storyboard-{ordinal}-{number}.jpg` and `thumbnail-{ordinal}-{number}.jpg`; the ordinal names the set, so that
//! a name never changes its meaning. As MPEG-TS they are `{rung}-{ordinal}-{number}.ts` and `{rung}-ts.m3u8`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::sets::{self, Rendition, SetReference};
use reelmill_shared::db::stills::{self, StillKind};
use reelmill_shared::ids::{RecordingId, SetId};
use reelmill_shared::job::state::RecordingStatus;
use reelmill_shared::job::task::{AUDIO_RUNG, SUBTITLES_RUNG};
use reelmill_shared::media::dash::{Files, ManifestKind};
use reelmill_shared::media::hls::PlaylistKind;
use reelmill_shared::media::presentation::{self, Presented};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::cdn::{Had, tag};
use crate::media::{Caching, MediaFile, send, send_bytes, send_text};
use crate::problem::{Answer, Kind, Problem};
use crate::shared_cache::{Kept, Place};
use crate::state::App;
use crate::transport;

/// MIME type of a playlist (RFC 8216, 10).
pub(crate) const PLAYLIST: &str = "application/vnd.apple.mpegurl";
/// MIME type of a manifest (ISO/IEC 23009-1, C.1).
const MANIFEST: &str = "application/dash+xml";
pub(crate) const VIDEO: &str = "video/mp4";
const AUDIO: &str = "audio/mp4";
/// MIME type of WebVTT (W3C).
const TEXT: &str = "text/vtt";
const MANIFEST_NAME: &str = "manifest.mpd";
const FOLLOWING_NAME: &str = "manifest-following";
/// So often a manifest that is whole goes on as one that grows for who has followed it. A player that waits for the next segment
/// when the manifest turns static may take what it has for all there is (dash.js 5.2 does): so it first learns the rest, as DASH-IF
/// IOP v4.3, 4.6.4 has it for the end of a live service. Counted by its own requests, one every two seconds: a player that is slow is
/// slow in both.
const FOLLOWED_ON: u8 = 10;
const JPEG: &str = "image/jpeg";
/// MIME type of a transport stream (RFC 3555).
pub(crate) const TRANSPORT: &str = "video/mp2t";

/// What segments are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Container {
    /// Fragmented MP4 (and WebVTT), as stored; the sound beside the picture.
    #[default]
    Fmp4,
    /// MPEG-TS, made when asked for; the sound with the picture.
    Ts,
}

/// What a file name under `stream/` means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum StreamFile {
    Master(Container),
    /// `following`: the manifest as it goes on for a player that has followed it since it grew, and has had it whole so many times.
    Manifest {
        following: Option<u8>,
    },
    Playlist {
        rung: String,
        container: Container,
    },
    Iframes {
        rung: String,
    },
    Init {
        rung: String,
        ordinal: i32,
    },
    Text {
        rung: String,
        ordinal: i32,
    },
    Segment {
        rung: String,
        ordinal: i32,
        number: u32,
        container: Container,
    },
    Still {
        kind: StillKind,
        ordinal: i32,
        number: u32,
    },
}

impl StreamFile {
    /// Reads a file name; `None` for one we never give out.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let checked = |rung: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            (!rung.is_empty() && rung.len() <= 32 && rung.bytes().all(plain)).then(|| rung.to_owned())
        };
        if let Some(stem) = name.strip_suffix(".m3u8") {
            let (stem, container) = match stem.strip_suffix("-ts") {
                Some(stem) => (stem, Container::Ts),
                None => (stem, Container::Fmp4),
            };
            return Some(match stem {
                "master" | "playlist" => Self::Master(container),
                stem => match stem.strip_suffix("-iframes").filter(|_| container == Container::Fmp4) {
                    Some(rung) => Self::Iframes { rung: checked(rung)? },
                    None => Self::Playlist { rung: checked(stem)?, container },
                },
            });
        }
        match name {
            MANIFEST_NAME => return Some(Self::Manifest { following: None }),
            name if name.starts_with(FOLLOWING_NAME) => {
                let whole = name.strip_prefix(FOLLOWING_NAME)?.strip_prefix('-')?.strip_suffix(".mpd")?;
                let whole = whole.parse().ok().filter(|whole| *whole <= FOLLOWED_ON)?;
                return Some(Self::Manifest { following: Some(whole) });
            }
            _ => {}
        }
        let (stem, extension) = name.rsplit_once('.')?;
        let mut parts = stem.rsplitn(3, '-');
        let (last, ordinal, rung) = (parts.next()?, parts.next()?.parse().ok()?, checked(parts.next()?)?);
        match (extension, last) {
            ("mp4", "init") => Some(Self::Init { rung, ordinal }),
            ("vtt", "all") => Some(Self::Text { rung, ordinal }),
            ("m4s" | "vtt" | "ts", number) => {
                let container = if extension == "ts" { Container::Ts } else { Container::Fmp4 };
                Some(Self::Segment { rung, ordinal, number: number.parse().ok()?, container })
            }
            ("jpg", number) => {
                let kind = match rung.as_str() {
                    "storyboard" => StillKind::Sheet,
                    "thumbnail" => StillKind::Thumbnail,
                    _ => return None,
                };
                Some(Self::Still { kind, ordinal, number: number.parse().ok()? })
            }
            _ => None,
        }
    }
}

/// The set a recording plays now.
pub(crate) async fn active_set(app: &App, recording: RecordingId) -> Answer<Option<SetReference>> {
    let references = references(app, recording).await?;
    Ok(references.iter().find(|reference| reference.active).cloned())
}

async fn references(app: &App, recording: RecordingId) -> Answer<Arc<Vec<SetReference>>> {
    if let Some(found) = app.caches.references.get(&recording).await {
        return Ok(found);
    }
    let found = Arc::new(sets::of_recording(&app.db, recording).await?);
    // An answer without anything to play must not be remembered: it is about to change.
    if found.iter().any(|reference| reference.active) {
        app.caches.references.insert(recording, Arc::clone(&found)).await;
    }
    Ok(found)
}

/// Renditions of a set. While it grows, those that have something to play.
pub(crate) async fn renditions(app: &App, set: &SetReference) -> Answer<Arc<Vec<Rendition>>> {
    if !set.is_finished() {
        return Ok(Arc::new(growing(app, set.set_id).await?.iter().map(|(r, _)| r.clone()).collect()));
    }
    if let Some(found) = app.caches.renditions.get(&set.set_id).await {
        return Ok(found);
    }
    let found = Arc::new(sets::renditions(&app.db, set.set_id).await?);
    app.caches.renditions.insert(set.set_id, Arc::clone(&found)).await;
    Ok(found)
}

/// Renditions of a set that grows, each with how many of its segments may be listed: at least one.
async fn growing(app: &App, set: SetId) -> Answer<Arc<Vec<(Rendition, usize)>>> {
    if let Some(found) = app.caches.growing.get(&set).await {
        return Ok(found);
    }
    let renditions = sets::renditions(&app.db, set).await?;
    let prefixes = sets::prefixes(&app.db, set).await?;
    let presented: Vec<_> = renditions.iter().map(presented).collect();
    let has = |name: &str| prefixes.get(name).map_or(0, |prefix| prefix.segments);
    let visible = presentation::visible(&presented, has);
    let mut listed: Vec<_> = renditions.into_iter().zip(visible).filter(|(_, has)| *has > 0).collect();
    for (rendition, _) in &mut listed {
        // Not every encoder keeps to its ceiling.
        let so_far =
            prefixes.get(&rendition.rung).map_or(0, |prefix| rendition.bits_per_second(prefix.densest));
        rendition.peak_bandwidth = rendition.peak_bandwidth.max(so_far);
    }
    let found = Arc::new(listed);
    app.caches.growing.insert(set, Arc::clone(&found)).await;
    Ok(found)
}

/// How many segments of a rendition may be played by now; `None` where all there will be.
pub(crate) async fn visible(app: &App, set: &SetReference, rung: &str) -> Answer<Option<usize>> {
    if set.is_finished() {
        return Ok(None);
    }
    let growing = growing(app, set.set_id).await?;
    Ok(Some(growing.iter().find(|(known, _)| known.rung == rung).map_or(0, |(_, visible)| *visible)))
}

/// One of the sets of a recording, as it is now; `None` where the recording has it no more.
pub(crate) async fn set_again(app: &App, recording: RecordingId, set: SetId) -> Answer<Option<SetReference>> {
    let references = references(app, recording).await?;
    Ok(references.iter().find(|reference| reference.set_id == set).cloned())
}

/// Answers a request for a file of a recording's stream.
pub(crate) async fn serve(
    app: &App,
    recording: &Recording,
    file: &StreamFile,
    private: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Response> {
    let caching = |caching: Caching| if private { caching.private() } else { caching };
    let mut keys = vec![SurrogateKey::Recording(recording.id)];
    let mut response = match file {
        StreamFile::Master(_)
        | StreamFile::Playlist { .. }
        | StreamFile::Iframes { .. }
        | StreamFile::Manifest { .. } => {
            let (set, listing) = listing(app, recording, file).await?;
            keys.extend([SurrogateKey::Listings(recording.id), SurrogateKey::Set(set)]);
            let content_type = if matches!(file, StreamFile::Manifest { .. }) { MANIFEST } else { PLAYLIST };
            let kept = if listing.is_settled { Caching::Settled } else { Caching::Brief };
            send_text(listing.text, content_type, caching(kept), method, headers)
        }
        StreamFile::Init { rung, ordinal }
        | StreamFile::Text { rung, ordinal }
        | StreamFile::Segment { rung, ordinal, .. } => {
            let references = references(app, recording.id).await?;
            // A set that was replaced keeps its files for players that still use them.
            let set = references.iter().find(|reference| reference.ordinal == *ordinal);
            let set = set.ok_or_else(|| missing(recording))?;
            keys.push(SurrogateKey::Set(set.set_id));
            if let StreamFile::Segment { number, container: Container::Ts, .. } = file {
                let found = transport::segment(app, set, rung, *number).await?;
                let (found, had) = found.ok_or_else(|| missing(recording))?;
                let sent = send_bytes(found, TRANSPORT, caching(Caching::Immutable), method, headers)?;
                (Extension(had), sent).into_response()
            } else {
                let found = locate(app, set, rung, file).await?.ok_or_else(|| missing(recording))?;
                // No rung of a profile may begin like these.
                let content_type = match rung {
                    rung if rung.starts_with(AUDIO_RUNG) => AUDIO,
                    rung if rung.starts_with(SUBTITLES_RUNG) => TEXT,
                    _ => VIDEO,
                };
                let fixed = caching(Caching::Immutable);
                let sent = send(&app.storage, &found, content_type, fixed, method, headers).await?;
                // Nothing of them is kept here.
                (Extension(Had(false)), sent).into_response()
            }
        }
        StreamFile::Still { kind, ordinal, number } => {
            // A row is there only once the task that made it was published; the set may be under way.
            let found = stills::find(&app.db, recording.id, *ordinal, *kind, *number).await?;
            let found = found.map(|still| MediaFile { key: still.key, bytes: still.bytes });
            let found = found.ok_or_else(|| missing(recording))?;
            send(&app.storage, &found, JPEG, caching(Caching::Immutable), method, headers).await?
        }
    };
    if !private {
        tag(&mut response, &keys);
    }
    Ok(response)
}

/// Where the init segment, a segment or the text of a rendition lies.
pub(crate) async fn locate(
    app: &App,
    set: &SetReference,
    rung: &str,
    file: &StreamFile,
) -> Answer<Option<MediaFile>> {
    let name = match file {
        StreamFile::Segment { number, .. } => return stored(app, set.set_id, rung, *number).await,
        StreamFile::Text { .. } => format!("{rung}/all"),
        _ => format!("{rung}/init"),
    };
    let cached = (set.set_id, name);
    if let Some(found) = app.caches.files.get(&cached).await {
        return Ok(Some(found));
    }
    let all = renditions(app, set).await?;
    let rendition = all.iter().find(|rendition| rendition.rung == rung);
    let found = rendition.and_then(|rendition| match (file, &rendition.text) {
        (StreamFile::Text { .. }, text) => {
            text.as_ref().map(|text| MediaFile { key: text.key.clone(), bytes: text.bytes })
        }
        (_, None) => Some(MediaFile { key: rendition.init_key.clone(), bytes: rendition.init_bytes }),
        // Text has no init segment.
        (_, Some(_)) => None,
    });
    if let Some(found) = &found {
        app.caches.files.insert(cached, found.clone()).await;
    }
    Ok(found)
}

/// Where a segment of a set lies; `None` where there is none, or nobody has it.
pub(crate) async fn stored(app: &App, set: SetId, rung: &str, number: u32) -> Answer<Option<MediaFile>> {
    let cached = (set, format!("{rung}/{number}"));
    if let Some(found) = app.caches.files.get(&cached).await {
        return Ok(Some(found));
    }
    let found = sets::segment(&app.db, set, rung, number).await?.filter(|segment| !segment.key.is_empty());
    let found = found.map(|segment| MediaFile { key: segment.key, bytes: segment.bytes });
    if let Some(found) = &found {
        app.caches.files.insert(cached, found.clone()).await;
    }
    Ok(found)
}

/// For so long apis keep a listing of a finished set for each other.
const LISTED: Duration = Duration::from_secs(600);

/// A playlist or manifest.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) text: Bytes,
    /// Nothing will be added to it.
    is_settled: bool,
}

/// That of the set that a recording plays now, which is named. Rendered once for all who ask: that of a long recording takes every row of its index.
async fn listing(app: &App, recording: &Recording, file: &StreamFile) -> Answer<(SetId, Listing)> {
    let reference = active_set(app, recording.id).await?.ok_or_else(|| not_ready(recording))?;
    let key = (reference.set_id, reference.ordinal, file.clone());
    if let Some(found) = app.caches.settled.get(&key).await {
        return Ok((reference.set_id, found));
    }
    let name = format!("{} {} {file:?}", reference.set_id, reference.ordinal);
    let place = Place { kept: Kept::Listing, name: &name, field: "text" };
    let render = async {
        if reference.is_finished()
            && let Some((text, _)) = app.shared.get::<String>(place).await
        {
            return Ok(Listing { text: text.into(), is_settled: true });
        }
        let (text, is_settled) = match file {
            StreamFile::Manifest { following } => manifest(app, recording, &reference, *following).await?,
            _ => (playlist(app, recording, &reference, file).await?, reference.is_finished()),
        };
        if is_settled {
            app.shared.put(place, &text, LISTED).await;
        }
        Ok(Listing { text: text.into(), is_settled })
    };
    let found = app.caches.unsettled.try_get_with(key.clone(), render).await;
    let found = found.map_err(|problem: Arc<Problem>| Problem::clone(&problem))?;
    if found.is_settled {
        app.caches.settled.insert(key, found.clone()).await;
    }
    Ok((reference.set_id, found))
}

async fn playlist(
    app: &App,
    recording: &Recording,
    reference: &SetReference,
    file: &StreamFile,
) -> Answer<String> {
    let renditions = renditions(app, reference).await?;
    let (rung, container) = match file {
        StreamFile::Playlist { rung, container } => (rung, *container),
        StreamFile::Iframes { rung } => (rung, Container::Fmp4),
        StreamFile::Master(Container::Ts) => return transport::master(app, reference).await,
        _ => {
            let presented: Vec<_> = renditions.iter().map(presented).collect();
            return Ok(presentation::master(&presented).render());
        }
    };
    let Some(rendition) = renditions.iter().find(|rendition| rendition.rung == *rung) else {
        let names: Vec<&str> = renditions.iter().map(|r| r.rung.as_str()).collect();
        return Err(Problem::new(
            Kind::NotFound,
            format!("the recording has no rendition {rung}; it has {}", names.join(", ")),
        ));
    };
    let mut segments = sets::segments(&app.db, reference.set_id, rung).await?;
    let kind = if reference.is_finished() {
        PlaylistKind::Vod
    } else {
        let growing = growing(app, reference.set_id).await?;
        let visible = growing.iter().find(|(known, _)| known.rung == *rung);
        segments.truncate(visible.map_or(0, |(_, has)| *has));
        // What failed will not go on: players end where it ends.
        PlaylistKind::Event { ended: recording.status == RecordingStatus::Failed }
    };
    let ordinal = reference.ordinal;
    let extension = match container {
        Container::Fmp4 => rendition.kind.extension(),
        Container::Ts => "ts",
    };
    let init = format!("{rung}-{ordinal}-init.mp4");
    let name = |segment: &sets::Segment| format!("{rung}-{ordinal}-{}.{extension}", segment.number);
    if let StreamFile::Iframes { .. } = file {
        if rendition.iframe_bandwidth.is_none() {
            return Err(Problem::new(Kind::NotFound, format!("no I-frames are known of {rung}")));
        }
        return Ok(rendition.iframe_playlist(init, &segments, name).render());
    }
    let mut playlist = rendition.playlist(kind, reference.target_duration, init, &segments, name);
    if container == Container::Ts {
        transport::check(rendition)?;
        playlist.map_uri = None;
    }
    Ok(playlist.render())
}

fn presented(rendition: &Rendition) -> Presented {
    let rung = &rendition.rung;
    rendition.presented(format!("{rung}.m3u8"), format!("{rung}-iframes.m3u8"))
}

/// The manifest, and whether it stays like that.
async fn manifest(
    app: &App,
    recording: &Recording,
    reference: &SetReference,
    following: Option<u8>,
) -> Answer<(String, bool)> {
    let listed = if reference.is_finished() {
        let finished = renditions(app, reference).await?;
        finished.iter().map(|rendition| (rendition.clone(), usize::MAX)).collect()
    } else {
        growing(app, reference.set_id).await?.to_vec()
    };
    let mut timelines = vec![];
    for (rendition, visible) in listed {
        let mut segments = sets::segments(&app.db, reference.set_id, &rendition.rung).await?;
        segments.truncate(visible);
        let base = format!("{}-{}", rendition.rung, reference.ordinal);
        let files = match rendition.text {
            Some(_) => Files::Whole(format!("{base}-all.vtt")),
            None => {
                Files::Template { init: format!("{base}-init.mp4"), media: format!("{base}-$Number$.m4s") }
            }
        };
        timelines.push((presented(&rendition), rendition.timeline(&segments, files)));
    }
    // What failed will not go on.
    let ended = recording.status == RecordingStatus::Failed || reference.is_finished();
    let is_over = following.is_none_or(|whole| whole >= FOLLOWED_ON);
    let kind = if ended && is_over {
        ManifestKind::Static
    } else {
        let had = if ended { following.unwrap_or_default() + 1 } else { 0 };
        // As if all of it had been broadcast just before the recording was made: whatever is listed is there.
        let whole = TimeDelta::try_milliseconds((recording.duration_seconds.unwrap_or(0.0) * 1000.0) as i64);
        ManifestKind::Growing {
            available_from: recording.created_at - whole.unwrap_or_default(),
            published: Utc::now(),
            next: format!("{FOLLOWING_NAME}-{had}.mpd"),
        }
    };
    let is_settled = reference.is_finished() && matches!(kind, ManifestKind::Static);
    Ok((presentation::manifest(kind, timelines).render(), is_settled))
}

fn not_ready(recording: &Recording) -> Problem {
    Problem::new(
        Kind::NotReady,
        format!("nothing of this recording can be played: it is {}", recording.status),
    )
}

fn missing(recording: &Recording) -> Problem {
    Problem::new(Kind::NotFound, format!("recording {} has no such file", recording.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_we_gave_out() {
        use Container::{Fmp4, Ts};
        let segment = |rung: &str, ordinal, number, container| StreamFile::Segment {
            rung: rung.into(),
            ordinal,
            number,
            container,
        };
        let playlist = |rung: &str, container| StreamFile::Playlist { rung: rung.into(), container };
        assert_eq!(StreamFile::parse("720p-1-0.m4s"), Some(segment("720p", 1, 0, Fmp4)));
        assert_eq!(StreamFile::parse("very_high-2-17.ts"), Some(segment("very_high", 2, 17, Ts)));
        assert_eq!(StreamFile::parse("subtitles_2-1-7.vtt"), Some(segment("subtitles_2", 1, 7, Fmp4)));
        let text = StreamFile::Text { rung: "subtitles".into(), ordinal: 1 };
        assert_eq!(StreamFile::parse("subtitles-1-all.vtt"), Some(text));
        assert_eq!(StreamFile::parse("master.m3u8"), Some(StreamFile::Master(Fmp4)));
        assert_eq!(StreamFile::parse("master-ts.m3u8"), Some(StreamFile::Master(Ts)));
        assert_eq!(StreamFile::parse("720p.m3u8"), Some(playlist("720p", Fmp4)));
        assert_eq!(StreamFile::parse("720p-ts.m3u8"), Some(playlist("720p", Ts)));
        assert_eq!(StreamFile::parse("manifest.mpd"), Some(StreamFile::Manifest { following: None }));
        let following = StreamFile::Manifest { following: Some(3) };
        assert_eq!(StreamFile::parse("manifest-following-3.mpd"), Some(following));
        assert_eq!(StreamFile::parse("720p-iframes.m3u8"), Some(StreamFile::Iframes { rung: "720p".into() }));
        assert_eq!(
            StreamFile::parse("audio-1-init.mp4"),
            Some(StreamFile::Init { rung: "audio".into(), ordinal: 1 })
        );
        assert_eq!(
            StreamFile::parse("storyboard-3-15.jpg"),
            Some(StreamFile::Still { kind: StillKind::Sheet, ordinal: 3, number: 15 })
        );
        for bad in [
            "",
            "720p-1-0.jpg",
            "storyboard-1.jpg",
            "storyboard-1--1.jpg",
            "x",
            "a.ts",
            "../x-1-1.m4s",
            "720p-1-x.m4s",
            "720p-1.m4s",
            "A-1-1.m4s",
            ".m3u8",
            "-iframes.m3u8",
            "a-b-iframes.m3u8",
            "720p.mpd",
            "manifest-following.mpd",
            "manifest-following-255.mpd",
            "-ts.m3u8",
            "a-b-ts.m3u8",
            "a-1-init.ts",
            "720p-iframes-ts.m3u8",
            "a-1-init.m4s",
        ] {
            assert_eq!(StreamFile::parse(bad), None, "{bad}");
        }
    }
}
