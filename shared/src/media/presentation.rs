//! From renditions and their segments to playlists. The names of files are the caller's: the API and the static playlists
//! in the store differ in nothing else.

use super::hls::{
    self, AudioRendition, MasterPlaylist, MediaPlaylist, PlaylistKind, Segment, Ticks, Variant,
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

/// The media playlist of one rendition. Without a `target_duration` in seconds its longest segment decides, which only a finished one
/// may leave it to.
pub fn media(
    kind: PlaylistKind,
    target_duration: Option<u32>,
    map_uri: String,
    segments: Vec<Segment>,
) -> MediaPlaylist {
    let longest = segments
        .iter()
        .map(|segment| segment.duration)
        .max_by(|a, b| {
            let cross = |x: &Ticks, y: &Ticks| u128::from(x.ticks) * u128::from(y.timescale);
            cross(a, b).cmp(&cross(b, a))
        })
        .unwrap_or(Ticks { ticks: 1, timescale: 1 });
    MediaPlaylist {
        kind,
        // A segment that turned out longer than was planned must not make the playlist a lie.
        target_duration: target_duration.unwrap_or(1).max(hls::target_duration(longest)),
        map_uri,
        first_sequence: 0,
        segments,
    }
}

/// How many segments of each rendition a playlist may list while the set grows: a picture no further than the sound beside it, and
/// sound no further than the picture that goes furthest, so that a player that has loaded all of one is not left without the other.
/// `has` says how many a rendition has without a hole.
pub fn visible(renditions: &[Presented], has: impl Fn(&str) -> usize) -> Vec<usize> {
    let is_audio = |r: &&Presented| matches!(r.track, PresentedTrack::Audio { .. });
    let sound = renditions.iter().filter(is_audio).map(|r| has(&r.name)).min();
    let picture = renditions.iter().filter(|r| !is_audio(r)).map(|r| has(&r.name)).max();
    renditions
        .iter()
        .map(|r| has(&r.name).min(if is_audio(&r) { picture } else { sound }.unwrap_or(usize::MAX)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(name: &str, track: PresentedTrack) -> Presented {
        Presented {
            name: name.into(),
            track,
            codec: String::new(),
            peak_bandwidth: 1,
            average_bandwidth: 1,
            uri: String::new(),
        }
    }

    #[test]
    fn neither_sound_nor_picture_runs_ahead() {
        let video = || PresentedTrack::Video { width: 2, height: 2, frame_rate: None };
        let audio = || PresentedTrack::Audio { channels: 2, language: None };
        let all = [presented("720p", video()), presented("360p", video()), presented("audio", audio())];
        let has = |name: &str| match name {
            "720p" => 0,
            "360p" => 3,
            _ => 5,
        };
        assert_eq!(visible(&all, has), [0, 3, 3]);
        let has = |name: &str| if name == "audio" { 2 } else { 4 };
        assert_eq!(visible(&all, has), [2, 2, 2]);
        assert_eq!(visible(&all[..2], has), [4, 4], "no sound to wait for");
        assert_eq!(visible(&all[2..], has), [2]);
    }
}
