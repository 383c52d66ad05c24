//! The answer to a guarded request: its body keeps to the limits while it is read.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use url::Url;

use super::client::Limits;
use super::error::NetError;
use super::redirect::redacted;

/// A successful answer whose body has not been read yet. Dropping it closes the connection.
#[derive(Debug)]
pub struct GuardedResponse {
    inner: reqwest::Response,
    limits: Limits,
    /// When the whole exchange, redirects included, must be over.
    deadline: Instant,
    received: u64,
    failed: bool,
}

impl GuardedResponse {
    /// Takes an answer, unless it already says that it is too large.
    pub(super) fn new(inner: reqwest::Response, limits: Limits, deadline: Instant) -> Result<Self, NetError> {
        let response = Self { inner, limits, deadline, received: 0, failed: false };
        match response.content_length() {
            Some(length) if length > response.limits.max_bytes => Err(response.too_large()),
            _ => Ok(response),
        }
    }

    /// The status, always a success: others are [`NetError::Status`].
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The headers of the answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The address that answered, after redirects and without credentials. Its query may hold a signature:
    /// show it [`redacted`].
    #[must_use]
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The address the connection leads to.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.inner.remote_addr()
    }

    /// How long the body is said to be. The limits do not trust it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] as soon as the body exceeds the limit, [`NetError::Timeout`] when nothing came
    /// for the idle limit or the whole exchange took too long, [`NetError::Transport`] when the connection
    /// broke (also before the length that was announced). After an error the body is never reported as
    /// complete.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, NetError> {
        if self.failed {
            let url = redacted(self.url());
            return Err(NetError::Transport { url, detail: "an earlier read failed".to_owned() });
        }
        let next = self.read().await;
        self.failed = next.is_err();
        next
    }

    async fn read(&mut self) -> Result<Option<Bytes>, NetError> {
        let idle = Instant::now() + self.limits.idle;
        let next = tokio::time::timeout_at(idle.min(self.deadline), self.inner.chunk()).await;
        let next = next.map_err(|_| {
            let url = redacted(self.url());
            if idle < self.deadline {
                NetError::Timeout { url, what: "more data", after: self.limits.idle }
            } else {
                NetError::Timeout { url, what: "the whole exchange", after: self.limits.total }
            }
        })?;
        let next =
            next.map_err(|error| NetError::from_reqwest(&error, &redacted(self.url()), self.limits.connect))?;
        // A steady trickle is never idle, and data that is always there never lets the timer fire.
        if next.is_some() && Instant::now() >= self.deadline {
            let url = redacted(self.url());
            return Err(NetError::Timeout { url, what: "the whole exchange", after: self.limits.total });
        }
        self.received += next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.received > self.limits.max_bytes { Err(self.too_large()) } else { Ok(next) }
    }

    /// The body as a stream that ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, NetError>> + Send + 'static {
        stream::try_unfold(self, async |mut response| {
            Ok(response.chunk().await?.map(|chunk| (chunk, response)))
        })
    }

    /// The whole body in memory: for answers with a small limit.
    ///
    /// # Errors
    /// As [`GuardedResponse::chunk`].
    pub async fn bytes(mut self) -> Result<Bytes, NetError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The beginning of the body as text, and no more: about a kilobyte, read for two seconds at most. The connection is closed
    /// where there is more.
    pub async fn excerpt(self) -> String {
        excerpt(self.inner, self.deadline).await
    }

    fn too_large(&self) -> NetError {
        NetError::TooLarge { url: redacted(self.url()), limit: self.limits.max_bytes }
    }
}

/// The beginning of a body as text without control characters, read for a moment only.
pub(super) async fn excerpt(mut response: reqwest::Response, deadline: Instant) -> String {
    const MOST: usize = 1024;
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut start = Vec::new();
    let reading = async {
        while start.len() < MOST
            && let Ok(Some(chunk)) = response.chunk().await
        {
            start.extend_from_slice(&chunk[..chunk.len().min(MOST - start.len())]);
        }
    };
    // What came in time is good enough.
    let _ = tokio::time::timeout_at(deadline.min(Instant::now() + PATIENCE), reading).await;
    let text = String::from_utf8_lossy(&start);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}
