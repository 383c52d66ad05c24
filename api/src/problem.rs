//! Errors at the edge: problem details (RFC 9457). Internal text is logged here, once, and never sent.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::auth::seal::SealError;
use reelmill_shared::broker::BrokerError;
use reelmill_shared::cdn::CdnError;
use reelmill_shared::db::DbError;
use reelmill_shared::media::profile::FieldError;
use reelmill_shared::storage::StorageError;
use serde::Serialize;
use utoipa::ToSchema;

tokio::task_local! {
    /// Id of the request being answered.
    pub(crate) static REQUEST_ID: String;
}

/// The kinds of problem. Each has a page at `/problems/{name}`; the names never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Validation,
    Malformed,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
    PayloadTooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    BadToken,
    Gone,
    TooMany,
    WrongHost,
    NotReady,
    Unavailable,
    Internal,
}

/// What a kind of problem means: (name, status, title, what it means, what to do).
pub(crate) struct Meaning {
    pub(crate) name: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) means: &'static str,
    pub(crate) remedy: &'static str,
}

impl Kind {
    pub(crate) const ALL: [Kind; 19] = [
        Self::Validation,
        Self::Malformed,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::IdempotencyInFlight,
        Self::IdempotencyMismatch,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RangeNotSatisfiable,
        Self::BadToken,
        Self::Gone,
        Self::TooMany,
        Self::WrongHost,
        Self::NotReady,
        Self::Unavailable,
        Self::Internal,
    ];

    pub(crate) fn meaning(self) -> Meaning {
        let (name, status, title, means, remedy) = match self {
            Self::Validation => (
                "validation",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The request has fields that are not right",
                "The body was read, but one or more fields are missing, unknown or out of range.",
                "Look at errors[]: each names a field by JSON pointer and says what is wrong with it.",
            ),
            Self::Malformed => (
                "malformed",
                StatusCode::BAD_REQUEST,
                "The request does not read",
                "The body is not JSON, or a parameter in the path, the query or a header does not read.",
                "Mend the syntax the detail names.",
            ),
            Self::Unauthorized => (
                "unauthorized",
                StatusCode::UNAUTHORIZED,
                "A valid key is needed",
                "No API key came with the request, or it is unknown, expired or revoked.",
                "Send Authorization: Bearer <key>, or X-Api-Key: <key>.",
            ),
            Self::Forbidden => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "The key does not allow this",
                "The key is valid but lacks a scope.",
                "Use a key with the scope the detail names.",
            ),
            Self::NotFound => (
                "not-found",
                StatusCode::NOT_FOUND,
                "There is no such thing",
                "Nothing with this name or id is visible to this key.",
                "Check the id, and that the key belongs to the right project.",
            ),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "This cannot be done here",
                "The path exists, but not with this method.",
                "See /docs for the methods of each path.",
            ),
            Self::Conflict => (
                "conflict",
                StatusCode::CONFLICT,
                "The present state does not allow this",
                "The thing is in a state in which this makes no sense, or its name is taken.",
                "Read it again and act on what it is now.",
            ),
            Self::IdempotencyInFlight => (
                "idempotency-in-flight",
                StatusCode::CONFLICT,
                "The first request with this key is still being answered",
                "Another request with the same Idempotency-Key is under way.",
                "Wait a moment and send the same request again.",
            ),
            Self::IdempotencyMismatch => (
                "idempotency-mismatch",
                StatusCode::UNPROCESSABLE_ENTITY,
                "This Idempotency-Key belongs to another request",
                "The key was used before with another path or body.",
                "Use a new key for a new request.",
            ),
            Self::PayloadTooLarge => (
                "payload-too-large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "The request carries more than is allowed here.",
                "Send media as an upload, not in a body; the detail names the limit.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "This content type is not understood here",
                "The body's Content-Type is not one this path takes.",
                "Send what the detail names.",
            ),
            Self::RangeNotSatisfiable => (
                "range-not-satisfiable",
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The range lies outside the file",
                "The Range header asks for bytes the file does not have.",
                "Content-Range in the answer tells the size.",
            ),
            Self::BadToken => (
                "bad-token",
                StatusCode::FORBIDDEN,
                "The playback token is not valid",
                "The token in the path is mangled, over, or for something else.",
                "Get a new one: POST /api/v1/recordings/{id}/playback-token, or the same of a livestream.",
            ),
            Self::Gone => (
                "gone",
                StatusCode::GONE,
                "It is over",
                "What the address names was there for a time, and that has passed.",
                "Start another: for playback sessions POST /api/v1/playback/start or /api/v1/playback/live.",
            ),
            Self::TooMany => (
                "too-many",
                StatusCode::TOO_MANY_REQUESTS,
                "There is no more room",
                "As many as may at once do what was asked for already.",
                "Ask again after the time that Retry-After says.",
            ),
            Self::WrongHost => (
                "wrong-host",
                StatusCode::MISDIRECTED_REQUEST,
                "This host name is not served here",
                "The Host header names a host this server does not answer for.",
                "Use the address the server printed at start.",
            ),
            Self::NotReady => (
                "not-ready",
                StatusCode::NOT_FOUND,
                "It is not there yet",
                "The recording exists, but what was asked for has not been made.",
                "Watch the recording's status, or its job.",
            ),
            Self::Unavailable => (
                "unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The farm cannot answer right now",
                "The database, the object store or a worker did not do its part.",
                "Try again in a moment.",
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong on our side",
                "A fault of the farm; it was logged.",
                "Try again, and tell the operator the request id if it stays.",
            ),
        };
        Meaning { name, status, title, means, remedy }
    }
}

/// An error answer.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    /// Where a protocol asks for another status than the kind's own.
    status: Option<StatusCode>,
}

/// Result of a handler.
pub type Answer<T> = Result<T, Problem>;

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// A stable URI of the kind of problem; there is a page behind it.
    #[schema(example = "/problems/validation")]
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField>,
    /// Also in the header `x-request-id`.
    request_id: String,
}

/// What is wrong with one field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// JSON pointer (RFC 6901) into the body.
    #[schema(example = "/profile/rungs/0/crf")]
    pointer: String,
    detail: String,
}

impl Problem {
    /// Whoever asked could not help it.
    pub(crate) fn is_ours(&self) -> bool {
        self.status.unwrap_or(self.kind.meaning().status).is_server_error()
    }

    /// There is nothing, or not yet.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.kind, Kind::NotFound | Kind::NotReady)
    }

    /// A problem with a plain sentence.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: vec![], headers: vec![], status: None }
    }

    /// One or more fields are not right.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => format!("the body {}", only.detail),
            [only] => format!("{} {}", only.pointer, only.detail),
            several => format!("{} fields are not right", several.len()),
        };
        Self { kind: Kind::Validation, detail, errors, headers: vec![], status: None }
    }

    /// One field is not right.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// Nothing of this kind with this id.
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} {id}"))
    }

    /// Adds a header to the answer.
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Answers with another status than the kind's own. Numbers that are no status change nothing.
    /// Says when it is worth asking again.
    pub(crate) fn with_retry_after(self, seconds: u16) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).ok();
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

/// The id of the request being answered, for logs and problem documents.
pub(crate) fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// For paths that exist, with another method.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "this path does not know that method")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let meaning = self.kind.meaning();
        let status = self.status.unwrap_or(meaning.status);
        let document = ProblemDocument {
            r#type: format!("/problems/{}", meaning.name),
            title: meaning.title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            errors: self
                .errors
                .into_iter()
                .map(|error| ProblemField { pointer: error.pointer, detail: error.detail })
                .collect(),
            request_id: request_id(),
        };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.kind == Kind::Unavailable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        // In place of the usual ones, not beside them.
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        let conflict = match &error {
            DbError::Gone => Some("what the request refers to was deleted a moment ago".to_owned()),
            DbError::Busy(_) => Some(format!("{error}; ask again when it is over")),
            DbError::Changed => Some(format!("{error}; ask again")),
            _ => None,
        };
        if let Some(detail) = conflict {
            return Self::new(Kind::Conflict, detail);
        }
        let kind = match &error {
            outage if outage.is_outage() => Kind::Unavailable,
            _ => Kind::Internal,
        };
        tracing::error!(%error, request_id = request_id(), "a request failed");
        let detail =
            if kind == Kind::Unavailable { "the database does not answer" } else { "an internal error" };
        Self::new(kind, detail)
    }
}

impl From<CdnError> for Problem {
    fn from(error: CdnError) -> Self {
        match &error {
            CdnError::NotConfigured(_) | CdnError::Off => {
                Self::new(Kind::Conflict, format!("there is no CDN in use: {error}"))
            }
            CdnError::TooMany { .. } => Self::new(Kind::Validation, error.to_string()),
            CdnError::Unreachable(_) | CdnError::Refused { .. } => {
                tracing::warn!(%error, request_id = request_id(), "the CDN did not fetch what it was to");
                Self::new(Kind::Unavailable, format!("the CDN did not do it: {error}"))
            }
        }
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        tracing::error!(%error, "a secret cannot be sealed or opened; was REELMILL_SECRET_KEY replaced?");
        Self::new(Kind::Internal, "an internal error; the secret that is needed here cannot be read")
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        tracing::error!(%error, request_id = request_id(), "a request failed");
        match error {
            StorageError::NotFound(_) => Self::new(Kind::NotFound, "the file is not in the store"),
            _ => Self::new(Kind::Unavailable, "the object store does not answer"),
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        tracing::error!(%error, request_id = request_id(), "a request failed");
        Self::new(Kind::Unavailable, "the broker does not answer")
    }
}
