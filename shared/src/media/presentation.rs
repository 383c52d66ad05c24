//! From renditions and their segments to playlists and manifests. The names of files are the caller's: the API and the static
//! playlists in the store differ in nothing else.

use super::dash::{AdaptationSet, Content, Format, Manifest, ManifestKind, Representation, Timeline};
use super::hls::{
    self, AudioRendition, Bandwidth, IframeVariant, MasterPlaylist, MediaPlaylist, PlaylistKind, Segment,
    Ticks, Variant,
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
    /// `None` for sound, and where the I-frames are not known or not all there yet.
    pub iframes: Option<PresentedIframes>,
}

/// The I-frames of a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedIframes {
    /// URI of their playlist, relative to the master.
    pub uri: String,
    /// Of the I-frames alone.
    pub bandwidth: Bandwidth,
}

/// Picture or sound.
#[derive(Debug, Clone, PartialEq)]
pub enum PresentedTrack {
    Video { width: u32, height: u32, frame_rate: Option<(u32, u32)> },
    Audio { channels: u32, sample_rate: Option<u32>, language: Option<String> },
}

const AUDIO_GROUP: &str = "audio";

/// The master playlist: every video rendition with the audio group beside it, and at the end the sound without a picture, for
/// those whose network carries no more; or audio alone.
pub fn master(renditions: &[Presented]) -> MasterPlaylist {
    let audio: Vec<&Presented> =
        renditions.iter().filter(|r| matches!(r.track, PresentedTrack::Audio { .. })).collect();
    let has_video = renditions.iter().any(|r| matches!(r.track, PresentedTrack::Video { .. }));
    // A variant's bandwidth counts the most demanding rendition of the group that plays beside it (RFC 8216, 4.3.4.2).
    let beside_peak = audio.iter().map(|r| r.peak_bandwidth).max().unwrap_or(0);
    let beside_average = audio.iter().map(|r| r.average_bandwidth).max().unwrap_or(0);
    let mut playlist = MasterPlaylist { variants: vec![], audio: vec![], iframes: vec![] };
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
                playlist.iframes.extend(rendition.iframes.as_ref().map(|iframes| IframeVariant {
                    uri: iframes.uri.clone(),
                    bandwidth: iframes.bandwidth.peak,
                    average_bandwidth: iframes.bandwidth.average,
                    codec: rendition.codec.clone(),
                    resolution: (*width, *height),
                }));
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
            PresentedTrack::Audio { channels, language, .. } => playlist.audio.push(AudioRendition {
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
    if let Some(first) = audio.first().filter(|_| has_video) {
        let mut codecs: Vec<String> = audio.iter().map(|r| r.codec.clone()).collect();
        codecs.dedup();
        playlist.variants.push(Variant {
            uri: first.uri.clone(),
            bandwidth: beside_peak,
            average_bandwidth: Some(beside_average),
            codecs,
            resolution: None,
            frame_rate: None,
            audio_group: Some(AUDIO_GROUP.to_owned()),
            name: first.name.clone(),
        });
    }
    playlist
}

/// The master playlist of segments that hold picture and sound together: every video rendition with the codec of the sound it
/// is muxed with, or audio alone. Bandwidths are those of picture and sound together.
pub fn master_muxed(renditions: &[Presented], sound: Option<&str>) -> MasterPlaylist {
    let mut playlist = master(renditions);
    for variant in playlist.variants.iter_mut().filter(|variant| variant.resolution.is_some()) {
        variant.codecs.extend(sound.map(str::to_owned));
    }
    playlist
}

/// The DASH manifest: a set for the video of each codec, since players do not switch between codecs within one, and a set for
/// each audio track. Renditions without a segment are left out: there is nothing to say of them yet.
pub fn manifest(kind: ManifestKind, renditions: Vec<(Presented, Timeline)>) -> Manifest {
    let mut sets: Vec<AdaptationSet> = vec![];
    for (rendition, timeline) in renditions {
        if timeline.durations.is_empty() {
            continue;
        }
        let (content, format) = match rendition.track {
            PresentedTrack::Video { width, height, frame_rate } => {
                (Content::Video, Format::Video { width, height, frame_rate })
            }
            PresentedTrack::Audio { channels, sample_rate, language } => {
                let main = !sets.iter().any(|set| matches!(set.content, Content::Audio { .. }));
                let content = Content::Audio { language, label: rendition.name.clone(), main };
                (content, Format::Audio { sample_rate, channels })
            }
        };
        let representation = Representation {
            id: rendition.name,
            codec: rendition.codec,
            bandwidth: rendition.peak_bandwidth,
            format,
            timeline,
        };
        let beside = |set: &&mut AdaptationSet| {
            let same_codec = |other: &Representation| family(&other.codec) == family(&representation.codec);
            content == Content::Video && set.content == content && set.representations.iter().all(same_codec)
        };
        match sets.iter_mut().find(beside) {
            Some(set) => set.representations.push(representation),
            None => sets.push(AdaptationSet { content, representations: vec![representation] }),
        }
    }
    Manifest { kind, sets }
}

/// What a codec is without its profile: `avc1`, `hvc1`, `av01`.
fn family(codec: &str) -> &str {
    codec.split('.').next().unwrap_or(codec)
}

/// The playlist of the I-frames of one finished rendition, each a part of a segment.
pub fn iframes(map_uri: String, frames: Vec<Segment>) -> MediaPlaylist {
    MediaPlaylist { iframes_only: true, ..media(PlaylistKind::Vod, None, map_uri, frames) }
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
        map_uri: Some(map_uri),
        iframes_only: false,
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
            iframes: None,
        }
    }

    #[test]
    fn the_master_ends_with_the_sound_alone_and_names_i_frames() {
        let video = PresentedTrack::Video { width: 640, height: 360, frame_rate: None };
        let audio = || PresentedTrack::Audio { channels: 2, sample_rate: None, language: None };
        let bandwidth = Bandwidth { peak: 3, average: 2 };
        let iframes = PresentedIframes { uri: "360p-iframes.m3u8".into(), bandwidth };
        let picture = Presented { iframes: Some(iframes), ..presented("360p", video) };
        let sound = Presented { peak_bandwidth: 5, ..presented("audio", audio()) };
        let playlist = master(&[picture, sound, presented("comments", audio())]);
        let variants: Vec<_> = playlist.variants.iter().map(|v| (v.name.as_str(), v.bandwidth)).collect();
        assert_eq!(variants, [("360p", 6), ("audio", 5)]);
        assert!(playlist.variants.iter().all(|v| v.audio_group.as_deref() == Some(AUDIO_GROUP)));
        assert_eq!(playlist.audio.len(), 2);
        let [iframes] = &playlist.iframes[..] else { panic!("I-frames of the one rung") };
        assert_eq!((iframes.bandwidth, iframes.resolution), (3, (640, 360)));

        let alone = master(&[presented("audio", audio())]);
        assert_eq!((alone.variants.len(), alone.audio.len(), alone.iframes.len()), (1, 0, 0));
    }

    #[test]
    fn neither_sound_nor_picture_runs_ahead() {
        let video = || PresentedTrack::Video { width: 2, height: 2, frame_rate: None };
        let audio = || PresentedTrack::Audio { channels: 2, sample_rate: None, language: None };
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
