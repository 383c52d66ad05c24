//! What happens around every request.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use reelmill_shared::config::CdnConfig;
use uuid::Uuid;

use crate::problem::{Kind, Problem, REQUEST_ID};
use crate::state::App;

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// No inline script or style, nothing from elsewhere but media from the CDN, where there is one. Players build media and workers from
/// blobs; hls.js names an empty text as `data:`, which can reach nothing.
pub(crate) fn content_security_policy(cdn: Option<&CdnConfig>) -> HeaderValue {
    let cdn = cdn.map(|cdn| format!(" {}", cdn.url.origin().ascii_serialization())).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:{cdn}; \
         media-src 'self' blob: data:{cdn}; connect-src 'self'{cdn}; worker-src blob: 'self'; font-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    );
    // An origin is ASCII; were it not, nothing would be allowed.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Around every request, in one layer because each costs an allocation or more: gives it an id, in the answer and in the logs, counts
/// and times it by route, refuses foreign hosts, outlives handlers that panic, and hardens the answer.
pub(crate) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    // HTTP/2 carries the host in the URI; all else looks for it in one place.
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    if let Some(Ok(host)) = authority.map(HeaderValue::try_from) {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
    let plain = |id: &&str| {
        (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let given = request.headers().get(&REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    let id = given.filter(plain).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = known(request.method());
    let started = Instant::now();
    let policy = app.policy.clone();
    let answering = async {
        match foreign_host(&app, &request) {
            Some(problem) => problem.into_response(),
            None => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(panicked),
        }
    };
    let mut response = REQUEST_ID.scope(id.clone(), answering).await;
    let status = response.status().as_u16().to_string();
    tracing::debug!(request_id = id, method, route, status, "answered");
    let labels = [("method", method.to_owned()), ("route", route), ("status", status)];
    metrics::histogram!("reelmill_http_request_duration_seconds", &labels)
        .record(started.elapsed().as_secs_f64());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// The answer in place of that of a handler that panicked.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a handler panicked");
    Problem::new(Kind::Internal, "an internal error").into_response()
}

/// A method as a label: anybody may send any word.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Refuses hosts that are not ours: a web page whose name was pointed at this machine must not reach it.
fn foreign_host(app: &App, request: &Request) -> Option<Problem> {
    let allowed = &app.config.allowed_hosts;
    // Probes come by address, and there is nothing to learn from them.
    let probe = matches!(request.uri().path(), "/livez" | "/readyz");
    if allowed.is_empty() || probe {
        return None;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = bare(host.unwrap_or_default());
    // A CDN may ask by the name that viewers know it by.
    let cdn = app.config.cdn.as_ref().and_then(|cdn| cdn.url.host_str());
    let foreign = !allowed.iter().map(String::as_str).chain(cdn).any(|name| name.eq_ignore_ascii_case(host));
    foreign.then(|| Problem::new(Kind::WrongHost, "this server does not answer for that host name"))
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(_) => host.rfind(']').map_or(host, |end| &host[..=end]),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn ports_do_not_count() {
        assert_eq!(bare("localhost:8080"), "localhost");
        assert_eq!(bare("127.0.0.1"), "127.0.0.1");
        assert_eq!(bare("[::1]:8080"), "[::1]");
    }
}
