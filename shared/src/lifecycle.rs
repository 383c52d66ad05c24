//! How a program of the farm starts and ends.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigErrors, Vars};
use crate::db::migrate::{self, Standing};
use crate::db::{Db, DbError};
use crate::telemetry::LogFormat;

/// Flags that every server takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// Settings file (TOML); REELMILL_* variables beat it.
    #[arg(long, env = "REELMILL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the effective settings, without secrets, and exit.
    #[arg(long)]
    pub check_config: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "json", env = "REELMILL_LOG_FORMAT")]
    pub log_format: LogStyle,
}

/// The words of `--log-format`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum LogStyle {
    Json,
    Text,
}

impl From<LogStyle> for LogFormat {
    fn from(style: LogStyle) -> Self {
        match style {
            LogStyle::Json => Self::Json,
            LogStyle::Text => Self::Text,
        }
    }
}

impl ServerArgs {
    /// Reads a program's settings with `read`; all mistakes come back at once. `None` where they were only to be checked:
    /// they have been handed to `show`.
    pub fn settings<C>(
        &self,
        read: impl FnOnce(&mut Vars) -> C,
        show: impl FnOnce(String),
    ) -> Result<Option<C>, ConfigErrors> {
        let mut vars = Vars::load(self.config.as_deref());
        let config = read(&mut vars);
        let effective = vars.finish()?;
        if self.check_config {
            show(effective.to_string());
            return Ok(None);
        }
        Ok(Some(config))
    }
}

/// A token that is cancelled by SIGINT or SIGTERM. A second signal cancels `hurry`; one more, or a second one where there is no
/// `hurry`, ends the process at once.
pub fn shutdown_on_signal(mut hurry: Option<CancellationToken>) -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let told = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.is_cancelled()
                && let Some(hurry) = hurry.take()
            {
                tracing::warn!("a second signal: not waiting for what is under way");
                hurry.cancel();
            } else if told.is_cancelled() {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(130);
            } else {
                tracing::info!("shutting down");
                told.cancel();
            }
        }
    });
    Ok(token)
}

/// Waits until the database answers with a schema this program can work with; false where `shutdown` came first.
///
/// # Errors
/// [`DbError::Schema`]: it has one that will never do.
pub async fn wait_for_schema(db: &Db, shutdown: &CancellationToken) -> Result<bool, DbError> {
    let mut told = false;
    loop {
        match migrate::standing(db).await {
            Ok(Standing::Fit) => return Ok(true),
            Ok(Standing::Foreign(why)) => return Err(DbError::Schema(why)),
            Ok(Standing::Older { version }) if !told => {
                tracing::info!(
                    has = version,
                    needs = migrate::newest(),
                    "waiting for the database schema: start a scheduler of this version, or run reelmill-scheduler --migrate"
                );
                told = true;
            }
            Err(error) if !told => {
                tracing::warn!(%error, "waiting for the database");
                told = true;
            }
            _ => {}
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}
