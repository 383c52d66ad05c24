//! A window that grows, and what its playlists say of it.

use std::time::Duration;

use super::cadence::{Cadence, Wanted};
use super::manifest::manifest;
use super::plan::{LiveAudio, LivePlan, LiveRung};
use super::playlist::{Form, media};
use super::window::{Part, Run, Update, Wait, Window};
use crate::media::codec::Codec;
use crate::media::grid::Rate;

/// Segments of two seconds and four parts, a window of twenty seconds.
pub(super) fn window() -> Window {
    let rate = Rate { num: 25, den: 1 };
    let cadence = Cadence::new(Wanted {
        rate,
        sample_rate: Some(48_000),
        keyframe_interval: 2,
        segment_duration: 2,
        part_duration_ms: 500,
    });
    let plan = LivePlan {
        cadence,
        frame_rate: (25, 1),
        codec: Codec::H264,
        rungs: vec![LiveRung {
            name: "360p".into(),
            width: 640,
            height: 360,
            bitrate: 800_000,
            buffer: 800_000,
        }],
        audio: Some(LiveAudio { bitrate: 128_000, sample_rate: 48_000 }),
        low_latency: true,
        window_seconds: 20,
    };
    let mut window = Window::new(plan, "p/x/".into(), 1_790_000_000_000_000);
    let codecs = vec!["avc1.64001e".into(), "mp4a.40.2".into()];
    window.apply(Update::Run(Run { epoch: 1, ordinal: 0, first_number: 1, codecs, began: Some(0) }));
    window
}

/// Adds parts of both tracks, numbered through from the start of a run.
pub(super) fn grow(window: &mut Window, epoch: u32, first: u64, parts: std::ops::Range<u64>) {
    for part in parts {
        let number = first + part / 4;
        for (track, ticks) in [(0, 6400), (1, 24_000)] {
            let segment_start = (number - 1) * 4 * u64::from(ticks);
            let part_of = Part { ticks, independent: track == 1 || part % 4 == 0 };
            let closes = part % 4 == 3;
            window.apply(Update::Part { track, number, epoch, segment_start, part: part_of, closes });
        }
    }
}

fn full(window: &Window) -> String {
    media(window, "360p", Form::Full).unwrap()
}

#[test]
fn a_playlist_says_what_there_is_and_what_comes() {
    let mut window = window();
    assert_eq!(media(&window, "360p", Form::Full), None, "nothing yet");
    grow(&mut window, 1, 1, 0..6);
    assert_eq!(
        full(&window),
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.560,HOLD-BACK=6,CAN-SKIP-UNTIL=12\n\
         #EXT-X-PART-INF:PART-TARGET=0.520\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MAP:URI=\"360p-init-1.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:13:20.000Z\n\
         #EXT-X-PART:DURATION=0.500000,URI=\"360p-1.0.m4s\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.500000,URI=\"360p-1.1.m4s\"\n#EXT-X-PART:DURATION=0.500000,URI=\"360p-1.2.m4s\"\n\
         #EXT-X-PART:DURATION=0.500000,URI=\"360p-1.3.m4s\"\n#EXTINF:2.000000,\n360p-1.m4s\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-09-21T14:13:22.000Z\n\
         #EXT-X-PART:DURATION=0.500000,URI=\"360p-2.0.m4s\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.500000,URI=\"360p-2.1.m4s\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"360p-2.2.m4s\"\n\
         #EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=2,LAST-PART=1\n"
    );
    window.plan.low_latency = false;
    let plain = full(&window);
    assert!(!plain.contains("PART") && !plain.contains("SERVER-CONTROL"), "{plain}");
    assert!(plain.contains("360p-1.m4s") && !plain.contains("360p-2"), "{plain}");
    window.apply(Update::Ended);
    assert!(full(&window).ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn another_parser_reads_it() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..30);
    window.plan.low_latency = false;
    let text = full(&window);
    let read = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
    assert_eq!((read.media_sequence, read.target_duration, read.segments.len()), (1, 2, 7));
    assert!(read.segments.iter().all(|segment| segment.program_date_time.is_some()));
}

#[test]
fn what_is_old_leaves_on_all_tracks_at_once_and_parts_before_it() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..120);
    let first = |track: usize| window.tracks[track].segments.front().unwrap().number;
    assert_eq!(first(0), first(1));
    assert_eq!(window.tracks[0].segments.len(), 10, "twenty seconds of two");
    let listed = full(&window);
    assert!(listed.contains("#EXT-X-MEDIA-SEQUENCE:21\n"), "{listed}");
    // Parts of the last three target durations, and of what is less than that from the end.
    assert_eq!(listed.matches("#EXT-X-PART:").count(), 12, "{listed}");
}

#[test]
fn a_delta_leaves_out_what_lies_behind_the_boundary() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..12);
    assert!(
        !media(&window, "360p", Form::Delta).unwrap().contains("#EXT-X-SKIP"),
        "nothing is so far from the end"
    );
    grow(&mut window, 1, 1, 12..120);
    let delta = media(&window, "360p", Form::Delta).unwrap();
    assert!(delta.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n"), "{delta}");
    // Put where the skipped ones were, it is the full one.
    let whole = full(&window);
    let (head, rest) = delta.split_once("#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n").unwrap();
    assert!(whole.starts_with(head) && whole.ends_with(rest), "{whole}\n{delta}");
    window.apply(Update::Ended);
    assert!(!media(&window, "360p", Form::Delta).unwrap().contains("#EXT-X-SKIP"), "it changes no more");
}

#[test]
fn a_new_run_is_a_discontinuity_with_a_map_of_its_own() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..6);
    for track in 0..2 {
        window.apply(Update::Closed { track, number: 2 });
        window.apply(Update::Gap { track, number: 3, epoch: 1, start: 38_400, ticks: 25_600 });
    }
    let codecs = window.runs[0].codecs.clone();
    window.apply(Update::Run(Run { epoch: 5, ordinal: 1, first_number: 4, codecs, began: Some(20_000_000) }));
    grow(&mut window, 5, 4, 0..5);
    let text = full(&window);
    let seam = "#EXT-X-GAP\n#EXTINF:2.000000,\n360p-3.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"360p-init-5.mp4\"\n";
    assert!(text.contains(seam), "{text}");
    assert!(text.contains("#EXTINF:1.000000,\n360p-2.m4s\n"), "it ended early: {text}");
    // The seam stays with its segment; once that has left, the sequence tells of it.
    grow(&mut window, 5, 4, 5..40);
    let text = full(&window);
    let head = text.split_once("#EXT-X-MAP").unwrap().0;
    assert!(head.contains("#EXT-X-MEDIA-SEQUENCE:4\n") && !head.contains("DISCONTINUITY-SEQUENCE"), "{text}");
    assert!(head.ends_with("#EXT-X-DISCONTINUITY\n"), "{text}");
    grow(&mut window, 5, 4, 40..100);
    let text = full(&window);
    assert!(
        text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1\n") && !text.contains("#EXT-X-DISCONTINUITY\n"),
        "{text}"
    );
    assert_eq!(window.runs.len(), 1);
}

#[test]
fn a_hole_between_runs_is_no_distance_from_the_end() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..16);
    let codecs = window.runs[0].codecs.clone();
    window.apply(Update::Run(Run { epoch: 2, ordinal: 1, first_number: 5, codecs, began: None }));
    // A minute later, as its date says.
    let part = Part { ticks: 6400, independent: true };
    for _ in 0..3 {
        let segment_start = 70 * 12_800;
        window.apply(Update::Part { track: 0, number: 5, epoch: 2, segment_start, part, closes: false });
    }
    let delta = media(&window, "360p", Form::Delta).unwrap();
    assert!(!delta.contains("#EXT-X-SKIP"), "nine and a half seconds are listed in all: {delta}");
    assert_eq!(delta.matches("#EXT-X-PART:").count(), 15, "{delta}");
}

#[test]
fn requests_wait_for_just_what_they_name() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..10);
    // Segments 1 and 2 are whole, 3 has two parts.
    let wait = |msn, part| window.track("360p").unwrap().1.wait_for(msn, part, 520_000);
    assert_eq!(wait(1, None), Wait::Ready);
    assert_eq!(wait(2, Some(3)), Wait::Ready);
    assert_eq!(wait(2, Some(4)), Wait::Ready, "the first part of the next");
    assert_eq!(wait(3, Some(1)), Wait::Ready);
    assert_eq!(wait(3, Some(2)), Wait::Later);
    assert_eq!(wait(3, None), Wait::Later, "all of the segment");
    assert_eq!(wait(4, Some(0)), Wait::Later);
    assert_eq!(wait(5, None), Wait::Later);
    assert_eq!(wait(6, None), Wait::TooFar);
    assert_eq!(wait(3, Some(7)), Wait::TooFar, "three seconds of parts ahead");
}

/// As the parser of another reads it: what comes after a run has ended is a period of its own, and a gap is no segment.
#[test]
fn a_manifest_has_a_period_for_each_stretch() {
    let now = chrono::DateTime::from_timestamp(1_790_000_100, 0).unwrap();
    let mut window = window();
    assert_eq!(manifest(&window, now), None, "nothing yet");
    grow(&mut window, 1, 1, 0..8);
    for track in 0..2 {
        let timescale = [12_800, 48_000][track];
        window.apply(Update::Gap { track, number: 3, epoch: 1, start: 4 * timescale, ticks: 2 * timescale });
    }
    let codecs = window.runs[0].codecs.clone();
    window.apply(Update::Run(Run { epoch: 5, ordinal: 1, first_number: 4, codecs, began: Some(6_000_000) }));
    grow(&mut window, 5, 4, 0..10);
    let read = |window: &Window| dash_mpd_core::parse(&manifest(window, now).unwrap().render()).unwrap();
    let mpd = read(&window);
    assert_eq!(mpd.mpdtype.as_deref(), Some("dynamic"));
    assert_eq!(mpd.availabilityStartTime.unwrap().timestamp(), 1_790_000_000);
    assert_eq!(mpd.timeShiftBufferDepth, Some(Duration::from_secs(20)));
    assert!(mpd.minimumUpdatePeriod.is_some() && mpd.mediaPresentationDuration.is_none());
    let told: Vec<_> = mpd
        .periods
        .iter()
        .map(|period| {
            let template = period.adaptations[1].representations[0].SegmentTemplate.clone().unwrap();
            let lines = template.SegmentTimeline.unwrap().segments;
            let lines: Vec<_> = lines.iter().map(|line| (line.t, line.d, line.r)).collect();
            (
                (period.id.clone().unwrap(), period.start.unwrap().as_secs()),
                (template.startNumber.unwrap(), template.presentationTimeOffset),
                (template.initialization.unwrap(), template.media.unwrap()),
                lines,
            )
        })
        .collect();
    let media = "audio-$Number$.m4s".to_owned();
    assert_eq!(
        told,
        [
            (
                ("1".into(), 0),
                (1, None),
                ("audio-init-1.mp4".into(), media.clone()),
                vec![(Some(0), 96_000, Some(1))]
            ),
            (
                ("5".into(), 6),
                (4, Some(288_000)),
                ("audio-init-5.mp4".into(), media),
                vec![(Some(288_000), 96_000, Some(1))]
            ),
        ]
    );
    // What leaves changes no time of what stays.
    grow(&mut window, 5, 4, 10..60);
    let later = read(&window);
    let [period] = &later.periods[..] else { panic!("{} periods", later.periods.len()) };
    assert_eq!((period.id.as_deref(), period.start), (Some("5"), Some(Duration::from_secs(6))));
    window.apply(Update::Ended);
    let over = read(&window);
    assert_eq!(over.mpdtype.as_deref(), Some("static"), "nothing comes any more");
    assert_eq!(over.mediaPresentationDuration, Some(Duration::from_secs(36)));
}

#[test]
fn a_rung_that_was_dropped_has_gaps_and_nothing_is_promised_of_it() {
    let mut window = window();
    grow(&mut window, 1, 1, 0..8);
    let codecs = vec![String::new(), "mp4a.40.2".into()];
    window.apply(Update::Run(Run { epoch: 2, ordinal: 1, first_number: 3, codecs, began: Some(4_000_000) }));
    for (number, part) in [(3, 0), (3, 1), (3, 2), (3, 3), (4, 0)] {
        let part_of = Part { ticks: 24_000, independent: true };
        let segment_start = (number - 1) * 96_000;
        let closes = part == 3;
        window.apply(Update::Part { track: 1, number, epoch: 2, segment_start, part: part_of, closes });
    }
    window.apply(Update::Gap { track: 0, number: 3, epoch: 2, start: 2 * 25_600, ticks: 25_600 });
    let text = full(&window);
    assert!(text.ends_with("#EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=4,LAST-PART=0\n"), "{text}");
    let seam = text.split_once("#EXT-X-DISCONTINUITY\n").unwrap().1;
    assert!(seam.contains("#EXT-X-GAP\n#EXTINF:2.000000,\n360p-3.m4s\n"), "{text}");
    assert!(
        !seam.contains("EXT-X-MAP") && !text.contains("PRELOAD-HINT"),
        "there is no description of it: {text}"
    );
    let other = media(&window, "audio", Form::Full).unwrap();
    assert!(other.ends_with("URI=\"360p.m3u8\",LAST-MSN=3\n"), "{other}");
    assert!(other.contains("PRELOAD-HINT"), "{other}");
    // DASH goes on with what is left, in one period more.
    window.apply(Update::Part {
        track: 1,
        number: 4,
        epoch: 2,
        segment_start: 288_000,
        part: Part { ticks: 72_000, independent: true },
        closes: true,
    });
    window.apply(Update::Gap { track: 0, number: 4, epoch: 2, start: 3 * 25_600, ticks: 25_600 });
    let now = chrono::DateTime::from_timestamp(1_790_000_100, 0).unwrap();
    let mpd = dash_mpd_core::parse(&manifest(&window, now).unwrap().render()).unwrap();
    assert_eq!(mpd.periods.iter().map(|period| period.adaptations.len()).collect::<Vec<_>>(), [2, 1]);
    // Whoever has it open is answered when the others have gone as far.
    let track = window.track("360p").unwrap().1;
    assert_eq!(track.wait_for(4, None, 520_000), Wait::Ready);
    assert_eq!(track.wait_for(5, Some(0), 520_000), Wait::Later);
}
