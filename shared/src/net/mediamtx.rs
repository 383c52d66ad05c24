//! A MediaMTX of ours beside the farm: what plays cameras over RTSP and WebRTC. Spoken to by its control API (version 3), at an address that is
//! a setting.

use std::time::Duration;

use serde_json::json;
use url::Url;

/// Where it is.
#[derive(Debug, Clone)]
pub struct MediamtxConfig {
    /// Its control API, for us.
    pub api: Url,
    /// Where viewers reach it.
    pub rtsp: Url,
    pub webrtc: Url,
}

/// The media server did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum MediamtxError {
    #[error("MediaMTX could not be asked: {0}")]
    Unreachable(#[source] reqwest::Error),
    #[error("MediaMTX answered {status}: {message}")]
    Refused { status: u16, message: String },
}

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of what it says about a refusal.
const MESSAGE: usize = 300;

/// Speaks to a MediaMTX.
#[derive(Debug, Clone)]
pub struct Mediamtx {
    http: reqwest::Client,
    config: MediamtxConfig,
}

impl Mediamtx {
    /// A client of this one.
    pub fn new(http: reqwest::Client, config: MediamtxConfig) -> Self {
        Self { http, config }
    }

    /// Lets it fetch `source` under a name when somebody watches.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub async fn add(&self, name: &str, source: &str) -> Result<(), MediamtxError> {
        let body = json!({ "source": source, "sourceOnDemand": true });
        self.send(self.http.post(self.path("add", name)).json(&body)).await
    }

    /// Forgets a name; one that it does not know is forgotten already.
    ///
    /// # Errors
    /// It is not there, or refuses.
    pub async fn remove(&self, name: &str) -> Result<(), MediamtxError> {
        match self.send(self.http.delete(self.path("delete", name))).await {
            Err(MediamtxError::Refused { status: 404, .. }) => Ok(()),
            answer => answer,
        }
    }

    /// Where viewers find a name by RTSP.
    pub fn rtsp_url(&self, name: &str) -> String {
        format!("{}/{name}", self.config.rtsp.as_str().trim_end_matches('/'))
    }

    /// Where viewers find a name by WebRTC: its page, and behind `/whep` the endpoint for players.
    pub fn webrtc_url(&self, name: &str) -> String {
        format!("{}/{name}", self.config.webrtc.as_str().trim_end_matches('/'))
    }

    fn path(&self, verb: &str, name: &str) -> String {
        format!("{}/v3/config/paths/{verb}/{name}", self.config.api.as_str().trim_end_matches('/'))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(), MediamtxError> {
        // Its address may hold a password.
        let unreachable = |error: reqwest::Error| MediamtxError::Unreachable(error.without_url());
        let answer = request.timeout(PATIENCE).send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.text().await.unwrap_or_default();
        let message = text.chars().take(MESSAGE).collect();
        Err(MediamtxError::Refused { status: status.as_u16(), message })
    }
}
