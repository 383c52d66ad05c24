//! Who asks: an API key in a header, or a session cookie that names one.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::auth::{Scope, allows, hash_key};
use reelmill_shared::db::keys::{self, ApiKey};
use reelmill_shared::ids::{KeyId, ProjectId};

use crate::problem::{Answer, Kind, Problem};
use crate::state::{App, now};

/// Name of the session cookie.
pub(crate) const SESSION_COOKIE: &str = "reelmill_session";

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    pub project_id: ProjectId,
    pub key_id: KeyId,
    pub scopes: Vec<Scope>,
}

impl Caller {
    /// Refuses a caller without this scope.
    pub(crate) fn need(&self, scope: Scope) -> Answer<()> {
        if allows(&self.scopes, scope) {
            return Ok(());
        }
        Err(Problem::new(Kind::Forbidden, format!("the key lacks the scope {scope}")))
    }
}

impl From<ApiKey> for Caller {
    fn from(key: ApiKey) -> Self {
        Self { project_id: key.project_id, key_id: key.id, scopes: key.scopes }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answer<Self> {
        caller(app, &parts.method, &parts.headers).await
    }
}

/// Finds out who asks.
pub(crate) async fn caller(app: &App, method: &Method, headers: &HeaderMap) -> Answer<Caller> {
    if let Some(key) = key_of(headers)? {
        let hash = hash_key(key);
        let found = app
            .caches
            .keys
            .try_get_with(hash, keys::find_valid(&app.db, &hash))
            .await
            .map_err(|error| Problem::new(Kind::Unavailable, logged(&error)))?;
        return found
            .map(Caller::from)
            .ok_or_else(|| Problem::new(Kind::Unauthorized, "the key is unknown, expired or revoked"));
    }
    match session(app, headers).await? {
        Some(caller) => {
            forbid_cross_site(method, headers)?;
            Ok(caller)
        }
        None => Err(Problem::new(Kind::Unauthorized, "no API key came with the request")),
    }
}

fn logged(error: &dyn std::fmt::Display) -> &'static str {
    tracing::error!(%error, "could not look up a key");
    "the database does not answer"
}

fn key_of(headers: &HeaderMap) -> Answer<Option<&str>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let Some((scheme, key)) = text.split_once(' ') else {
            return Err(Problem::new(Kind::Unauthorized, "Authorization must be: Bearer <key>"));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::new(Kind::Unauthorized, "Authorization must be: Bearer <key>"));
        }
        return Ok(Some(key.trim()));
    }
    Ok(headers.get("x-api-key").map(|value| value.to_str().unwrap_or_default()))
}

/// The caller a session cookie names, if there is a valid one.
pub(crate) async fn session(app: &App, headers: &HeaderMap) -> Answer<Option<Caller>> {
    let Some(token) = cookie(headers, SESSION_COOKIE) else {
        return Ok(None);
    };
    let Ok(verified) = app.signer().verify(Purpose::Session, token, now()) else {
        return Ok(None);
    };
    // The key may have been revoked since.
    Ok(keys::get_valid(&app.db, KeyId(verified.subject)).await?.map(Caller::from))
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// Whether a browser says that another site's page made it send this. Programs say nothing, and no page sends them.
pub(crate) fn from_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site != "same-origin",
        (None, Some(origin), host) => {
            origin.split_once("://").is_none_or(|(_, authority)| Some(authority) != host)
        }
        (None, None, _) => false,
    }
}

/// A cookie rides along on requests that other sites make; those may look, but not touch.
fn forbid_cross_site(method: &Method, headers: &HeaderMap) -> Answer<()> {
    if method.is_safe() { Ok(()) } else { same_site(headers) }
}

/// The same of what looks safe and yet lets another site's page read: a browser puts no limits on whom a WebSocket speaks to, and no key into its
/// headers.
pub(crate) fn own_pages_only(headers: &HeaderMap) -> Answer<()> {
    if key_of(headers)?.is_some() { Ok(()) } else { same_site(headers) }
}

fn same_site(headers: &HeaderMap) -> Answer<()> {
    let told = ["sec-fetch-site", "origin"].iter().any(|name| headers.contains_key(*name));
    let same = told && !from_another_site(headers);
    if same {
        Ok(())
    } else {
        Err(Problem::new(Kind::Forbidden, "a session may only be used from our own pages"))
    }
}
