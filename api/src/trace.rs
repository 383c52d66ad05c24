//! Trace context of a request.

use axum::http::HeaderMap;
use reelmill_shared::telemetry::{is_traceparent, new_traceparent};

/// The caller's `traceparent`, or a new one: a trace follows a job from the request to FFmpeg.
pub(crate) fn traceparent(headers: &HeaderMap) -> String {
    headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_traceparent(text))
        .map_or_else(new_traceparent, str::to_owned)
}
