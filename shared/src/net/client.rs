//! The guarded client: every request to an address that a user gave goes through it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::error::{NetError, innermost};
use super::policy::{GuardedResolver, NetPolicy};
use super::redirect::{callers, carried, check_target, next_hop, redacted};
use super::response::{GuardedResponse, excerpt};

/// How much time and room a request may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For looking up the name, connecting and TLS together, on each hop. That of the client counts, not of
    /// the request.
    pub connect: Duration,
    /// For the server to say anything: its headers after the connection, then each further piece of the body.
    pub idle: Duration,
    /// For the whole exchange, redirects and body included.
    pub total: Duration,
    /// The largest body that is read.
    pub max_bytes: u64,
    /// How many redirects are followed. Only `GET` follows any.
    pub max_redirects: usize,
}

impl Limits {
    /// For a source of at most `max_bytes`: patient in all, but not with a server that stalls.
    #[must_use]
    pub fn download(max_bytes: u64) -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(6 * 3600),
            max_bytes,
            max_redirects: 5,
        }
    }

    /// For a webhook: the receiver should say within `patience` that it has the message, and no more.
    #[must_use]
    pub fn webhook(patience: Duration) -> Self {
        Self {
            connect: patience.min(Duration::from_secs(5)),
            idle: patience,
            total: patience,
            // However long the answer is said to be, the message was received; only an excerpt is read.
            max_bytes: u64::MAX,
            max_redirects: 0,
        }
    }
}

/// An HTTP client that connects only to addresses its [`NetPolicy`] permits, and keeps to [`Limits`]. Cheap
/// to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    client: Client,
    policy: Arc<NetPolicy>,
    limits: Limits,
}

impl GuardedClient {
    /// A client under this policy, with the limits of its requests unless one brings its own.
    ///
    /// # Errors
    /// [`NetError::Setup`] when the TLS library cannot be set up on this machine.
    pub fn new(policy: NetPolicy, limits: Limits) -> Result<Self, NetError> {
        let policy = Arc::new(policy);
        let client = builder(&policy, &limits).build().or_else(|error| {
            // Slim images have no CA certificates, which is no reason to refuse plain http, or to start at
            // all. No certificate is trusted then: https fails, and says so.
            tracing::warn!(
                error = %innermost(&error),
                "no https address can be reached from here; is the package ca-certificates installed?"
            );
            builder(&policy, &limits).tls_certs_only([]).build()
        });
        let client = client.map_err(|error| NetError::Setup(innermost(&error).to_string()))?;
        Ok(Self { client, policy, limits })
    }

    /// The policy, for what connects without HTTP.
    #[must_use]
    pub fn policy(&self) -> &NetPolicy {
        &self.policy
    }

    /// Fetches `url` under the client's limits. Credentials in the URL are sent as basic authentication.
    ///
    /// # Errors
    /// Every [`NetError`]; an answer other than success is [`NetError::Status`].
    pub async fn get(&self, url: &Url, headers: HeaderMap) -> Result<GuardedResponse, NetError> {
        self.get_within(url, headers, self.limits.clone()).await
    }

    /// Fetches `url` under limits of its own.
    ///
    /// # Errors
    /// As [`GuardedClient::get`].
    pub async fn get_within(
        &self,
        url: &Url,
        headers: HeaderMap,
        limits: Limits,
    ) -> Result<GuardedResponse, NetError> {
        self.exchange(Method::GET, url, headers, None, limits).await
    }

    /// Sends `body` to `url`. Redirects are not followed: whoever registers a receiver gives its real
    /// address.
    ///
    /// # Errors
    /// As [`GuardedClient::get`]; a redirect is a [`NetError::Status`] too.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        limits: Limits,
    ) -> Result<GuardedResponse, NetError> {
        self.exchange(Method::POST, url, headers, Some(body), limits).await
    }

    async fn exchange(
        &self,
        method: Method,
        start: &Url,
        headers: HeaderMap,
        body: Option<Bytes>,
        limits: Limits,
    ) -> Result<GuardedResponse, NetError> {
        let deadline = Instant::now() + limits.total;
        let follows = method == Method::GET;
        let mut url = start.clone();
        let mut headers = callers(headers);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for _ in 0..=limits.max_redirects {
            check_target(&self.policy, &url)?;
            let mut request = self.client.request(method.clone(), url).headers(headers);
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let request = request.build().map_err(|error| self.translated(&error, start))?;
            // reqwest has moved the URL's credentials into a header by now; both are kept for the next hop.
            url = request.url().clone();
            headers = request.headers().clone();
            let response = self.send(request, &url, &limits, deadline).await?;
            let location =
                response.headers().get(header::LOCATION).filter(|_| follows && is_redirect(&response));
            let Some(location) = location else {
                return Self::accept(response, limits, deadline).await;
            };
            let next = next_hop(&self.policy, &url, location)?;
            headers = carried(headers, &url, &next);
            url = next;
        }
        Err(NetError::TooManyRedirects { url: redacted(start), limit: limits.max_redirects })
    }

    async fn send(
        &self,
        request: reqwest::Request,
        url: &Url,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<reqwest::Response, NetError> {
        // Not reqwest's own read timeout: headers that arrive a byte at a time would satisfy that one.
        let patience = self.limits.connect + limits.idle;
        let answer = Instant::now() + patience;
        let response = tokio::time::timeout_at(answer.min(deadline), self.client.execute(request)).await;
        let response = response.map_err(|_| {
            let (what, after) = if answer < deadline {
                ("an answer", patience)
            } else {
                ("the whole exchange", limits.total)
            };
            NetError::Timeout { url: redacted(url), what, after }
        })?;
        let response = response.map_err(|error| self.translated(&error, url))?;
        // The resolver and `check_target` have seen to this already. It stays as the check of the fact
        // itself, should a later version of the connector find its addresses in another way.
        let host = || url.host_str().unwrap_or_default().to_owned();
        match response.remote_addr() {
            Some(addr) if self.policy.permits(addr.ip()) => Ok(response),
            Some(addr) => Err(NetError::Refused { host: host(), ip: addr.ip() }),
            None => Err(NetError::Transport {
                url: redacted(url),
                detail: "it is not known where the connection leads".to_owned(),
            }),
        }
    }

    async fn accept(
        response: reqwest::Response,
        limits: Limits,
        deadline: Instant,
    ) -> Result<GuardedResponse, NetError> {
        let status = response.status();
        if status.is_success() {
            return GuardedResponse::new(response, limits, deadline);
        }
        let url = redacted(response.url());
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| wait_of(value, Utc::now()));
        let excerpt = excerpt(response, deadline).await;
        Err(NetError::Status { url, status, retry_after, excerpt })
    }

    fn translated(&self, error: &reqwest::Error, url: &Url) -> NetError {
        NetError::from_reqwest(error, &redacted(url), self.limits.connect)
    }
}

fn builder(policy: &Arc<NetPolicy>, limits: &Limits) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("reelmill/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(GuardedResolver(Arc::clone(policy)))
        // A proxy would connect on our behalf, to addresses nobody checked.
        .no_proxy()
        // Followed by hand, so that literal addresses are checked on every hop.
        .redirect(reqwest::redirect::Policy::none())
        // Bytes are stored as they are; unpacking would also let a small answer become a huge one. Said here
        // because another crate of the build may switch the features on.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .connect_timeout(limits.connect)
        .pool_idle_timeout(Duration::from_secs(30))
}

/// The statuses whose `Location` is to be fetched instead (304 and 300 are not among them).
fn is_redirect(response: &reqwest::Response) -> bool {
    matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// What `Retry-After` asks for: seconds, or a date.
fn wait_of(value: &HeaderValue, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    // A date in the past asks for no wait.
    Some((until.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod wait_tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-20T10:00:00Z").unwrap().to_utc();
        let wait =
            |text: &'static str| wait_of(&HeaderValue::from_static(text), now).map(|wait| wait.as_secs());
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Fri, 20 Nov 2026 10:01:00 GMT"), Some(60));
        assert_eq!(wait("Fri, 20 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(wait("soon"), None);
    }
}
