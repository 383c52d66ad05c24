//! Scripts, styles and pictures of the pages, embedded in the binary.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::extract::Path;
use crate::media::{etag, is_known};
use crate::problem::{Answer, Problem};
use crate::state::App;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/assets"]
struct Assets;

/// The player library, fetched by `scripts/assets` before the build.
const PLAYER: &str = "vendor/hls.min.js";

/// False in a build without the player library; the page says so.
pub(crate) fn player_available() -> bool {
    Assets::get(PLAYER).is_some()
}

/// Sends an asset. Modules name each other without versions, so browsers ask again, which an ETag makes cheap.
pub(crate) async fn asset(
    State(_): State<App>,
    method: Method,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Answer<Response> {
    let file = Assets::get(&name).ok_or_else(|| Problem::not_found("asset", &name))?;
    let etag = etag(file.metadata.sha256_hash());
    let mut response = if is_known(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if method == Method::HEAD {
        StatusCode::OK.into_response()
    } else {
        file.data.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(&name)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
    headers.insert(header::ETAG, etag);
    Ok(response)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
