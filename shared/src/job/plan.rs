//! From a probed source and a recipe to tasks.

use serde::{Deserialize, Serialize};

use super::capability::Pool;
use super::encoder::{Encoder, Gpus};
use super::error::{Reason, TaskError};
use super::estimate::is_work;
use super::quality::QualityWish;
use super::spec::{DownloadRequest, JobSpec, Output, offered};
use super::task::{
    AudioSpec, EncodeSpec, FetchSpec, FinishSpec, Led, Mp4Spec, ProbeSpec, RemuxSpec, TaskSpec,
};
use crate::ids::{RecordingId, SetId, SourceId, TaskId};
use crate::media::complexity::RungVerdict;
use crate::media::grid::{AAC_FRAME, AudioGrid, Grid};
use crate::media::hls::{Ticks, target_duration};
use crate::media::probe::{AudioStream, Probe, VideoStream};
use crate::media::profile::Profile;

mod adopt;
mod audio;
mod encoders;
mod expect;
mod glance;
mod ladder;
mod pictures;
mod quality;
mod stills;
mod take_over;
mod text;
mod video;

use expect::{Expectations, expectations};
use glance::fits;
use pictures::poster;

pub use adopt::Adopted;
pub use encoders::within_memory;
pub use glance::{is_made_of_the_beginning, is_worth_a_glance, lead, led_seconds};
pub use ladder::{Sampling, sampling};
pub use pictures::{picture, poster_alone};

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
        self.precede(next);
        self
    }

    fn precede(&mut self, next: &mut NewTask) {
        self.unblocks.push(next.id);
        next.blocked_by += 1;
    }
}

/// What a source becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub set: NewSet,
    pub duration_seconds: f64,
    pub tasks: Vec<NewTask>,
    /// Renditions of another set that the new one has from the start.
    pub adopted: Option<Adopted>,
    pub summary: PlanSummary,
}

impl Plan {
    /// False where all that was asked for is there already.
    pub fn makes_something(&self) -> bool {
        self.adopted.is_none() || self.tasks.iter().any(|task| is_work(&task.spec))
    }
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
    /// See [`super::recipe::digest`]; by it the set is found when the same is asked for again.
    pub recipe: Option<[u8; 32]>,
}

/// The decisions of a plan a person wants to read, kept in the job's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    pub renditions: Vec<PlannedRendition>,
    /// Text beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subtitles: Vec<PlannedText>,
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
    /// What encodes it; `None` for sound, and for what was encoded on air.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Encoder>,
    /// What a menu calls it: of sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Declared ceiling, bits per second.
    pub bitrate: u64,
}

/// What earlier tasks of the job have settled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settled<'a> {
    /// What was begun before all of the source was looked into.
    pub led: Option<&'a Led>,
    /// On rungs by name; one that is not named here is made as the recipe says.
    pub ladder: &'a [RungVerdict],
}

/// One planned text rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedText {
    pub name: String,
    /// What a menu calls it.
    pub label: String,
    /// BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
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
    /// The encoders of the workers that are there and need no hardware, those of one worker together; empty where that is not known.
    pub mixes: Vec<Vec<Encoder>>,
}

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

/// What of a source is to be made, before it is cut into tasks.
struct Drawn {
    set: NewSet,
    duration_seconds: f64,
    video: Option<EncodeSpec>,
    /// The default track first.
    sound: Vec<AudioSpec>,
    /// What must be measured before the sound is made.
    measure: Option<TaskSpec>,
    text: Option<TaskSpec>,
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
    let mut warnings = probe.warnings.clone();
    let tracks = audio::used(probe, profile, &mut warnings);
    let audio = tracks.first().copied();
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

    let on_air = spec.taken.as_ref().map(|taken| taken.grid);
    let grid = video.map(|video| {
        if let Some(grid) = on_air {
            return grid;
        }
        let frames = video.rate.frames_in(duration).max(1);
        Grid::new(video.rate, frames, profile.segment_duration)
    });
    let duration_seconds = grid.map_or(duration, |grid| grid.duration());
    let place = audio::Place { source, set, grid: grid.as_ref(), duration: duration_seconds, edit };
    let sound = audio::whole(place, profile, &tracks);
    let text =
        grid.and_then(|grid| text::task(source, set, grid, edit.start_ms.unwrap_or(0), probe, &mut warnings));
    let video = match (video, grid) {
        (Some(video), Some(grid)) => {
            let mut whole = video::whole(source, set, profile, edit, video, grid)?;
            encoders::choose(&mut whole.rungs, profile.hardware, &circumstances.gpus, &mut warnings)?;
            Some(whole)
        }
        _ => None,
    };
    let set = NewSet {
        id: set,
        target_duration: longest_segment(grid.as_ref(), sound.iter().map(|track| &track.grid)),
        needs_video: video.is_some(),
        needs_audio: audio.is_some(),
        recipe: None,
    };
    let measure = audio::loudness(&sound, profile);
    Ok(Drawn { set, duration_seconds, video, sound, measure, text, warnings })
}

/// Plans a transcode of `source`, which is the job's own or a remux of it, around what was led of it already where that fits.
///
/// Fails, for good, where the source has nothing the profile could use or exceeds a limit.
pub fn transcode(
    spec: &JobSpec,
    source: SourceId,
    recording: RecordingId,
    probe: &Probe,
    settled: Settled<'_>,
    circumstances: &Circumstances,
) -> Result<Plan, TaskError> {
    let drawn_into = |set: SetId| -> Result<Drawn, TaskError> {
        let mut drawn = draw(spec, source, set, probe, circumstances)?;
        drawn.video.iter_mut().for_each(|whole| ladder::apply(settled.ladder, whole));
        Ok(drawn)
    };
    let set = settled.led.map_or_else(SetId::new, |led| led.video.set);
    let mut drawn = drawn_into(set)?;
    let led = settled.led.filter(|led| fits(led, &drawn));
    if led.is_none() && drawn.set.id == set {
        // What was led is of another shape than it seemed: it plays until what is made now can.
        drawn = drawn_into(SetId::new())?;
    }

    let requests = if spec.outputs.contains(&Output::Mp4) { files_of(&drawn) } else { vec![] };

    let taken = match (&spec.taken, &spec.profile) {
        (Some(taken), Some(profile)) if spec.adopt.is_none() => take_over::works(taken, profile, &mut drawn),
        _ => vec![],
    };

    // In the order of work: what a viewer waits for comes first.
    let mut works = vec![];
    if let Some(whole) = drawn.video.as_ref().filter(|whole| !whole.rungs.is_empty()) {
        let end = probe.video.as_ref().map_or(0.0, |video| spec.edit.trimmed(video.end_seconds));
        works = video::tasks(whole, probe, end, led.is_some(), circumstances);
    }
    let mut sounds = audio::tasks(&drawn.sound, is_indexed(probe));
    if led.is_some_and(|led| led.audio.is_some()) {
        sounds.remove(0);
    }
    // Its beginning is done in a moment; the rest need not come before the second chunk.
    let mut sounds = sounds.into_iter();
    let lead = works.len().min(1);
    works.splice(lead..lead, sounds.next());
    let rest = works.len().min(3);
    works.splice(rest..rest, drawn.text.into_iter().chain(sounds));
    works.splice(..0, taken);
    let Expectations { mut expect, renditions, subtitles } = expectations(&works);
    let mut summary = PlanSummary { renditions, subtitles, warnings: drawn.warnings };
    let adopted =
        spec.adopt.as_ref().zip(spec.profile.as_ref()).and_then(|(adopt, profile)| {
            adopt::leave_out(adopt, profile, &mut works, &mut expect, &mut summary)
        });
    let finish = FinishSpec {
        recording,
        set: drawn.set.id,
        duration_seconds: drawn.duration_seconds,
        target_duration: Some(drawn.set.target_duration),
        expect,
        report: None,
    };
    if drawn.video.is_some() && spec.outputs.contains(&Output::Thumbnail) {
        works.push(poster(spec, source, recording, probe));
    }
    let mut tasks: Vec<NewTask> = works.into_iter().map(NewTask::new).collect();
    let mut finish = NewTask::new(TaskSpec::Finish(finish));
    tasks.iter_mut().for_each(|task| task.precede(&mut finish));
    if let Some(measure) = drawn.measure {
        let mut measure = NewTask::new(measure);
        let sounds = tasks.iter_mut().filter(|task| matches!(task.spec, TaskSpec::Audio(_)));
        sounds.for_each(|sound| measure.precede(sound));
        // Sound that is there already was measured when it was made.
        if !measure.unblocks.is_empty() {
            tasks.insert(lead.min(tasks.len()), measure);
        }
    }
    stills::add(&mut tasks, spec, drawn.set.id, drawn.duration_seconds)?;
    if let Some((whole, wish)) = drawn.video.as_ref().zip(spec.quality.as_ref()) {
        measure(wish, whole, probe, &mut tasks, &mut finish);
    }
    // Behind the finish: nobody who wants to watch waits for a file to be downloaded.
    let mut files = vec![];
    for request in requests {
        let mut file = download(recording, drawn.set.id, request, drawn.duration_seconds);
        finish = finish.then(&mut file);
        files.push(file);
    }
    tasks.push(finish);
    tasks.extend(files);
    Ok(Plan { set: drawn.set, duration_seconds: drawn.duration_seconds, tasks, adopted, summary })
}

/// Adds the tasks that measure what `tasks` make of `whole`. A viewer need not wait for them, unless the figures decide.
fn measure(
    wish: &QualityWish,
    whole: &EncodeSpec,
    probe: &Probe,
    tasks: &mut Vec<NewTask>,
    finish: &mut NewTask,
) {
    let orders = quality::report(wish, whole);
    let mut report = NewTask::new(TaskSpec::Report(orders.clone()));
    let mut measuring = quality::tasks(wish, whole, probe, tasks);
    measuring.iter_mut().for_each(|task| task.precede(&mut report));
    if !wish.least.is_nothing()
        && let TaskSpec::Finish(finishing) = &mut finish.spec
    {
        finishing.report = Some(orders);
        report.precede(finish);
    }
    tasks.append(&mut measuring);
    tasks.push(report);
}

/// The files that what is drawn is offered as.
fn files_of(drawn: &Drawn) -> Vec<DownloadRequest> {
    let rungs = drawn.video.iter().flat_map(|video| &video.rungs);
    let pictures = rungs.map(|rung| DownloadRequest { rung: rung.name.clone(), height: Some(rung.height) });
    let sounds = drawn.sound.iter().map(|track| DownloadRequest { rung: track.rung.clone(), height: None });
    offered(pictures, sounds)
}

/// Containers whose index leads to any keyframe exactly. A transport stream has none: a seek in it may end anywhere.
const INDEXED: [&str; 2] = ["mov", "matroska"];

/// True where a task can begin in the middle of the source.
fn is_indexed(probe: &Probe) -> bool {
    probe.format.split(',').any(|name| INDEXED.contains(&name))
}

/// `EXT-X-TARGETDURATION` for all renditions of these grids, in seconds.
fn longest_segment<'a>(video: Option<&Grid>, audio: impl Iterator<Item = &'a AudioGrid>) -> u32 {
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
mod tests;
