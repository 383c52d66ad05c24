//! Manifests as another parser reads them. What players and FFmpeg make of them is tested end to end.

use chrono::TimeZone as _;
use dash_mpd_core::MPD;

use super::*;
use crate::media::presentation::{Presented, PresentedTrack, manifest};
use crate::media::tracks::Role;

fn video(name: &str, codec: &str, height: u32, frame_rate: (u32, u32)) -> (Presented, Timeline) {
    let track = PresentedTrack::Video { width: height * 16 / 9, height, frame_rate: Some(frame_rate) };
    let presented = Presented {
        name: name.to_owned(),
        label: None,
        track,
        codec: codec.to_owned(),
        peak_bandwidth: u64::from(height) * 1000,
        average_bandwidth: 1,
        uri: String::new(),
        iframes: None,
    };
    (presented, timeline(name, 30_000, &[180_180, 180_180, 180_180, 60_060]))
}

fn audio(name: &str, language: Option<&str>) -> (Presented, Timeline) {
    let track = PresentedTrack::Audio {
        channels: 2,
        sample_rate: Some(48_000),
        language: language.map(Into::into),
        role: Role::Main,
    };
    let (presented, _) = video(name, "mp4a.40.2", 128, (1, 1));
    (Presented { track, ..presented }, timeline(name, 48_000, &[287_744, 288_768, 288_768, 96_256]))
}

fn text(name: &str, language: Option<&str>, role: Role) -> (Presented, Timeline) {
    let track = PresentedTrack::Text { language: language.map(Into::into), role };
    let (presented, timeline) = video(name, "wvtt", 1, (1, 1));
    (
        Presented { track, ..presented },
        Timeline { files: Files::Whole(format!("{name}-1-all.vtt")), ..timeline },
    )
}

fn timeline(name: &str, timescale: u32, durations: &[u64]) -> Timeline {
    let files =
        Files::Template { init: format!("{name}-1-init.mp4"), media: format!("{name}-1-$Number$.m4s") };
    Timeline::from_zero(timescale, durations.to_vec(), files)
}

fn parse(manifest: &Manifest) -> MPD {
    dash_mpd_core::parse(&manifest.render()).unwrap()
}

#[test]
fn a_finished_manifest_reads_as_meant() {
    let renditions = vec![
        video("1080p", "avc1.640028", 1080, (30_000, 1001)),
        video("360p", "avc1.64001e", 360, (15, 1)),
        audio("audio", Some("pt-BR")),
    ];
    let mpd = parse(&manifest(ManifestKind::Static, renditions));
    assert_eq!(mpd.mpdtype.as_deref(), Some("static"));
    assert_eq!(mpd.profiles.as_deref(), Some("urn:mpeg:dash:profile:isoff-live:2011"));
    // The sound lasts a little longer than the picture.
    let micros = |time: Option<std::time::Duration>| time.unwrap().as_micros();
    assert_eq!(micros(mpd.mediaPresentationDuration), 961_536_000_000 / 48_000);
    assert_eq!(micros(mpd.minBufferTime), 6_016_000, "the longest segment, which is of sound");
    assert!(mpd.minimumUpdatePeriod.is_none() && mpd.availabilityStartTime.is_none());

    let [period] = &mpd.periods[..] else { panic!("one period") };
    let [pictures, sound] = &period.adaptations[..] else { panic!("picture and sound") };
    assert_eq!(pictures.mimeType.as_deref(), Some("video/mp4"));
    assert_eq!((pictures.segmentAlignment, pictures.startWithSAP), (Some(true), Some(1)));
    assert_eq!(pictures.bitstreamSwitching, None, "each rendition has an init segment of its own");
    assert_eq!((pictures.maxWidth, pictures.maxHeight), (Some(1920), Some(1080)));
    assert_eq!(pictures.maxFrameRate.as_deref(), Some("30000/1001"));
    let [best, least] = &pictures.representations[..] else { panic!("two rungs") };
    assert_eq!((best.id.as_deref(), best.codecs.as_deref()), (Some("1080p"), Some("avc1.640028")));
    assert_eq!((best.bandwidth, best.width, best.height), (Some(1_080_000), Some(1920), Some(1080)));
    assert_eq!(best.frameRate.as_deref(), Some("30000/1001"), "not rounded");
    assert_eq!(least.frameRate.as_deref(), Some("15"));

    let template = best.SegmentTemplate.as_ref().unwrap();
    assert_eq!((template.timescale, template.startNumber), (Some(30_000), Some(0)));
    assert_eq!(template.presentationTimeOffset, None, "the edit list makes presentation start at zero");
    assert_eq!(template.initialization.as_deref(), Some("1080p-1-init.mp4"));
    assert_eq!(template.media.as_deref(), Some("1080p-1-$Number$.m4s"));
    let runs = &template.SegmentTimeline.as_ref().unwrap().segments;
    let runs: Vec<_> = runs.iter().map(|run| (run.t, run.d, run.r)).collect();
    assert_eq!(runs, [(Some(0), 180_180, Some(2)), (None, 60_060, None)]);

    assert_eq!((sound.mimeType.as_deref(), sound.lang.as_deref()), (Some("audio/mp4"), Some("pt-BR")));
    let [track] = &sound.representations[..] else { panic!("one track") };
    assert_eq!(track.audioSamplingRate.as_deref(), Some("48000"));
    let [layout] = &track.AudioChannelConfiguration[..] else { panic!("channels") };
    assert_eq!(layout.value.as_deref(), Some("2"));
}

#[test]
fn codecs_and_audio_tracks_are_sets_of_their_own() {
    let renditions = vec![
        video("a", "avc1.640028", 720, (25, 1)),
        video("b", "hvc1.1.6.L93.90", 720, (25, 1)),
        video("c", "avc1.64001e", 360, (25, 1)),
        audio("english", Some("en")),
        audio("comments", Some("en")),
    ];
    let mpd = parse(&manifest(ManifestKind::Static, renditions));
    let sets: Vec<Vec<&str>> = mpd.periods[0]
        .adaptations
        .iter()
        .map(|set| set.representations.iter().map(|one| one.id.as_deref().unwrap()).collect())
        .collect();
    assert_eq!(sets, [vec!["a", "c"], vec!["b"], vec!["english"], vec!["comments"]]);
    let roles: Vec<usize> = mpd.periods[0].adaptations.iter().map(|set| set.Role.len()).collect();
    assert_eq!(roles, [1, 1, 1, 0], "one audio track is the main one");
    let ids: Vec<_> = mpd.periods[0].adaptations.iter().map(|set| set.id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["0", "1", "2", "3"]);
}

#[test]
fn tracks_say_what_they_are_for() {
    let (mut comments, timeline) = audio("audio_2", Some("en"));
    comments.label = Some("The makers".to_owned());
    comments.track = PresentedTrack::Audio {
        channels: 2,
        sample_rate: None,
        language: Some("en".into()),
        role: Role::Commentary,
    };
    let renditions = vec![
        audio("audio", None),
        (comments, timeline),
        text("subtitles", Some("de"), Role::Main),
        text("subtitles_2", None, Role::Captions),
        text("subtitles_3", Some("de"), Role::Forced),
    ];
    let mpd = parse(&manifest(ManifestKind::Static, renditions));
    let sets = &mpd.periods[0].adaptations;
    let roles: Vec<Vec<&str>> =
        sets.iter().map(|set| set.Role.iter().map(|role| role.value.as_deref().unwrap()).collect()).collect();
    assert_eq!(roles, [["main"], ["commentary"], ["subtitle"], ["caption"], ["forced-subtitle"]]);
    assert_eq!(sets[1].Label[0].content, "The makers");
    let text = &sets[2];
    assert_eq!((text.contentType.as_deref(), text.mimeType.as_deref()), (Some("text"), Some("text/vtt")));
    assert_eq!((text.lang.as_deref(), sets[3].lang.as_deref()), (Some("de"), None));
    let [track] = &text.representations[..] else { panic!("one file") };
    assert_eq!(track.codecs, None, "the MIME type says it");
    assert!(track.SegmentTemplate.is_none() && track.SegmentList.is_none());
    assert_eq!(track.BaseURL[0].base, "subtitles-1-all.vtt");
}

#[test]
fn a_growing_manifest_says_so() {
    let at = |second| Utc.with_ymd_and_hms(2026, 11, 20, 16, 0, second).unwrap();
    let kind =
        ManifestKind::Growing { available_from: at(1), published: at(2), next: "then.mpd?a&b".to_owned() };
    // A rendition of which nothing is there yet cannot be written down.
    let (nothing, mut empty) = video("240p", "avc1.64000d", 240, (25, 1));
    empty.durations.clear();
    let mpd = parse(&manifest(kind, vec![video("360p", "avc1.64001e", 360, (25, 1)), (nothing, empty)]));
    assert_eq!(mpd.mpdtype.as_deref(), Some("dynamic"));
    assert_eq!(mpd.availabilityStartTime, Some(at(1)));
    assert_eq!(mpd.publishTime, Some(at(2)));
    assert_eq!(mpd.locations[0].url, "then.mpd?a&b");
    assert_eq!(mpd.minimumUpdatePeriod.map(|time| time.as_secs()), Some(2));
    assert_eq!((mpd.mediaPresentationDuration, mpd.timeShiftBufferDepth), (None, None), "all of it stays");
    assert_eq!(mpd.UTCTiming[0].value.as_deref(), Some("2026-11-20T16:00:02.000Z"));
    assert_eq!(mpd.periods[0].adaptations[0].representations.len(), 1);
}

#[test]
fn files_without_a_pattern_are_listed() {
    let (presented, mut listed) = video("360p", "avc1.64001e", 360, (25, 1));
    let media: Vec<String> = (0..4).map(|n| format!("../../{n}/360p/{n:05}.m4s")).collect();
    listed.files = Files::List { init: "../../0/360p/init.mp4".to_owned(), media: media.clone() };
    let mpd = parse(&manifest(ManifestKind::Static, vec![(presented, listed)]));
    assert_eq!(mpd.profiles.as_deref(), Some("urn:mpeg:dash:profile:isoff-main:2011"));
    let list = mpd.periods[0].adaptations[0].representations[0].SegmentList.as_ref().unwrap();
    assert_eq!(list.timescale, Some(30_000));
    let init = list.Initialization.as_ref().unwrap().sourceURL.as_deref();
    assert_eq!(init, Some("../../0/360p/init.mp4"));
    let found: Vec<_> = list.segment_urls.iter().map(|url| url.media.clone().unwrap()).collect();
    assert_eq!(found, media);
    let runs = &list.SegmentTimeline.as_ref().unwrap().segments;
    let lengths: Vec<_> = runs.iter().map(|run| (run.d, run.r)).collect();
    assert_eq!(lengths, [(180_180, None), (180_180, None), (180_180, None), (60_060, None)]);
}

#[test]
fn strings_cannot_break_out() {
    let hostile = "a\"'/><x>&amp;\u{0}\n\u{fffe}]]>";
    for language in [hostile, "", "en-", "1en", "englishman"] {
        let (mut presented, mut timeline) = audio(hostile, Some(language));
        presented.codec = hostile.to_owned();
        timeline.files = Files::List { init: hostile.into(), media: vec![hostile.into(); 4] };
        let mpd = parse(&manifest(ManifestKind::Static, vec![(presented, timeline)]));
        let set = &mpd.periods[0].adaptations[0];
        let cleaned = "a\"'/><x>&amp;]]>";
        assert_eq!(set.representations[0].id.as_deref(), Some(cleaned));
        assert_eq!(set.representations[0].codecs.as_deref(), Some(cleaned));
        assert_eq!(set.Label[0].content, cleaned);
        assert_eq!(set.lang, None, "{language:?} is no language");
    }
}
