//! Pictures of what is on air, and of what was.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use moka::future::Cache;
use reelmill_shared::db::broadcasts::Broadcast;
use reelmill_shared::db::live;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::origin::{self, PASS_HEADER};

use super::files::FileError;
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;

/// The newest picture of each stream that somebody looked at.
pub(super) type Pictures = Cache<LivestreamId, Bytes>;

/// For so long many lists of streams cost their origins one request.
const MOMENT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn pictures() -> Pictures {
    Cache::builder().max_capacity(1000).time_to_live(MOMENT).build()
}

/// The newest picture of a livestream, some seconds old at most. `private` where the address needs a key.
pub(crate) async fn live_thumbnail(app: &App, livestream: LivestreamId, private: bool) -> Answer<Response> {
    let missing =
        || Problem::new(Kind::NotReady, "there is no picture: this stream is not on air").with_retry_after(2);
    let fetching = app.edges.pictures.try_get_with(livestream, async {
        let origin = live::origin(&app.db, livestream).await.ok().flatten().ok_or(FileError::Missing)?;
        let url = format!("{}{}", origin.address, origin::thumbnail(livestream));
        let request = app.edges.http.get(url).header(PASS_HEADER, &origin.pass).timeout(PATIENCE);
        let upstream = |error| FileError::Upstream(Arc::new(error));
        let response = request.send().await.map_err(upstream)?;
        if !response.status().is_success() {
            return Err(FileError::Missing);
        }
        response.bytes().await.map_err(upstream)
    });
    let picture = fetching.await.map_err(|error: Arc<FileError>| {
        tracing::debug!(%livestream, %error, "no picture of a live stream");
        missing()
    })?;
    Ok(jpeg(picture, if private { "private, max-age=5" } else { "public, max-age=5" }))
}

/// The picture that a recording is known by.
pub(crate) async fn recorded_thumbnail(app: &App, broadcast: &Broadcast, private: bool) -> Answer<Response> {
    let missing = || Problem::new(Kind::NotFound, "there is no picture of this recording");
    let key = broadcast.thumbnail_key.as_ref().filter(|_| broadcast.is_there()).ok_or_else(missing)?;
    let picture = app.edges.files.stored(key).await.map_err(|error| match error {
        FileError::Missing => missing(),
        _ => Problem::new(Kind::Unavailable, "this cannot be had now").with_retry_after(1),
    })?;
    Ok(jpeg(picture, if private { "private, max-age=60" } else { "public, max-age=60" }))
}

fn jpeg(picture: Bytes, caching: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg")),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
    ];
    (headers, picture).into_response()
}
