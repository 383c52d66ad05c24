//! From a probed source and a recipe to tasks.

use serde::{Deserialize, Serialize};

use super::capability::Pool;
use super::encoder::{Encoder, Gpus};
use super::error::{Reason, TaskError};
use super::spec::{DownloadRequest, JobSpec, Output, PictureRequest};
use super::task::{
    AUDIO_RUNG, AudioSpec, EncodeRung, EncodeSpec, Extent, FetchSpec, FinishSpec, Led, Mp4Spec, ProbeSpec,
    RemuxSpec, TaskSpec, ThumbnailSpec,
};
use crate::ids::{RecordingId, SetId, SourceId, TaskId};
use crate::media::grid::{AAC_FRAME, AudioGrid, Grid};
use crate::media::hls::{Ticks, target_duration};
use crate::media::probe::{AudioStream, Probe, VideoStream};
use crate::media::profile::Profile;

mod audio;
mod encoders;
mod video;

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
        let pool = spec.pool();
        Self { id: TaskId::new(), spec, pool, blocked_by: 0, unblocks: vec![] }
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
    pub set: NewSet,
    pub duration_seconds: f64,
    pub tasks: Vec<NewTask>,
    pub summary: PlanSummary,
}

/// A set about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSet {
    pub id: SetId,
    /// Seconds, in all its playlists: it must hold for segments that are still to come.
    pub target_duration: u32,
    /// What must have its first segment before the set can be played.
    pub needs_video: bool,
    pub needs_audio: bool,
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
    /// What encodes it; `None` for sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Encoder>,
    /// Declared ceiling, bits per second.
    pub bitrate: u64,
}

/// What the farm allows and has at the moment.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Longest recording, in seconds.
    pub max_duration_seconds: f64,
    /// Slots that would stand idle, the planner's own among them; at least 1.
    pub free_slots: u32,
    /// Threads of an encode; `None`: one, and more only where slots would stand idle.
    pub encode_threads: Option<u32>,
    /// Length of a chunk; `None`: by the source's length and the free slots.
    pub chunk_seconds: Option<f64>,
    /// What may be planned for hardware.
    pub gpus: Gpus,
}

/// Up to this length a source is looked into as a whole before anything is made of it: that takes less than two seconds.
const GLANCED_SECONDS: f64 = 1800.0;
/// Up to this length a source that cannot be cut is encoded as it is.
const WHOLE_SECONDS: f64 = 30.0;
/// Where the longest track is the audio by no more than this, the recording ends with the picture: codecs round
/// their last frame up, and nobody wants a still picture for it.
const AUDIO_OVERHANG_SECONDS: f64 = 0.5;
/// A task that takes longer than this many times the recording, and half an hour, hangs.
const DEADLINE_FACTOR: f64 = 60.0;

/// The tasks a job starts with: the source must be stored and probed before anything can be planned.
pub fn opening(spec: &JobSpec, stored: bool) -> Vec<NewTask> {
    let mut probe = NewTask::new(TaskSpec::Probe(ProbeSpec { source: spec.source, led: None }));
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

/// The task that puts a rendition of a finished set, which lasts `seconds`, into one file.
pub fn download(recording: RecordingId, set: SetId, download: DownloadRequest, seconds: f64) -> NewTask {
    NewTask::new(TaskSpec::Mp4(Mp4Spec { recording, set, download, deadline_seconds: deadline(seconds) }))
}

/// What comes before the plan of a transcode of `source` that cannot be cut as it is, and is long enough to be worth cutting: a task
/// that brings it into a container with an index and plans then. `None` where it can be planned at once.
pub fn remux(spec: &JobSpec, source: SourceId, probe: &Probe) -> Option<NewTask> {
    let wanted = spec.profile.as_ref().is_some_and(|profile| !profile.rungs.is_empty());
    let video = probe.video.as_ref().filter(|_| wanted && !is_indexed(probe))?;
    (video.end_seconds > WHOLE_SECONDS).then(|| {
        let deadline_seconds = deadline(video.end_seconds);
        NewTask::new(TaskSpec::Remux(RemuxSpec { source, remuxed: SourceId::new(), deadline_seconds }))
    })
}

/// Plans the beginning of a source so long that looking into all of it would keep a viewer waiting: the lead and the sound beside it,
/// then the probe of the whole. `glance` is what its first seconds and its header tell. `None` where it is not worth it, or nothing
/// could be made: the probe of the whole says why. `extent` is what of the source is enough for it.
pub fn lead(
    spec: &JobSpec,
    source: SourceId,
    glance: &Probe,
    extent: Option<&Extent>,
    circumstances: &Circumstances,
) -> Option<Plan> {
    if !is_worth_a_glance(glance.duration_seconds) || !is_indexed(glance) {
        return None;
    }
    let drawn = draw(spec, source, SetId::new(), glance, circumstances).ok()?;
    let video = video::lead(drawn.video.as_ref()?, circumstances.encode_threads.unwrap_or(1).max(1));
    let audio = drawn.audio.as_ref().map(audio::lead);
    let led = Led { video: video.clone(), audio: audio.clone() };
    let mut probe = NewTask::new(TaskSpec::Probe(ProbeSpec { source, led: Some(Box::new(led)) }));
    let video = EncodeSpec { extent: extent.cloned(), ..video };
    let audio = audio.map(|audio| AudioSpec { extent: extent.cloned(), ..audio });
    let works = [Some(TaskSpec::Encode(video)), audio.map(TaskSpec::Audio)];
    let works: Vec<TaskSpec> = works.into_iter().flatten().collect();
    let (_, renditions) = expectations(&works);
    let mut tasks: Vec<NewTask> = works.into_iter().map(|work| NewTask::new(work).then(&mut probe)).collect();
    tasks.push(probe);
    let summary = PlanSummary { renditions, warnings: drawn.warnings };
    Some(Plan { set: drawn.set, duration_seconds: drawn.duration_seconds, tasks, summary })
}

/// True where looking into all of a source that says it lasts this long would keep a viewer waiting.
pub fn is_worth_a_glance(declared_seconds: f64) -> bool {
    declared_seconds > GLANCED_SECONDS
}

/// What of a source is to be made, before it is cut into tasks.
struct Drawn {
    set: NewSet,
    duration_seconds: f64,
    video: Option<EncodeSpec>,
    audio: Option<AudioSpec>,
    warnings: Vec<String>,
}

fn draw(
    spec: &JobSpec,
    source: SourceId,
    set: SetId,
    probe: &Probe,
    circumstances: &Circumstances,
) -> Result<Drawn, TaskError> {
    let profile =
        spec.profile.as_ref().ok_or_else(|| TaskError::fatal(Reason::Internal, "the job has no profile"))?;
    let video = probe.video.as_ref().filter(|_| !profile.rungs.is_empty());
    let audio = probe.audio.first().filter(|_| profile.audio.is_some());
    if video.is_none() && audio.is_none() {
        return Err(nothing_to_use(probe, profile));
    }
    let edit = &spec.edit;
    let whole = duration(probe, video, audio);
    let duration = edit.trimmed(whole);
    if duration <= 0.0 {
        return Err(TaskError::fatal(
            Reason::Unsuitable,
            format!(
                "the part to be used begins at {:.3} s, but the source ends at {whole:.3} s",
                edit.start()
            ),
        ));
    }
    if duration > circumstances.max_duration_seconds {
        return Err(TaskError::fatal(
            Reason::LimitExceeded,
            format!(
                "the source lasts {duration:.0} s; at most {:.0} s are allowed",
                circumstances.max_duration_seconds
            ),
        ));
    }

    let grid = video.map(|video| {
        let frames = video.rate.frames_in(duration).max(1);
        Grid::new(video.rate, frames, profile.segment_duration)
    });
    let duration_seconds = grid.map_or(duration, |grid| grid.duration());
    let mut warnings = probe.warnings.clone();
    let video = match (video, grid) {
        (Some(video), Some(grid)) => {
            let mut whole = video::whole(source, set, profile, edit, video, grid)?;
            encoders::choose(&mut whole.rungs, profile.hardware, &circumstances.gpus, &mut warnings)?;
            Some(whole)
        }
        _ => None,
    };
    let audio = audio.zip(profile.audio.as_ref()).map(|(audio, recipe)| {
        let grid = audio::grid(audio, grid.as_ref(), duration_seconds, profile);
        audio::whole(source, set, recipe, edit, audio, grid)
    });
    let set = NewSet {
        id: set,
        target_duration: longest_segment(grid.as_ref(), audio.as_ref().map(|audio| &audio.grid)),
        needs_video: video.is_some(),
        needs_audio: audio.is_some(),
    };
    Ok(Drawn { set, duration_seconds, video, audio, warnings })
}

/// Plans a transcode of `source`, which is the job's own or a remux of it, around what was `led` of it already where that fits.
///
/// Fails, for good, where the source has nothing the profile could use or exceeds a limit.
pub fn transcode(
    spec: &JobSpec,
    source: SourceId,
    recording: RecordingId,
    probe: &Probe,
    led: Option<&Led>,
    circumstances: &Circumstances,
) -> Result<Plan, TaskError> {
    let set = led.map_or_else(SetId::new, |led| led.video.set);
    let mut drawn = draw(spec, source, set, probe, circumstances)?;
    let led = led.filter(|led| fits(led, &drawn));
    if led.is_none() && drawn.set.id == set {
        // What was led is of another shape than it seemed: it plays until what is made now can.
        drawn = draw(spec, source, SetId::new(), probe, circumstances)?;
    }

    // In the order of work: what a viewer waits for comes first.
    let seekable = is_indexed(probe);
    let mut works = vec![];
    if let Some(whole) = &drawn.video {
        let end = probe.video.as_ref().map_or(0.0, |video| spec.edit.trimmed(video.end_seconds));
        works = video::tasks(whole, end, seekable, led.is_some(), circumstances);
    }
    if let Some(whole) = &drawn.audio {
        let mut sounds = audio::tasks(whole, seekable);
        if led.is_some_and(|led| led.audio.is_some()) {
            sounds.remove(0);
        }
        // Its beginning is done in a moment; the rest need not come before the second chunk.
        let mut sounds = sounds.into_iter();
        let lead = works.len().min(1);
        works.splice(lead..lead, sounds.next());
        let rest = works.len().min(3);
        works.splice(rest..rest, sounds);
    }
    let (expect, renditions) = expectations(&works);
    let finish = FinishSpec {
        recording,
        set: drawn.set.id,
        duration_seconds: drawn.duration_seconds,
        target_duration: Some(drawn.set.target_duration),
        expect,
    };
    let mut finish = NewTask::new(TaskSpec::Finish(finish));
    if drawn.video.is_some() && spec.outputs.contains(&Output::Thumbnail) {
        works.push(thumbnail(source, recording, PictureRequest::DEFAULT).spec);
    }
    let mut tasks: Vec<NewTask> =
        works.into_iter().map(|work| NewTask::new(work).then(&mut finish)).collect();
    // Behind the finish: nobody who wants to watch waits for a file to be downloaded.
    let requests = if spec.outputs.contains(&Output::Mp4) { files_of(drawn.video.as_ref()) } else { vec![] };
    let mut files = vec![];
    for request in requests {
        let mut file = download(recording, drawn.set.id, request, drawn.duration_seconds);
        finish = finish.then(&mut file);
        files.push(file);
    }
    tasks.push(finish);
    tasks.extend(files);
    let summary = PlanSummary { renditions, warnings: drawn.warnings };
    Ok(Plan { set: drawn.set, duration_seconds: drawn.duration_seconds, tasks, summary })
}

/// Whether what was led is a piece of what is to be made.
fn fits(led: &Led, drawn: &Drawn) -> bool {
    let video = drawn.video.as_ref().is_some_and(|whole| video::leads(&led.video, whole));
    video
        && match (&led.audio, &drawn.audio) {
            (Some(led), Some(whole)) => audio::leads(led, whole),
            (None, None) => true,
            _ => false,
        }
}

/// The files that a plan is offered as, best first: the pictures, each with the sound, or the sound where there is no picture.
fn files_of(video: Option<&EncodeSpec>) -> Vec<DownloadRequest> {
    let Some(video) = video else {
        return vec![DownloadRequest { rung: AUDIO_RUNG.to_owned(), height: None }];
    };
    let file = |rung: &EncodeRung| DownloadRequest { rung: rung.name.clone(), height: Some(rung.height) };
    video.rungs.iter().map(file).collect()
}

/// Containers whose index leads to any keyframe exactly. A transport stream has none: a seek in it may end anywhere.
const INDEXED: [&str; 2] = ["mov", "matroska"];

/// True where a task can begin in the middle of the source.
fn is_indexed(probe: &Probe) -> bool {
    probe.format.split(',').any(|name| INDEXED.contains(&name))
}

/// `EXT-X-TARGETDURATION` for all renditions of these grids, in seconds.
fn longest_segment(video: Option<&Grid>, audio: Option<&AudioGrid>) -> u32 {
    let of_video = video.map(|grid| {
        let frames = grid.segment_frames().min(grid.frames);
        Ticks { ticks: frames * u64::from(grid.rate.frame_ticks()), timescale: grid.rate.timescale() }
    });
    let of_audio = audio.map(|grid| {
        let frames = (0..grid.starts.len()).map(|n| grid.segment_len(n)).max().unwrap_or(0);
        Ticks { ticks: frames * AAC_FRAME, timescale: grid.sample_rate }
    });
    of_video.into_iter().chain(of_audio).map(target_duration).max().unwrap_or(1)
}

/// What the finish task must find, and what a person is told, of the planned encodes.
fn expectations(works: &[TaskSpec]) -> (Vec<(String, u64)>, Vec<PlannedRendition>) {
    let mut expect: Vec<(String, u64)> = vec![];
    let mut renditions = vec![];
    for work in works {
        match work {
            // Made in chunks: each names its rungs again.
            TaskSpec::Encode(encode) => {
                for rung in &encode.rungs {
                    if expect.iter().any(|(name, _)| *name == rung.name) {
                        continue;
                    }
                    expect.push((rung.name.clone(), rung.grid.segments()));
                    renditions.push(PlannedRendition {
                        name: rung.name.clone(),
                        width: Some(rung.width),
                        height: Some(rung.height),
                        encoder: Some(rung.encoder),
                        bitrate: rung.rate_control.max_bitrate(),
                    });
                }
            }
            TaskSpec::Audio(audio) if !expect.iter().any(|(name, _)| name == AUDIO_RUNG) => {
                expect.push((AUDIO_RUNG.to_owned(), audio.grid.starts.len() as u64));
                renditions.push(PlannedRendition {
                    name: AUDIO_RUNG.to_owned(),
                    width: None,
                    height: None,
                    encoder: None,
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
    use crate::job::edit::{Crop, Edit};
    use crate::job::spec::Input;
    use crate::media::codec::Codec;
    use crate::media::grid::Rate;
    use crate::media::probe::Transfer;

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
            edit: Edit::default(),
            picture: None,
            downloads: vec![],
        }
    }

    const NOW: Circumstances = Circumstances {
        max_duration_seconds: 36_000.0,
        free_slots: 2,
        encode_threads: None,
        chunk_seconds: None,
        gpus: Gpus { here: vec![], known: vec![] },
    };

    /// Of the best rung, which the lead leaves alone.
    fn chunk_lengths(seconds: f64, circumstances: &Circumstances) -> Vec<(f64, u32)> {
        let plan = transcode(
            &spec("web"),
            SourceId::new(),
            RecordingId::new(),
            &probe(seconds, None),
            None,
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
        assert_eq!(chunk_lengths(60.0, &NOW), [(30.0, 1), (30.0, 1)]);
        let many = Circumstances { free_slots: 100, ..NOW };
        assert_eq!(chunk_lengths(60.0, &many).len(), 3);
        let short = chunk_lengths(600.0, &many);
        assert!(short[..32].iter().all(|chunk| chunk.0 == 18.0), "whole segments: {short:?}");
        let set = Circumstances { chunk_seconds: Some(6.0), ..NOW };
        assert_eq!(chunk_lengths(20.0, &set), [(6.0, 1), (6.0, 1), (8.0, 1)], "no stump at the end");
    }

    #[test]
    fn what_cannot_be_sought_in_is_not_cut() {
        let mut stream = probe(600.0, None);
        stream.format = "mpegts".into();
        let plan = transcode(&spec("web"), SourceId::new(), RecordingId::new(), &stream, None, &NOW).unwrap();
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
            None,
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
        assert_eq!(lengths[1..].iter().sum::<f64>(), 600.0);
        assert_eq!((plan.set.target_duration, plan.set.needs_audio), (6, true));
    }

    #[test]
    fn a_very_long_source_is_led_before_it_is_looked_into() {
        let (spec, source) = (spec("web"), SourceId::new());
        assert!(lead(&spec, source, &probe(600.0, Some(600.0)), None, &NOW).is_none());
        let early = lead(&spec, source, &probe(7200.0, Some(7200.0)), None, &NOW).unwrap();
        let kinds: Vec<_> = early.tasks.iter().map(|task| task.spec.kind().as_str()).collect();
        assert_eq!(kinds, ["encode", "audio", "probe"]);
        assert_eq!(early.tasks[2].blocked_by, 2);
        let TaskSpec::Probe(ProbeSpec { led: Some(led), .. }) = &early.tasks[2].spec else { panic!() };

        // The header was wrong about the length, which changes nothing.
        let rest =
            |probe: &Probe| transcode(&spec, source, RecordingId::new(), probe, Some(led), &NOW).unwrap();
        let plan = rest(&probe(7195.3, Some(7195.3)));
        assert_eq!(plan.set.id, early.set.id);
        let TaskSpec::Encode(first) = &plan.tasks[0].spec else { panic!() };
        assert_eq!(first.rungs[2].skip_segments, 1);
        let sounds: Vec<usize> = plan
            .tasks
            .iter()
            .filter_map(|task| match &task.spec {
                TaskSpec::Audio(audio) => Some(audio.span().segment),
                _ => None,
            })
            .collect();
        assert_eq!(sounds[0], 5, "behind the sound that was led");
        let TaskSpec::Finish(finish) = &plan.tasks.last().unwrap().spec else { panic!() };
        let mut names: Vec<&str> = finish.expect.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["360p", "480p", "720p", AUDIO_RUNG]);

        // Another rate than the first seconds had is another grid: everything is made anew.
        let mut other = probe(7200.0, Some(7200.0));
        other.video.as_mut().unwrap().rate = Rate { num: 24, den: 1 };
        let plan = rest(&other);
        assert_ne!(plan.set.id, early.set.id);
        let TaskSpec::Encode(lead) = &plan.tasks[0].spec else { panic!() };
        assert_eq!(lead.rungs.len(), 1);
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
            transcode(spec, SourceId::new(), RecordingId::new(), probe, None, &NOW)
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
        let plan = transcode(&spec, source, recording, &probe(600.0, None), None, &NOW).unwrap();
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
                    None,
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
                            TaskSpec::Audio(audio) if name == AUDIO_RUNG => {
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

    #[test]
    fn work_unblocks_the_finish() {
        let plan =
            transcode(&spec("web"), SourceId::new(), RecordingId::new(), &probe(5.28, Some(5.3)), None, &NOW)
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
        let plan =
            transcode(&spec("fast"), SourceId::new(), RecordingId::new(), &probe(5.0, Some(8.0)), None, &NOW)
                .unwrap();
        let TaskSpec::Encode(encode) = &plan.tasks[0].spec else { panic!() };
        assert_eq!((encode.grid.frames, encode.hold_frames), (200, 100));
    }

    #[test]
    fn files_are_made_behind_the_finish() {
        let mut spec = spec("web");
        spec.outputs.push(Output::Mp4);
        let files = |spec: &JobSpec, probe: &Probe| {
            let plan = transcode(spec, spec.source, RecordingId::new(), probe, None, &NOW).unwrap();
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
    }

    #[test]
    fn what_cannot_be_made_is_refused_for_good() {
        let mut silent = probe(5.0, None);
        let error =
            transcode(&spec("audio"), SourceId::new(), RecordingId::new(), &silent, None, &NOW).unwrap_err();
        assert!(!error.retryable && error.reason == Reason::Unsuitable);
        silent.video.as_mut().unwrap().end_seconds = 90_000.0;
        let error =
            transcode(&spec("web"), SourceId::new(), RecordingId::new(), &silent, None, &NOW).unwrap_err();
        assert_eq!(error.reason, Reason::LimitExceeded);
    }
}
