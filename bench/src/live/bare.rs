//! The floor for serving parts: a bare axum server with the same bytes in memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;

/// What is served.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Its files are read once.
    directory: PathBuf,
}

/// Tells on its first line of output where it listens.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(options.directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, Bytes::from(std::fs::read(entry.path())?));
    }
    let router = Router::new().route("/{file}", get(file)).with_state(Arc::new(files));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn file(State(files): State<Arc<HashMap<String, Bytes>>>, Path(name): Path<String>) -> Response {
    match files.get(&name) {
        Some(bytes) => ([(header::CONTENT_TYPE, "video/mp4")], bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
