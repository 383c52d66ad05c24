//! Real clusters, started, killed and started again.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use super::*;

mod crashes;
mod life;
mod places;

/// A data directory that everybody may enter (a temporary directory is private by itself).
fn data_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("reelmill-cluster-test-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn options(dir: &Path) -> ClusterOptions {
    ClusterOptions { data_dir: dir.to_owned(), durable: false, max_connections: 20 }
}

/// For tests that kill the server: without durability it may forget the last moment before.
fn durable(dir: &Path) -> ClusterOptions {
    ClusterOptions { durable: true, ..options(dir) }
}

async fn start(dir: &TempDir) -> Cluster {
    Cluster::start(options(dir.path())).await.unwrap()
}

async fn connect(cluster: &Cluster) -> Client {
    let (client, connection) = tokio_postgres::connect(&cluster.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn add(cluster: &Cluster, n: i32) {
    let client = connect(cluster).await;
    client.batch_execute("CREATE TABLE IF NOT EXISTS kept (n int)").await.unwrap();
    client.execute("INSERT INTO kept VALUES ($1)", &[&n]).await.unwrap();
}

async fn kept(cluster: &Cluster) -> Vec<i32> {
    let rows = connect(cluster).await.query("SELECT n FROM kept ORDER BY n", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn show(cluster: &Cluster, setting: &str) -> String {
    connect(cluster).await.query_one(&format!("SHOW {setting}"), &[]).await.unwrap().get(0)
}

fn alive(pid: i32) -> bool {
    // A zombie waits for init, and is as good as gone.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

/// This test program once more, running only the named test (`file::function`).
fn again(test: &str) -> Command {
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]).current_dir("/");
    command
}
