//! `reelmill-scheduler`.

use clap::Parser;
use reelmill_shared::broker;
use reelmill_shared::config::SchedulerConfig;
use reelmill_shared::lifecycle::{ServerArgs, shutdown_on_signal};
use reelmill_shared::telemetry;

/// Keeps the farm's promises: leases, retries, rings, garbage. Run two or more; one of them leads.
#[derive(Parser)]
#[command(name = "reelmill-scheduler", version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Bring the database's schema up to date and exit.
    #[arg(long, conflicts_with = "no_migrate")]
    migrate: bool,
    /// Do not migrate at start: something else does.
    #[arg(long)]
    no_migrate: bool,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "--check-config answers on stdout")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let read = if args.migrate { SchedulerConfig::read_to_migrate } else { SchedulerConfig::read };
    let Some(mut config) = args.server.settings(read, |text| print!("{text}"))? else {
        return Ok(());
    };
    telemetry::init_logs(args.server.log_format.into());
    telemetry::metrics();
    if args.migrate {
        reelmill_scheduler::migrate_once(&config).await?;
        tracing::info!("the schema is up to date");
        return Ok(());
    }
    config.migrate = !args.no_migrate;
    let shutdown = shutdown_on_signal(None)?;
    let broker = broker::open(&config.broker);
    reelmill_scheduler::run(config, broker, shutdown).await
}
