//! Speaks to the CDN's hooks, whose addresses are settings.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use url::Url;

use crate::config::CdnConfig;

/// The CDN did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum CdnError {
    #[error("{0} is not set")]
    NotConfigured(&'static str),
    #[error("it is switched off")]
    Off,
    #[error("it could not be asked: {0}")]
    Unreachable(#[source] reqwest::Error),
    #[error("it answered {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("{asked} addresses are more than {MOST} at once")]
    TooMany { asked: usize },
}

/// How long a hook may take to answer, and the CDN to fetch a file.
const PATIENCE: Duration = Duration::from_secs(10);
/// Files that are fetched at once.
const AT_ONCE: usize = 8;
/// Addresses of one call.
const MOST: usize = 1000;
/// Of what it says about a refusal.
const MESSAGE: usize = 300;

/// Speaks to a CDN. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CdnClient {
    http: reqwest::Client,
    config: CdnConfig,
}

impl CdnClient {
    /// A client of this one.
    pub fn new(http: reqwest::Client, config: CdnConfig) -> Self {
        Self { http, config }
    }

    pub fn config(&self) -> &CdnConfig {
        &self.config
    }

    /// The base of addresses, without a trailing slash.
    pub fn base(&self) -> &str {
        self.config.url.as_str().trim_end_matches('/')
    }

    /// Lets it forget all that has one of these keys.
    ///
    /// # Errors
    /// There is no hook for it, it is not there, or it refuses.
    pub async fn purge(&self, keys: &[String]) -> Result<(), CdnError> {
        let url = self.config.purge_url.as_ref().ok_or(CdnError::NotConfigured("REELMILL_CDN_PURGE_URL"))?;
        self.post(url, &json!({ "surrogate_keys": keys })).await
    }

    /// Lets it fetch these paths of ours ahead, by its hook, or, where that has none, by asking it for each.
    ///
    /// # Errors
    /// They are too many, it is not there, or it refuses; some may have been fetched.
    pub async fn warm(&self, paths: &[String]) -> Result<(), CdnError> {
        if paths.len() > MOST {
            return Err(CdnError::TooMany { asked: paths.len() });
        }
        let urls: Vec<String> = paths.iter().map(|path| format!("{}{path}", self.base())).collect();
        match &self.config.warm_url {
            Some(hook) => self.post(hook, &json!({ "urls": urls })).await,
            None => stream::iter(urls).map(Ok).try_for_each_concurrent(AT_ONCE, |url| self.fetch(url)).await,
        }
    }

    async fn post(&self, url: &Url, body: &Value) -> Result<(), CdnError> {
        let request = self.http.post(url.clone()).json(body).timeout(PATIENCE);
        let request = match &self.config.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        answered(request).await.map(drop)
    }

    /// Reads a file to its end: what is left off half way a CDN may not keep.
    async fn fetch(&self, url: String) -> Result<(), CdnError> {
        let mut body = answered(self.http.get(url).timeout(PATIENCE)).await?.bytes_stream();
        while let Some(piece) = body.next().await {
            piece.map_err(unreachable)?;
        }
        Ok(())
    }
}

/// Its address may hold a token.
fn unreachable(error: reqwest::Error) -> CdnError {
    CdnError::Unreachable(error.without_url())
}

async fn answered(request: reqwest::RequestBuilder) -> Result<reqwest::Response, CdnError> {
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    Err(CdnError::Refused { status: status.as_u16(), message: text.chars().take(MESSAGE).collect() })
}
