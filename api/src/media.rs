//! Sends objects: ranges, validators, HEAD, the right types.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use reelmill_shared::storage::Storage;

use crate::problem::{Answer, Kind, Problem};

/// Where a file lies. Never changes: objects are never overwritten.
#[derive(Debug, Clone)]
pub struct MediaFile {
    pub key: String,
    pub bytes: u64,
}

/// How long an answer may be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caching {
    /// By anybody, for ever: the name never means anything else.
    Immutable,
    /// By anybody, for a day.
    Day,
    /// By anybody, for a while, because another encoding may take its place: longer by who answers many.
    Settled,
    /// By anybody, but asked for again after a moment.
    Brief,
    /// By the one who asked for ever, or a while; by a CDN for a moment, because it may not be played any more then.
    LentImmutable,
    LentSettled,
    /// Only by the one who asked: the address needs a key.
    PrivateImmutable,
    PrivateDay,
    PrivateSettled,
    PrivateBrief,
}

impl Caching {
    /// The same for answers that need a key.
    pub(crate) fn private(self) -> Self {
        match self {
            Self::Immutable | Self::LentImmutable | Self::PrivateImmutable => Self::PrivateImmutable,
            Self::Day | Self::PrivateDay => Self::PrivateDay,
            Self::Settled | Self::LentSettled | Self::PrivateSettled => Self::PrivateSettled,
            Self::Brief | Self::PrivateBrief => Self::PrivateBrief,
        }
    }

    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::Day => "public, max-age=86400",
            Self::Settled => "public, max-age=10, s-maxage=60, stale-while-revalidate=60",
            Self::Brief => "public, max-age=2",
            Self::LentImmutable => "public, max-age=31536000, s-maxage=60, immutable",
            Self::LentSettled => "public, max-age=10",
            Self::PrivateImmutable => "private, max-age=31536000, immutable",
            Self::PrivateDay => "private, max-age=86400",
            Self::PrivateSettled => "private, max-age=10",
            Self::PrivateBrief => "private, max-age=2",
        })
    }
}

/// Sends a file, or the range of it that was asked for.
pub(crate) async fn send(
    storage: &Storage,
    file: &MediaFile,
    content_type: &'static str,
    caching: Caching,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Response> {
    let about = About { bytes: file.bytes, etag: etag(&file.key), content_type, caching };
    let wanted = about.wanted(method, headers)?;
    let body = match &wanted {
        Wanted::Span(range) if method != Method::HEAD => {
            Body::from_stream(storage.get(&file.key, range.clone()).await?.body)
        }
        _ => Body::empty(),
    };
    Ok(about.answer(wanted, body))
}

/// Bytes in memory with their validator.
#[derive(Debug, Clone)]
pub(crate) struct MediaBytes {
    pub(crate) bytes: Bytes,
    pub(crate) etag: HeaderValue,
}

/// Sends bytes in memory, or the range of them that was asked for.
pub(crate) fn send_bytes(
    media: MediaBytes,
    content_type: &'static str,
    caching: Caching,
    method: &Method,
    headers: &HeaderMap,
) -> Answer<Response> {
    let MediaBytes { bytes, etag } = media;
    let about = About { bytes: bytes.len() as u64, etag, content_type, caching };
    let wanted = about.wanted(method, headers)?;
    let body = match &wanted {
        // Within the length, which fits.
        Wanted::Span(Some(range)) if method != Method::HEAD => {
            Body::from(bytes.slice(range.start as usize..range.end as usize))
        }
        Wanted::Span(None) if method != Method::HEAD => Body::from(bytes),
        _ => Body::empty(),
    };
    Ok(about.answer(wanted, body))
}

/// What is told of media besides its bytes.
struct About {
    bytes: u64,
    etag: HeaderValue,
    content_type: &'static str,
    caching: Caching,
}

/// What a request wants of media.
enum Wanted {
    /// Nothing: it has this version.
    Nothing,
    /// A range, or all of it.
    Span(Option<Range<u64>>),
}

impl About {
    fn wanted(&self, method: &Method, headers: &HeaderMap) -> Answer<Wanted> {
        if is_known(headers, &self.etag) {
            return Ok(Wanted::Nothing);
        }
        // RFC 9110, 14.2: a range means something to GET alone.
        if method != Method::GET {
            return Ok(Wanted::Span(None));
        }
        wanted_range(headers, self.bytes, &self.etag).map(Wanted::Span)
    }

    fn answer(self, wanted: Wanted, body: Body) -> Response {
        let mut response = match wanted {
            Wanted::Nothing => StatusCode::NOT_MODIFIED.into_response(),
            Wanted::Span(range) => {
                let span = range.clone().unwrap_or(0..self.bytes);
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(span.end - span.start));
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
                if let Some(range) = range {
                    let text = format!("bytes {}-{}/{}", range.start, range.end - 1, self.bytes);
                    if let Ok(value) = HeaderValue::from_str(&text) {
                        headers.insert(header::CONTENT_RANGE, value);
                    }
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                }
                response
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CACHE_CONTROL, self.caching.header());
        headers.insert(header::ETAG, self.etag);
        response
    }
}

/// Sends text that was just rendered.
pub(crate) fn send_text(
    text: impl Into<Bytes>,
    content_type: &'static str,
    caching: Caching,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let text: Bytes = text.into();
    let etag = etag(&text);
    let mut response = if is_known(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let length = text.len();
        let body = if method == Method::HEAD { Body::empty() } else { Body::from(text) };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    response.headers_mut().insert(header::CACHE_CONTROL, caching.header());
    response.headers_mut().insert(header::ETAG, etag);
    response
}

/// A strong validator from what determines the bytes.
pub(crate) fn etag(text: impl AsRef<[u8]>) -> HeaderValue {
    use sha2::{Digest, Sha256};
    let digest = hex::encode(&Sha256::digest(text.as_ref())[..12]);
    HeaderValue::from_str(&format!("\"{digest}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// True where `If-None-Match` names this version (RFC 9110, 13.1.2: a list, `*`, and the weak form that proxies make).
pub(crate) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let etag = etag.to_str().unwrap_or_default();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == etag)
}

/// The one range asked for (RFC 9110, 14.2). Several ranges, other units and nonsense are answered with the whole file, as
/// the RFC allows; `If-Range` with another validator too.
fn wanted_range(headers: &HeaderMap, size: u64, etag: &HeaderValue) -> Answer<Option<Range<u64>>> {
    // Only the very same bytes will do (13.1.5): no list, no weak form, and no date, for none was given out.
    if headers.get(header::IF_RANGE).is_some_and(|known| known != etag) {
        return Ok(None);
    }
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some(spec) = text.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Ok(None);
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let range = match (first.is_empty(), last.is_empty()) {
        (true, false) => number(last).map(|suffix| size.saturating_sub(suffix)..size),
        (false, true) => number(first).map(|first| first..size),
        (false, false) => number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| first..last.saturating_add(1).min(size)),
        (true, true) => None,
    };
    match range {
        None => Ok(None),
        Some(range) if range.start < range.end => Ok(Some(range)),
        Some(_) => {
            let size = HeaderValue::from_str(&format!("bytes */{size}"));
            let problem = Problem::new(Kind::RangeNotSatisfiable, "the range lies outside the file");
            Err(match size {
                Ok(size) => problem.with_header(header::CONTENT_RANGE, size),
                Err(_) => problem,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str, size: u64) -> Result<Option<std::ops::Range<u64>>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(text).unwrap());
        wanted_range(&headers, size, &HeaderValue::from_static("\"a\"")).map_err(|_| ())
    }

    #[test]
    fn a_range_means_something_to_get_alone() {
        let media =
            MediaBytes { bytes: Bytes::from_static(b"0123456789"), etag: HeaderValue::from_static("\"a\"") };
        for (range, of_get) in [("bytes=2-3", Some(206)), ("bytes=10-", None)] {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
            let ask = |method| send_bytes(media.clone(), "video/mp4", Caching::Brief, &method, &headers);
            assert_eq!(ask(Method::GET).ok().map(|answer| answer.status().as_u16()), of_get);
            let head = ask(Method::HEAD).unwrap();
            assert_eq!(
                (head.status(), &head.headers()[header::CONTENT_LENGTH]),
                (StatusCode::OK, &HeaderValue::from(10))
            );
            assert!(!head.headers().contains_key(header::CONTENT_RANGE));
        }
    }

    #[test]
    fn ranges_as_the_rfc_has_them() {
        assert_eq!(range("bytes=0-0", 10), Ok(Some(0..1)));
        assert_eq!(range("bytes=5-", 10), Ok(Some(5..10)));
        assert_eq!(range("bytes=-3", 10), Ok(Some(7..10)));
        assert_eq!(range("bytes=-30", 10), Ok(Some(0..10)));
        assert_eq!(range("bytes=2-99", 10), Ok(Some(2..10)));
        assert_eq!(range("bytes=10-", 10), Err(()));
        assert_eq!(range("bytes=-0", 10), Err(()));
        for ignored in ["bytes=3-2", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=-"] {
            assert_eq!(range(ignored, 10), Ok(None), "{ignored}");
        }
    }
}
