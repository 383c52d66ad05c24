//! `/uploads`: tus 1.0 (https://tus.io/protocols/resumable-upload) with creation, creation-with-upload,
//! creation-defer-length, termination and checksum.
//!
//! What arrives in one request becomes one object, a piece; a broken connection leaves a shorter piece, and nothing is ever
//! copied together. Any api process can take the next one.

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use reelmill_shared::auth::Scope;
use reelmill_shared::db::sources::Piece;
use reelmill_shared::db::uploads::{self, Appended, NewPiece, Upload};
use reelmill_shared::ids::UploadId;
use reelmill_shared::storage::keys;
use sha2::{Digest, Sha256};

use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::state::App;

const TUS_VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,termination,checksum";
const ALGORITHMS: &str = "sha1,sha256";
/// "Checksum mismatch", a status of the protocol's own.
const CHECKSUM_MISMATCH: u16 = 460;
const OFFSET_TYPE: &str = "application/offset+octet-stream";
const METADATA_LIMIT: usize = 8 * 1024;

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// What this server knows of tus.
#[utoipa::path(options, path = "/uploads", tag = "uploads", responses(
    (status = 204, description = "Versions, extensions and limits, in headers."),
))]
pub(crate) async fn options(State(app): State<App>) -> Response {
    let max = app.config.upload_max_bytes.to_string();
    let headers = [
        ("tus-resumable", TUS_VERSION.to_owned()),
        ("tus-version", TUS_VERSION.to_owned()),
        ("tus-extension", EXTENSIONS.to_owned()),
        ("tus-checksum-algorithm", ALGORITHMS.to_owned()),
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
    let mut upload = uploads::insert(&app.db, caller.project_id, length, metadata).await?;
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == OFFSET_TYPE) {
        upload = receive(&app, upload, body.into_data_stream(), checksum(&headers)?).await?;
    } else if upload.length == Some(0) {
        upload = uploads::complete(&app.db, upload).await?;
    }
    let location = format!("/api/v1/uploads/{}", upload.id);
    let head = [
        (RESUMABLE, TUS_VERSION.to_owned()),
        (OFFSET, upload.received.to_string()),
        (header::LOCATION, location),
    ];
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
    headers.insert(RESUMABLE, HeaderValue::from_static(TUS_VERSION));
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
    let upload = match checksum(&headers) {
        Ok(checksum) => receive(&app, upload, body.into_data_stream(), checksum).await?,
        Err(problem) => return Err(problem),
    };
    let head = [(RESUMABLE, TUS_VERSION.to_owned()), (OFFSET, upload.received.to_string())];
    Ok((StatusCode::NO_CONTENT, head).into_response())
}

/// Give an upload up (tus).
#[utoipa::path(delete, path = "/uploads/{id}", tag = "uploads", params(("id" = UploadId, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such upload.", body = ProblemDocument),
    (status = 409, description = "It is finished and may be in use; delete the recording instead.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<UploadId>,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    if find(&app, &caller, id).await?.source_id.is_some() {
        return Err(Problem::new(Kind::Conflict, "the upload is finished and may be in use"));
    }
    uploads::delete(&app.db, caller.project_id, id).await?;
    Ok((StatusCode::NO_CONTENT, [(RESUMABLE, TUS_VERSION)]).into_response())
}

async fn find(app: &App, caller: &Caller, id: UploadId) -> Answer<Upload> {
    uploads::get(&app.db, caller.project_id, id).await?.ok_or_else(|| Problem::not_found("upload", id))
}

/// Stores a whole file of unknown length as an upload of its own: the file field of a form.
pub(crate) async fn store_whole<E: std::fmt::Display>(
    app: &App,
    caller: &Caller,
    name: &str,
    body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Answer<Upload> {
    let metadata = format!("filename {}", STANDARD.encode(name));
    let upload = uploads::insert(&app.db, caller.project_id, None, &metadata).await?;
    let id = upload.id;
    let received = receive(app, upload, body, Some(Checksum::whole())).await?;
    uploads::set_length(&app.db, id, received.received).await?;
    let upload = find(app, caller, id).await?;
    Ok(uploads::complete(&app.db, upload).await?)
}

fn stands_elsewhere(upload: &Upload) -> Problem {
    let detail = format!("the upload stands at {}", upload.received);
    Problem::new(Kind::Conflict, detail).with_header(OFFSET, HeaderValue::from(upload.received))
}

/// What a request says its bytes must hash to.
enum Checksum {
    Sha1(Vec<u8>),
    Sha256(Vec<u8>),
    /// No digest, but all or nothing all the same.
    Whole,
}

impl Checksum {
    fn whole() -> Self {
        Self::Whole
    }
}

fn checksum(headers: &HeaderMap) -> Answer<Option<Checksum>> {
    let Some(value) = headers.get("upload-checksum") else {
        return Ok(None);
    };
    let bad = || {
        Problem::new(
            Kind::Malformed,
            format!("Upload-Checksum must be one of {ALGORITHMS} and a base64 digest"),
        )
    };
    let (algorithm, digest) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(bad)?;
    let digest = STANDARD.decode(digest.trim()).map_err(|_| bad())?;
    match algorithm {
        "sha1" => Ok(Some(Checksum::Sha1(digest))),
        "sha256" => Ok(Some(Checksum::Sha256(digest))),
        _ => Err(bad()),
    }
}

/// Takes bytes in, piece by piece. A connection that breaks leaves what has arrived, unless a checksum asks for all or nothing.
async fn receive<E: std::fmt::Display>(
    app: &App,
    mut upload: Upload,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    checksum: Option<Checksum>,
) -> Answer<Upload> {
    use sha1::Sha1;
    let limit = upload.length.unwrap_or(app.config.upload_max_bytes);
    let mut sha1 = matches!(checksum, Some(Checksum::Sha1(_))).then(Sha1::new);
    let mut over = None;
    loop {
        let room = (limit - upload.received).min(if checksum.is_some() {
            u64::MAX
        } else {
            app.storage.piece_limit()
        });
        let key = keys::upload_piece(upload.project_id, upload.id, upload.received);
        let mut writer = app.storage.writer(&key).await?;
        let mut sha256 = Sha256::new();
        let mut bytes = 0;
        let mut ended = false;
        let mut broken = None;
        while bytes < room || room == 0 {
            let chunk = match over.take() {
                Some(chunk) => chunk,
                None => match body.next().await {
                    Some(Ok(chunk)) => chunk,
                    Some(Err(error)) => {
                        broken = Some(error.to_string());
                        break;
                    }
                    None => {
                        ended = true;
                        break;
                    }
                },
            };
            let mut chunk: Bytes = chunk;
            if chunk.len() as u64 > room - bytes {
                let rest = chunk.split_off((room - bytes) as usize);
                over = Some(rest);
            }
            if chunk.is_empty() {
                break;
            }
            bytes += chunk.len() as u64;
            sha256.update(&chunk);
            if let Some(hash) = &mut sha1 {
                hash.update(&chunk);
            }
            writer.write(chunk).await?;
        }
        let too_long = over.is_some() && upload.received + bytes == limit;
        let digest: [u8; 32] = sha256.finalize().into();
        let mismatch = match &checksum {
            Some(Checksum::Sha256(wanted)) => wanted.as_slice() != digest.as_slice(),
            Some(Checksum::Sha1(wanted)) => {
                sha1.take().is_some_and(|hash| wanted.as_slice() != hash.finalize().as_slice())
            }
            Some(Checksum::Whole) | None => false,
        };
        let all_or_nothing = checksum.is_some() && (broken.is_some() || mismatch || too_long);
        if bytes == 0 || all_or_nothing {
            let _ = writer.abort().await;
        } else {
            writer.finish().await?;
            let piece = NewPiece { start: upload.received, piece: Piece { key, bytes }, sha256: digest };
            match uploads::append(&app.db, upload.id, &piece).await? {
                Appended::Accepted(now) => upload = now,
                Appended::Conflict => {
                    let _ = app.storage.delete_prefix(&piece.piece.key).await;
                    return Err(Problem::new(Kind::Conflict, "somebody else is sending to this upload"));
                }
            }
        }
        if too_long {
            return Err(Problem::new(
                Kind::PayloadTooLarge,
                format!("the body is longer than the {limit} bytes announced or allowed"),
            ));
        }
        if mismatch && broken.is_none() {
            return Err(
                Problem::new(Kind::Malformed, "the checksum does not match").with_status(CHECKSUM_MISMATCH)
            );
        }
        if let Some(error) = broken {
            tracing::info!(upload_id = %upload.id, received = upload.received, error, "an upload broke off; it can go on");
            return Err(Problem::new(Kind::Malformed, "the connection broke off"));
        }
        let whole = upload.length == Some(upload.received);
        if ended || whole && over.is_none() {
            // A body without bytes appends nothing, and yet the length may be reached with it: an empty file, or a length that
            // was told last.
            return Ok(match upload.source_id {
                None if whole => uploads::complete(&app.db, upload).await?,
                _ => upload,
            });
        }
    }
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
