//! A relay between a process and a server, that can fail as networks and servers do.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a relay leads to.
#[derive(Debug, Clone)]
pub enum Target {
    Tcp(String),
    Unix(PathBuf),
}

/// How a relay behaves towards new and old connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Through,
    /// Connections end at once.
    Refuse,
    /// Connections stand, and nothing goes through.
    Hang,
}

/// A running relay; ends when dropped.
pub struct Relay {
    /// `host:port` to connect to.
    pub address: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: Mutex<Target>,
    mode: watch::Sender<Mode>,
    /// Commits whose reply is still to be lost.
    lose: AtomicU32,
}

/// What PostgreSQL's simple protocol says to end a transaction well.
const COMMIT: &[u8] = b"COMMIT\0";

impl Relay {
    /// Listens on a free port of the loopback interface.
    pub async fn to(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mode = watch::Sender::new(Mode::Through);
        let shared = Arc::new(Shared { target: Mutex::new(target), mode, lose: AtomicU32::new(0) });
        let for_all = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, Arc::clone(&for_all)));
            }
        });
        Self { address, shared, accepting }
    }

    /// From now on. Connections that stand are ended by [`Mode::Refuse`] and halted by [`Mode::Hang`].
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Where new connections lead to.
    pub fn lead_to(&self, target: Target) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Lets the next `count` commits of PostgreSQL's simple protocol reach the server, and ends their connections before the reply.
    pub fn lose_commits(&self, count: u32) {
        self.shared.lose.store(count, Ordering::SeqCst);
    }

    /// How many of them are still to come.
    pub fn commits_to_lose(&self) -> u32 {
        self.shared.lose.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.mode.send_replace(Mode::Refuse);
    }
}

async fn relay(client: TcpStream, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    if *mode.borrow_and_update() == Mode::Refuse {
        return;
    }
    let refused = async {
        let _ = mode.clone().wait_for(|mode| *mode == Mode::Refuse).await;
    };
    let target = shared.target.lock().unwrap().clone();
    let working = async {
        match target {
            Target::Tcp(address) => {
                if let Ok(server) = TcpStream::connect(address).await {
                    let _ = server.set_nodelay(true);
                    join(client, server, &shared).await;
                }
            }
            Target::Unix(path) => {
                if let Ok(server) = UnixStream::connect(path).await {
                    join(client, server, &shared).await;
                }
            }
        }
    };
    tokio::select! {
        () = working => {}
        () = refused => {}
    }
}

async fn join(client: TcpStream, server: impl AsyncRead + AsyncWrite, shared: &Shared) {
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let swallow = watch::Sender::new(false);
    let there = async {
        let seen = |bytes: &[u8]| {
            let commits = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
            let taken = |left: u32| left.checked_sub(1);
            if commits && shared.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_ok() {
                swallow.send_replace(true);
            }
            true
        };
        pump(from_client, to_server, shared, seen).await;
    };
    // The reply shows that the server has done it.
    let back = pump(from_server, to_client, shared, |_| !*swallow.borrow());
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Until either side ends, or `passes` says no.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    mut passes: impl FnMut(&[u8]) -> bool,
) {
    let mut mode = shared.mode.subscribe();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if mode.wait_for(|mode| *mode != Mode::Hang).await.is_err() {
            return;
        }
        if !passes(&buffer[..length]) || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
