//! The private PostgreSQL cluster of `reelmill dev` and of tests.
//!
//! It is made from the PostgreSQL binaries found on the machine, and listens on nothing but a Unix socket in
//! a directory of its own: no port to collide on, and no way in for others on a shared machine. The password
//! is a second lock, for when the server has to run as a user that other programs run as too.
//!
//! What it keeps in the farm's data directory:
//!
//! | file | what |
//! |---|---|
//! | `postgres/` | the cluster, unless the server's user cannot enter here |
//! | `postgres-location` | where the cluster is; written once it is complete |
//! | `postgres-password` | of the only role, mode 0600 |
//! | `postgres.lock` | held as long as a [`Cluster`] lives |
//! | `postgres.log`, `postgres.log.1` | what the server said in this run and the last one |

mod binaries;
mod init;
mod leftovers;
mod place;
mod server;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use binaries::Binaries;
use place::{DataDir, Lock};
use server::{Server, Settings};

/// The role that owns everything, and the only one there is.
const ROLE: &str = "reelmill";

/// Where root puts the clusters of data directories that an unprivileged user cannot enter.
const SHARED_PLACE: &str = "/var/lib/reelmill";

/// How to start a [`Cluster`].
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The farm's data directory; made if it does not exist.
    pub data_dir: PathBuf,
    /// Whether what is committed stays, whatever is killed or cut off. Without it the server is faster, but a
    /// power cut may ruin the cluster, and the end of the server alone (also by dropping a [`Cluster`]) may
    /// lose the last half second: for `--ephemeral`, and for tests that do not kill it.
    pub durable: bool,
    /// How many connections the server accepts.
    pub max_connections: u32,
}

/// A running cluster. Stop it with [`Cluster::stop`]; merely dropped, the server is ended at once and
/// recovers at the next start.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    password: String,
    location: PathBuf,
    // Fields are dropped in order: the lock must outlive the server.
    _lock: Lock,
}

/// Why a cluster could not be started or stopped.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A file or directory could not be read or written.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process runs the cluster of this data directory.
    #[error("the database in {} is in use by another reelmill (process {pid})", data_dir.display())]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// Who uses it.
        pid: String,
    },
    /// There is no usable PostgreSQL on this machine.
    #[error(
        "PostgreSQL {} or newer was not found (looked in PATH, pg_config --bindir, /usr/lib/postgresql/*/bin and \
         Homebrew). Install it with `apt install postgresql`, `dnf install postgresql-server` or \
         `brew install postgresql@17`, or name a running server with --database-url",
        binaries::OLDEST
    )]
    NoBinaries,
    /// The cluster was made by a major version that is not installed.
    #[error(
        "the database in {} was made by PostgreSQL {wanted}, but only {found} is installed; install version \
         {wanted}, or move the data with pg_upgrade or a dump", cluster.display()
    )]
    Version {
        /// The cluster.
        cluster: PathBuf,
        /// Its major version.
        wanted: u32,
        /// What is installed.
        found: String,
    },
    /// Running as root, which PostgreSQL refuses, with nobody to drop to.
    #[error("PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`")]
    NoUser,
    /// The cluster belongs to somebody this process cannot act as.
    #[error("the database in {} belongs to user id {owner}; run reelmill as that user or as root", cluster.display())]
    Owner {
        /// The cluster.
        cluster: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The server's user cannot reach the cluster.
    #[error("the user {user} must run the database in {} but cannot enter there", cluster.display())]
    CannotEnter {
        /// Who has to enter.
        user: String,
        /// Where.
        cluster: PathBuf,
    },
    /// The data directory had a cluster, which is gone.
    #[error(
        "the database of this data directory should be in {} but is not there. If it is lost for good, delete {} to \
         begin with an empty one", cluster.display(), record.display()
    )]
    Lost {
        /// Where it should be.
        cluster: PathBuf,
        /// The file that says so.
        record: PathBuf,
    },
    /// There is a cluster but not its password.
    #[error("the database in {} needs the password that was in {}, which is missing", cluster.display(), file.display())]
    PasswordMissing {
        /// The cluster.
        cluster: PathBuf,
        /// Where the password was.
        file: PathBuf,
    },
    /// A program could not be run at all.
    #[error("could not run {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A new cluster could not be made.
    #[error("initdb failed ({status}): {output}")]
    Init {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// A server from an earlier run still works on the cluster and cannot be ended.
    #[error("a database server from an earlier run still uses {} and cannot be ended: processes {pids:?}", cluster.display())]
    Leftover {
        /// The cluster.
        cluster: PathBuf,
        /// The processes.
        pids: Vec<i32>,
    },
    /// The server ended while it was starting.
    #[error("the database server ended while starting ({status}); it said:\n{log}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not accept connections in time.
    #[error("the database server accepted no connection within {after:?} ({last}); it said:\n{log}")]
    NotReady {
        /// How long it was given.
        after: Duration,
        /// What the last attempt ran into.
        last: String,
        /// The end of its log.
        log: String,
    },
}

impl Cluster {
    /// Starts the cluster of a data directory, making it first where there is none, and waits until it
    /// accepts connections. A server left over from a run that was killed is ended before.
    ///
    /// # Errors
    /// [`ClusterError`] says in plain language what is missing or in the way.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        Self::start_sharing(options, Path::new(SHARED_PLACE)).await
    }

    async fn start_sharing(options: ClusterOptions, shared: &Path) -> Result<Self, ClusterError> {
        let data = DataDir::open(&options.data_dir)?;
        let lock = data.lock()?;
        let place = place::locate(&data, shared).await?;
        let password = data.password(&place)?;
        let binaries = if place.exists() {
            let binaries = Binaries::for_cluster(&place.cluster)?;
            leftovers::clear(&place.cluster).await?;
            binaries
        } else {
            let binaries = Binaries::any()?;
            init::make(&binaries, &place, &password, options.durable).await?;
            binaries
        };
        data.record(&place)?;
        let log = data.fresh_log()?;
        let settings = Settings { durable: options.durable, max_connections: options.max_connections };
        let server = Server::spawn(&binaries, &place, &settings, log)?;
        let mut cluster = Self { server, password, location: place.cluster, _lock: lock };
        let url = cluster.url("postgres");
        cluster.server.ready(&url).await?;
        Ok(cluster)
    }

    /// The address of a database of this cluster, for tokio-postgres and libpq alike. It holds the password.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        // The socket's directory stands in the place of the host, so that it also parses as a general URL.
        let host = escaped(&self.server.socket_dir().to_string_lossy());
        format!("postgres://{ROLE}:{}@{host}/{}", self.password, escaped(database))
    }

    /// Where the cluster's files are.
    #[must_use]
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// Waits until the server ends by itself, which it does only when something went wrong, and says how: usually
    /// [`ClusterError::Exited`], with the end of the log. Safe to cancel.
    pub async fn failed(&mut self) -> ClusterError {
        self.server.failed().await
    }

    /// Shuts the server down in order: sessions are ended, and everything is written. One that takes too long
    /// is ended harder, and recovers at the next start.
    ///
    /// # Errors
    /// [`ClusterError::Io`] when the server could not even be waited for.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        self.server.stop().await
    }
}

/// Percent-encodes everything that could mean something in a URL.
fn escaped(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            url.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// For `map_err`: what was being done to which file.
fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    move |source| ClusterError::Io { what, path: path.to_owned(), source }
}
