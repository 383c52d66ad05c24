//! Renditions as one file each: what there is, what would have to be made, how a file is called.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reelmill_shared::db::downloads::{self, offered};
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::sets::TrackKind;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::plan::{self, NewTask};
use reelmill_shared::job::spec::DownloadRequest;

use crate::dto::DownloadDto;
use crate::media::{Caching, MediaFile, send};
use crate::playback::{active_set, renditions};
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;

/// The name that stands for the best rendition, whatever it is called.
const BEST: &str = "best";

/// What can be downloaded of a recording now, for its answer.
pub(crate) async fn list(app: &App, recording: RecordingId) -> Answer<Vec<DownloadDto>> {
    let Some(set) = active_set(app, recording).await?.filter(|set| set.is_finished()) else {
        return Ok(vec![]);
    };
    let stored = downloads::of_set(&app.db, recording, set.set_id).await?;
    let all = renditions(app, &set).await?;
    let there = offered(&all).into_iter().filter(|r| stored.iter().any(|download| download.rung == r.rung));
    let requests: Vec<DownloadRequest> = there.map(DownloadRequest::from).collect();
    let best = offered(&all).first().map(|best| best.rung.clone());
    Ok(described(recording, &requests, best.as_deref()))
}

/// Files of a recording on the wire; the best one once more under that name.
pub(crate) fn described(
    recording: RecordingId,
    files: &[DownloadRequest],
    best: Option<&str>,
) -> Vec<DownloadDto> {
    let named = |name: &str, file: &DownloadRequest| DownloadDto {
        name: name.to_owned(),
        height: file.height,
        url: format!("/api/v1/recordings/{recording}/download?quality={name}"),
    };
    let best = files.iter().find(|file| best == Some(file.rung.as_str()) && file.rung != BEST);
    let best = best.map(|file| named(BEST, file));
    best.into_iter().chain(files.iter().map(|file| named(&file.rung, file))).collect()
}

/// All files a conversion to MP4 brings, and the tasks that make those that are missing; or why there are none.
pub(crate) async fn missing(
    app: &App,
    recording: RecordingId,
) -> Answer<Result<(Vec<DownloadRequest>, Vec<NewTask>), &'static str>> {
    let Some(set) = active_set(app, recording).await?.filter(|set| set.is_finished()) else {
        return Ok(Err(
            "has nothing yet that could be converted: transcode it first, or wait until that is done",
        ));
    };
    let stored = downloads::of_set(&app.db, recording, set.set_id).await?;
    let all = renditions(app, &set).await?;
    let wanted = offered(&all);
    let tasks = wanted
        .iter()
        .filter(|rendition| stored.iter().all(|download| download.rung != rendition.rung))
        .map(|rendition| {
            let seconds = rendition.duration_ticks as f64 / f64::from(rendition.timescale.max(1));
            plan::download(recording, set.set_id, (*rendition).into(), seconds)
        })
        .collect();
    Ok(Ok((wanted.into_iter().map(DownloadRequest::from).collect(), tasks)))
}

/// Answers a request for a file.
pub(crate) async fn serve(
    app: &App,
    recording: &Recording,
    quality: Option<&str>,
    private: bool,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Response> {
    let set = active_set(app, recording.id).await?.filter(|set| set.is_finished()).ok_or_else(|| {
        let status = recording.status;
        Problem::new(Kind::NotReady, format!("nothing of this recording can be downloaded: it is {status}"))
    })?;
    let all = renditions(app, &set).await?;
    let offered = offered(&all);
    let quality = quality.unwrap_or(BEST);
    let named = offered.iter().find(|rendition| rendition.rung == quality);
    let rendition = named.or_else(|| offered.first().filter(|_| quality == BEST)).ok_or_else(|| {
        let names: Vec<&str> = offered.iter().map(|rendition| rendition.rung.as_str()).collect();
        Problem::new(
            Kind::NotFound,
            format!("the recording has no quality of that name; it has {BEST}, {}", names.join(", ")),
        )
    })?;
    let stored = downloads::of_set(&app.db, recording.id, set.set_id).await?;
    let file = stored.into_iter().find(|download| download.rung == rendition.rung).ok_or_else(|| {
        Problem::new(
            Kind::NotReady,
            format!(
                "{} is not there as a file; POST /api/v1/recordings/{}/transcode?format=mp4 makes it",
                rendition.rung, recording.id
            ),
        )
    })?;
    let content_type = if rendition.kind == TrackKind::Video { "video/mp4" } else { "audio/mp4" };
    let file = MediaFile { key: file.key, bytes: file.bytes };
    // The address means another file once the recording was encoded anew.
    let caching = if private { Caching::PrivateSettled } else { Caching::Settled };
    let mut response = send(&app.storage, &file, content_type, caching, method, headers).await?;
    if let Ok(value) = HeaderValue::from_str(&disposition(&recording.title, &rendition.rung)) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Bytes of a title that go into a file's name: with the rest it must stay below the 255 of most file systems.
const NAME_BYTES: usize = 180;
/// What a title ends in where it was a file's name.
const VIDEO_ENDINGS: [&str; 12] =
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "mpg", "mpeg", "flv", "wmv"];
/// Everything but `attr-char` (RFC 8187, 3.2.1), as far as it is told apart here.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `Content-Disposition` (RFC 6266) with the name in ASCII for old clients, and as it is.
pub(crate) fn disposition(title: &str, which: &str) -> String {
    let name = file_name(title, which);
    let plain = |c: char| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(&name, ENCODED))
}

/// A name that is one on every system: without separators, control characters, and those that turn the direction of text.
fn file_name(title: &str, rung: &str) -> String {
    let stem = match title.rsplit_once('.') {
        Some((stem, ending)) if VIDEO_ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) => stem,
        _ => title,
    };
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let safe = |c: char| if "/\\:*?\"<>|".contains(c) { '_' } else { c };
    let mut name = String::new();
    for c in stem.chars().filter(|c| !c.is_control() && !turns(*c)).map(safe) {
        if name.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        name.push(c);
    }
    let name = name.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let name = if name.is_empty() { "recording" } else { name };
    format!("{name}-{rung}.mp4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_everywhere() {
        for (title, expected) in [
            ("Holiday", "Holiday-720p.mp4"),
            ("clip.MOV", "clip-720p.mp4"),
            ("Version 2.0", "Version 2.0-720p.mp4"),
            ("../../etc/passwd", "_.._etc_passwd-720p.mp4"),
            ("a\"b\\c\r\nd", "a_b_cd-720p.mp4"),
            ("Übung: 日本", "Übung_ 日本-720p.mp4"),
            ("gpj\u{202e}x.exe", "gpjx.exe-720p.mp4"),
            (" . ", "recording-720p.mp4"),
        ] {
            assert_eq!(file_name(title, "720p"), expected);
        }
        let long = file_name(&"ü".repeat(500), "720p");
        assert!(long.len() < 200 && long.ends_with("ü-720p.mp4"));
    }

    #[test]
    fn the_header_carries_any_name() {
        assert_eq!(
            disposition("Ü 100% \"q\"", "sd"),
            "attachment; filename=\"_ 100_ _q_-sd.mp4\"; filename*=UTF-8''%C3%9C%20100%25%20_q_-sd.mp4"
        );
        assert!(HeaderValue::from_str(&disposition("\u{0}\r\n日", "a_1")).is_ok());
    }
}
