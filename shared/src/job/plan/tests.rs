//! Plans, as they follow from a source and a recipe.

use super::*;
use crate::job::edit::{Crop, Edit};
use crate::job::spec::{Adopt, Input, LadderChoice};
use crate::job::task::{AUDIO_RUNG, TaskKind};
use crate::media::codec::Codec;
use crate::media::grid::Rate;
use crate::media::probe::{TextStream, Transfer, UnsaidColours};
use crate::media::profile::AudioTracks;
use crate::media::tracks::Role;

pub(super) fn probe(video_end: f64, audio_end: Option<f64>) -> Probe {
    Probe {
        format: "mov,mp4,m4a,3gp,3g2,mj2".into(),
        duration_seconds: video_end.max(audio_end.unwrap_or(0.0)),
        size_bytes: 1,
        bitrate: None,
        video: Some(VideoStream {
            index: 0,
            codec: "h264".into(),
            width: 1280,
            height: 720,
            sample_aspect: (1, 1),
            rotation: 0,
            display_matrix: false,
            pixel_format: "yuv420p".into(),
            interlaced: false,
            transfer: Transfer::Sdr,
            unsaid_colours: UnsaidColours::default(),
            rate: Rate { num: 25, den: 1 },
            variable_rate: false,
            end_seconds: video_end,
            packets: 1,
            keyframe_gap_seconds: 2.0,
        }),
        audio: audio_end
            .map(|end| AudioStream {
                index: 1,
                codec: "aac".into(),
                sample_rate: 22_050,
                channels: 1,
                language: None,
                title: None,
                role: Role::Main,
                end_seconds: Some(end),
            })
            .into_iter()
            .collect(),
        subtitles: 0,
        text: vec![],
        tags: std::collections::BTreeMap::new(),
        warnings: vec![],
    }
}

pub(super) fn spec(profile: &str) -> JobSpec {
    let source = SourceId::new();
    JobSpec {
        input: Input::UploadId(crate::ids::UploadId::new()),
        source,
        profile: Profile::built_in(profile),
        outputs: vec![Output::Hls, Output::Thumbnail],
        edit: Edit::default(),
        ladder: LadderChoice::default(),
        quality: None,
        outputs_by_default: false,
        picture: None,
        poster: None,
        series: None,
        downloads: vec![],
        adopt: None,
        taken: None,
        callback_url: None,
        force: false,
        dry_run: false,
    }
}

pub(super) const NOW: Circumstances = Circumstances {
    max_duration_seconds: 36_000.0,
    free_slots: 2,
    encode_threads: None,
    chunk_seconds: None,
    gpus: Gpus { here: vec![], known: vec![] },
    mixes: vec![],
};

/// Of the best rung, which the lead leaves alone.
fn chunk_lengths(seconds: f64, circumstances: &Circumstances) -> Vec<(f64, u32)> {
    let plan = transcode(
        &spec("web"),
        SourceId::new(),
        RecordingId::new(),
        &probe(seconds, None),
        Settled::default(),
        circumstances,
    )
    .unwrap();
    plan.tasks
        .iter()
        .filter_map(|task| match &task.spec {
            TaskSpec::Encode(encode) if encode.rungs[0].position == 0 => {
                Some((encode.grid.rate.seconds(encode.span().frames), encode.threads))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn chunks_are_as_many_as_free_slots_within_what_is_worth_it() {
    assert_eq!(chunk_lengths(10.0, &NOW), [(10.0, 2)], "short: the threads instead");
    assert_eq!(
        chunk_lengths(60.0, &NOW),
        [(12.0, 1), (30.0, 1), (18.0, 1)],
        "the first is short: somebody waits for all of it"
    );
    let many = Circumstances { free_slots: 100, ..NOW };
    assert_eq!(chunk_lengths(60.0, &many).len(), 3);
    let short = chunk_lengths(600.0, &many);
    assert!(short[..32].iter().all(|chunk| chunk.0 == 18.0), "whole segments: {short:?}");
    let set = Circumstances { chunk_seconds: Some(6.0), ..NOW };
    assert_eq!(chunk_lengths(20.0, &set), [(6.0, 1), (6.0, 1), (8.0, 1)], "no stump at the end");
}

#[test]
fn what_is_decoded_before_a_chunk_counts() {
    let plan = |probe: &Probe, chunk_seconds| {
        let circumstances = Circumstances { chunk_seconds, ..NOW };
        let settled = Settled::default();
        let plan =
            transcode(&spec("web"), SourceId::new(), RecordingId::new(), probe, settled, &circumstances);
        let chunk = |task: NewTask| match task.spec {
            TaskSpec::Encode(encode) if encode.rungs[0].position == 0 => {
                let seconds = encode.grid.rate.seconds(encode.span().encoded());
                Some((encode.source_seconds(), seconds, encode.deadline_seconds))
            }
            _ => None,
        };
        plan.unwrap().tasks.into_iter().filter_map(chunk).collect::<Vec<_>>()
    };
    let mut sparse = probe(7200.0, None);
    let usual = plan(&sparse, None);
    assert!(usual.len() > 100);
    for gap in [100.0, 7200.0] {
        sparse.video.as_mut().unwrap().keyframe_gap_seconds = gap;
        for (start, seconds, allowed) in plan(&sparse, None) {
            assert_eq!(allowed, deadline(seconds + start.min(gap)));
        }
        assert!(plan(&sparse, Some(60.0)).iter().all(|chunk| chunk.1 < 95.0), "as somebody wants it");
    }
    let few = plan(&sparse, None);
    assert_eq!(few.iter().filter(|(_, seconds, _)| *seconds > 1000.0).count(), 4);
    assert!(few.len() <= 6, "and short ones at the beginning: {few:?}");
}

#[test]
fn what_cannot_be_sought_in_is_not_cut() {
    let mut stream = probe(600.0, None);
    stream.format = "mpegts".into();
    let plan =
        transcode(&spec("web"), SourceId::new(), RecordingId::new(), &stream, Settled::default(), &NOW)
            .unwrap();
    let encodes = plan.tasks.iter().filter(|task| matches!(task.spec, TaskSpec::Encode(_))).count();
    assert_eq!(encodes, 2, "the lead, which begins at the beginning, and the rest");
    assert!(remux(&spec("web"), SourceId::new(), &stream).is_some(), "worth another container first");
    assert!(remux(&spec("audio"), SourceId::new(), &stream).is_none());
    assert!(remux(&spec("web"), SourceId::new(), &probe(600.0, None)).is_none());
    stream.video.as_mut().unwrap().end_seconds = 20.0;
    assert!(remux(&spec("web"), SourceId::new(), &stream).is_none());
}

#[test]
fn a_long_source_is_led_and_begins_with_short_chunks() {
    let plan = transcode(
        &spec("web"),
        SourceId::new(),
        RecordingId::new(),
        &probe(600.0, Some(600.0)),
        Settled::default(),
        &NOW,
    )
    .unwrap();
    let TaskSpec::Encode(lead) = &plan.tasks[0].spec else { panic!("the lead comes first") };
    assert_eq!(lead.rungs.iter().map(|rung| rung.name.as_str()).collect::<Vec<_>>(), ["360p"]);
    assert_eq!((lead.span().frames, lead.rungs[0].position), (150, 2));
    let TaskSpec::Audio(sound) = &plan.tasks[1].spec else { panic!("then the sound beside it") };
    assert_eq!((sound.span().segment, sound.span().segments), (0, 5));
    let TaskSpec::Encode(chunk) = &plan.tasks[2].spec else { panic!("then the picture") };
    let starts: Vec<u64> = chunk.rungs.iter().map(|rung| chunk.rung_span(rung).first).collect();
    assert_eq!(starts, [0, 0, 150], "the lowest rung goes on behind the lead");
    assert_eq!(chunk.rung_span(&chunk.rungs[2]).warm_up, 50);
    let lengths: Vec<f64> = plan
        .tasks
        .iter()
        .filter_map(|task| match &task.spec {
            TaskSpec::Encode(encode) => Some(encode.grid.rate.seconds(encode.span().frames)),
            _ => None,
        })
        .collect();
    assert_eq!(lengths[..4], [6.0, 12.0, 24.0, 60.0]);
    assert_eq!(lengths[9..], [60.0, 30.0, 30.0, 30.0, 30.0, 24.0]);
    assert_eq!(lengths[1..].iter().sum::<f64>(), 600.0);
    assert_eq!((plan.set.target_duration, plan.set.needs_audio), (6, true));
}

#[test]
fn a_part_of_the_source_and_of_the_picture() {
    let mut spec = spec("web");
    spec.edit = Edit {
        start_ms: Some(2500),
        end_ms: Some(12_500),
        crop: Some(Crop { left: 160, right: 160, ..Crop::default() }),
        pad: Some((16, 9)),
        max_height: Some(540),
        max_frame_rate: Some(12),
        ..Edit::default()
    };
    let plan = |spec: &JobSpec, probe: &Probe| {
        transcode(spec, SourceId::new(), RecordingId::new(), probe, Settled::default(), &NOW)
    };
    let planned = plan(&spec, &probe(60.0, Some(60.0))).unwrap();
    assert_eq!(planned.duration_seconds, 10.0);
    let TaskSpec::Encode(encode) = &planned.tasks[0].spec else { panic!() };
    assert_eq!((encode.offset_ms, encode.grid.frames), (2500, 250));
    let area = encode.crop.unwrap();
    assert_eq!((area.x, area.y, area.width, area.height), (160, 0, 960, 720));
    let rung = &encode.rungs[0];
    assert_eq!((rung.width, rung.height, rung.content), (960, 540, Some((720, 540))));
    assert_eq!(rung.grid.rate, Rate { num: 12, den: 1 });
    let TaskSpec::Audio(audio) = &planned.tasks[1].spec else { panic!() };
    assert_eq!(audio.offset_ms, 2500);
    spec.edit.start_ms = Some(61_000);
    let error = plan(&spec, &probe(60.0, None)).unwrap_err();
    assert!(!error.retryable && error.message.contains("begins at 61.000 s"), "{error}");
}

#[test]
fn the_lead_is_what_every_player_plays() {
    let mut spec = spec("web");
    let rungs = &mut spec.profile.as_mut().unwrap().rungs;
    rungs.last_mut().unwrap().codec = Codec::Av1;
    let (source, recording) = (SourceId::new(), RecordingId::new());
    let plan = transcode(&spec, source, recording, &probe(600.0, None), Settled::default(), &NOW).unwrap();
    let TaskSpec::Encode(lead) = &plan.tasks[0].spec else { panic!("the lead comes first") };
    assert_eq!(lead.rungs.iter().map(|rung| rung.name.as_str()).collect::<Vec<_>>(), ["480p"]);
    let told: Vec<_> =
        plan.summary.renditions.iter().map(|made| (made.name.as_str(), made.encoder)).collect();
    assert!(told.contains(&("360p", Some(Encoder::Libsvtav1))), "{told:?}");
}

#[test]
fn every_segment_of_every_rung_is_made_once() {
    for (seconds, chunk_seconds) in
        [(5.0, None), (31.0, Some(6.0)), (31.0, None), (95.5, Some(6.0)), (600.0, None)]
    {
        for profile in ["web", "classic", "fast"] {
            let circumstances = Circumstances { chunk_seconds, ..NOW };
            let plan = transcode(
                &spec(profile),
                SourceId::new(),
                RecordingId::new(),
                &probe(seconds, Some(seconds)),
                Settled::default(),
                &circumstances,
            )
            .unwrap();
            let TaskSpec::Finish(finish) = &plan.tasks.last().unwrap().spec else { panic!() };
            for (name, segments) in &finish.expect {
                let mut made: Vec<u64> = vec![];
                for task in &plan.tasks {
                    match &task.spec {
                        TaskSpec::Encode(encode) => {
                            for rung in encode.rungs.iter().filter(|rung| rung.name == *name) {
                                let span = encode.rung_span(rung);
                                assert!(span.frames > 0);
                                let step = rung.grid.segment_frames();
                                made.extend(span.first / step..(span.first + span.frames).div_ceil(step));
                            }
                        }
                        TaskSpec::Audio(audio) if *name == audio.rung => {
                            made.extend((audio.span().segment..audio.span().end()).map(|n| n as u64));
                        }
                        _ => {}
                    }
                }
                made.sort_unstable();
                assert_eq!(made, (0..*segments).collect::<Vec<_>>(), "{profile} {seconds} {name}");
            }
        }
    }
}

/// English and French, and a German commentary; text of two kinds.
fn many_tracks(seconds: f64) -> Probe {
    let mut probe = probe(seconds, Some(seconds));
    let track = |index, language: Option<&str>, role| AudioStream {
        index,
        language: language.map(str::to_owned),
        role,
        ..probe.audio[0].clone()
    };
    let text = |index, title: Option<&str>| TextStream {
        index,
        codec: "subrip".into(),
        language: Some("en".into()),
        title: title.map(str::to_owned),
        role: Role::Main,
    };
    let empty = AudioStream { end_seconds: None, ..track(4, None, Role::Main) };
    probe.audio = vec![
        track(1, Some("en"), Role::Main),
        track(2, Some("fr"), Role::Main),
        track(3, Some("de"), Role::Commentary),
        empty,
    ];
    probe.text = vec![text(5, None), text(6, Some("Songs"))];
    probe
}

fn planned(spec: &JobSpec, probe: &Probe) -> Plan {
    transcode(spec, SourceId::new(), RecordingId::new(), probe, Settled::default(), &NOW).unwrap()
}

#[test]
fn every_track_is_a_rendition_and_the_default_one_comes_first() {
    let plan = planned(&spec("web"), &many_tracks(600.0));
    let TaskSpec::Finish(finish) = &plan.tasks.last().unwrap().spec else { panic!() };
    let names = finish.expect.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = names.filter(|name| !name.ends_with('p')).collect();
    assert_eq!(names, ["audio", "subtitles", "subtitles_2", "audio_2", "audio_3"]);
    assert!(finish.expect.iter().all(|(_, segments)| *segments == 100));
    let order: Vec<(usize, &str)> = plan
        .tasks
        .iter()
        .filter_map(|task| match &task.spec {
            TaskSpec::Audio(audio) => Some((audio.span().segment, audio.rung.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(order[..4], [(0, "audio"), (0, "audio_2"), (0, "audio_3"), (5, "audio")]);
    let labels: Vec<&str> =
        plan.summary.renditions.iter().filter_map(|rendition| rendition.label.as_deref()).collect();
    assert_eq!(labels, ["English", "French", "German"]);
    assert_eq!(plan.summary.subtitles[1].label, "Songs");
    assert_eq!(plan.summary.warnings, ["1 audio tracks hold nothing and are left out"]);
}

#[test]
fn orders_for_sound_do_not_grow_with_the_square_of_its_length() {
    let mut spec = spec("web");
    spec.profile.as_mut().unwrap().audio.as_mut().unwrap().loudness = Some(-23.0);
    let size = |seconds| {
        let plan = planned(&spec, &many_tracks(seconds));
        let sound =
            plan.tasks.iter().filter(|task| matches!(task.spec, TaskSpec::Audio(_) | TaskSpec::Loudness(_)));
        sound.map(|task| serde_json::to_vec(&task.spec).unwrap().len()).sum::<usize>()
    };
    let (short, long) = (size(3600.0), size(36_000.0));
    assert!(long < 12 * short, "{long} bytes for ten hours, {short} for one");
}

#[test]
fn one_track_may_be_enough_and_loudness_is_measured_before() {
    let mut wish = spec("web");
    let audio = wish.profile.as_mut().unwrap().audio.as_mut().unwrap();
    (audio.tracks, audio.loudness) = (AudioTracks::Default, Some(-23.0));
    let plan = planned(&wish, &many_tracks(60.0));
    let sounds: Vec<&NewTask> =
        plan.tasks.iter().filter(|task| matches!(task.spec, TaskSpec::Audio(_))).collect();
    let TaskSpec::Loudness(measure) = &plan.tasks[1].spec else { panic!("it comes before the sound") };
    assert_eq!(measure.tracks.len(), 1);
    assert_eq!(plan.tasks[1].unblocks, sounds.iter().map(|task| task.id).collect::<Vec<_>>());
    assert!(sounds.iter().all(|task| task.blocked_by == 1), "{sounds:?}");
}

#[test]
fn work_unblocks_the_finish() {
    let plan = transcode(
        &spec("web"),
        SourceId::new(),
        RecordingId::new(),
        &probe(5.28, Some(5.3)),
        Settled::default(),
        &NOW,
    )
    .unwrap();
    let finish = plan.tasks.last().unwrap();
    assert_eq!(plan.tasks.len(), 4);
    assert_eq!(finish.blocked_by, 3);
    assert!(plan.tasks[..3].iter().all(|task| task.unblocks == [finish.id] && task.blocked_by == 0));
    let TaskSpec::Audio(audio) = &plan.tasks[1].spec else { panic!() };
    assert_eq!(audio.grid.sample_rate, 44_100);
    assert_eq!(plan.duration_seconds, 5.28);
}

#[test]
fn a_longer_audio_track_holds_the_last_picture() {
    let plan = transcode(
        &spec("fast"),
        SourceId::new(),
        RecordingId::new(),
        &probe(5.0, Some(8.0)),
        Settled::default(),
        &NOW,
    )
    .unwrap();
    let TaskSpec::Encode(encode) = &plan.tasks[0].spec else { panic!() };
    assert_eq!((encode.grid.frames, encode.hold_frames), (200, 100));
}

#[test]
fn files_are_made_behind_the_finish() {
    let mut spec = spec("web");
    spec.outputs.push(Output::Mp4);
    let files = |spec: &JobSpec, probe: &Probe| {
        let plan = transcode(spec, spec.source, RecordingId::new(), probe, Settled::default(), &NOW).unwrap();
        let finish = plan.tasks.iter().position(|task| matches!(task.spec, TaskSpec::Finish(_))).unwrap();
        let (finish, files) = plan.tasks[finish..].split_first().unwrap();
        assert_eq!(finish.unblocks, files.iter().map(|file| file.id).collect::<Vec<_>>());
        assert!(files.iter().all(|file| file.blocked_by == 1));
        let name = |file: &NewTask| match &file.spec {
            TaskSpec::Mp4(spec) => (spec.download.rung.clone(), spec.download.height),
            other => panic!("{other:?}"),
        };
        files.iter().map(name).collect::<Vec<_>>()
    };
    let expected = [("720p", Some(720)), ("480p", Some(480)), ("360p", Some(360))];
    let expected = expected.map(|(name, height)| (name.to_owned(), height));
    assert_eq!(files(&spec, &probe(5.28, Some(5.3))), expected);
    assert_eq!(files(&spec, &probe(600.0, Some(600.0))), expected, "led by the last");
    spec.profile = Profile::built_in("audio");
    assert_eq!(files(&spec, &probe(5.28, Some(5.3))), [(AUDIO_RUNG.to_owned(), None)]);
    assert_eq!(files(&spec, &many_tracks(5.28)), [(AUDIO_RUNG.to_owned(), None)], "the default one");
}

#[test]
fn what_cannot_be_made_is_refused_for_good() {
    let mut silent = probe(5.0, None);
    let error =
        transcode(&spec("audio"), SourceId::new(), RecordingId::new(), &silent, Settled::default(), &NOW)
            .unwrap_err();
    assert!(!error.retryable && error.reason == Reason::Unsuitable);
    silent.video.as_mut().unwrap().end_seconds = 90_000.0;
    let error =
        transcode(&spec("web"), SourceId::new(), RecordingId::new(), &silent, Settled::default(), &NOW)
            .unwrap_err();
    assert_eq!(error.reason, Reason::LimitExceeded);
}

#[test]
fn around_what_is_there_only_the_rest_is_made() {
    let there = |renditions: &[(&str, u64)]| Adopt {
        set: SetId::new(),
        renditions: renditions.iter().map(|(name, segments)| ((*name).to_owned(), *segments)).collect(),
    };
    let plan_around = |adopt: &Adopt| {
        let spec = JobSpec { adopt: Some(adopt.clone()), ..spec("web") };
        transcode(&spec, spec.source, RecordingId::new(), &probe(60.0, Some(60.0)), Settled::default(), &NOW)
            .unwrap()
    };
    let made = |plan: &Plan| {
        let mut names: Vec<String> = plan.tasks.iter().flat_map(|task| task.spec.renditions()).collect();
        names.sort();
        names.dedup();
        names
    };
    let finish = |plan: &Plan| {
        let task = plan.tasks.iter().find(|task| task.spec.kind() == TaskKind::Finish).unwrap();
        let TaskSpec::Finish(finish) = &task.spec else { panic!() };
        assert_eq!(task.blocked_by as usize, plan.tasks.len() - 1, "it waits for all others");
        finish.expect.clone()
    };

    let adopt = there(&[("480p", 10), ("360p", 10), (AUDIO_RUNG, 10)]);
    let plan = plan_around(&adopt);
    assert_eq!(made(&plan), ["720p"]);
    assert_ne!(plan.set.id, adopt.set, "what plays is not touched");
    assert_eq!(finish(&plan).len(), 4, "the new set has all of it");
    let adopted = plan.adopted.as_ref().unwrap();
    assert_eq!(adopted.set, adopt.set);
    // By the profile, whose best rung the source is too small for.
    assert_eq!(adopted.places[..2], [("480p".to_owned(), 2), ("360p".to_owned(), 3)]);
    let place = plan.tasks.iter().find_map(|task| match &task.spec {
        TaskSpec::Encode(encode) => Some(encode.rungs[0].position),
        _ => None,
    });
    assert_eq!(place, Some(1));
    assert_eq!(plan.summary.warnings, ["1080p is left out: the source has no more to show"]);

    let whole = plan_around(&there(&[("720p", 10), ("480p", 10), ("360p", 10), (AUDIO_RUNG, 10)]));
    assert!(!whole.makes_something() && made(&whole).is_empty());
    let larger = plan_around(&there(&[("1080p", 10), ("360p", 10)]));
    assert_eq!(made(&larger), ["480p", "720p", AUDIO_RUNG]);
    assert!(finish(&larger).contains(&("1080p".to_owned(), 10)), "what is there stays, wanted or not");
    let otherwise = plan_around(&there(&[("480p", 10), ("360p", 6)]));
    assert_eq!((made(&otherwise).len(), &otherwise.adopted), (4, &None), "cut otherwise: nothing fits");
}
