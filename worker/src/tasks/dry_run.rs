//! Tells what a transcode would do: planned and worded by the very code that would do it, and nothing of it done.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::{history, reuse};
use reelmill_shared::ids::{RecordingId, SourceId};
use reelmill_shared::job::error::TaskError;
use reelmill_shared::job::estimate::{Estimate, Sum, is_work};
use reelmill_shared::job::plan::{self, NewTask, Settled};
use reelmill_shared::job::preview::{self, Ladder, Preview, PreviewedReuse, PreviewedTask};
use reelmill_shared::job::spec::LadderChoice;
use reelmill_shared::job::task::{AUDIO_RUNG, TaskKind, TaskSpec};
use reelmill_shared::media::probe::Probe;
use serde_json::json;

use super::probe::circumstances;
use super::{Bench, command_line};
use crate::ffmpeg::argv::{self, Approach, AudioFiles, CompareFiles, EncodeFiles};
use crate::tasks::{
    audio, encode, loudness, mp4, quality, remux, storyboard, subtitles, thumbnail, thumbnails,
};

/// Stand for the source and the watermark in commands; files in the scratch directory have only their names.
const SOURCE: &str = "source";
const WATERMARK: &str = "watermark";

pub(super) async fn tell(
    bench: &Bench,
    source: SourceId,
    probe: &Probe,
    recipe: Option<[u8; 32]>,
) -> Result<Vec<Publication>, TaskError> {
    let spec = &bench.claimed.job_spec;
    // There is none yet, and there will be none.
    let recording = RecordingId::new();
    let remux = plan::remux(spec, source, probe);
    let seen = if remux.is_some() { remuxed(probe) } else { probe.clone() };
    let plan =
        plan::transcode(spec, source, recording, &seen, Settled::default(), &circumstances(bench).await?)?;
    let reading = |error| TaskError::internal("reading what earlier jobs took", error);
    let history = history::newest(&bench.shop.db, bench.claimed.project_id).await.map_err(reading)?;
    let reused = match recipe.filter(|_| !spec.force) {
        Some(recipe) => reuse::find(&bench.shop.db, &bench.claimed, &recipe).await.map_err(reading)?,
        None => None,
    };

    let (mut cpu_total, mut bytes_total) = (Sum::default(), Sum::default());
    let mut told = |task: &NewTask, all: &[NewTask], probe: &Probe| {
        let cpu = history.cpu(&task.spec);
        if is_work(&task.spec) {
            cpu_total.add(cpu);
        }
        let command = command(&task.spec, all, probe, spec.edit.keep_metadata)
            .map(|args| command_line(&bench.shop.programs.ffmpeg, &args));
        PreviewedTask::new(task, all, command, cpu)
    };
    let mut tasks: Vec<PreviewedTask> =
        remux.iter().map(|task| told(task, std::slice::from_ref(task), probe)).collect();
    let before = tasks.len();
    tasks.extend(plan.tasks.iter().map(|task| {
        let mut told = told(task, &plan.tasks, &seen);
        told.blocked_by.iter_mut().for_each(|place| *place += before);
        if before > 0 && told.blocked_by.is_empty() {
            told.blocked_by.push(0);
        }
        told
    }));
    let weighed = preview::renditions(&plan.tasks, plan.duration_seconds, &history);
    weighed.iter().for_each(|(_, bytes)| bytes_total.add(*bytes));
    for file in plan.tasks.iter().filter(|task| task.spec.kind() == TaskKind::Mp4) {
        // A rendition once more, with the sound.
        let names = file.spec.renditions();
        let within = |name: &str| name == AUDIO_RUNG || names.iter().any(|known| known == name);
        let copied = weighed.iter().filter(|(rendition, _)| within(&rendition.name));
        copied.for_each(|(_, bytes)| bytes_total.add(*bytes));
    }
    let mut warnings = plan.summary.warnings;
    if before > 0 {
        warnings.push(
            "the source is first brought into a container with an index; the plan may change by what is found then"
                .to_owned(),
        );
    }
    if spec.ladder == LadderChoice::Auto {
        warnings
            .push("samples decide on the ladder when the job runs; this is what it is at most".to_owned());
    }
    if spec.quality.is_some() {
        warnings.push("what it takes to measure the quality is not in the estimate".to_owned());
    }
    let renditions: Vec<_> = weighed.into_iter().map(|(rendition, _)| rendition).collect();
    let rungs = spec.profile.as_ref().map_or(&[][..], |profile| &profile.rungs);
    let dropped = preview::dropped(rungs, &renditions, &warnings);
    let preview = Preview {
        duration_seconds: plan.duration_seconds,
        tasks,
        ladder: Ladder { renditions, dropped },
        estimate: Estimate::new(cpu_total, bytes_total),
        reused_from: reused.map(|found| PreviewedReuse {
            job_id: found.job,
            recording_id: found.from,
            set_id: found.set,
        }),
        warnings,
    };
    Ok(vec![Publication::JobResult(json!({ "dry_run": preview }))])
}

/// What a remux of a source is taken for.
fn remuxed(probe: &Probe) -> Probe {
    remux::moved(probe, "matroska,webm".to_owned())
}

/// The FFmpeg of a task of `all`, as it is when all goes as planned; `None` where there is none. `tagged`: the job keeps what the source
/// says of the work.
fn command(orders: &TaskSpec, all: &[NewTask], probe: &Probe, tagged: bool) -> Option<Vec<OsString>> {
    let (here, input) = (Path::new(""), Path::new(SOURCE));
    match orders {
        TaskSpec::Encode(spec) => {
            let outputs: Vec<PathBuf> = encode::outputs(here, spec);
            let files = EncodeFiles {
                input,
                watermark: spec.watermark.map(|_| Path::new(WATERMARK)),
                outputs: &outputs,
                witness: &here.join(encode::WITNESS),
            };
            Some(argv::encode(spec, &files, Approach::Seek))
        }
        // By how much it is made louder is known when it was measured.
        TaskSpec::Audio(spec) if spec.normalise => None,
        TaskSpec::Audio(spec) => {
            let (output, witness) = (here.join(audio::OUTPUT), here.join(audio::WITNESS));
            let files = AudioFiles { input, output: &output, witness: &witness };
            Some(argv::audio(spec, &files, Approach::Seek, None))
        }
        TaskSpec::Loudness(spec) => Some(argv::loudness(spec, input, &loudness::outputs(spec))),
        TaskSpec::Subtitles(spec) => Some(subtitles::command(spec, input, &subtitles::outputs(here, spec))),
        TaskSpec::Remux(_) => Some(argv::remux(&remux::tracks(probe), input, &here.join(remux::OUTPUT))),
        TaskSpec::Thumbnail(spec) => {
            thumbnail::command(spec, probe.video.as_ref()?, input, Path::new(WATERMARK), here)
        }
        TaskSpec::Storyboard(spec) => Some(storyboard::command(spec, here)),
        TaskSpec::Thumbnails(spec) => Some(thumbnails::command(spec, here)),
        TaskSpec::Mp4(spec) => {
            let (timescale, tracks) = copied(&spec.download.rung, all)?;
            Some(mp4::command(here, tracks, timescale, tagged))
        }
        TaskSpec::Quality(spec) => {
            let files = CompareFiles {
                input,
                watermark: spec.encoded.watermark.map(|_| Path::new(WATERMARK)),
                made: &quality::made(here, spec),
                witness: &here.join(encode::WITNESS),
            };
            Some(argv::compare(spec, &files, Approach::Seek))
        }
        // Samples are several FFmpegs, and only what they find says which; the others run none.
        TaskSpec::Complexity(_)
        | TaskSpec::Fetch(_)
        | TaskSpec::TakeOver(_)
        | TaskSpec::Probe(_)
        | TaskSpec::Report(_)
        | TaskSpec::Finish(_) => None,
    }
}

/// Ticks a second of a rendition that is to be made, and how many tracks its download has: a picture takes the default sound along.
fn copied(rung: &str, all: &[NewTask]) -> Option<(u32, usize)> {
    let sound = all.iter().any(|task| matches!(task.spec, TaskSpec::Audio(_)));
    all.iter().find_map(|task| match &task.spec {
        TaskSpec::Encode(spec) => {
            let made = spec.rungs.iter().find(|made| made.name == rung)?;
            Some((made.grid.rate.timescale(), 1 + usize::from(sound)))
        }
        TaskSpec::Audio(spec) if spec.rung == rung => Some((spec.grid.sample_rate, 1)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use reelmill_shared::ids::UploadId;
    use reelmill_shared::job::plan::Circumstances;
    use reelmill_shared::job::quality::{Least, Metric, QualityWish};
    use reelmill_shared::job::spec::{Input, JobSpec, Output, SeriesRequest};
    use reelmill_shared::media::probe::{AudioStream, TextStream, Transfer, UnsaidColours, VideoStream};
    use reelmill_shared::media::profile::Profile;
    use reelmill_shared::media::tracks::Role;

    use super::*;

    fn transport_stream() -> Probe {
        Probe {
            format: "mpegts".into(),
            duration_seconds: 40.0,
            size_bytes: 1,
            bitrate: None,
            video: Some(VideoStream {
                index: 3,
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
                rate: reelmill_shared::media::grid::Rate { num: 25, den: 1 },
                variable_rate: false,
                end_seconds: 40.0,
                packets: 1000,
                keyframe_gap_seconds: 2.0,
            }),
            audio: vec![AudioStream {
                index: 7,
                codec: "aac".into(),
                sample_rate: 48_000,
                channels: 2,
                language: None,
                title: None,
                role: Role::Main,
                end_seconds: Some(40.0),
            }],
            text: vec![TextStream {
                index: 8,
                codec: "webvtt".into(),
                language: None,
                title: None,
                role: Role::Main,
            }],
            tags: std::collections::BTreeMap::new(),
            subtitles: 0,
            warnings: vec![],
        }
    }

    #[test]
    fn every_task_that_runs_ffmpeg_tells_its_command() {
        let probe = transport_stream();
        let spec = JobSpec {
            input: Input::UploadId(UploadId::new()),
            source: SourceId::new(),
            profile: Profile::built_in("fast"),
            outputs: vec![Output::Hls, Output::Mp4, Output::Thumbnail, Output::Storyboard],
            edit: reelmill_shared::job::edit::Edit::default(),
            outputs_by_default: false,
            picture: None,
            poster: None,
            series: Some(SeriesRequest { interval_seconds: 1.0, width: 160 }),
            downloads: vec![],
            adopt: None,
            taken: None,
            ladder: LadderChoice::Fixed,
            quality: Some(QualityWish { metrics: vec![Metric::Psnr], least: Least::default() }),
            callback_url: None,
            force: false,
            dry_run: true,
        };
        let now = Circumstances {
            max_duration_seconds: 3600.0,
            free_slots: 1,
            encode_threads: None,
            chunk_seconds: None,
            gpus: reelmill_shared::job::encoder::Gpus::default(),
            mixes: vec![],
        };
        let text = |orders: &TaskSpec, all: &[NewTask], probe: &Probe| {
            let args = command(orders, all, probe, false)?;
            Some(args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
        };
        let remux = plan::remux(&spec, spec.source, &probe).unwrap();
        let line = text(&remux.spec, &[], &probe).unwrap();
        assert!(line.contains("-i file:source -map 0:3 -map 0:7 "), "{line}");
        let seen = remuxed(&probe);
        let plan =
            plan::transcode(&spec, spec.source, RecordingId::new(), &seen, Settled::default(), &now).unwrap();
        for task in &plan.tasks {
            match (&task.spec, text(&task.spec, &plan.tasks, &seen)) {
                (TaskSpec::Subtitles(_), _) => panic!("a remux brings no text along"),
                (TaskSpec::Finish(_) | TaskSpec::Report(_), line) => assert_eq!(line, None),
                (TaskSpec::Audio(_), Some(line)) => assert!(line.contains("[0:1]aresample"), "{line}"),
                (TaskSpec::Encode(_), Some(line)) => {
                    assert!(line.contains("[0:0]") && line.contains("file:rung-0.mp4"), "{line}");
                }
                (TaskSpec::Storyboard(_), Some(line)) => {
                    assert!(line.contains("-i file:keyframes.mp4"), "{line}")
                }
                (TaskSpec::Thumbnails(_), Some(line)) => {
                    assert!(line.contains("-i file:frames.mp4"), "{line}")
                }
                (TaskSpec::Mp4(_), Some(line)) => {
                    let both = "-i file:track-0.mp4 -protocol_whitelist file,pipe";
                    assert!(line.contains(both) && line.contains("-i file:track-1.mp4 "), "{line}");
                    assert!(line.ends_with("-f mp4 file:download.mp4"), "{line}");
                }
                (TaskSpec::Quality(_), Some(line)) => {
                    assert!(line.contains("-i file:source"), "{line}");
                    assert!(line.contains("-i file:made-0.mp4"), "{line}");
                }
                (_, line) => assert!(line.is_some_and(|line| line.contains("-i file:source"))),
            }
        }
        let kinds: Vec<TaskKind> = plan.tasks.iter().map(|task| task.spec.kind()).collect();
        for kind in [TaskKind::Storyboard, TaskKind::Thumbnails, TaskKind::Mp4, TaskKind::Quality] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
    }
}
