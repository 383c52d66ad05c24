//! `reelmill`: the whole farm in one process, and the client of one that runs elsewhere.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    reelmill_cli::run(reelmill_cli::Args::parse()).await
}
