//! A recording as a viewer gets it: playlists and segments fetched with a playback token, nothing else.

use std::path::PathBuf;

use m3u8_rs::{AlternativeMedia, AlternativeMediaType, MediaPlaylistType, VariantStream};
use reelmill_testkit::Client;
use tempfile::TempDir;

/// Everything a recording serves.
pub struct Playback {
    /// The master playlist's.
    pub url: String,
    /// The manifest's.
    pub dash_url: String,
    /// In the order of the master playlist.
    pub video: Vec<Track>,
    /// The default one.
    pub audio: Option<Track>,
    /// The other tracks of the sound.
    pub more_audio: Vec<Track>,
    pub text: Vec<Text>,
    /// The sound beside a picture, offered without it.
    pub sound_alone: Option<VariantStream>,
    /// In the order of `video`.
    pub iframes: Vec<Iframes>,
    _dir: TempDir,
}

/// One text rendition.
pub struct Text {
    /// Its line in the master playlist.
    pub media: AlternativeMedia,
    pub target_duration: u64,
    /// `EXTINF` of each segment.
    pub lengths: Vec<f64>,
    pub segments: Vec<String>,
}

/// One rendition.
pub struct Track {
    pub name: String,
    /// The media playlist's.
    pub url: String,
    /// Its line in the master playlist; `None` for sound beside a picture.
    pub variant: Option<VariantStream>,
    /// The same of one of several tracks of the sound, or of the sound beside a picture.
    pub media: Option<AlternativeMedia>,
    pub target_duration: u64,
    /// `EXTINF` of each segment.
    pub lengths: Vec<f64>,
    /// Bytes of each segment.
    pub bytes: Vec<u64>,
    pub init: PathBuf,
    /// Init segment and one segment, for each segment.
    pub pieces: Vec<PathBuf>,
    /// Init segment and all segments.
    pub file: PathBuf,
}

/// The I-frames of a rendition.
pub struct Iframes {
    /// Its line in the master playlist.
    pub variant: VariantStream,
    pub target_duration: u64,
    /// The playlist's folder.
    pub base: String,
    /// File, offset in it and length of each.
    pub ranges: Vec<(String, u64, u64)>,
    /// `EXTINF` of each.
    pub lengths: Vec<f64>,
}

impl Track {
    /// Seconds at which each segment begins, by the playlist.
    pub fn starts(&self) -> Vec<f64> {
        let mut at = 0.0;
        self.lengths
            .iter()
            .map(|length| {
                at += length;
                at - length
            })
            .collect()
    }

    /// Seconds that the playlist says it lasts.
    pub fn duration(&self) -> f64 {
        self.lengths.iter().sum()
    }

    /// All segments as they were served.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        let init = std::fs::read(&self.init).unwrap().len();
        self.pieces.iter().map(|piece| std::fs::read(piece).unwrap().split_off(init)).collect()
    }
}

impl Playback {
    /// Fetches all there is.
    pub async fn fetch(client: &Client, recording: &str) -> Self {
        let url = client.play_url(recording).await;
        let text = client.text(&url).await;
        let (rest, master) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
        assert!(rest.is_empty(), "m3u8-rs stopped at {:?}", String::from_utf8_lossy(rest));
        assert!(master.independent_segments);
        assert!(master.unknown_tags.is_empty(), "{:?}", master.unknown_tags);
        let dir = tempfile::tempdir().unwrap();
        let base = url.rsplit_once('/').unwrap().0.to_owned();
        let mut fetcher = Fetcher { client, base, dir: dir.path().to_owned() };

        let (mut video, mut iframes) = (vec![], vec![]);
        let (mut audio, mut sound_alone) = (None, None);
        for variant in master.variants {
            assert!(
                audio.is_none() && (sound_alone.is_none() || variant.is_i_frame),
                "sound alone is the last"
            );
            if variant.is_i_frame {
                iframes.push(fetcher.iframes(variant).await);
            } else if variant.resolution.is_some() {
                video.push(fetcher.track(&variant.uri.clone(), Some(variant)).await);
            } else if video.is_empty() {
                audio = Some(fetcher.track(&variant.uri.clone(), Some(variant)).await);
            } else {
                sound_alone = Some(variant);
            }
        }
        assert_eq!(iframes.len(), video.len(), "I-frames of every rung");
        let alone = sound_alone.as_ref().map(|variant: &VariantStream| &variant.uri);
        let is_sound = |media: &&AlternativeMedia| media.media_type == AlternativeMediaType::Audio;
        let beside = master.alternatives.iter().find(is_sound).and_then(|media| media.uri.as_ref());
        assert_eq!(
            alone,
            beside.filter(|_| !video.is_empty()),
            "the sound is offered without the picture too"
        );
        let (mut more_audio, mut text) = (vec![], vec![]);
        let variants = || video.iter().filter_map(|track: &Track| track.variant.as_ref()).chain(&sound_alone);
        for (number, media) in master.alternatives.iter().filter(is_sound).enumerate() {
            assert_eq!(media.default, number == 0, "the first is the default");
            assert!(media.autoselect || !media.default);
            assert_eq!(media.channels.as_deref(), Some("2"));
            assert!(
                variants().all(|variant| variant.audio.as_ref() == Some(&media.group_id)),
                "every variant plays with the sound"
            );
            // Sound alone was fetched as a variant: a line of the group says more of it.
            let known = if media.default { audio.take() } else { None };
            let track = match known {
                Some(track) => track,
                None => fetcher.track(media.uri.as_ref().unwrap(), None).await,
            };
            let track = Track { media: Some(media.clone()), ..track };
            if media.default {
                audio = Some(track);
            } else {
                more_audio.push(track);
            }
        }
        for media in master.alternatives.iter().filter(|media| !is_sound(media)) {
            assert_eq!(media.media_type, AlternativeMediaType::Subtitles);
            assert!(!media.default, "no text is shown unasked");
            assert!(
                variants().all(|variant| variant.subtitles.as_ref() == Some(&media.group_id)),
                "every variant can be shown with the text"
            );
            text.push(fetcher.text(media).await);
        }
        if !master.alternatives.iter().any(|media| is_sound(&media)) {
            assert!(
                variants().all(|variant| variant.audio.is_none()),
                "no playlist names audio that is not there"
            );
        }
        if text.is_empty() {
            assert!(variants().all(|variant| variant.subtitles.is_none()), "nor text");
        }
        let mut names: Vec<&str> = master.alternatives.iter().map(|media| media.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert!(
            names.len() >= master.alternatives.iter().filter(is_sound).count(),
            "names differ in a group"
        );
        let dash_url = url.replace("/master.m3u8", "/manifest.mpd");
        Self { url, dash_url, video, audio, more_audio, text, sound_alone, iframes, _dir: dir }
    }

    /// All tracks of the sound, the default one first.
    pub fn sounds(&self) -> impl Iterator<Item = &Track> {
        self.audio.iter().chain(&self.more_audio)
    }

    /// Picture and sound.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().chain(self.sounds())
    }
}

struct Fetcher<'a> {
    client: &'a Client,
    base: String,
    dir: PathBuf,
}

impl Fetcher<'_> {
    async fn text(&mut self, media: &AlternativeMedia) -> Text {
        let uri = media.uri.as_ref().unwrap();
        let text = self.client.text(&format!("{}/{uri}", self.base)).await;
        let (playlist, lengths) = read(&text, uri);
        let mut segments = vec![];
        for segment in &playlist.segments {
            assert!(segment.map.is_none() && segment.uri.ends_with(".vtt"), "{text}");
            segments.push(self.client.text(&format!("{}/{}", self.base, segment.uri)).await);
        }
        Text { media: media.clone(), target_duration: playlist.target_duration, lengths, segments }
    }

    async fn track(&mut self, uri: &str, variant: Option<VariantStream>) -> Track {
        let url = format!("{}/{uri}", self.base);
        let text = self.client.text(&url).await;
        let (playlist, lengths) = read(&text, uri);
        assert!(!playlist.i_frames_only);
        let name = uri.trim_end_matches(".m3u8").to_owned();
        let map = playlist.segments[0].map.as_ref().unwrap();
        let init = self.client.bytes(&format!("{}/{}", self.base, map.uri)).await;
        let init_path = self.dir.join(format!("{name}-init.mp4"));
        std::fs::write(&init_path, &init).unwrap();
        let (mut whole, mut bytes, mut pieces) = (init.clone(), vec![], vec![]);
        for (n, segment) in playlist.segments.iter().enumerate() {
            let data = self.client.bytes(&format!("{}/{}", self.base, segment.uri)).await;
            let path = self.dir.join(format!("{name}-{n}.mp4"));
            std::fs::write(&path, [init.as_slice(), &data].concat()).unwrap();
            bytes.push(data.len() as u64);
            whole.extend(data);
            pieces.push(path);
        }
        let file = self.dir.join(format!("{name}.mp4"));
        std::fs::write(&file, whole).unwrap();
        Track {
            name,
            url,
            variant,
            media: None,
            target_duration: playlist.target_duration,
            lengths,
            bytes,
            init: init_path,
            pieces,
            file,
        }
    }

    async fn iframes(&mut self, variant: VariantStream) -> Iframes {
        let text = self.client.text(&format!("{}/{}", self.base, variant.uri)).await;
        let (playlist, lengths) = read(&text, &variant.uri);
        assert!(playlist.i_frames_only && playlist.segments[0].map.is_some(), "{text}");
        let range = |segment: &m3u8_rs::MediaSegment| {
            let range = segment.byte_range.as_ref().unwrap();
            (segment.uri.clone(), range.offset.unwrap(), range.length)
        };
        Iframes {
            variant,
            target_duration: playlist.target_duration,
            base: self.base.clone(),
            ranges: playlist.segments.iter().map(range).collect(),
            lengths,
        }
    }
}

/// A finished media playlist, with the `EXTINF` of each segment.
fn read(text: &str, uri: &str) -> (m3u8_rs::MediaPlaylist, Vec<f64>) {
    let (rest, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
    assert!(rest.is_empty(), "m3u8-rs stopped at {:?}", String::from_utf8_lossy(rest));
    assert!(playlist.end_list && playlist.independent_segments && playlist.media_sequence == 0);
    assert_eq!(playlist.playlist_type, Some(MediaPlaylistType::Vod));
    assert!(playlist.unknown_tags.is_empty(), "{:?}", playlist.unknown_tags);
    assert!(!playlist.segments.is_empty());
    // m3u8-rs keeps durations as f32, which is too coarse to add up.
    let lengths: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:"))
        .map(|value| value.trim_end_matches(',').parse().unwrap())
        .collect();
    assert_eq!(lengths.len(), playlist.segments.len());
    for length in &lengths {
        assert!(
            length.round() as u64 <= playlist.target_duration,
            "EXTINF {length} above the target duration {} in {uri}",
            playlist.target_duration
        );
    }
    (playlist, lengths)
}
