//! The CDN in front: whether viewers are sent to it, what it keeps answers by, and what it fetches ahead.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use moka::future::Cache;
use reelmill_shared::cdn::{
    CACHE_TAG, CdnClient, CdnError, EDGE_CACHE_TAG, SURROGATE_KEY, SurrogateKey, listed,
};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{Db, DbError, cdn};

use crate::state::App;

/// All apis see within so long that the switch was turned.
const MOMENT: Duration = Duration::from_secs(3);

/// The CDN that is configured, if any.
pub(crate) struct Cdn {
    db: Db,
    client: Option<CdnClient>,
    switch: Cache<(), bool>,
    /// How the switch stood when it was read last: what counts while the database does not answer.
    stood: AtomicBool,
}

impl Cdn {
    pub(crate) fn new(db: Db, client: Option<CdnClient>) -> Self {
        let switch = Cache::builder().max_capacity(1).time_to_live(MOMENT).build();
        Self { db, client, switch, stood: AtomicBool::new(true) }
    }

    /// What speaks to it.
    pub(crate) fn client(&self) -> Option<&CdnClient> {
        self.client.as_ref()
    }

    /// Where viewers fetch shared media, without a trailing slash; `None` where that is from us.
    pub(crate) async fn base(&self) -> Option<&str> {
        let client = self.client.as_ref()?;
        let reading = async { cdn::switch(&self.db).await.map(|switch| switch.enabled) };
        let enabled = match self.switch.try_get_with((), reading).await {
            Ok(enabled) => {
                self.stood.store(enabled, Ordering::Relaxed);
                enabled
            }
            Err(error) => {
                tracing::warn!(%error, "could not read whether the CDN is in use");
                self.stood.load(Ordering::Relaxed)
            }
        };
        enabled.then(|| client.base())
    }

    /// Turns the switch.
    pub(crate) async fn turn(&self, enabled: bool) -> Result<cdn::Switch, DbError> {
        let turned = cdn::turn(&self.db, enabled).await?;
        self.switch.invalidate(&()).await;
        Ok(turned)
    }

    /// Lets the CDN fetch these paths (`/v/{token}/…`) ahead: at most a thousand at once.
    ///
    /// # Errors
    /// There is none, it is switched off, or it did not do it.
    pub(crate) async fn warm(&self, paths: &[String]) -> Result<(), CdnError> {
        let client = self.client.as_ref().ok_or(CdnError::NotConfigured("REELMILL_CDN_URL"))?;
        if self.base().await.is_none() {
            return Err(CdnError::Off);
        }
        let warmed = client.warm(paths).await;
        let outcome = if warmed.is_ok() { "warmed" } else { "failed" };
        metrics::counter!("reelmill_cdn_warmings_total", "outcome" => outcome).increment(1);
        warmed
    }
}

/// Stands with an answer that is media: whether it was here, or had to be fetched from an origin or the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Had(pub(crate) bool);

/// Whether a CDN asks (RFC 8586), or a viewer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByCdn(pub(crate) bool);

impl<S: Sync> FromRequestParts<S> for ByCdn {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.contains_key("cdn-loop")))
    }
}

/// Counts an answer that is media, by whether it was here. Who had it already has it from here.
pub(crate) fn count(app: &App, watched: Watched, by: ByCdn, answer: &Response) {
    let Some(Had(had)) = answer.extensions().get().copied() else { return };
    let had = had || answer.status() == StatusCode::NOT_MODIFIED;
    let labels = [("outcome", if had { "hit" } else { "miss" }), ("by", if by.0 { "cdn" } else { "viewer" })];
    metrics::counter!("reelmill_media_requests_total", &labels).increment(1);
    app.audience.asked(watched, had);
}

/// Names what an answer is made of, for a CDN to forget it by. Only for what everybody with a token is given alike.
pub(crate) fn tag(response: &mut Response, keys: &[SurrogateKey]) {
    for (name, separator) in [(SURROGATE_KEY, " "), (CACHE_TAG, ","), (EDGE_CACHE_TAG, ",")] {
        // Letters, digits, hyphens: always a header.
        if let Ok(value) = HeaderValue::from_str(&listed(keys, separator)) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}
