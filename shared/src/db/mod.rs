//! The only place with SQL: one file a resource, one function a statement (or one transaction), named by its verb.
//!
//! Times are the database's clock. Nothing here decides on policy beyond what must be atomic.

pub mod abr;
pub mod broadcasts;
pub mod cdn;
pub mod cluster;
pub mod deliveries;
pub mod distribution;
pub mod downloads;
pub mod events;
pub mod fan_out;
pub mod finish;
pub mod garbage;
pub mod history;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod leader;
pub mod leases;
pub mod live;
pub mod live_recordings;
pub mod livestream_events;
pub mod livestream_figures;
pub mod livestreams;
pub mod migrate;
pub mod pictures;
pub mod playback;
pub mod pools;
pub mod preferences;
pub mod profiles;
pub mod progress;
pub mod projects;
pub mod quality;
pub mod recordings;
pub mod retention;
pub mod retry;
pub mod reuse;
pub mod revocations;
pub mod segment_deliveries;
pub mod sets;
pub mod snapshots;
pub mod sources;
pub mod stills;
pub mod streams;
pub mod tasks;
pub mod unserved;
pub mod uploads;
pub mod viewers;
pub mod viewing;
pub mod webhooks;
pub mod workers;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::config::DatabaseConfig;
use crate::ids::{JobId, TaskId};
use crate::job::error::{Reason, TaskError};
use crate::job::state::UnknownWord;

pub use deadpool_postgres::{GenericClient, Transaction};

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("no database connection: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    #[error("database: {}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("database: a row does not read: {0}")]
    Word(#[from] UnknownWord),
    #[error("database: a document does not read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("database: {0}")]
    Migration(#[from] refinery::Error),
    /// Neither an earlier schema of this program nor a later one.
    #[error("the schema of this database is not one of this program's: {0}")]
    Schema(String),
    /// The orders of a task, or its job's, do not read: a newer program wrote them. The task was given back.
    #[error("the orders of task {0} do not read, and were left to a newer worker: {1}")]
    Orders(TaskId, serde_json::Error),
    /// The guarded write found that somebody else owns the task, or that it is over.
    #[error("the lease on this task is lost")]
    LostRace,
    /// A chunk came with another init segment than the rendition it belongs to.
    #[error("{0} was encoded with other parameters than its other chunks")]
    OtherInit(String),
    /// The write was guarded by leadership that has passed on.
    #[error("another scheduler leads")]
    NotLeader,
    /// What the write refers to was deleted meanwhile.
    #[error("what this refers to was deleted")]
    Gone,
    /// Another job encodes for the recording, so that what the write builds on is about to change.
    #[error("the job {0} still makes qualities of this recording")]
    Busy(JobId),
    /// What the write builds on was changed meanwhile.
    #[error("the recording has other qualities by now")]
    Changed,
    #[error("{0}")]
    Settings(String),
}

/// tokio-postgres says only "db error"; the text is in its source.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

impl DbError {
    /// True where the statement lost against a concurrent one and may be run again as it is.
    pub fn is_contention(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let lost_place =
            error.as_db_error().is_some_and(|error| error.constraint() == Some("task_leases_place"));
        lost_place
            || matches!(
                error.code(),
                Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE)
            )
    }

    /// True where the database could not be reached or could not work, and the same may go well later.
    pub fn is_outage(&self) -> bool {
        // Connection exceptions, insufficient resources, operator intervention (PostgreSQL, appendix A).
        const CLASSES: [&str; 3] = ["08", "53", "57"];
        match self {
            Self::Pool(_) => true,
            Self::Postgres(error) => {
                let away = |code: &SqlState| CLASSES.iter().any(|class| code.code().starts_with(class));
                error.code().is_none_or(away) || self.is_contention()
            }
            _ => false,
        }
    }

    /// What is said of a task whose end was refused, so that it need not wait for its lease to run out; `None` where the task is somebody
    /// else's, or the database could not work.
    pub fn refusal(&self) -> Option<TaskError> {
        // Data exceptions, violated constraints, limits of the program (PostgreSQL, appendix A): the same again is refused again.
        const LASTING: [&str; 3] = ["22", "23", "54"];
        if self.is_outage() {
            return None;
        }
        match self {
            Self::LostRace => None,
            Self::OtherInit(_) => Some(TaskError::fatal(
                Reason::CheckFailed,
                format!("{self}; do all workers have the same FFmpeg?"),
            )),
            other => {
                let lasts = match other {
                    // A row with the same key may have come from who was at it at the same time.
                    Self::Postgres(error) => {
                        let code = error.code().map_or("", |code| code.code());
                        !other.is_duplicate() && LASTING.iter().any(|class| code.starts_with(class))
                    }
                    Self::Json(_) => true,
                    _ => false,
                };
                let told = TaskError::internal("what the task made could not be published", other);
                Some(TaskError { retryable: !lasts, ..told })
            }
        }
    }

    /// True where a row with this key is there already.
    pub fn is_duplicate(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }
}

/// A pool of connections to the farm's database.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
}

/// A pooled connection.
pub type Connection = deadpool_postgres::Client;

impl Db {
    /// A pool for `config`. Connects when first used.
    ///
    /// # Errors
    /// The URL does not read.
    pub fn new(config: &DatabaseConfig) -> Result<Self, DbError> {
        let mut postgres: tokio_postgres::Config = config
            .url
            .parse()
            .map_err(|error| DbError::Settings(format!("the database URL does not read: {error}")))?;
        postgres.connect_timeout(Duration::from_secs(5));
        postgres.application_name("reelmill");
        // A connection that died with its host must not hold a lock or block a request for long.
        postgres.keepalives_idle(Duration::from_secs(10));
        postgres.tcp_user_timeout(Duration::from_secs(20));
        if postgres.get_options().is_none() {
            // Statements are prepared and short: planning one anew costs more than the best plan saves.
            postgres.options(
                "-c idle_in_transaction_session_timeout=30s -c statement_timeout=60s \
                 -c plan_cache_mode=force_generic_plan -c jit=off",
            );
        }
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(postgres, NoTls, recycling))
            .max_size(config.pool_size as usize)
            // The one used last has its statements prepared and its caches warm.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(Duration::from_secs(10)))
            .create_timeout(Some(Duration::from_secs(10)))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| DbError::Settings(error.to_string()))?;
        Ok(Self { pool })
    }

    /// A connection, waiting up to ten seconds for one.
    pub async fn get(&self) -> Result<Connection, DbError> {
        Ok(self.pool.get().await?)
    }

    /// Answers where the database answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.get().await?.execute("select 1", &[]).await?;
        Ok(())
    }

    /// Connections in use and the most there may be.
    pub fn saturation(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size.saturating_sub(status.available), status.max_size)
    }

    /// Closes the pool; later calls fail at once.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// What this program understands of a list. Rows in words that only newer programs know must not hide the others.
pub(crate) fn known<T>(
    rows: &[tokio_postgres::Row],
    read: impl Fn(&tokio_postgres::Row) -> Result<T, DbError>,
) -> Result<Vec<T>, DbError> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        match read(row) {
            Ok(one) => all.push(one),
            Err(error @ (DbError::Word(_) | DbError::Json(_))) => tracing::debug!(%error, "left out"),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Runs a transaction again while it loses against concurrent ones, three times at most.
pub(crate) async fn retrying<T, F, R>(mut run: F) -> Result<T, DbError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, DbError>>,
{
    for _ in 0..2 {
        match run().await {
            Err(error) if error.is_contention() => continue,
            other => return other,
        }
    }
    run().await
}
