//! `reelmill-worker`.

use clap::Parser;
use reelmill_shared::broker;
use reelmill_shared::config::WorkerConfig;
use reelmill_shared::job::capability::Pool;
use reelmill_shared::lifecycle::{ServerArgs, shutdown_on_signal};
use reelmill_shared::telemetry;

/// Claims tasks of one pool and runs FFmpeg for them.
#[derive(Parser)]
#[command(name = "reelmill-worker", version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Kind of worker: cpu, gpu or live. Beats REELMILL_WORKER_POOL.
    #[arg(long)]
    pool: Option<Pool>,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "--check-config answers on stdout")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Some(mut config) = args.server.settings(WorkerConfig::read, |text| print!("{text}"))? else {
        return Ok(());
    };
    if let Some(pool) = args.pool {
        config.pool = pool;
    }
    telemetry::init_logs(args.server.log_format.into());
    telemetry::metrics();
    let shutdown = shutdown_on_signal(None)?;
    let broker = broker::open(&config.broker);
    reelmill_worker::run(config, broker, None, shutdown).await
}
