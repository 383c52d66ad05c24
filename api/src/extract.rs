//! Extractors whose refusals are problem details, and the parameters lists share.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use reelmill_shared::media::profile::FieldError;
use serde::de::DeserializeOwned;

use crate::problem::{Answer, Kind, Problem};

/// Bytes of a JSON body.
pub(crate) const JSON_LIMIT: usize = 1 << 20;

/// A JSON body. Unknown fields and wrong types are named by JSON pointer.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send the body as application/json"));
        }
        let announced: Option<usize> =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = match announced {
            Some(length) if length > JSON_LIMIT => return Err(too_large()),
            _ => to_bytes(body, JSON_LIMIT).await.map_err(|error| {
                let limit = std::error::Error::source(&error)
                    .is_some_and(|s| s.is::<http_body_util::LengthLimitError>());
                if limit { too_large() } else { Problem::new(Kind::Malformed, "the body broke off") }
            })?,
        };
        parse(&bytes).map(Self)
    }
}

fn too_large() -> Problem {
    Problem::new(Kind::PayloadTooLarge, format!("a JSON body may have at most {JSON_LIMIT} bytes"))
}

/// True where the body is said to be JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let inner = error.inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                let pointer = pointer(error.path());
                // Line and column mean little to somebody who has a pointer.
                let text = inner.to_string();
                let detail = text.split(" at line ").next().unwrap_or_default().to_owned();
                Problem::fields(vec![FieldError { pointer, detail }])
            }
            _ => Problem::new(Kind::Malformed, format!("the body is not JSON: {inner}")),
        }
    })?;
    reader.end().map_err(|error| Problem::new(Kind::Malformed, format!("the body is not JSON: {error}")))?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Path parameters.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            // An id that does not read names nothing.
            Err(_) => Err(Problem::new(Kind::NotFound, format!("there is nothing at {}", parts.uri.path()))),
        }
    }
}

/// Query parameters. Unknown ones are refused where the type says so.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => {
                let text = error.body_text();
                let detail = text.rsplit(": ").next().unwrap_or(&text);
                Err(Problem::new(Kind::Malformed, format!("the query does not read: {detail}")))
            }
        }
    }
}

/// Rows a list answers unless told otherwise, and at most.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;

/// Checks `limit`.
pub(crate) fn limit(limit: Option<i64>) -> Answer<i64> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new(Kind::Malformed, format!("limit must be from 1 to {MAX_LIMIT}")))
}

/// Reads a cursor a list gave out. Cursors are the last row's key; clients must not look inside.
pub(crate) fn cursor<T: FromStr>(cursor: Option<&str>) -> Answer<Option<T>> {
    let bad = || Problem::new(Kind::Malformed, "cursor is not one a list gave out");
    cursor.map(|text| text.parse().map_err(|_| bad())).transpose()
}

/// Cuts a page that was read one row too long, and gives the cursor to go on with where there is more.
pub(crate) fn cut_page<R, K: Display>(
    rows: &mut Vec<R>,
    limit: i64,
    key: impl Fn(&R) -> K,
) -> Option<String> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(|row| key(row).to_string())
}
