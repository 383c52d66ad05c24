//! `/livez`, `/readyz`, `/metrics` of a scheduler.

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

/// Serves in the background where an address is set. Binding fails at once, not later.
pub(crate) async fn serve(
    listen: Option<SocketAddr>,
    db: Db,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let Some(address) = listen else {
        return Ok(tokio::spawn(async {}));
    };
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "telling of its health");
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|| async { telemetry::metrics().render() }))
        .with_state(db);
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
