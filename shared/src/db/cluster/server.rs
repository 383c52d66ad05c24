//! The server process.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::binaries::Binaries;
use super::place::{Place, command, private_dir};
use super::{ClusterError, io_error};

/// Beginning of the names of the socket's directories.
const SOCKET_DIR: &str = "reelmill-pg-";
/// PostgreSQL names its socket after a port, also where there is none. The clients' default needs no mention
/// in the URL.
const SOCKET: &str = ".s.PGSQL.5432";
const PORT: &str = "5432";

/// How long a server may take until it answers, and until it has recovered what a crash left.
const READY_LIMIT: Duration = Duration::from_secs(60);
const RECOVERY_LIMIT: Duration = Duration::from_secs(600);
/// How long an orderly shutdown may take, which writes everything out, and then an immediate one.
const FAST_LIMIT: Duration = Duration::from_secs(30);
const IMMEDIATE_LIMIT: Duration = Duration::from_secs(5);
/// How long dropping a server may block.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// What is set on the command line, and may thus change from start to start.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) durable: bool,
    pub(super) max_connections: u32,
}

/// A server that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    socket_dir: PathBuf,
    log: PathBuf,
}

impl Server {
    pub(super) fn spawn(
        binaries: &Binaries,
        place: &Place,
        settings: &Settings,
        (log, log_file): (PathBuf, File),
    ) -> Result<Self, ClusterError> {
        let program = binaries.postgres();
        let mut postgres = command(&program, place.user.as_ref());
        postgres.arg("-D").arg(&place.cluster);
        let socket_dir = new_socket_dir(place)?;
        let mut set = |name: &str, value: &str| {
            postgres.arg("-c").arg(format!("{name}={value}"));
        };
        set("unix_socket_directories", &socket_dir.to_string_lossy());
        set("listen_addresses", "");
        set("port", PORT);
        set("max_connections", &settings.max_connections.max(1).to_string());
        // Our role is a superuser, so that reserving some for superusers would change nothing, but forbid
        // small numbers.
        set("superuser_reserved_connections", "0");
        set("timezone", "UTC");
        set("log_timezone", "UTC");
        set("logging_collector", "off");
        if !settings.durable {
            for name in ["fsync", "synchronous_commit", "full_page_writes"] {
                set(name, "off");
            }
        }
        // A Ctrl-C in the terminal is for us, who then shut the server down in order.
        postgres.process_group(0);
        let spawned = log_file.try_clone().and_then(|copy| postgres.stdout(copy).stderr(log_file).spawn());
        match spawned {
            Ok(child) => Ok(Self { child, socket_dir, log }),
            Err(source) => {
                remove_socket_dir(&socket_dir);
                Err(ClusterError::Spawn { program, source })
            }
        }
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// Waits until the server accepts connections at `url`.
    pub(super) async fn ready(&mut self, url: &str) -> Result<(), ClusterError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            let (last, limit) = match timeout(READY_LIMIT, tokio_postgres::connect(url, NoTls)).await {
                Ok(Ok((client, connection))) => {
                    // The connection has to be driven for its good-bye, which it says once the client is
                    // dropped.
                    drop(client);
                    let _ = connection.await;
                    return Ok(());
                }
                // An answer, and only the first two change by waiting; a wrong password does not.
                Ok(Err(error)) => match error.as_db_error() {
                    Some(db) if *db.code() == SqlState::CANNOT_CONNECT_NOW => {
                        (db.to_string(), RECOVERY_LIMIT)
                    }
                    Some(db) if *db.code() == SqlState::TOO_MANY_CONNECTIONS => (db.to_string(), READY_LIMIT),
                    Some(db) => (db.to_string(), Duration::ZERO),
                    None => (error.to_string(), READY_LIMIT),
                },
                Err(_) => ("no answer".to_owned(), READY_LIMIT),
            };
            if let Some(status) =
                self.child.try_wait().map_err(io_error("wait for the server of", &self.log))?
            {
                return Err(ClusterError::Exited { status, log: tail(&self.log) });
            }
            if begun.elapsed() > limit {
                return Err(ClusterError::NotReady { after: begun.elapsed(), last, log: tail(&self.log) });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    pub(super) async fn failed(&mut self) -> ClusterError {
        match self.child.wait().await {
            Ok(status) => ClusterError::Exited { status, log: tail(&self.log) },
            Err(source) => io_error("wait for the server of", &self.log)(source),
        }
    }

    pub(super) async fn stop(&mut self) -> Result<(), ClusterError> {
        for (signal, limit) in [(Signal::SIGINT, FAST_LIMIT), (Signal::SIGQUIT, IMMEDIATE_LIMIT)] {
            self.signal(signal);
            if let Ok(ended) = timeout(limit, self.child.wait()).await {
                remove_socket_dir(&self.socket_dir);
                return ended.map(drop).map_err(io_error("wait for the server of", &self.log));
            }
            tracing::warn!(?signal, ?limit, "the database server has not ended");
        }
        let killed = self.child.kill().await;
        remove_socket_dir(&self.socket_dir);
        killed.map_err(io_error("kill the server of", &self.log))
    }

    fn signal(&self, signal: Signal) {
        // The number is the child's until it has been waited for, and `None` afterwards.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    /// For a panic, or a start that is given up: the server must not outlive us. An immediate shutdown is a
    /// matter of milliseconds and takes the sessions along, which killing the server alone would not.
    fn drop(&mut self) {
        if self.ended() {
            remove_socket_dir(&self.socket_dir);
            return;
        }
        self.signal(Signal::SIGQUIT);
        let deadline = std::time::Instant::now() + DROP_LIMIT;
        while !self.ended() && std::time::Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if !self.ended() {
            self.signal(Signal::SIGKILL);
        }
        remove_socket_dir(&self.socket_dir);
    }
}

/// A private directory for the socket, of which root and the server's user know. Not in the data directory:
/// the path of a socket may have some 100 bytes only.
fn new_socket_dir(place: &Place) -> Result<PathBuf, ClusterError> {
    let name = format!("{SOCKET_DIR}{}", hex::encode(rand::random::<[u8; 8]>()));
    let short = Path::new("/tmp");
    let base = if short.is_dir() { short.to_owned() } else { std::env::temp_dir() };
    let dir = base.join(name);
    private_dir(&dir, place.user.as_ref())?;
    Ok(dir)
}

/// Removes a socket's directory, whose name may come from a file: so only if it is one of ours, and nothing
/// else in it.
pub(super) fn remove_socket_dir(dir: &Path) {
    let ours = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SOCKET_DIR));
    if ours && fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir()) {
        let _ = fs::remove_file(dir.join(SOCKET));
        let _ = fs::remove_file(dir.join(format!("{SOCKET}.lock")));
        let _ = fs::remove_dir(dir);
    }
}

/// The end of a log.
fn tail(log: &Path) -> String {
    const BYTES: u64 = 4096;
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut text = Vec::new();
        file.take(BYTES).read_to_end(&mut text)?;
        std::io::Result::Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    read().unwrap_or_default()
}
