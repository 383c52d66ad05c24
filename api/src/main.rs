//! `reelmill-api`.

use clap::Parser;
use reelmill_shared::broker;
use reelmill_shared::config::ApiConfig;
use reelmill_shared::lifecycle::{ServerArgs, shutdown_on_signal};
use reelmill_shared::telemetry;
use tokio::sync::oneshot;

/// Thousands of viewers come and go between the same few sizes of memory, on all threads: the system's allocator keeps
/// more of it and takes longer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the HTTP API, the pages and what was made.
#[derive(Parser)]
#[command(name = "reelmill-api", version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "--check-config answers on stdout")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Some(config) = args.server.settings(ApiConfig::read, |text| print!("{text}"))? else {
        return Ok(());
    };
    telemetry::init_logs(args.server.log_format.into());
    telemetry::metrics();
    let shutdown = shutdown_on_signal(None)?;
    let broker = broker::open(&config.broker);
    let (started, _) = oneshot::channel();
    reelmill_api::run(config, broker, shutdown, started).await
}
