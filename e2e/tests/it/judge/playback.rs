//! A recording as a viewer gets it: playlists and segments fetched with a playback token, nothing else.

use std::path::PathBuf;

use m3u8_rs::{MediaPlaylistType, VariantStream};
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
    pub audio: Option<Track>,
    /// The sound beside a picture, offered without it.
    pub sound_alone: Option<VariantStream>,
    /// In the order of `video`.
    pub iframes: Vec<Iframes>,
    _dir: TempDir,
}

/// One rendition.
pub struct Track {
    pub name: String,
    /// The media playlist's.
    pub url: String,
    /// Its line in the master playlist; `None` for sound beside a picture.
    pub variant: Option<VariantStream>,
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
        let beside = master.alternatives.first().and_then(|media| media.uri.as_ref());
        assert_eq!(alone, beside, "the sound beside the picture is offered without it too");
        for media in &master.alternatives {
            assert_eq!(media.media_type, m3u8_rs::AlternativeMediaType::Audio);
            assert!(audio.is_none(), "one audio rendition is promised");
            assert!(media.default && media.autoselect);
            assert_eq!(media.channels.as_deref(), Some("2"));
            audio = Some(fetcher.track(media.uri.as_ref().unwrap(), None).await);
            let variants =
                video.iter().filter_map(|track: &Track| track.variant.as_ref()).chain(&sound_alone);
            for variant in variants {
                assert_eq!(
                    variant.audio.as_ref(),
                    Some(&media.group_id),
                    "every variant plays with the sound"
                );
            }
        }
        if master.alternatives.is_empty() {
            let mut named = video.iter().filter(|track| track.variant.as_ref().unwrap().audio.is_some());
            assert!(named.next().is_none(), "no playlist names audio that is not there");
        }
        let dash_url = url.replace("/master.m3u8", "/manifest.mpd");
        Self { url, dash_url, video, audio, sound_alone, iframes, _dir: dir }
    }

    /// Picture and sound.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.video.iter().chain(&self.audio)
    }
}

struct Fetcher<'a> {
    client: &'a Client,
    base: String,
    dir: PathBuf,
}

impl Fetcher<'_> {
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
