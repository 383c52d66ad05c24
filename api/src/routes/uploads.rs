//! `/uploads`: tus 1.0 (https://tus.io/protocols/resumable-upload) with creation, creation-with-upload,
//! creation-defer-length, termination and checksum.
//!
//! The protocol's headers; [`crate::uploads`] takes the bytes.

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::uploads::{self, Upload};
use reelmill_shared::ids::UploadId;

use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;
use crate::uploads::{Checksum, Terms, receive};

const TUS_VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,termination,checksum";
const OFFSET_TYPE: &str = "application/offset+octet-stream";
const METADATA_LIMIT: usize = 8 * 1024;

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// Says on every answer, refusals too, which version was spoken.
pub(crate) async fn speak_tus(mut response: Response) -> Response {
    response.headers_mut().insert(RESUMABLE, HeaderValue::from_static(TUS_VERSION));
    response
}

/// What this server knows of tus.
#[utoipa::path(options, path = "/uploads", tag = "uploads", responses(
    (status = 204, description = "Versions, extensions and limits, in headers."),
))]
pub(crate) async fn options(State(app): State<App>) -> Response {
    let max = app.config.upload_max_bytes.to_string();
    let headers = [
        ("tus-version", TUS_VERSION.to_owned()),
        ("tus-extension", EXTENSIONS.to_owned()),
        ("tus-checksum-algorithm", Checksum::ALGORITHMS.to_owned()),
        ("tus-max-size", max),
    ];
    (StatusCode::NO_CONTENT, headers.map(|(name, value)| (HeaderName::from_static(name), value)))
        .into_response()
}

/// Start an upload (tus).
///
/// `Upload-Length` or `Upload-Defer-Length: 1`; `Upload-Metadata` may carry `filename` and `filetype`. With a body of
/// `application/offset+octet-stream` the first bytes come right along.
#[utoipa::path(post, path = "/uploads", tag = "uploads", responses(
    (status = 201, description = "Location is the upload; its last part is the upload's id."),
    (status = 413, description = "Longer than Tus-Max-Size.", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: HttpBody,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    speaks_tus(&headers)?;
    let length = number(&headers, &LENGTH)?;
    let deferred = headers.get("upload-defer-length").is_some_and(|value| value == "1");
    if length.is_none() && !deferred {
        return Err(Problem::new(Kind::Malformed, "Upload-Length is missing (or Upload-Defer-Length: 1)"));
    }
    fits(&app, length)?;
    let metadata = headers.get("upload-metadata").map_or(Ok(""), |value| value.to_str());
    let metadata = metadata.ok().filter(|text| text.len() <= METADATA_LIMIT && valid_metadata(text));
    let metadata = metadata.ok_or_else(|| {
        Problem::new(
            Kind::Malformed,
            "Upload-Metadata must be comma-separated pairs of a key and a base64 value",
        )
    })?;
    let terms = terms(&headers)?;
    let mut upload = uploads::insert(&app.db, caller.project_id, length, metadata).await?;
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == OFFSET_TYPE) {
        upload = receive(&app, upload, body.into_data_stream(), &terms).await?;
    } else if upload.length == Some(0) {
        upload = uploads::complete(&app.db, upload).await?;
    }
    let location = format!("/api/v1/uploads/{}", upload.id);
    let head = [(OFFSET, upload.received.to_string()), (header::LOCATION, location)];
    Ok((StatusCode::CREATED, head).into_response())
}

/// How far an upload is (tus).
#[utoipa::path(head, path = "/uploads/{id}", tag = "uploads", params(("id" = UploadId, Path)), responses(
    (status = 200, description = "Upload-Offset tells where to go on."),
    (status = 404, description = "There is no such upload."),
))]
pub(crate) async fn head(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<UploadId>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let upload = find(&app, &caller, id).await?;
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(OFFSET, HeaderValue::from(upload.received));
    match upload.length {
        Some(length) => headers.insert(LENGTH, HeaderValue::from(length)),
        None => headers.insert(HeaderName::from_static("upload-defer-length"), HeaderValue::from_static("1")),
    };
    if let Some(value) = Some(&upload.metadata).filter(|text| !text.is_empty())
        && let Ok(value) = HeaderValue::from_str(value)
    {
        headers.insert(HeaderName::from_static("upload-metadata"), value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Send bytes (tus).
///
/// From `Upload-Offset` on. What arrives before a connection breaks is kept. An `Upload-Checksum` (`sha1` or `sha256`) makes it
/// all or nothing.
#[utoipa::path(patch, path = "/uploads/{id}", tag = "uploads", params(("id" = UploadId, Path)),
    request_body(content = String, content_type = "application/offset+octet-stream"), responses(
    (status = 204, description = "Upload-Offset tells how much is there now."),
    (status = 409, description = "Upload-Offset is not where the upload stands.", body = ProblemDocument),
    (status = 460, description = "The checksum does not match; nothing of this request was kept."),
))]
pub(crate) async fn patch(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<UploadId>,
    body: HttpBody,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    speaks_tus(&headers)?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != OFFSET_TYPE) {
        return Err(Problem::new(Kind::UnsupportedMediaType, format!("send bytes as {OFFSET_TYPE}")));
    }
    let offset = number(&headers, &OFFSET)?
        .ok_or_else(|| Problem::new(Kind::Malformed, "Upload-Offset is missing"))?;
    let terms = terms(&headers)?;
    let mut upload = find(&app, &caller, id).await?;
    if let Some(length) = number(&headers, &LENGTH)?.filter(|_| upload.length.is_none()) {
        fits(&app, Some(length))?;
        if length < upload.received {
            return Err(Problem::new(Kind::Malformed, "Upload-Length is less than what has arrived"));
        }
        uploads::set_length(&app.db, id, length).await?;
        upload.length = Some(length);
    }
    if offset != upload.received {
        return Err(stands_elsewhere(&upload));
    }
    let upload = receive(&app, upload, body.into_data_stream(), &terms).await?;
    let head = [(OFFSET, upload.received.to_string())];
    Ok((StatusCode::NO_CONTENT, head).into_response())
}

/// Give an upload up (tus).
#[utoipa::path(delete, path = "/uploads/{id}", tag = "uploads", params(("id" = UploadId, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such upload.", body = ProblemDocument),
    (status = 409, description = "Something was made of it; delete the recording instead.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<UploadId>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    find(&app, &caller, id).await?;
    if !uploads::delete(&app.db, caller.project_id, id).await? {
        return Err(Problem::new(
            Kind::Conflict,
            "something was made of the upload; delete the recording instead",
        ));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn find(app: &App, caller: &Caller, id: UploadId) -> Answer<Upload> {
    uploads::get(&app.db, caller.project_id, id).await?.ok_or_else(|| Problem::not_found("upload", id))
}

fn stands_elsewhere(upload: &Upload) -> Problem {
    let detail = format!("the upload stands at {}", upload.received);
    Problem::new(Kind::Conflict, detail).with_header(OFFSET, HeaderValue::from(upload.received))
}

/// What the request's bytes must be to be kept.
fn terms(headers: &HeaderMap) -> Answer<Terms> {
    let Some(value) = headers.get("upload-checksum") else {
        return Ok(Terms::Any);
    };
    let checksum = value.to_str().ok().and_then(Checksum::parse);
    checksum.map(Terms::Checked).ok_or_else(|| {
        Problem::new(
            Kind::Malformed,
            format!("Upload-Checksum must be one of {} and a base64 digest", Checksum::ALGORITHMS),
        )
    })
}

fn fits(app: &App, length: Option<u64>) -> Answer<()> {
    let most = app.config.upload_max_bytes;
    if length.is_some_and(|length| length > most) {
        return Err(Problem::new(Kind::PayloadTooLarge, format!("an upload may have at most {most} bytes")));
    }
    Ok(())
}

fn speaks_tus(headers: &HeaderMap) -> Answer<()> {
    if headers.get(&RESUMABLE).is_some_and(|version| version == TUS_VERSION) {
        return Ok(());
    }
    let problem = Problem::new(Kind::Malformed, format!("send Tus-Resumable: {TUS_VERSION}"));
    Err(problem
        .with_status(StatusCode::PRECONDITION_FAILED.as_u16())
        .with_header(HeaderName::from_static("tus-version"), HeaderValue::from_static(TUS_VERSION)))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Answer<Option<u64>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let number =
        value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).filter(|n| *n <= i64::MAX as u64);
    number
        .map(Some)
        .ok_or_else(|| Problem::new(Kind::Malformed, format!("{name} must be a whole number of bytes")))
}

fn pairs(metadata: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = metadata.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once(' ').unwrap_or((pair, "")))
}

fn valid_metadata(metadata: &str) -> bool {
    pairs(metadata).all(|(key, value)| !key.is_empty() && STANDARD.decode(value.trim()).is_ok())
}

/// The name a client gave a file: shown to people, never used as a path.
pub(crate) fn file_name(metadata: &str) -> Option<String> {
    let value = pairs(metadata).find(|(key, _)| *key == "filename" || *key == "name")?.1;
    let name = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    (!name.is_empty()).then(|| name.to_owned())
}
