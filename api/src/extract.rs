//! Extractors whose refusals are problem details, and the parameters lists share.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body as HttpBody, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, OriginalUri, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reelmill_shared::media::profile::FieldError;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::problem::{Answer, Kind, Problem};

/// Bytes of a JSON body.
const JSON_LIMIT: usize = 1 << 20;
/// How much of a body that is too long is read all the same, and for how long.
const DRAINED: usize = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A JSON body. Unknown fields and wrong types are named by JSON pointer.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send the body as application/json"));
        }
        let bytes = read_json(&parts.headers, body).await?;
        parse(&bytes).map(Self)
    }
}

/// A body that may be left out altogether.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Answer<Option<Self>> {
        if axum::body::HttpBody::is_end_stream(request.body()) {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

/// Reads a body that may have as many bytes as JSON may.
pub(crate) async fn read_json(headers: &HeaderMap, body: HttpBody) -> Answer<Bytes> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = body.into_data_stream();
    let mut bytes = BytesMut::with_capacity(announced.min(JSON_LIMIT));
    while announced <= JSON_LIMIT
        && let Some(chunk) = body.next().await
    {
        let chunk = chunk.map_err(|_| Problem::new(Kind::Malformed, "the body broke off"))?;
        if bytes.len() + chunk.len() > JSON_LIMIT {
            drain(body).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    if announced > JSON_LIMIT {
        drain(body).await;
        return Err(too_large());
    }
    Ok(bytes.freeze())
}

/// Reads on for a while. Who still writes when the connection is closed never sees the answer.
async fn drain(mut body: BodyDataStream) {
    let mut left = DRAINED;
    let reading = async {
        while left > 0
            && let Some(Ok(chunk)) = body.next().await
        {
            left = left.saturating_sub(chunk.len());
        }
    };
    // In vain at worst.
    let _ = timeout(DRAIN_TIME, reading).await;
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

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let inner = error.inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                let pointer = pointer(error.path());
                // Line and column mean little to somebody who has a pointer.
                let text = inner.to_string();
                let detail = text.split(" at line ").next().unwrap_or_default();
                let missing = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
                Problem::fields(vec![match missing {
                    Some(field) => {
                        FieldError { pointer: format!("{pointer}/{field}"), detail: "is missing".to_owned() }
                    }
                    None => FieldError { pointer, detail: detail.to_owned() },
                }])
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
            Err(_) => {
                let whole = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0);
                Err(Problem::new(Kind::NotFound, format!("there is nothing at {}", whole.path())))
            }
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
