//! From a probed source and a recipe to tasks.

use serde::{Deserialize, Serialize};

use super::capability::Pool;
use super::error::{Reason, TaskError};
use super::spec::{JobSpec, Output, PictureRequest};
use super::task::{
    AUDIO_RUNG, AudioSpec, EncodeRung, EncodeSpec, FetchSpec, FinishSpec, ProbeSpec, TaskSpec, ThumbnailSpec,
};
use crate::ids::{RecordingId, SetId, SourceId, TaskId};
use crate::media::grid::{AudioGrid, Grid, Span};
use crate::media::ladder;
use crate::media::probe::{AudioStream, Probe, Transfer, VideoStream};
use crate::media::profile::Profile;

/// A task about to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    pub id: TaskId,
    pub spec: TaskSpec,
    pub pool: Pool,
    /// How many tasks must succeed before this one is ready.
    pub blocked_by: i32,
    pub unblocks: Vec<TaskId>,
}

impl NewTask {
    fn new(spec: TaskSpec) -> Self {
        Self { id: TaskId::new(), spec, pool: Pool::Cpu, blocked_by: 0, unblocks: vec![] }
    }

    fn then(mut self, next: &mut NewTask) -> Self {
        self.unblocks.push(next.id);
        next.blocked_by += 1;
        self
    }
}

/// What a source becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub set: SetId,
    pub duration_seconds: f64,
    pub tasks: Vec<NewTask>,
    pub summary: PlanSummary,
}

/// The decisions of a plan a person wants to read, kept in the job's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    pub renditions: Vec<PlannedRendition>,
    pub warnings: Vec<String>,
}

/// One planned rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRendition {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Declared ceiling, bits per second.
    pub bitrate: u64,
}

/// What the farm allows and has at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// Longest recording, in seconds.
    pub max_duration_seconds: f64,
    /// Slots that would stand idle, the planner's own among them; at least 1.
    pub free_slots: u32,
    /// Threads of an encode; `None`: one, and more only where slots would stand idle.
    pub encode_threads: Option<u32>,
    /// Length of a chunk; `None`: by the source's length and the free slots.
    pub chunk_seconds: Option<f64>,
}

/// A chunk is at least this long, where nobody set its length: each costs a warm-up GOP.
const SHORTEST_CHUNK_SECONDS: f64 = 20.0;
/// And at most about this long: what is lost with a worker.
const LONGEST_CHUNK_SECONDS: f64 = 60.0;
/// An encode never gets more threads of idle slots than this: x264 gains little beyond.
const MOST_THREADS: u32 = 8;

/// Where the longest track is the audio by no more than this, the recording ends with the picture: codecs round
/// their last frame up, and nobody wants a still picture for it.
const AUDIO_OVERHANG_SECONDS: f64 = 0.5;
/// How long the last picture may be held for a track that decodes to less than it promised.
const HOLD_SECONDS: f64 = 1.0;
/// A task that takes longer than this many times the recording, and half an hour, hangs.
const DEADLINE_FACTOR: f64 = 60.0;

/// The tasks a job starts with: the source must be stored and probed before anything can be planned.
pub fn opening(spec: &JobSpec, stored: bool) -> Vec<NewTask> {
    let mut probe = NewTask::new(TaskSpec::Probe(ProbeSpec { source: spec.source }));
    if stored {
        return vec![probe];
    }
    let fetch = NewTask::new(TaskSpec::Fetch(FetchSpec { source: spec.source })).then(&mut probe);
    vec![fetch, probe]
}

/// The one task of a thumbnail job whose source is stored.
pub fn thumbnail(source: SourceId, recording: RecordingId, picture: PictureRequest) -> NewTask {
    NewTask::new(TaskSpec::Thumbnail(ThumbnailSpec {
        source,
        recording,
        picture,
        deadline_seconds: deadline(0.0),
    }))
}

/// Plans a transcode.
///
/// Fails, for good, where the source has nothing the profile could use or exceeds a limit.
pub fn transcode(
    spec: &JobSpec,
    recording: RecordingId,
    probe: &Probe,
    circumstances: &Circumstances,
) -> Result<Plan, TaskError> {
    let profile =
        spec.profile.as_ref().ok_or_else(|| TaskError::fatal(Reason::Internal, "the job has no profile"))?;
    let video = probe.video.as_ref().filter(|_| !profile.rungs.is_empty());
    let audio = probe.audio.first().filter(|_| profile.audio.is_some());
    if video.is_none() && audio.is_none() {
        return Err(nothing_to_use(probe, profile));
    }
    let duration = duration(probe, video, audio);
    if duration > circumstances.max_duration_seconds {
        return Err(TaskError::fatal(
            Reason::LimitExceeded,
            format!(
                "the source lasts {duration:.0} s; at most {:.0} s are allowed",
                circumstances.max_duration_seconds
            ),
        ));
    }

    let set = SetId::new();
    let grid = video.map(|video| {
        let frames = video.rate.frames_in(duration).max(1);
        Grid::new(video.rate, frames, profile.segment_duration)
    });
    let duration = grid.map_or(duration, |grid| grid.duration());
    let mut works = vec![];
    if let (Some(video), Some(grid)) = (video, grid) {
        let whole = encode(spec.source, set, profile, video, grid);
        let spans = chunks(probe, video, &grid, circumstances);
        let threads = circumstances
            .encode_threads
            .unwrap_or_else(|| (circumstances.free_slots / spans.len().max(1) as u32).clamp(1, MOST_THREADS));
        let chunk = |span: Span| EncodeSpec {
            span: Some(span),
            threads: threads.max(1),
            deadline_seconds: deadline(grid.rate.seconds(span.encoded())),
            ..whole.clone()
        };
        works.extend(spans.into_iter().map(chunk).map(TaskSpec::Encode));
    }
    if let (Some(audio), Some(recipe)) = (audio, &profile.audio) {
        let sample_rate = output_sample_rate(audio.sample_rate);
        works.push(TaskSpec::Audio(AudioSpec {
            source: spec.source,
            set,
            stream: audio.index,
            grid: match grid {
                Some(grid) => AudioGrid::beside(&grid, sample_rate),
                None => AudioGrid::alone(duration, sample_rate, profile.segment_duration),
            },
            bitrate: recipe.bitrate,
            language: audio.language.clone(),
            deadline_seconds: deadline(duration),
        }));
    }

    let (expect, renditions) = expectations(&works);
    let finish = FinishSpec { recording, set, duration_seconds: duration, expect };
    let mut finish = NewTask::new(TaskSpec::Finish(finish));
    if video.is_some() && spec.outputs.contains(&Output::Thumbnail) {
        works.push(thumbnail(spec.source, recording, PictureRequest::DEFAULT).spec);
    }
    let mut tasks: Vec<NewTask> =
        works.into_iter().map(|work| NewTask::new(work).then(&mut finish)).collect();
    tasks.push(finish);
    let summary = PlanSummary { renditions, warnings: probe.warnings.clone() };
    Ok(Plan { set, duration_seconds: duration, tasks, summary })
}

fn encode(source: SourceId, set: SetId, profile: &Profile, video: &VideoStream, grid: Grid) -> EncodeSpec {
    let (width, height) = video.display_size();
    let rungs = ladder::fit(&profile.rungs, width, height)
        .into_iter()
        .map(|fitted| EncodeRung {
            name: fitted.rung.name,
            width: fitted.width,
            height: fitted.height,
            grid: grid.capped(fitted.rung.max_frame_rate),
            rate_control: fitted.rung.rate_control,
        })
        .collect();
    let held = grid.frames.saturating_sub(grid.rate.frames_in(video.end_seconds));
    EncodeSpec {
        source,
        set,
        stream: video.index,
        grid,
        span: None,
        hold_frames: held + grid.rate.frames_in(HOLD_SECONDS),
        stored_size: (!video.display_matrix).then_some((video.width, video.height)),
        deinterlace: video.interlaced,
        tone_map: video.transfer != Transfer::Sdr,
        preset: profile.preset,
        threads: 1,
        rungs,
        deadline_seconds: deadline(grid.duration()),
    }
}

/// Containers whose index leads to any keyframe exactly. A transport stream has none: a seek in it may end anywhere.
const INDEXED: [&str; 2] = ["mov", "matroska"];

/// Cuts the picture into chunks: as many as there are free slots, within the lengths that are worth it.
fn chunks(probe: &Probe, video: &VideoStream, grid: &Grid, circumstances: &Circumstances) -> Vec<Span> {
    let indexed = probe.format.split(',').any(|name| INDEXED.contains(&name));
    let segment = grid.rate.seconds(grid.segment_frames());
    let length = match circumstances.chunk_seconds {
        _ if !indexed => return vec![Span::whole(grid)],
        Some(seconds) => seconds,
        None => (grid.duration() / f64::from(circumstances.free_slots.max(1)))
            .clamp(SHORTEST_CHUNK_SECONDS, LONGEST_CHUNK_SECONDS),
    };
    let segments = (length / segment).round().max(1.0) as u64;
    grid.spans(segments, grid.rate.frames_in(video.end_seconds))
}

/// What the finish task must find, and what a person is told, of the planned encodes.
fn expectations(works: &[TaskSpec]) -> (Vec<(String, u64)>, Vec<PlannedRendition>) {
    let mut expect = vec![];
    let mut renditions = vec![];
    for work in works {
        match work {
            // Every chunk has the same rungs.
            TaskSpec::Encode(encode) if encode.span().first == 0 => {
                for rung in &encode.rungs {
                    expect.push((rung.name.clone(), rung.grid.segments()));
                    renditions.push(PlannedRendition {
                        name: rung.name.clone(),
                        width: Some(rung.width),
                        height: Some(rung.height),
                        bitrate: rung.rate_control.max_bitrate(),
                    });
                }
            }
            TaskSpec::Audio(audio) => {
                expect.push((AUDIO_RUNG.to_owned(), audio.grid.starts.len() as u64));
                renditions.push(PlannedRendition {
                    name: AUDIO_RUNG.to_owned(),
                    width: None,
                    height: None,
                    bitrate: audio.bitrate,
                });
            }
            _ => {}
        }
    }
    (expect, renditions)
}

fn duration(probe: &Probe, video: Option<&VideoStream>, audio: Option<&AudioStream>) -> f64 {
    let heard = audio.map(|audio| audio.end_seconds.unwrap_or(probe.duration_seconds));
    match (video, heard) {
        (Some(video), Some(heard)) if heard > video.end_seconds + AUDIO_OVERHANG_SECONDS => heard,
        (Some(video), _) => video.end_seconds,
        (None, heard) => heard.unwrap_or(probe.duration_seconds),
    }
}

fn output_sample_rate(source: u32) -> u32 {
    // Families of rates: 11,025 and its multiples stay exact at 44,100.
    if source.is_multiple_of(11_025) { 44_100 } else { 48_000 }
}

fn deadline(seconds: f64) -> u64 {
    1800 + (seconds * DEADLINE_FACTOR) as u64
}

fn nothing_to_use(probe: &Probe, profile: &Profile) -> TaskError {
    let has = match (&probe.video, probe.audio.is_empty()) {
        (Some(_), _) => "a video track only",
        (None, false) => "audio tracks only",
        (None, true) => "neither video nor audio",
    };
    let wants = if profile.rungs.is_empty() { "audio" } else { "video" };
    TaskError::fatal(Reason::Unsuitable, format!("the source has {has}, but the profile makes {wants}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::spec::Input;
    use crate::media::grid::Rate;

    fn probe(video_end: f64, audio_end: Option<f64>) -> Probe {
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
                rate: Rate { num: 25, den: 1 },
                variable_rate: false,
                end_seconds: video_end,
                packets: 1,
            }),
            audio: audio_end
                .map(|end| AudioStream {
                    index: 1,
                    codec: "aac".into(),
                    sample_rate: 22_050,
                    channels: 1,
                    language: None,
                    end_seconds: Some(end),
                })
                .into_iter()
                .collect(),
            subtitles: 0,
            warnings: vec![],
        }
    }

    fn spec(profile: &str) -> JobSpec {
        let source = SourceId::new();
        JobSpec {
            input: Input::UploadId(crate::ids::UploadId::new()),
            source,
            profile: Profile::built_in(profile),
            outputs: vec![Output::Hls, Output::Thumbnail],
            picture: None,
        }
    }

    const NOW: Circumstances = Circumstances {
        max_duration_seconds: 3600.0,
        free_slots: 2,
        encode_threads: None,
        chunk_seconds: None,
    };

    fn chunk_lengths(seconds: f64, circumstances: &Circumstances) -> Vec<(f64, u32)> {
        let plan = transcode(&spec("web"), RecordingId::new(), &probe(seconds, None), circumstances).unwrap();
        plan.tasks
            .iter()
            .filter_map(|task| match &task.spec {
                TaskSpec::Encode(encode) => {
                    Some((encode.grid.rate.seconds(encode.span().frames), encode.threads))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn chunks_are_as_many_as_free_slots_within_what_is_worth_it() {
        assert_eq!(chunk_lengths(10.0, &NOW), [(10.0, 2)], "short: the threads instead");
        assert_eq!(chunk_lengths(60.0, &NOW), [(30.0, 1), (30.0, 1)]);
        let many = Circumstances { free_slots: 100, ..NOW };
        assert_eq!(chunk_lengths(60.0, &many).len(), 3);
        assert!(chunk_lengths(600.0, &NOW).iter().all(|chunk| *chunk == (60.0, 1)));
        let set = Circumstances { chunk_seconds: Some(6.0), ..NOW };
        assert_eq!(chunk_lengths(20.0, &set), [(6.0, 1), (6.0, 1), (8.0, 1)], "no stump at the end");
    }

    #[test]
    fn what_cannot_be_sought_in_is_not_cut() {
        let mut stream = probe(600.0, None);
        stream.format = "mpegts".into();
        let plan = transcode(&spec("web"), RecordingId::new(), &stream, &NOW).unwrap();
        let encodes = plan.tasks.iter().filter(|task| matches!(task.spec, TaskSpec::Encode(_))).count();
        assert_eq!(encodes, 1);
    }

    #[test]
    fn work_unblocks_the_finish() {
        let plan = transcode(&spec("web"), RecordingId::new(), &probe(5.28, Some(5.3)), &NOW).unwrap();
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
        let plan = transcode(&spec("fast"), RecordingId::new(), &probe(5.0, Some(8.0)), &NOW).unwrap();
        let TaskSpec::Encode(encode) = &plan.tasks[0].spec else { panic!() };
        assert_eq!((encode.grid.frames, encode.hold_frames), (200, 100));
    }

    #[test]
    fn what_cannot_be_made_is_refused_for_good() {
        let mut silent = probe(5.0, None);
        let error = transcode(&spec("audio"), RecordingId::new(), &silent, &NOW).unwrap_err();
        assert!(!error.retryable && error.reason == Reason::Unsuitable);
        silent.video.as_mut().unwrap().end_seconds = 90_000.0;
        let error = transcode(&spec("web"), RecordingId::new(), &silent, &NOW).unwrap_err();
        assert_eq!(error.reason, Reason::LimitExceeded);
    }
}
