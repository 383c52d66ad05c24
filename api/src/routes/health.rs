//! `/livez`, `/readyz`, `/health`, `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reelmill_shared::telemetry;
use serde_json::{Value, json};

use crate::state::App;

/// The process lives; nothing it depends on is asked.
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Requests can be answered: the database is there.
pub(crate) async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.db.ping().await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
    }
}

/// All parts at a glance. Only the database's state decides the status: without the broker the farm is slower, not down.
pub(crate) async fn health(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let (database, broker, storage) = tokio::join!(app.db.ping(), app.broker.check(), app.storage.check());
    let word = |ok: bool| if ok { "ok" } else { "down" };
    let status = match (&database, &broker, &storage) {
        (Ok(()), Ok(()), Ok(())) => "ok",
        (Err(_), ..) => "down",
        _ => "degraded",
    };
    let code = if database.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "database": word(database.is_ok()),
        "broker": word(broker.is_ok()),
        "storage": word(storage.is_ok()),
    });
    (code, Json(body))
}

/// Figures in Prometheus' text format.
pub(crate) async fn metrics(State(app): State<App>) -> String {
    let (used, most) = app.db.saturation();
    metrics::gauge!("reelmill_database_connections_used").set(used as f64);
    metrics::gauge!("reelmill_database_connections_max").set(most as f64);
    metrics::gauge!("reelmill_sockets").set(app.sockets.count() as f64);
    metrics::gauge!("reelmill_live_waiting_requests").set(app.edges.waiting() as f64);
    telemetry::metrics().render()
}
