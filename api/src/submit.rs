//! From a request to a job: everything is checked, the recipe frozen, and all rows written in one transaction.

use std::path::{Component, PathBuf};

use chrono::{DateTime, Datelike, Utc};
use percent_encoding::percent_decode_str;
use reelmill_shared::broker::{Ring, ring_later};
use reelmill_shared::db::jobs::{self, Job, NewJob};
use reelmill_shared::db::recordings::NewRecording;
use reelmill_shared::db::{sources, uploads};
use reelmill_shared::ids::{JobId, RecordingId, SourceId, UploadId};
use reelmill_shared::job::plan::{self, NewTask};
use reelmill_shared::job::spec::{Input, JobKind, JobSpec, LadderChoice, Output, PictureRequest};
use reelmill_shared::job::state::Access;
use reelmill_shared::media::profile::{BUILT_IN, FieldError, Profile};
use serde_json::{Value, json};
use url::Url;

use crate::auth::Caller;
use crate::downloads;
use crate::dto::edit::EditDto;
use crate::dto::job::{InputDto, PosterDto, SeriesDto};
use crate::edit::edit;
use crate::problem::{Answer, Problem};
use crate::quality::quality;
use crate::state::App;

pub(crate) mod pictures;

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
            traceparent,
            title: None,
            access: None,
            recording_metadata: None,
        }
    }
}

/// Bytes of metadata a job or recording may carry.
const METADATA_LIMIT: usize = 16 * 1024;
const TITLE_LIMIT: usize = 500;

/// Where the job's bytes are, once the input was looked at.
struct Resolved {
    input: Input,
    source: SourceId,
    stored: bool,
    probed: bool,
    recording: Option<RecordingId>,
    /// What the file was called, for the title.
    name: Option<String>,
}

/// Accepts a wish, or says everything that is wrong with it. What was accepted is in the database when this returns.
pub(crate) async fn submit(app: &App, caller: &Caller, wish: Wish) -> Answer<Job> {
    let mut faults = vec![];
    let profile = match wish.kind {
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
    let edit = edit(app, caller, wish.kind, wish.edit.as_ref(), &mut faults).await?;
    if wish.kind != JobKind::Transcode && wish.ladder.is_some() {
        faults.push(fault("/ladder", "only goes with kind transcode"));
    }
    let ladder = wish.ladder.unwrap_or_default();
    let quality = quality(wish.kind, wish.quality.as_ref(), &mut faults);
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
    };
    if let (JobKind::Thumbnail, Some(recording)) = (wish.kind, resolved.recording) {
        spec.edit = jobs::trim_of(&app.db, recording).await?;
    }
    let tasks = match wish.kind {
        JobKind::VodConvert => convert(app, recording_id, &mut spec).await?,
        _ => first_tasks(&spec, recording_id, resolved.stored, resolved.probed),
    };
    let new = NewJob {
        id: JobId::new(),
        kind: wish.kind,
        recording_id,
        priority,
        metadata,
        run_at: wish.run_at,
        traceparent: Some(wish.traceparent.clone()),
        tasks,
        new_recording: resolved.recording.is_none().then(|| NewRecording {
            id: recording_id,
            title: wish.title.clone().or(resolved.name).unwrap_or_else(|| "Untitled".to_owned()),
            access: wish.access.unwrap_or(Access::Private),
            source_id: spec.source,
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

fn first_tasks(spec: &JobSpec, recording: RecordingId, stored: bool, probed: bool) -> Vec<NewTask> {
    match plan::picture(spec, recording) {
        // Nothing to find out first.
        Some(task) if spec.profile.is_none() && stored && probed => vec![task],
        _ => plan::opening(spec, stored),
    }
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

fn metadata(value: Option<Value>, pointer: &str, faults: &mut Vec<FieldError>) -> Value {
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

async fn resolve(
    app: &App,
    caller: &Caller,
    input: &InputDto,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Resolved>> {
    if input.broadcast_id.is_some() {
        faults.push(fault("/input/broadcast_id", "is not supported by this version"));
        return Ok(None);
    }
    match (&input.url, input.upload_id, input.recording_id) {
        (Some(url), None, None) => Ok(from_url(app, url, faults)),
        (None, Some(upload), None) => from_upload(app, caller, upload, faults).await,
        (None, None, Some(recording)) => from_recording(app, caller, recording, faults).await,
        _ => {
            faults.push(fault("/input", "must have exactly one of url, upload_id and recording_id"));
            Ok(None)
        }
    }
}

fn from_url(app: &App, text: &str, faults: &mut Vec<FieldError>) -> Option<Resolved> {
    let at = "/input/url";
    if text.len() > 4096 {
        faults.push(fault(at, "may have at most 4096 bytes"));
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            faults.push(fault(at, format!("is not a URL: {error}")));
            return None;
        }
    };
    let last = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let name = percent_decode_str(last).decode_utf8().ok().map(|name| name.into_owned());
    let name = name.filter(|name| bad_title(name).is_none());
    match url.scheme() {
        "http" | "https" if url.host().is_some() => {}
        // The worker looks again, links followed, on its own disk.
        "file" if under_a_root(&url, &app.config.input_roots) => {}
        "file" if !app.config.input_roots.is_empty() => {
            faults.push(fault(at, "does not lie under a directory that file inputs may come from"));
            return None;
        }
        "file" => {
            faults.push(fault(
                at,
                "file inputs are not enabled here (REELMILL_INPUT_LOCAL_ROOTS); upload the file instead",
            ));
            return None;
        }
        scheme => {
            faults.push(fault(
                at,
                format!("the scheme {scheme:?} is not supported; use http, https or an upload"),
            ));
            return None;
        }
    }
    Some(Resolved {
        input: Input::Url(url),
        source: SourceId::new(),
        stored: false,
        probed: false,
        recording: None,
        name,
    })
}

/// Compared as text: links are the worker's to follow, on its own disk. URLs know no "..", so the roots must not either.
fn under_a_root(url: &Url, roots: &[PathBuf]) -> bool {
    let plain = |root: &PathBuf| {
        root.components().fold(PathBuf::new(), |mut path, part| {
            match part {
                Component::ParentDir => drop(path.pop()),
                Component::CurDir => {}
                other => path.push(other),
            }
            path
        })
    };
    url.to_file_path().is_ok_and(|path| roots.iter().map(plain).any(|root| path.starts_with(root)))
}

async fn from_upload(
    app: &App,
    caller: &Caller,
    id: UploadId,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Resolved>> {
    let at = "/input/upload_id";
    let Some(upload) = uploads::get(&app.db, caller.project_id, id).await? else {
        faults.push(fault(at, format!("there is no upload {id}")));
        return Ok(None);
    };
    let Some(source) = upload.source_id else {
        let length = upload.length.map_or("an unknown number of".to_owned(), |length| length.to_string());
        faults.push(fault(at, format!("the upload is not finished: {} of {length} bytes", upload.received)));
        return Ok(None);
    };
    if upload.received == 0 {
        faults.push(fault(at, "the upload is empty: zero bytes"));
        return Ok(None);
    }
    let probed = sources::get(&app.db, source).await?.is_some_and(|source| source.probe.is_some());
    let name = crate::routes::uploads::file_name(&upload.metadata).filter(|name| bad_title(name).is_none());
    Ok(Some(Resolved { input: Input::UploadId(id), source, stored: true, probed, recording: None, name }))
}

async fn from_recording(
    app: &App,
    caller: &Caller,
    id: RecordingId,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Resolved>> {
    let at = "/input/recording_id";
    let Some(source) = sources::of_recording(&app.db, caller.project_id, id).await? else {
        faults.push(fault(at, format!("there is no recording {id}")));
        return Ok(None);
    };
    let Some(source) = source.filter(|source| source.pieces.is_some()) else {
        faults.push(fault(at, "the recording has no stored source"));
        return Ok(None);
    };
    let probed = source.probe.is_some();
    let input = Input::RecordingId(id);
    Ok(Some(Resolved { input, source: source.id, stored: true, probed, recording: Some(id), name: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_compared_without_their_detours() {
        let url = |text: &str| Url::parse(text).unwrap();
        let roots = [PathBuf::from("/data/x/../in/."), PathBuf::from("/media")];
        assert!(under_a_root(&url("file:///data/in/a.mp4"), &roots));
        assert!(under_a_root(&url("file:///media/b/../c.mp4"), &roots));
        for bad in
            ["file:///data/x/a.mp4", "file:///media/../etc/passwd", "file:///mediax/a", "file://host/media/a"]
        {
            assert!(!under_a_root(&url(bad), &roots), "{bad}");
        }
    }
}
