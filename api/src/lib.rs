//! The front door: takes jobs, tells how they are, serves what was made.

mod abr;
mod assets;
mod audience;
mod auth;
mod cdn;
mod downloads;
mod dry_run;
mod dto;
mod edge;
mod edit;
mod extract;
mod footage;
mod hub;
mod idempotency;
mod media;
mod middleware;
mod on_air;
mod openapi;
mod pages;
mod playback;
mod problem;
mod quality;
mod routes;
mod segment_deliveries;
mod serving;
mod shared_cache;
mod sockets;
mod state;
mod submit;
mod tokens;
mod trace;
mod transport;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::auth::{Scope, hash_key, key_prefix};
use reelmill_shared::broker::Broker;
use reelmill_shared::config::ApiConfig;
use reelmill_shared::db::keys::{self, NewKey};
use reelmill_shared::db::{Db, DbError, projects};
use reelmill_shared::lifecycle::wait_for_schema;
use reelmill_shared::storage::Storage;
use reelmill_shared::webhook::Sender;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::edge::Edges;
use crate::hub::Hub;
use crate::problem::method_not_allowed;
use crate::state::App;

/// Name of the project the first key belongs to.
const DEFAULT_PROJECT: &str = "default";

/// What a started API tells its starter.
#[derive(Debug)]
pub struct Started {
    /// Where it listens; the port is the real one.
    pub address: SocketAddr,
    /// A path that logs a browser in as the admin key, where there is one.
    pub login_path: Option<String>,
}

/// Runs an API until `shutdown`; then lets open requests end within ten seconds.
pub async fn run(
    config: ApiConfig,
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
    started: oneshot::Sender<Started>,
) -> anyhow::Result<()> {
    let db = Db::new(&config.database)?;
    let storage = Storage::open(&config.storage)?;
    // Bound before waiting: a port that is taken must be told at once.
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr()?;
    if !wait_for_schema(&db, &shutdown).await? {
        return Ok(());
    }
    let login_path = first_key(&db, &config).await?;
    let hub = Hub::start(db.clone(), shutdown.clone()).await?;
    let sender = Sender::new(config.webhooks.net.clone(), config.webhooks.timeout)?;
    let edges = Arc::new(Edges::new(db.clone(), storage.clone(), config.edge_cache_bytes)?);
    let tls = config.tls.clone();
    let counting = CancellationToken::new();
    let app = App::new(config, db, broker, storage, hub, sender, edges)?;
    let keeping = tokio::spawn(audience::keep(Arc::clone(&app.audience), app.db.clone(), counting.clone()));
    tokens::learn(&app).await?;
    let following = tokio::spawn(tokens::follow(app.clone(), counting.clone()));
    let delivering = tokio::spawn(segment_deliveries::deliver(app.clone(), counting.clone()));
    let (ending, leaving) = (shutdown.clone(), app.clone());
    tokio::spawn(async move {
        ending.cancelled().await;
        leaving.sockets.leave();
    });
    tracing::info!(%address, "api ready");
    // A starter that does not care has dropped the other end.
    let _ = started.send(Started { address, login_path });

    serving::serve(listener, tls, router(app.clone()), shutdown).await?;
    app.sockets.left().await;
    // What was counted last is written down.
    counting.cancel();
    keeping.await?;
    following.await?;
    delivering.await?;
    Ok(())
}

/// Makes sure that the configured first key works, and gives a login path for it.
async fn first_key(db: &Db, config: &ApiConfig) -> Result<Option<String>, DbError> {
    let Some(secret) = &config.admin_key else {
        return Ok(None);
    };
    let project_id = projects::ensure(db, DEFAULT_PROJECT).await?;
    let hash = hash_key(secret);
    let new = NewKey {
        project_id,
        name: "admin (from the settings)",
        prefix: &key_prefix(secret),
        hash: &hash,
        scopes: &[Scope::Admin],
        expires_at: None,
    };
    keys::ensure(db, &new).await?;
    let Some(key) = keys::find_valid(db, &hash).await? else {
        return Ok(None);
    };
    let day = state::now() + 24 * 3600;
    let token = config.secret.signer.sign(Purpose::Login, key.id.0, day);
    Ok(Some(format!("/login?token={token}")))
}

/// The description of the API, without a server: for tests and `reelmill`.
pub fn description() -> utoipa::openapi::OpenApi {
    described().1
}

fn described() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .nest("/api/v1", routes::api())
        .split_for_parts();
    openapi::name_operations(&mut description);
    (router, description)
}

fn router(app: App) -> Router {
    let (api, description) = described();
    let description = Arc::new(description);
    // Each extractor of the API has a limit of its own: JSON a small one, media what an upload may have.
    let api =
        api.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(app.clone(), idempotency::keep));
    Router::new()
        .merge(api)
        .route("/openapi.json", get(move || async move { Json(description.as_ref().clone()) }))
        .route("/", get(pages::home))
        .route("/watch/{id}", get(pages::watch))
        .route("/watch/live/{id}", get(pages::watch_live))
        .route("/watch/playback/{id}", get(pages::watch_playback))
        .route("/login", get(pages::login).post(pages::log_in))
        .route("/docs", get(pages::docs))
        .route("/problems/{name}", get(pages::problem))
        .route("/assets/{*file}", get(assets::asset))
        .route("/livez", get(routes::health::livez))
        .route("/readyz", get(routes::health::readyz))
        .route("/health", get(routes::health::health))
        .route("/metrics", get(routes::health::metrics))
        .merge(routes::viewer::routes())
        .merge(routes::live_viewer::routes())
        .merge(routes::playback_viewer::routes())
        .merge(routes::sockets::routes())
        .fallback(pages::nowhere)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), middleware::around))
        .with_state(app)
}
