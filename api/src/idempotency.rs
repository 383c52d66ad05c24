//! `Idempotency-Key`: the first answer is kept for a day and replayed.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::seal::SealError;
use reelmill_shared::db::idempotency::{self, Answer as Kept, Begun};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth::{Caller, caller};
use crate::extract::{is_json, read_json};
use crate::problem::{Answer, Kind, Problem, REQUEST_ID, request_id};
use crate::state::App;

/// Answers larger than this are not kept; ours are all smaller.
const KEPT_BYTES: usize = 4 << 20;
/// What kept answers are sealed for.
const PLACE: &str = "idempotency";
/// The header that tells a replay.
const REPLAYED: &str = "idempotent-replayed";

tokio::task_local! {
    static RESERVED: Uuid;
}

/// The id for what the request under way makes, where its client may repeat it: the same for each repetition.
pub(crate) fn reserved() -> Option<Uuid> {
    RESERVED.try_with(|reserved| *reserved).ok()
}

/// Wraps every POST that carries a key. A dry run is not among them: it makes nothing that could be made twice, what it tells is of its
/// moment, and the commands of a long plan are more than is kept.
pub(crate) async fn keep(State(app): State<App>, request: Request, next: Next) -> Response {
    let key = request.headers().get("idempotency-key").cloned();
    match key {
        Some(key) if request.method() == Method::POST && !is_dry_run(request.uri()) => {
            match kept(&app, &key, request, next).await {
                Ok(response) => response,
                Err(problem) => problem.into_response(),
            }
        }
        _ => next.run(request).await,
    }
}

async fn kept(app: &App, key: &HeaderValue, request: Request, next: Next) -> Answer<Response> {
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key = key.ok_or_else(|| {
        Problem::new(Kind::Malformed, "Idempotency-Key must have 1 to 255 visible characters")
    })?;
    // Keys belong to a project: two tenants may use the same one.
    let caller = caller(app, request.method(), request.headers()).await?;
    let project = caller.project_id;
    let (fingerprint, request) = fingerprint(&caller, request).await?;
    let reserved = match idempotency::begin(&app.db, project, key, &fingerprint).await? {
        Begun::First(reserved) => reserved,
        Begun::Replay(answer) => return replay(app, answer),
        Begun::InFlight => {
            return Err(Problem::new(
                Kind::IdempotencyInFlight,
                "the first request with this Idempotency-Key is still being answered",
            ));
        }
        Begun::Mismatch => {
            return Err(Problem::new(
                Kind::IdempotencyMismatch,
                "this Idempotency-Key was used for another path or body, or by a key with other scopes",
            ));
        }
    };
    let key = key.to_owned();
    let app = app.clone();
    // On its own feet: a client that hangs up must not leave the key without an answer.
    let answering = tokio::spawn(REQUEST_ID.scope(request_id(), async move {
        let running = RESERVED.scope(reserved, next.run(request));
        tokio::pin!(running);
        let response = loop {
            tokio::select! {
                response = &mut running => break response,
                // An upload may take long; nobody must take it for dead meanwhile.
                () = tokio::time::sleep(idempotency::REFRESH) => {
                    // What is under way goes on: an upload must not end for a moment without a database.
                    if let Err(error) = idempotency::refresh(&app.db, project, &key).await {
                        tracing::warn!(%error, "could not say that a request is still being answered");
                    }
                }
            }
        };
        let (parts, body) = response.into_parts();
        let Ok(bytes) = to_bytes(body, KEPT_BYTES).await else {
            idempotency::forget(&app.db, project, &key).await?;
            return Err(Problem::new(Kind::Internal, "the answer was too large to keep"));
        };
        if parts.status.is_server_error() {
            // It may go better next time; but it may have gone well, and only the answer of the database was lost.
            idempotency::abandon(&app.db, project, &key).await?;
        } else if matches!(parts.status.as_u16(), 401 | 403 | 409 | 429) {
            // What was in the way only now.
            idempotency::forget(&app.db, project, &key).await?;
        } else {
            let answer = Kept {
                status: parts.status.as_u16(),
                content_type: text(&parts.headers, &header::CONTENT_TYPE),
                location: text(&parts.headers, &header::LOCATION),
                body: seal(&app, &bytes)?,
            };
            idempotency::complete(&app.db, project, &key, &answer).await?;
        }
        Ok(Response::from_parts(parts, Body::from(bytes)))
    }));
    answering.await.map_err(|error| {
        tracing::error!(%error, "a request panicked");
        Problem::new(Kind::Internal, "an internal error")
    })?
}

/// True for `dry_run=true`, as [`crate::routes::jobs::CreateQuery`] reads it.
fn is_dry_run(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "dry_run" && value == "true")
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// What makes a request the same request: method, path, query, and a JSON body. A body of media is told by its size. And what
/// its caller may do: an answer is not replayed to somebody who could not have got it.
async fn fingerprint(caller: &Caller, request: Request) -> Answer<(Vec<u8>, Request)> {
    let (parts, body) = request.into_parts();
    let mut hash = Sha256::new();
    let mut scopes: Vec<&str> = caller.scopes.iter().map(|scope| scope.as_str()).collect();
    scopes.sort_unstable();
    hash.update(scopes.join(" "));
    hash.update([0]);
    hash.update(parts.method.as_str());
    hash.update([0]);
    hash.update(parts.uri.path_and_query().map_or("", |path| path.as_str()));
    for name in ["content-type", "content-length", "upload-length", "upload-metadata"] {
        hash.update([0]);
        // A form's boundary differs each time.
        let value = parts.headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
        hash.update(value.split(|byte| *byte == b';').next().unwrap_or_default());
    }
    let body = if is_json(&parts.headers) {
        let bytes = read_json(&parts.headers, body).await?;
        hash.update([0]);
        hash.update(&bytes);
        Body::from(bytes)
    } else {
        body
    };
    Ok((hash.finalize().to_vec(), Request::from_parts(parts, body)))
}

/// Answers may hold what is shown only once, such as the secret of a new key: they are not kept in the clear.
fn seal(app: &App, body: &[u8]) -> Answer<Vec<u8>> {
    let sealed = app.config.secret.sealer.seal(PLACE, body);
    sealed.map_err(|error| unreadable(&error))
}

fn unreadable(error: &SealError) -> Problem {
    tracing::error!(%error, "a kept answer");
    Problem::new(Kind::Internal, "the first answer cannot be replayed")
}

fn replay(app: &App, answer: Kept) -> Answer<Response> {
    let body = app.config.secret.sealer.open(PLACE, &answer.body);
    let mut response = Response::new(Body::from(body.map_err(|error| unreadable(&error))?));
    if let Ok(status) = axum::http::StatusCode::from_u16(answer.status) {
        *response.status_mut() = status;
    }
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    for (name, value) in [(header::CONTENT_TYPE, answer.content_type), (header::LOCATION, answer.location)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_runs_are_told_by_their_query() {
        let is = |uri: &'static str| is_dry_run(&Uri::from_static(uri));
        assert!(is("/api/v1/jobs?dry_run=true") && is("/api/v1/jobs?a=b&dry_run=true"));
        for real in ["/api/v1/jobs", "/api/v1/jobs?dry_run=false", "/api/v1/jobs?not_dry_run=true"] {
            assert!(!is(real), "{real}");
        }
    }
}
