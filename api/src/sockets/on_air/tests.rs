use reelmill_shared::media::abr::BitrateProfile;
use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::live::cadence::Cadence;
use reelmill_shared::media::live::plan::{LiveAudio, LivePlan, LiveRung};
use reelmill_shared::media::live::window::{Part, Run, Update};

use super::*;

/// Two rungs and sound, in segments of two parts of a second each.
fn window(low_latency: bool) -> Window {
    let rung = |name: &str, bitrate: u64| LiveRung {
        name: name.into(),
        width: 2,
        height: 2,
        bitrate,
        buffer: bitrate,
    };
    let plan = LivePlan {
        cadence: Cadence {
            rate: Rate { num: 25, den: 1 },
            gop_frames: 50,
            segment_gops: 1,
            gop_parts: 2,
            part_target: 1_000_000,
            target_duration: 2,
        },
        frame_rate: (25, 1),
        codec: Codec::H264,
        rungs: vec![rung("360p", 1_700_000), rung("240p", 400_000)],
        audio: Some(LiveAudio { bitrate: 128_000, sample_rate: 48_000 }),
        low_latency,
        window_seconds: 60,
    };
    let mut window = Window::new(plan, "place/".into(), 1_000_000);
    let codecs = ["avc1.64001e", "avc1.64000d", "mp4a.40.2"].map(str::to_owned).to_vec();
    window.apply(Update::Run(Run { epoch: 1, ordinal: 0, first_number: 0, codecs, began: Some(0) }));
    window
}

/// The next part of all tracks.
fn publish(window: &mut Window, number: u64, place: u32) {
    for track in 0..3 {
        let ticks = window.tracks[track].timescale;
        let part = Part { ticks, independent: place == 0 };
        let segment_start = number * 2 * u64::from(ticks);
        window.apply(Update::Part { track, number, epoch: 1, segment_start, part, closes: place == 1 });
    }
}

fn wishes(quality: &str) -> Wishes {
    Wishes::new(Some(quality), BitrateProfile::VeryLow)
}

/// What comes next, and the cursors behind it: as a viewer has it who takes all of it.
fn step(window: &Window, cursors: &mut [Cursor], wishes: &Wishes) -> Option<String> {
    Some(match next(window, cursors, wishes)? {
        Due::Media { cursor, piece } => {
            let cursor = &mut cursors[cursor];
            (cursor.number, cursor.part) = match piece.then {
                Some(part) => (piece.number, part),
                None => (piece.number + 1, 0),
            };
            piece.file.to_string()
        }
        Due::Switch(name) => {
            cursors[0].name = name;
            "switch".to_owned()
        }
        Due::Jump(number) => {
            cursors.iter_mut().for_each(|cursor| (cursor.number, cursor.part) = (number, 0));
            format!("jump to {number}")
        }
        Due::Lost { cursor, number } => {
            (cursors[cursor].number, cursors[cursor].part) = (number + 1, 0);
            format!("lost {} {number}", cursors[cursor].name)
        }
        Due::End => "end".to_owned(),
    })
}

/// All there is now.
fn all(window: &Window, cursors: &mut [Cursor], wishes: &Wishes) -> Vec<String> {
    std::iter::from_fn(|| step(window, cursors, wishes)).take(20).collect()
}

#[test]
fn parts_come_as_they_appear_and_another_quality_with_the_next_segment() {
    let mut window = window(true);
    assert_eq!(begin(&window, &wishes("auto")), None, "there is nothing yet");
    publish(&mut window, 0, 0);
    publish(&mut window, 0, 1);
    publish(&mut window, 1, 0);
    let mut cursors = begin(&window, &wishes("auto")).unwrap();
    assert_eq!(all(&window, &mut cursors, &wishes("auto")), ["240p-1.0.m4s", "audio-1.0.m4s"]);
    publish(&mut window, 1, 1);
    assert_eq!(all(&window, &mut cursors, &wishes("360p")), ["240p-1.1.m4s", "switch", "audio-1.1.m4s"]);
    publish(&mut window, 2, 0);
    assert_eq!(all(&window, &mut cursors, &wishes("360p")), ["360p-2.0.m4s", "audio-2.0.m4s"]);
    // The publisher is gone in the middle of a segment, and does not come back.
    for track in 0..3 {
        window.apply(Update::Closed { track, number: 2 });
    }
    assert_eq!(all(&window, &mut cursors, &wishes("360p")), [""; 0]);
    window.apply(Update::Ended);
    assert_eq!(step(&window, &mut cursors, &wishes("360p")).as_deref(), Some("end"));
}

#[test]
fn whole_segments_come_where_there_are_no_parts_or_somebody_is_behind() {
    let mut window = window(false);
    publish(&mut window, 0, 0);
    assert_eq!(begin(&window, &wishes("auto")), None, "it is not whole");
    publish(&mut window, 0, 1);
    let mut cursors = begin(&window, &wishes("auto")).unwrap();
    assert_eq!(all(&window, &mut cursors, &wishes("auto")), ["240p-0.m4s", "audio-0.m4s"]);
    for (number, place) in [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)] {
        publish(&mut window, number, place);
    }
    let both = ["240p-1.m4s", "audio-1.m4s", "240p-2.m4s", "audio-2.m4s"];
    assert_eq!(all(&window, &mut cursors, &wishes("auto")), both);
}

#[test]
fn who_is_too_far_behind_goes_on_at_the_newest_and_what_nobody_has_is_passed() {
    let mut window = window(true);
    publish(&mut window, 0, 0);
    let mut cursors = begin(&window, &wishes("auto")).unwrap();
    publish(&mut window, 0, 1);
    for number in 1..=3 {
        publish(&mut window, number, 0);
        publish(&mut window, number, 1);
    }
    assert_eq!(
        next(&window, &cursors, &wishes("auto")).map(|due| matches!(due, Due::Media { .. })),
        Some(true)
    );
    publish(&mut window, 4, 0);
    let behind = ["jump to 4", "240p-4.0.m4s", "audio-4.0.m4s"];
    assert_eq!(all(&window, &mut cursors, &wishes("auto")), behind);
    publish(&mut window, 4, 1);
    window.apply(Update::Gap { track: 1, number: 5, epoch: 1, start: 0, ticks: 1 });
    let passed = ["240p-4.1.m4s", "audio-4.1.m4s", "lost 240p 5"];
    assert_eq!(all(&window, &mut cursors, &wishes("auto")), passed);
}
