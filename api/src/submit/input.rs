//! Where the bytes of a job come from.

use std::path::{Component, PathBuf};

use percent_encoding::percent_decode_str;
use reelmill_shared::db::sources::Source;
use reelmill_shared::db::{live, sources, uploads};
use reelmill_shared::ids::{BroadcastId, RecordingId, SourceId, UploadId};
use reelmill_shared::job::spec::Input;
use reelmill_shared::media::probe::Probe;
use reelmill_shared::media::profile::FieldError;
use url::Url;

use super::{bad_title, fault};
use crate::auth::Caller;
use crate::dto::job::InputDto;
use crate::problem::Answer;
use crate::state::App;

/// Where the job's bytes are, once the input was looked at.
pub(super) struct Resolved {
    pub(super) input: Input,
    pub(super) source: SourceId,
    pub(super) stored: bool,
    /// Of what was looked into before.
    pub(super) probe: Option<Probe>,
    pub(super) recording: Option<RecordingId>,
    /// What the file was called, for the title.
    pub(super) name: Option<String>,
}

/// Looks at an input; `None` where something is wrong with it.
pub(super) async fn resolve(
    app: &App,
    caller: &Caller,
    input: &InputDto,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Resolved>> {
    if input.live.is_some() {
        faults.push(fault("/input/live", "only goes with POST /api/v1/recordings, and without a recipe"));
        return Ok(None);
    }
    match (&input.url, input.upload_id, input.recording_id, input.broadcast_id) {
        (Some(url), None, None, None) => Ok(fetchable(app, "/input/url", url, faults).map(from_url)),
        (None, Some(upload), None, None) => from_upload(app, caller, upload, faults).await,
        (None, None, Some(recording), None) => from_recording(app, caller, recording, faults).await,
        (None, None, None, Some(broadcast)) => from_broadcast(app, caller, broadcast, faults).await,
        _ => {
            let fields = "url, upload_id, recording_id and broadcast_id";
            faults.push(fault("/input", format!("must have exactly one of {fields}")));
            Ok(None)
        }
    }
}

/// The address of a file that a worker may fetch; `None` where something is wrong with the field `at`.
pub(crate) fn fetchable(app: &App, at: &str, text: &str, faults: &mut Vec<FieldError>) -> Option<Url> {
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
    Some(url)
}

fn from_url(url: Url) -> Resolved {
    let last = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    let name = percent_decode_str(last).decode_utf8().ok().map(|name| name.into_owned());
    Resolved {
        name: name.filter(|name| bad_title(name).is_none()),
        input: Input::Url(url),
        source: SourceId::new(),
        stored: false,
        probe: None,
        recording: None,
    }
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
    let probe = sources::get(&app.db, source).await?.and_then(|source| source.probe);
    let name = crate::routes::uploads::file_name(&upload.metadata).filter(|name| bad_title(name).is_none());
    Ok(Some(Resolved { input: Input::UploadId(id), source, stored: true, probe, recording: None, name }))
}

/// All of it is put together by whoever fetches it.
async fn from_broadcast(
    app: &App,
    caller: &Caller,
    id: BroadcastId,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Resolved>> {
    if live::aired(&app.db, caller.project_id, id).await?.is_none() {
        let detail = format!("there is no recorded broadcast {id} that is over and whose media is there");
        faults.push(fault("/input/broadcast_id", detail));
        return Ok(None);
    }
    Ok(Some(Resolved {
        input: Input::BroadcastId(id),
        source: SourceId::new(),
        stored: false,
        probe: None,
        recording: None,
        name: None,
    }))
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
    let input = Input::RecordingId(id);
    let Source { id: source, probe, .. } = source;
    Ok(Some(Resolved { input, source, stored: true, probe, recording: Some(id), name: None }))
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
