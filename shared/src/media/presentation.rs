//! From renditions and their segments to playlists and manifests. The names of files are the caller's: the API and the static
//! playlists in the store differ in nothing else.

use super::dash::{AdaptationSet, Content, Format, Manifest, ManifestKind, Period, Representation, Timeline};
use super::hls::{
    self, AudioRendition, Bandwidth, IframeVariant, MasterPlaylist, MediaPlaylist, PlaylistKind, Segment,
    SubtitleRendition, Ticks, Variant,
};
use super::tracks::Role;

/// A rendition as a playlist needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Presented {
    pub name: String,
    /// What a menu calls it; its name where there is none.
    pub label: Option<String>,
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

/// Picture, sound or text.
#[derive(Debug, Clone, PartialEq)]
pub enum PresentedTrack {
    Video { width: u32, height: u32, frame_rate: Option<(u32, u32)> },
    Audio { channels: u32, sample_rate: Option<u32>, language: Option<String>, role: Role },
    Text { language: Option<String>, role: Role },
}

impl Presented {
    fn is_audio(&self) -> bool {
        matches!(self.track, PresentedTrack::Audio { .. })
    }

    fn is_video(&self) -> bool {
        matches!(self.track, PresentedTrack::Video { .. })
    }

    fn is_text(&self) -> bool {
        matches!(self.track, PresentedTrack::Text { .. })
    }

    fn label(&self) -> String {
        self.label.clone().unwrap_or_else(|| self.name.clone())
    }
}

const AUDIO_GROUP: &str = "audio";
const SUBTITLE_GROUP: &str = "subtitles";

/// The master playlist: every video rendition with the groups of sound and text beside it, and at the end the sound without a
/// picture, for those whose network carries no more; or sound alone. The first of the sound is the default; nothing is shown in text
/// unasked.
pub fn master(renditions: &[Presented]) -> MasterPlaylist {
    let audio: Vec<&Presented> = renditions.iter().filter(|r| r.is_audio()).collect();
    let has_video = renditions.iter().any(Presented::is_video);
    // Sound alone needs a group only for a choice: its tracks are no qualities of each other.
    let has_group = !audio.is_empty() && (has_video || audio.len() > 1);
    let has_text = renditions.iter().any(Presented::is_text);
    // A variant's bandwidth counts the most demanding rendition of each group that plays beside it (RFC 8216, 4.3.4.2).
    let most = |beside: fn(&Presented) -> bool, rate: fn(&Presented) -> u64| {
        renditions.iter().filter(|r| beside(r)).map(rate).max().unwrap_or(0)
    };
    let beside =
        |rate: fn(&Presented) -> u64| most(Presented::is_audio, rate) + most(Presented::is_text, rate);
    let (beside_peak, beside_average) = (beside(|r| r.peak_bandwidth), beside(|r| r.average_bandwidth));
    let sounds = || {
        let mut codecs: Vec<String> = audio.iter().map(|r| r.codec.clone()).collect();
        codecs.dedup();
        codecs
    };
    let mut playlist = MasterPlaylist { variants: vec![], audio: vec![], subtitles: vec![], iframes: vec![] };
    let variant = |rendition: &Presented| Variant {
        uri: rendition.uri.clone(),
        bandwidth: rendition.peak_bandwidth,
        average_bandwidth: Some(rendition.average_bandwidth),
        codecs: vec![rendition.codec.clone()],
        resolution: None,
        frame_rate: None,
        audio_group: has_group.then(|| AUDIO_GROUP.to_owned()),
        subtitle_group: has_text.then(|| SUBTITLE_GROUP.to_owned()),
        name: rendition.name.clone(),
    };
    for rendition in renditions {
        match &rendition.track {
            PresentedTrack::Video { width, height, frame_rate } => {
                let codecs = [vec![rendition.codec.clone()], sounds()].concat();
                playlist.variants.push(Variant {
                    bandwidth: rendition.peak_bandwidth + beside_peak,
                    average_bandwidth: Some(rendition.average_bandwidth + beside_average),
                    codecs,
                    resolution: Some((*width, *height)),
                    frame_rate: *frame_rate,
                    ..variant(rendition)
                });
                playlist.iframes.extend(rendition.iframes.as_ref().map(|iframes| IframeVariant {
                    uri: iframes.uri.clone(),
                    bandwidth: iframes.bandwidth.peak,
                    average_bandwidth: iframes.bandwidth.average,
                    codec: rendition.codec.clone(),
                    resolution: (*width, *height),
                }));
            }
            PresentedTrack::Audio { channels, language, role, .. } => {
                if has_group {
                    // Those a player may choose must differ in language or purpose (RFC 8216, 4.3.4.1.1).
                    let purpose = (language, characteristics(*role));
                    let taken = playlist
                        .audio
                        .iter()
                        .any(|other| other.autoselect && (&other.language, other.characteristics) == purpose);
                    playlist.audio.push(AudioRendition {
                        group: AUDIO_GROUP.to_owned(),
                        name: rendition.label(),
                        language: language.clone(),
                        uri: rendition.uri.clone(),
                        channels: *channels,
                        default: playlist.audio.is_empty(),
                        autoselect: playlist.audio.is_empty() || (!taken && *role != Role::Commentary),
                        characteristics: characteristics(*role),
                    });
                }
            }
            PresentedTrack::Text { language, role } => {
                let purpose = (language, *role == Role::Forced, characteristics(*role));
                let taken = playlist.subtitles.iter().any(|other| {
                    other.autoselect && (&other.language, other.forced, other.characteristics) == purpose
                });
                playlist.subtitles.push(SubtitleRendition {
                    group: SUBTITLE_GROUP.to_owned(),
                    name: rendition.label(),
                    language: language.clone(),
                    uri: rendition.uri.clone(),
                    autoselect: !taken && *role != Role::Commentary,
                    forced: *role == Role::Forced,
                    characteristics: characteristics(*role),
                });
            }
        }
    }
    if let Some(first) = audio.first() {
        playlist.variants.push(Variant {
            bandwidth: beside_peak,
            average_bandwidth: Some(beside_average),
            codecs: sounds(),
            ..variant(first)
        });
    }
    playlist
}

/// Apple's tags for what a track is good for (RFC 8216bis, 4.4.6.1).
fn characteristics(role: Role) -> Option<&'static str> {
    match role {
        Role::Description => Some("public.accessibility.describes-video"),
        Role::Captions => Some(
            "public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound",
        ),
        Role::Main | Role::Commentary | Role::Forced => None,
    }
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

/// The DASH manifest of a video.
pub fn manifest(kind: ManifestKind, renditions: Vec<(Presented, Timeline)>) -> Manifest {
    let start = Ticks { ticks: 0, timescale: 1 };
    Manifest { kind, periods: vec![Period { id: "0".to_owned(), start, sets: sets(renditions) }] }
}

/// The sets of a period: one for the video of each codec, since players do not switch between codecs within one, and one for each
/// track of sound and text. Renditions without a segment are left out: there is nothing to say of them yet.
pub fn sets(renditions: Vec<(Presented, Timeline)>) -> Vec<AdaptationSet> {
    let mut sets: Vec<AdaptationSet> = vec![];
    for (rendition, timeline) in renditions {
        if timeline.durations.is_empty() {
            continue;
        }
        let label = rendition.label();
        let (content, format) = match rendition.track {
            PresentedTrack::Video { width, height, frame_rate } => {
                (Content::Video, Format::Video { width, height, frame_rate })
            }
            PresentedTrack::Audio { channels, sample_rate, language, role } => {
                let main = !sets.iter().any(|set| matches!(set.content, Content::Audio { .. }));
                (Content::Audio { language, label, main, role }, Format::Audio { sample_rate, channels })
            }
            PresentedTrack::Text { language, role } => {
                (Content::Text { language, label, role }, Format::Text)
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
    sets.iter_mut().for_each(|set| keep_order(&mut set.representations));
    sets
}

/// Lets no rung take less than one below it. Rates are measured anew when an encode is finished, and a player that follows a manifest may tell its
/// sets by the codec of the one that takes least (dash.js 5.2 does): with another in its place it goes on with what was listed before.
fn keep_order(best_first: &mut [Representation]) {
    let mut below = 0;
    for representation in best_first.iter_mut().rev() {
        representation.bandwidth = representation.bandwidth.max(below + 1);
        below = representation.bandwidth;
    }
}

/// What a codec is without its profile: `avc1`, `hvc1`, `av01`.
fn family(codec: &str) -> &str {
    codec.split('.').next().unwrap_or(codec)
}

/// The playlist of the I-frames of one finished rendition, each a part of a segment.
pub fn iframes(map_uri: String, frames: Vec<Segment>) -> MediaPlaylist {
    MediaPlaylist { iframes_only: true, ..media(PlaylistKind::Vod, None, Some(map_uri), frames) }
}

/// The media playlist of one rendition. Without a `target_duration` in seconds its longest segment decides, which only a finished one
/// may leave it to.
pub fn media(
    kind: PlaylistKind,
    target_duration: Option<u32>,
    map_uri: Option<String>,
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
        iframes_only: false,
        first_sequence: 0,
        segments,
    }
}

/// How many segments of each rendition a playlist may list while the set grows: a picture no further than the default sound beside it,
/// and sound and text no further than the picture that goes furthest, so that a player that has loaded all of one is not left without
/// the other. Other tracks of the sound hold nothing back: they may be far behind. `has` says how many a rendition has without a hole.
pub fn visible(renditions: &[Presented], has: impl Fn(&str) -> usize) -> Vec<usize> {
    let sound = renditions.iter().find(|r| r.is_audio()).map(|r| has(&r.name));
    let picture = renditions.iter().filter(|r| r.is_video()).map(|r| has(&r.name)).max();
    renditions
        .iter()
        .map(|r| has(&r.name).min(if r.is_video() { sound } else { picture }.unwrap_or(usize::MAX)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::dash::Files;
    use super::*;

    fn presented(name: &str, track: PresentedTrack) -> Presented {
        Presented {
            name: name.into(),
            label: None,
            track,
            codec: "mp4a.40.2".into(),
            peak_bandwidth: 1,
            average_bandwidth: 1,
            uri: format!("{name}.m3u8"),
            iframes: None,
        }
    }

    #[test]
    fn a_better_rung_takes_more_in_a_manifest() {
        let files = || Files::Template { init: String::new(), media: String::new() };
        let timeline = || Timeline {
            timescale: 1,
            first_number: 0,
            first_start: 0,
            period_start: 0,
            durations: vec![1],
            files: files(),
        };
        let rung = |name, peak_bandwidth| {
            let video = PresentedTrack::Video { width: 640, height: 360, frame_rate: None };
            (Presented { peak_bandwidth, codec: "avc1.64001e".into(), ..presented(name, video) }, timeline())
        };
        let sets = sets(vec![rung("720p", 900), rung("360p", 900), rung("240p", 700), rung("144p", 800)]);
        let rates: Vec<u64> = sets[0].representations.iter().map(|one| one.bandwidth).collect();
        assert_eq!(rates, [901, 900, 801, 800]);
    }

    #[test]
    fn the_master_ends_with_the_sound_alone_and_names_i_frames() {
        let video = PresentedTrack::Video { width: 640, height: 360, frame_rate: None };
        let audio = || sound(None, Role::Main);
        let bandwidth = Bandwidth { peak: 3, average: 2 };
        let iframes = PresentedIframes { uri: "360p-iframes.m3u8".into(), bandwidth };
        let picture = Presented { iframes: Some(iframes), ..presented("360p", video) };
        let heard = Presented { peak_bandwidth: 5, ..presented("audio", audio()) };
        let playlist = master(&[picture, heard, presented("comments", audio())]);
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
        let audio = || sound(None, Role::Main);
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
        let text = PresentedTrack::Text { language: None, role: Role::Main };
        let more = [all.to_vec(), vec![presented("audio_2", audio()), presented("subtitles", text)]].concat();
        let has = |name: &str| match name {
            "audio_2" => 0,
            "subtitles" => 9,
            _ => 4,
        };
        assert_eq!(visible(&more, has), [4, 4, 4, 0, 4], "only the default track is waited for");
    }

    fn sound(language: Option<&str>, role: Role) -> PresentedTrack {
        PresentedTrack::Audio { channels: 2, sample_rate: None, language: language.map(str::to_owned), role }
    }

    fn parsed(renditions: &[Presented]) -> m3u8_rs::MasterPlaylist {
        let text = master(renditions).render();
        let (rest, parsed) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
        assert!(rest.is_empty() && parsed.unknown_tags.is_empty(), "{text}");
        parsed
    }

    #[test]
    fn a_player_chooses_only_what_was_meant_for_it() {
        let text = |language: &str, role| PresentedTrack::Text { language: Some(language.into()), role };
        let mut all = vec![
            presented("720p", PresentedTrack::Video { width: 2, height: 2, frame_rate: None }),
            presented("audio", sound(Some("en"), Role::Main)),
            presented("audio_2", sound(Some("fr"), Role::Main)),
            presented("audio_3", sound(Some("de"), Role::Commentary)),
            presented("audio_4", sound(Some("fr"), Role::Description)),
            presented("subtitles", text("en", Role::Main)),
            presented("subtitles_2", text("en", Role::Captions)),
            presented("subtitles_3", text("en", Role::Main)),
            presented("subtitles_4", text("en", Role::Forced)),
        ];
        all[2].label = Some("Français".into());
        all[2].peak_bandwidth = 10;
        let playlist = parsed(&all);
        let told: Vec<(&str, bool, bool, bool)> = playlist
            .alternatives
            .iter()
            .map(|media| (media.name.as_str(), media.default, media.autoselect, media.forced))
            .collect();
        assert_eq!(
            told,
            [
                ("audio", true, true, false),
                ("Français", false, true, false),
                ("audio_3", false, false, false),
                ("audio_4", false, true, false),
                ("subtitles", false, true, false),
                ("subtitles_2", false, true, false),
                ("subtitles_3", false, false, false),
                ("subtitles_4", false, true, true),
            ]
        );
        let variant = &playlist.variants[0];
        assert_eq!(
            (variant.audio.as_deref(), variant.subtitles.as_deref()),
            (Some("audio"), Some("subtitles"))
        );
        assert_eq!(variant.bandwidth, 1 + 10 + 1);
        assert!(playlist.alternatives[5].characteristics.as_deref().unwrap().contains("spoken-dialog"));
    }

    #[test]
    fn languages_of_sound_alone_are_no_qualities() {
        let one = presented("audio", sound(Some("en"), Role::Main));
        let playlist = parsed(std::slice::from_ref(&one));
        assert!(playlist.alternatives.is_empty() && playlist.variants[0].audio.is_none());
        let playlist = parsed(&[one, presented("audio_2", sound(Some("fr"), Role::Main))]);
        assert_eq!((playlist.variants.len(), playlist.alternatives.len()), (1, 2));
        assert_eq!(playlist.variants[0].audio.as_deref(), Some("audio"));
    }
}
