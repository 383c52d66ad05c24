//! From renditions and their segments to playlists. The names of files are the caller's: the API and the static playlists
//! in the store differ in nothing else.

use super::hls::{
    AudioRendition, MasterPlaylist, MediaPlaylist, PlaylistKind, Segment, Ticks, Variant, target_duration,
};

/// A rendition as a playlist needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Presented {
    pub name: String,
    pub track: PresentedTrack,
    /// RFC 6381.
    pub codec: String,
    /// Bits per second.
    pub peak_bandwidth: u64,
    pub average_bandwidth: u64,
    /// URI of its media playlist, relative to the master.
    pub uri: String,
}

/// Picture or sound.
#[derive(Debug, Clone, PartialEq)]
pub enum PresentedTrack {
    Video { width: u32, height: u32, frame_rate: Option<(u32, u32)> },
    Audio { channels: u32, language: Option<String> },
}

const AUDIO_GROUP: &str = "audio";

/// The master playlist: every video rendition with the audio group beside it, or audio alone.
pub fn master(renditions: &[Presented]) -> MasterPlaylist {
    let audio: Vec<&Presented> =
        renditions.iter().filter(|r| matches!(r.track, PresentedTrack::Audio { .. })).collect();
    let has_video = renditions.iter().any(|r| matches!(r.track, PresentedTrack::Video { .. }));
    // A variant's bandwidth counts the most demanding rendition of the group that plays beside it (RFC 8216, 4.3.4.2).
    let beside_peak = audio.iter().map(|r| r.peak_bandwidth).max().unwrap_or(0);
    let beside_average = audio.iter().map(|r| r.average_bandwidth).max().unwrap_or(0);
    let mut playlist = MasterPlaylist { variants: vec![], audio: vec![] };
    for rendition in renditions {
        match &rendition.track {
            PresentedTrack::Video { width, height, frame_rate } => {
                let mut codecs = vec![rendition.codec.clone()];
                codecs.extend(audio.iter().map(|r| r.codec.clone()));
                codecs.dedup();
                playlist.variants.push(Variant {
                    uri: rendition.uri.clone(),
                    bandwidth: rendition.peak_bandwidth + beside_peak,
                    average_bandwidth: Some(rendition.average_bandwidth + beside_average),
                    codecs,
                    resolution: Some((*width, *height)),
                    frame_rate: *frame_rate,
                    audio_group: (!audio.is_empty()).then(|| AUDIO_GROUP.to_owned()),
                    name: rendition.name.clone(),
                });
            }
            PresentedTrack::Audio { .. } if !has_video => playlist.variants.push(Variant {
                uri: rendition.uri.clone(),
                bandwidth: rendition.peak_bandwidth,
                average_bandwidth: Some(rendition.average_bandwidth),
                codecs: vec![rendition.codec.clone()],
                resolution: None,
                frame_rate: None,
                audio_group: None,
                name: rendition.name.clone(),
            }),
            PresentedTrack::Audio { channels, language } => playlist.audio.push(AudioRendition {
                group: AUDIO_GROUP.to_owned(),
                name: rendition.name.clone(),
                language: language.clone(),
                uri: rendition.uri.clone(),
                channels: *channels,
                default: playlist.audio.is_empty(),
                autoselect: true,
            }),
        }
    }
    playlist
}

/// The media playlist of one finished rendition.
pub fn media(map_uri: String, segments: Vec<Segment>) -> MediaPlaylist {
    let longest = segments
        .iter()
        .map(|segment| segment.duration)
        .max_by(|a, b| {
            let cross = |x: &Ticks, y: &Ticks| u128::from(x.ticks) * u128::from(y.timescale);
            cross(a, b).cmp(&cross(b, a))
        })
        .unwrap_or(Ticks { ticks: 1, timescale: 1 });
    MediaPlaylist {
        kind: PlaylistKind::Vod,
        target_duration: target_duration(longest),
        map_uri,
        first_sequence: 0,
        segments,
    }
}
