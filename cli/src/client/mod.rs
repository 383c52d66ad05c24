//! The client commands.

use std::path::PathBuf;
use std::process::ExitCode;

/// How to reach a farm.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Data directory of a local farm, where its address and key are found.
    #[arg(long, global = true, default_value = ".reelmill", env = "REELMILL_DATA_DIR")]
    data_dir: PathBuf,
}

impl Connection {
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {}

pub(crate) async fn run(_connection: &Connection, command: Command) -> ExitCode {
    match command {}
}
