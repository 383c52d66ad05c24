//! What can go wrong with an outgoing request, and whether another attempt may help.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::StatusCode;
use thiserror::Error;

/// Why an outgoing request failed. The texts are meant for the person who gave the address: they never
/// contain credentials or query strings, nor the address that a name of the farm's own network resolved to.
#[derive(Debug, Error)]
pub enum NetError {
    /// The address is not `http` or `https`.
    #[error("`{0}:` addresses are not supported; use http or https")]
    Scheme(String),
    /// The policy does not permit the address the host stands for.
    #[error("{host} is not at a public address (an operator can open ranges with REELMILL_NET_ALLOW)")]
    Refused {
        /// The host as the URL names it.
        host: String,
        /// The address that was refused: for the operator's log.
        ip: IpAddr,
    },
    /// The host's name could not be resolved.
    #[error("the name {host} could not be resolved: {source}")]
    Dns {
        /// The name.
        host: String,
        /// Whether the resolver may know better soon.
        retryable: bool,
        /// What the resolver said.
        source: io::Error,
    },
    /// More redirects than the limits allow.
    #[error("{url} redirected more than {limit} times")]
    TooManyRedirects {
        /// Where the request began.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// A redirect leads nowhere, or where it may not.
    #[error("{url} redirected to a place that cannot be followed: {reason}")]
    BadRedirect {
        /// Who redirected.
        url: String,
        /// What is wrong with the target.
        reason: String,
    },
    /// Something took longer than the limits allow.
    #[error("{url}: waited {after:?} for {what}")]
    Timeout {
        /// The address.
        url: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The server's certificate or its TLS is not acceptable.
    #[error("no secure connection to {url}: {detail}")]
    Tls {
        /// The address.
        url: String,
        /// What the TLS layer said.
        detail: String,
    },
    /// The connection could not be made, or broke.
    #[error("the connection to {url} failed: {detail}")]
    Transport {
        /// The address.
        url: String,
        /// The innermost cause.
        detail: String,
    },
    /// The server answered with a status other than success.
    #[error("{url} answered {status}")]
    Status {
        /// The address that answered, after redirects.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
        /// The beginning of the answer's body, for the log of a delivery.
        excerpt: String,
    },
    /// The body is larger than the limit.
    #[error("{url} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The client itself could not be made.
    #[error("the HTTP client could not be set up: {0}")]
    Setup(String),
}

impl NetError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Transport { .. } => true,
            Self::Dns { retryable, .. } => *retryable,
            Self::Status { status, .. } => {
                const ASKS_FOR_ANOTHER: [StatusCode; 3] =
                    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
                status.is_server_error() || ASKS_FOR_ANOTHER.contains(status)
            }
            Self::Scheme(_)
            | Self::Refused { .. }
            | Self::TooManyRedirects { .. }
            | Self::BadRedirect { .. }
            | Self::Tls { .. }
            | Self::TooLarge { .. }
            | Self::Setup(_) => false,
        }
    }

    /// The status the server answered with, where it answered.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long the server asks to be left alone (`Retry-After`).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Translates what reqwest reports about a request to `url` (already redacted), which waited `connect` at
    /// most for its connection.
    pub(super) fn from_reqwest(error: &reqwest::Error, url: &str, connect: Duration) -> Self {
        // Our resolver's verdict comes back wrapped in the connector's errors.
        if let Some(verdict) = causes(error).find_map(|cause| cause.downcast_ref().and_then(Self::verdict)) {
            return verdict;
        }
        let url = url.to_owned();
        if error.is_timeout() {
            return Self::Timeout { url, what: "a connection", after: connect };
        }
        // rustls' own errors arrive as invalid data; what the network did to the handshake has other kinds.
        let mut kinds = causes(error).filter_map(|cause| cause.downcast_ref().map(io::Error::kind));
        let bad_data = kinds.any(|kind| kind == io::ErrorKind::InvalidData);
        let detail = innermost(error).to_string();
        if error.is_connect() && bad_data {
            Self::Tls { url, detail }
        } else {
            Self::Transport { url, detail }
        }
    }

    /// A copy, for the errors that the resolver makes.
    fn verdict(&self) -> Option<Self> {
        match self {
            Self::Refused { host, ip } => Some(Self::Refused { host: host.clone(), ip: *ip }),
            Self::Dns { host, retryable, source } => {
                let source = io::Error::new(source.kind(), source.to_string());
                Some(Self::Dns { host: host.clone(), retryable: *retryable, source })
            }
            _ => None,
        }
    }
}

/// The error that caused `error` in the first place.
pub(super) fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    causes(error).last().unwrap_or(error)
}

/// The error itself and what caused it, step by step.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An `io::Error` that wraps another one names as its source what is below that one.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}
