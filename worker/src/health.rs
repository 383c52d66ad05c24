//! `/livez`, `/readyz`, `/metrics` of a worker.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use reelmill_shared::db::Db;
use reelmill_shared::telemetry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Listens where an address is set, or where there is something to serve besides. Fails at once, not later.
pub(crate) async fn bind(listen: Option<SocketAddr>, needed: bool) -> anyhow::Result<Option<TcpListener>> {
    let anywhere = || needed.then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let Some(address) = listen.or_else(anywhere) else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    Ok(Some(listener))
}

/// Serves in the background, and `besides` beside it.
pub(crate) fn serve(
    listener: Option<TcpListener>,
    besides: Option<Router>,
    db: Db,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let Some(listener) = listener else {
        return Ok(tokio::spawn(async {}));
    };
    tracing::info!(address = %listener.local_addr()?, "telling of its health");
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|| async { telemetry::metrics().render() }))
        .with_state(db)
        .merge(besides.unwrap_or_default());
    Ok(tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the health server ended");
        }
    }))
}

async fn readyz(State(db): State<Db>) -> (StatusCode, String) {
    match db.ping().await {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".into())
        }
    }
}
