//! Requests as a player sends them, with bounds on time and bytes.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Version, redirect};
use tokio::time::{Instant, timeout};
use url::Url;

use super::observation::{Burst, Transport};
use super::playlist::ByteRange;
use crate::client::{Failure, is_loopback};

/// The page a player is said to run on.
pub(super) const ORIGIN: &str = "https://player.example";

const CONNECT: Duration = Duration::from_secs(5);
const REDIRECTS: usize = 5;
/// Playlists of a day of segments stay below.
pub(super) const PLAYLIST_LIMIT: usize = 4 << 20;
/// Segments of ten seconds at 50 Mb/s stay below.
pub(super) const SEGMENT_LIMIT: usize = 64 << 20;
/// Parts of a second at 50 Mb/s do.
pub(super) const PART_LIMIT: usize = 8 << 20;

/// What sends requests. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
    headers: HeaderMap,
    /// Where the headers may go: what a playlist names elsewhere is somebody else's.
    home: url::Origin,
}

/// What is asked beyond the address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) range: Option<ByteRange>,
    pub(super) gzip: bool,
    /// For the answer and all of its bytes.
    pub(super) timeout: Duration,
    pub(super) limit: usize,
}

/// An answer with all its bytes.
#[derive(Debug)]
pub(super) struct Got {
    /// After redirects.
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) transport: Transport,
    pub(super) body: Bytes,
    /// From the first byte of the body to the last.
    pub(super) burst: Duration,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Miss {
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Silence(Duration),
    #[error("{0}")]
    Broken(String),
}

impl Got {
    /// The bytes and how they came.
    pub(super) fn as_burst(&self) -> Burst {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.body);
        Burst { bytes: self.body.len(), digest: hasher.finish(), took: self.burst }
    }
}

/// A header as it is given on the command line.
pub(super) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written as 'Name: value'")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "that is no name of a header")?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| "that is no value of a header")?;
    value.set_sensitive(true);
    Ok((name, value))
}

impl Http {
    /// Prepares to ask for what begins at `url`.
    pub(super) fn new(url: &Url, headers: &[(HeaderName, HeaderValue)]) -> Result<Self, Failure> {
        let builder = || {
            let builder = Client::builder()
                .user_agent(concat!("reelmill/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                // Followed by hand, so that headers go where they should.
                .redirect(redirect::Policy::none());
            if is_loopback(url) { builder.no_proxy() } else { builder }
        };
        // A small container may have no certificates, and without TLS there is no need for any.
        let client = builder().build().or_else(|error| match url.scheme() {
            "http" => builder().tls_certs_only([]).build(),
            _ => Err(error),
        });
        let client =
            client.map_err(|error| Failure::Failed(format!("cannot prepare connections: {error}")))?;
        Ok(Self { client, headers: headers.iter().cloned().collect(), home: url.origin() })
    }

    /// Asks, and reads all of the answer.
    ///
    /// # Errors
    ///
    /// When it does not come in time, breaks off, is longer than the limit, or leads in circles. Any status is an answer.
    pub(super) async fn get(&self, url: &Url, ask: Ask) -> Result<Got, Miss> {
        timeout(ask.timeout, self.follow(url.clone(), ask)).await.map_err(|_| Miss::Silence(ask.timeout))?
    }

    async fn follow(&self, mut url: Url, ask: Ask) -> Result<Got, Miss> {
        for _ in 0..=REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(Miss::Broken(format!("{}: is no address of the web", url.scheme())));
            }
            let response = self.send(&url, ask).await?;
            let location =
                response.headers().get(header::LOCATION).filter(|_| response.status().is_redirection());
            let keyed = url.origin() == self.home && !self.headers.is_empty();
            let Some(location) = location else { return read(url, keyed, response, ask).await };
            let next = location.to_str().ok().and_then(|to| url.join(to).ok());
            url = next.ok_or_else(|| Miss::Broken("a redirect to nowhere".to_owned()))?;
        }
        Err(Miss::Broken("too many redirects".to_owned()))
    }

    async fn send(&self, url: &Url, ask: Ask) -> Result<reqwest::Response, Miss> {
        let mut request = self.client.get(url.clone()).header(header::ORIGIN, ORIGIN);
        request = request.header(header::ACCEPT_ENCODING, if ask.gzip { "gzip" } else { "identity" });
        if let Some(ByteRange { start, length }) = ask.range {
            let last = start.saturating_add(length.saturating_sub(1));
            request = request.header(header::RANGE, format!("bytes={start}-{last}"));
        }
        if url.origin() == self.home {
            request = request.headers(self.headers.clone());
        }
        request.send().await.map_err(|error| broken(&error))
    }
}

async fn read(url: Url, keyed: bool, mut response: reqwest::Response, ask: Ask) -> Result<Got, Miss> {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let compressed =
        text(header::CONTENT_ENCODING).is_some_and(|encoding| encoding.eq_ignore_ascii_case("gzip"));
    let transport = Transport {
        tls: url.scheme() == "https",
        http2: response.version() >= Version::HTTP_2,
        gzip: ask.gzip.then_some(compressed),
        cache_control: text(header::CACHE_CONTROL),
        keyed,
        allow_origin: text(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        sets_cookie: headers.contains_key(header::SET_COOKIE),
    };
    let status = response.status().as_u16();
    let mut body = BytesMut::new();
    let mut began: Option<Instant> = None;
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        began.get_or_insert_with(Instant::now);
        if body.len() + chunk.len() > ask.limit {
            return Err(Miss::Broken(format!("it is longer than {} bytes", ask.limit)));
        }
        body.extend_from_slice(&chunk);
    }
    let burst = began.map(|began| began.elapsed()).unwrap_or_default();
    Ok(Got { url, status, transport, body: body.freeze(), burst })
}

/// The innermost error: the outer ones repeat the address.
fn broken(error: &reqwest::Error) -> Miss {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    Miss::Broken(format!("the connection failed: {inner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_not_shown() {
        let (name, value) = parse_header("X-Api-Key:  abc:d ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-api-key", "abc:d"));
        assert!(!format!("{value:?}").contains("abc"));
        for wrong in ["abc", "a b: c", "a: \u{1}b"] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
    }
}
