//! The command line.

#![allow(clippy::print_stdout, reason = "a command line program answers on stdout")]

mod check_hls;
mod client;
mod dev;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A transcoding farm: video files go in, streams that play everywhere come out.
#[derive(Debug, Parser)]
#[command(name = "reelmill", version)]
pub struct Args {
    #[command(flatten)]
    connection: client::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole farm in this process, on this machine only.
    Dev(dev::DevArgs),
    /// Watch an HLS stream, from a farm or from elsewhere, and tell what it does wrong
    CheckHls(check_hls::CheckHlsArgs),
    #[command(flatten)]
    Client(client::Command),
}

/// Runs a command; the code is documented at `reelmill help`.
pub async fn run(args: Args) -> ExitCode {
    match args.command {
        Command::Dev(dev) => match dev::run(dev, args.connection.data_dir()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("reelmill dev: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::CheckHls(check) => Box::pin(check_hls::run(check, args.connection.format)).await,
        Command::Client(command) => client::run(&args.connection, command).await,
    }
}
