//! From a request to a job: everything is checked, the recipe frozen, and all rows written in one transaction.

use chrono::{DateTime, Datelike, Utc};
use reelmill_shared::broker::{Ring, ring_later};
use reelmill_shared::db::jobs::{self, Basis, Job, NewJob};
use reelmill_shared::db::recordings::{self, NewRecording};
use reelmill_shared::ids::{JobId, RecordingId};
use reelmill_shared::job::edit::Edit;
use reelmill_shared::job::plan::{self, NewTask};
use reelmill_shared::job::spec::{Adopt, JobKind, JobSpec, LadderChoice, Output, PictureRequest, Taken};
use reelmill_shared::job::state::Access;
use reelmill_shared::media::probe::Probe;
use reelmill_shared::media::profile::{BUILT_IN, FieldError, Profile};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::downloads;
use crate::dto::edit::EditDto;
use crate::dto::job::{InputDto, PosterDto, SeriesDto};
use crate::edit::edit;
use crate::idempotency::reserved;
use crate::problem::{Answer, Problem};
use crate::quality::{measurable, quality};
use crate::routes::transcode::unmade;
use crate::state::App;

mod callback;
mod encoders;
mod input;
pub(crate) mod pictures;

pub(crate) use input::fetchable;
use input::resolve;

/// A wish for a job, from whichever route.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) kind: JobKind,
    pub(crate) input: InputDto,
    pub(crate) profile: Option<Value>,
    pub(crate) outputs: Option<Vec<String>>,
    pub(crate) priority: Option<i64>,
    pub(crate) run_at: Option<DateTime<Utc>>,
    pub(crate) metadata: Option<Value>,
    /// A picture asked for by its time and size; nobody's poster.
    pub(crate) picture: Option<PictureRequest>,
    pub(crate) thumbnail: Option<PosterDto>,
    pub(crate) thumbnails: Option<SeriesDto>,
    pub(crate) edit: Option<EditDto>,
    pub(crate) ladder: Option<LadderChoice>,
    pub(crate) quality: Option<Value>,
    /// A recipe from an earlier job, instead of `profile` and `edit`.
    pub(crate) frozen: Option<Frozen>,
    pub(crate) callback_url: Option<String>,
    /// Encode what was encoded before too.
    pub(crate) force: bool,
    pub(crate) traceparent: String,
    /// Of the recording that is made with the job.
    pub(crate) title: Option<String>,
    pub(crate) access: Option<Access>,
    pub(crate) recording_metadata: Option<Value>,
}

impl Wish {
    /// A wish for a job of this kind with everything else left out.
    pub(crate) fn new(kind: JobKind, input: InputDto, traceparent: String) -> Self {
        Self {
            kind,
            input,
            profile: None,
            outputs: None,
            priority: None,
            run_at: None,
            metadata: None,
            picture: None,
            edit: None,
            thumbnail: None,
            thumbnails: None,
            ladder: None,
            quality: None,
            frozen: None,
            callback_url: None,
            force: false,
            traceparent,
            title: None,
            access: None,
            recording_metadata: None,
        }
    }
}

/// A recipe as it was frozen in a job: what happened to its profile since does not matter.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    pub(crate) profile: Option<Profile>,
    pub(crate) edit: Edit,
    /// What is there of it.
    pub(crate) adopt: Option<Adopt>,
    /// What was on air of it.
    pub(crate) taken: Option<Taken>,
    /// What the recording had when the recipe was made for it.
    pub(crate) basis: Option<Basis>,
}

/// Bytes of metadata a job or recording may carry.
const METADATA_LIMIT: usize = 16 * 1024;
const TITLE_LIMIT: usize = 500;

/// Accepts a wish, or says everything that is wrong with it. What was accepted is in the database when this returns.
pub(crate) async fn submit(app: &App, caller: &Caller, wish: Wish) -> Answer<Job> {
    accept(app, caller, wish, false).await
}

/// Checks a wish for a transcode like [`submit`], and accepts a job that only looks into the source and tells what the transcode
/// would do. No recording is made.
pub(crate) async fn submit_dry(app: &App, caller: &Caller, wish: Wish) -> Answer<Job> {
    if wish.kind != JobKind::Transcode {
        return Err(Problem::field("/kind", "must be transcode for a dry run: nothing else is planned"));
    }
    accept(app, caller, wish, true).await
}

/// A conversion of what was never encoded is a transcode.
async fn encoding_first(app: &App, caller: &Caller, wish: Wish) -> Answer<Wish> {
    let input = wish.input.recording_id.filter(|_| wish.frozen.is_none() && wish.profile.is_none());
    let (JobKind::VodConvert, Some(id), Some(wanted)) = (wish.kind, input, &wish.outputs) else {
        return Ok(wish);
    };
    let converted = |word: &String| CONVERTED.iter().any(|output| output.as_str() == word);
    if wanted.is_empty() || !wanted.iter().all(converted) {
        return Ok(wish);
    }
    // Another's or none is told with everything else that is wrong.
    let Some(recording) = recordings::get(&app.db, caller.project_id, id).await? else { return Ok(wish) };
    let Some(frozen) = unmade(app, &recording).await? else { return Ok(wish) };
    let mut outputs = wanted.clone();
    if outputs.iter().all(|output| *output == Output::Mp4.as_str()) {
        outputs.push(Output::Hls.to_string());
    }
    Ok(Wish { kind: JobKind::Transcode, frozen: Some(frozen), outputs: Some(outputs), ..wish })
}

async fn accept(app: &App, caller: &Caller, wish: Wish, dry_run: bool) -> Answer<Job> {
    let wish = encoding_first(app, caller, wish).await?;
    let mut faults = vec![];
    let frozen = wish.frozen.is_some();
    let Frozen { profile: frozen_profile, edit: frozen_edit, adopt, taken, basis } =
        wish.frozen.unwrap_or_default();
    let profile = match wish.kind {
        _ if frozen => frozen_profile,
        JobKind::Transcode => profile(app, caller, wish.profile.as_ref(), &mut faults).await?,
        _ => {
            if wish.profile.is_some() {
                faults.push(fault("/profile", "only goes with kind transcode"));
            }
            None
        }
    };
    let outputs = outputs(wish.kind, wish.outputs.as_deref(), &mut faults);
    let poster = match wish.picture {
        Some(_) => None,
        None => pictures::poster(wish.kind, &outputs, wish.thumbnail.as_ref(), &mut faults),
    };
    let series = pictures::series(wish.kind, wish.thumbnails.as_ref(), &mut faults);
    let edit = match frozen {
        true => frozen_edit,
        false => edit(app, caller, wish.kind, wish.edit.as_ref(), &mut faults).await?,
    };
    if wish.kind != JobKind::Transcode && wish.ladder.is_some() {
        faults.push(fault("/ladder", "only goes with kind transcode"));
    }
    let ladder = wish.ladder.unwrap_or_default();
    let measurable = measurable(&app.db, wish.quality.as_ref()).await?;
    let quality = quality(wish.kind, wish.quality.as_ref(), &measurable, &mut faults);
    let priority = match wish.priority.unwrap_or(50) {
        priority @ 0..=100 => priority as i16,
        _ => {
            faults.push(fault("/priority", "must be from 0 to 100"));
            50
        }
    };
    // Beyond the database's own calendar.
    if wish.run_at.is_some_and(|at| !(1970..=9999).contains(&at.year())) {
        faults.push(fault("/run_at", "must be a time from 1970 to 9999"));
    }
    let callback_url = callback::callback(app, wish.callback_url.as_deref(), &mut faults);
    let metadata = metadata(wish.metadata, "/metadata", &mut faults);
    let recording_metadata = metadata_or_empty(wish.recording_metadata, &mut faults);
    if let Some(title) = &wish.title
        && let Some(detail) = bad_title(title)
    {
        faults.push(fault("/title", detail));
    }
    if wish.kind == JobKind::VodConvert && wish.input.recording_id.is_none() {
        faults.push(fault("/input", "must have a recording_id: only what is there can be converted"));
    }
    let resolved = resolve(app, caller, &wish.input, &mut faults).await?;
    let Some(resolved) = resolved.filter(|_| faults.is_empty()) else {
        return Err(Problem::fields(faults));
    };
    if let Some(profile) = &profile
        && let Some(problem) = encoders::unknown(&app.db, profile).await?
    {
        return Err(problem);
    }
    if callback_url.is_some() {
        callback::prepare(app, caller).await?;
    }

    let recording_id = resolved.recording.unwrap_or_else(RecordingId::new);
    let mut spec = JobSpec {
        input: resolved.input,
        source: resolved.source,
        profile,
        outputs,
        outputs_by_default: wish.outputs.is_none(),
        edit,
        ladder,
        quality,
        picture: wish.picture,
        poster,
        series,
        downloads: vec![],
        adopt,
        taken,
        callback_url,
        force: wish.force,
        dry_run,
    };
    if let (JobKind::Thumbnail, Some(recording)) = (wish.kind, resolved.recording) {
        spec.edit = jobs::edit_of(&app.db, recording).await?;
    }
    let tasks = match wish.kind {
        JobKind::VodConvert if spec.profile.is_none() => convert(app, recording_id, &mut spec).await?,
        _ if is_there(&spec) => vec![],
        _ => first_tasks(&spec, recording_id, resolved.stored, resolved.probe.as_ref()),
    };
    let makes_recording = resolved.recording.is_none() && !dry_run;
    let new = NewJob {
        id: reserved().map_or_else(JobId::new, JobId),
        kind: if dry_run { JobKind::Probe } else { wish.kind },
        recording_id: (!dry_run).then_some(recording_id),
        priority,
        metadata,
        // Nobody waits for an answer that comes tomorrow.
        run_at: wish.run_at.filter(|_| !dry_run),
        traceparent: Some(wish.traceparent.clone()),
        tasks,
        adds_to: basis,
        new_recording: makes_recording.then(|| NewRecording {
            id: recording_id,
            title: wish.title.clone().or(resolved.name).unwrap_or_else(|| "Untitled".to_owned()),
            access: wish.access.unwrap_or(Access::Private),
            source_id: Some(spec.source),
            metadata: recording_metadata,
        }),
        new_source: !resolved.stored,
        spec,
    };
    let job = jobs::submit(&app.db, caller.project_id, &new).await?;
    if new.run_at.is_none_or(|at| at <= Utc::now()) {
        let ring =
            |task| Ring { job_id: Some(new.id), traceparent: new.traceparent.clone(), ..Ring::from(task) };
        ring_later(&app.broker, new.tasks.iter().filter(|task| task.blocked_by == 0).map(ring).collect());
    }
    metrics::counter!("reelmill_jobs_submitted_total", "kind" => new.kind.as_str()).increment(1);
    tracing::info!(job_id = %new.id, kind = %new.kind, recording_id = %recording_id, traceparent = wish.traceparent, "job accepted");
    Ok(job)
}

/// Checks what stands before the file in a form: a mistake there must not cost its sender the upload.
pub(crate) async fn check_early(
    app: &App,
    caller: &Caller,
    wanted: Option<&Value>,
    title: Option<&str>,
) -> Answer<()> {
    let mut faults = vec![];
    profile(app, caller, wanted, &mut faults).await?;
    faults.extend(title.and_then(bad_title).map(|detail| fault("/title", detail)));
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}

fn first_tasks(spec: &JobSpec, recording: RecordingId, stored: bool, probe: Option<&Probe>) -> Vec<NewTask> {
    match probe.and_then(|probe| plan::picture(spec, recording, probe)) {
        // Nothing to find out first.
        Some(task) if spec.profile.is_none() && stored => vec![task],
        _ => plan::opening(spec, stored),
    }
}

/// True where a job that adds to a recording finds that it has every rung already.
fn is_there(spec: &JobSpec) -> bool {
    let parts = spec.profile.as_ref().zip(spec.adopt.as_ref());
    parts
        .is_some_and(|(profile, adopt)| profile.rungs.iter().all(|rung| adopt.segments(&rung.name).is_some()))
}

/// What is to be made of a recording that is there, without encoding; nothing where all of it is.
async fn convert(app: &App, recording: RecordingId, spec: &mut JobSpec) -> Answer<Vec<NewTask>> {
    let (files, tasks) = downloads::missing(app, recording)
        .await?
        .map_err(|detail| Problem::field("/input/recording_id", detail))?;
    if !spec.outputs.contains(&Output::Mp4) {
        return Ok(vec![]);
    }
    spec.downloads = files;
    Ok(tasks)
}

/// What is wrong with one field.
pub(crate) fn fault(pointer: impl Into<String>, detail: impl Into<String>) -> FieldError {
    FieldError { pointer: pointer.into(), detail: detail.into() }
}

/// The profile that a field `/profile` means.
pub(crate) async fn chosen_profile(app: &App, caller: &Caller, wanted: &Value) -> Answer<Profile> {
    let mut faults = vec![];
    let found = profile(app, caller, Some(wanted), &mut faults).await?;
    found.ok_or_else(|| Problem::fields(faults))
}

async fn profile(
    app: &App,
    caller: &Caller,
    wanted: Option<&Value>,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Profile>> {
    let name = match wanted {
        None => "web",
        Some(Value::String(name)) => name,
        Some(inline) => match Profile::from_json(inline) {
            Ok(profile) => return Ok(Some(profile)),
            Err(errors) => {
                faults.extend(
                    errors.into_iter().map(|error| fault(format!("/profile{}", error.pointer), error.detail)),
                );
                return Ok(None);
            }
        },
    };
    if let Some(profile) = Profile::built_in(name) {
        return Ok(Some(profile));
    }
    let own = crate::routes::profiles::find(app, caller, name).await?;
    if own.is_none() {
        faults.push(fault(
            "/profile",
            format!("there is no profile {name:?}; built in are {}", BUILT_IN.join(", ")),
        ));
    }
    Ok(own)
}

/// What a conversion can make.
const CONVERTED: [Output; 3] = [Output::Hls, Output::Dash, Output::Mp4];

fn outputs(kind: JobKind, wanted: Option<&[String]>, faults: &mut Vec<FieldError>) -> Vec<Output> {
    let known = match kind {
        JobKind::Transcode => Output::ALL,
        JobKind::VodConvert => &CONVERTED[..],
        JobKind::Thumbnail | JobKind::Probe => {
            if wanted.is_some() {
                faults.push(fault("/outputs", "only goes with the kinds transcode and vod_convert"));
            }
            return vec![];
        }
    };
    let wanted = match (wanted, kind) {
        (Some(wanted), _) => wanted,
        (None, JobKind::VodConvert) => &[],
        (None, _) => return vec![Output::Hls, Output::Dash, Output::Thumbnail, Output::Storyboard],
    };
    let words = known.iter().map(|output| output.as_str()).collect::<Vec<_>>().join(", ");
    if wanted.is_empty() {
        faults.push(fault("/outputs", format!("names nothing to make; this version makes {words}")));
    }
    let mut outputs = vec![];
    for (index, word) in wanted.iter().enumerate() {
        match word.parse() {
            Ok(output) if !known.contains(&output) => {
                let detail = format!("{word:?} is not made by a job of this kind, which makes {words}");
                faults.push(fault(format!("/outputs/{index}"), detail));
            }
            Ok(output) if !outputs.contains(&output) => outputs.push(output),
            Ok(_) => {}
            Err(_) => {
                faults.push(fault(
                    format!("/outputs/{index}"),
                    format!("{word:?} is not made by this version, which makes {words}"),
                ));
            }
        }
    }
    // Both are made of the same segments, and made in any case.
    let streams = [Output::Hls, Output::Dash];
    if kind == JobKind::Transcode
        && !outputs.is_empty()
        && !outputs.iter().any(|output| streams.contains(output))
    {
        let detail = "must name hls or dash, which a transcode makes in any case; for a picture alone there is kind \
                      thumbnail";
        faults.push(fault("/outputs", detail));
    }
    outputs
}

/// A document of the caller's own; an empty one where there is none.
pub(crate) fn metadata(value: Option<Value>, pointer: &str, faults: &mut Vec<FieldError>) -> Value {
    match value {
        None => json!({}),
        Some(value) => {
            if !value.is_object() {
                faults.push(fault(pointer, "must be an object"));
            } else if value.to_string().len() > METADATA_LIMIT {
                faults.push(fault(pointer, format!("may have at most {METADATA_LIMIT} bytes")));
            } else if holds_nul(&value) {
                faults.push(fault(pointer, "holds a NUL character, which cannot be kept"));
            }
            value
        }
    }
}

fn metadata_or_empty(value: Option<Value>, faults: &mut Vec<FieldError>) -> Value {
    metadata(value, "/metadata", faults)
}

/// PostgreSQL keeps every character but this one.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// What is wrong with a title, if anything.
pub(crate) fn bad_title(title: &str) -> Option<&'static str> {
    if title.trim().is_empty() {
        return Some("must not be empty");
    }
    if title.chars().count() > TITLE_LIMIT {
        return Some("may have at most 500 characters");
    }
    title.contains('\0').then_some("holds a NUL character, which cannot be kept")
}
