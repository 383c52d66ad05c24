//! What an earlier run left behind: a server that outlived a killed `reelmill dev`, sessions that outlived a
//! killed server, a socket's directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::ClusterError;
use super::server::remove_socket_dir;

/// Ends every server process that still works on the cluster. To be called under the data directory's lock
/// only: without it they could be another process' rightful server.
///
/// An orphan is ended, not adopted: it runs under its old settings, and is no child of ours that we could
/// wait for.
pub(super) async fn clear(cluster: &Path) -> Result<(), ClusterError> {
    // postmaster.pid: the process first, the socket's directory in the fifth line.
    let pid_file = cluster.join("postmaster.pid");
    let file = fs::read_to_string(&pid_file).unwrap_or_default();
    let postmaster: Option<i32> = file.lines().next().and_then(|line| line.trim().parse().ok());
    let running = || processes(cluster, postmaster);
    let found = running();
    if !found.is_empty() {
        tracing::warn!(cluster = %cluster.display(), processes = ?found, "ending a database server of an earlier run");
    }
    // In order, then at once, then without asking. Only the postmaster takes the first for a shutdown.
    for (signal, patience) in [(Signal::SIGINT, 10), (Signal::SIGQUIT, 5), (Signal::SIGKILL, 5)] {
        let targets = running();
        let targets = targets.iter().filter(|pid| signal != Signal::SIGINT || Some(**pid) == postmaster);
        // It may be gone by itself in between.
        let sent = targets.filter(|pid| kill(Pid::from_raw(**pid), signal).is_ok()).count();
        let deadline = Instant::now() + Duration::from_secs(patience);
        while sent > 0 && !running().is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let pids = running();
    if !pids.is_empty() {
        return Err(ClusterError::Leftover { cluster: cluster.to_owned(), pids });
    }
    // The number was given to another program: PostgreSQL would take that for a server and refuse to start.
    // Otherwise the file stays, from which PostgreSQL makes sure by itself that nobody uses the old shared
    // memory.
    if postmaster.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_ok()) {
        let _ = fs::remove_file(&pid_file);
    }
    if let Some(dir) = file.lines().nth(4) {
        remove_socket_dir(Path::new(dir));
    }
    Ok(())
}

/// The processes that are PostgreSQL and work on this very cluster. A number in a file is not enough to
/// signal anybody: it may belong to another program by now.
fn processes(cluster: &Path, postmaster: Option<i32>) -> Vec<i32> {
    match fs::read_dir("/proc") {
        Ok(entries) if Path::new("/proc/self/exe").exists() => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| is_server(*pid, cluster))
            .collect(),
        // macOS: only the postmaster has the cluster in its command line; its sessions end with it.
        _ => postmaster.into_iter().filter(|pid| says_so(*pid, cluster)).collect(),
    }
}

/// Every process of a server has the cluster as its working directory. A zombie has no links, and counts as
/// gone. One that is ending loses its program first, then the shared memory, which the next server must not find in use, and
/// the directory at last: until then only its name tells what it was.
fn is_server(pid: i32, cluster: &Path) -> bool {
    let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let link = |name: &str| fs::read_link(of(name)).ok();
    // "postgres (deleted)" after the package was upgraded.
    let program = link("exe").and_then(|exe| exe.file_name().map(|name| name.to_string_lossy().into_owned()));
    let program = program.or_else(|| fs::read_to_string(of("comm")).ok().map(|name| name.trim().to_owned()));
    program.is_some_and(|name| name == "postgres" || name.starts_with("postgres "))
        && link("cwd").as_deref() == Some(cluster)
}

fn says_so(pid: i32, cluster: &Path) -> bool {
    let said = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    said.contains("postgres") && said.contains(&*cluster.to_string_lossy())
}
