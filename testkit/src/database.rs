//! A database of one's own for each test.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_shared::db::cluster::{Cluster, ClusterOptions};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::config::Host;
use url::Url;
use uuid::Uuid;

use crate::relay::{Relay, Target};

/// An empty database, dropped (or forgotten with its cluster) at the end.
pub struct TestDatabase {
    pub url: String,
    admin: String,
    name: String,
    /// Without a shared server: a cluster for this test alone.
    cluster: Option<(Cluster, TempDir)>,
    /// Where [`TestDatabase::url`] leads through one.
    pub relay: Option<Relay>,
}

impl TestDatabase {
    /// A new database on the shared server, or on a cluster of its own.
    pub async fn new() -> Self {
        let (admin, cluster) = match std::env::var("REELMILL_TEST_DATABASE_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                println!("REELMILL_TEST_DATABASE_URL is not set: starting a cluster for this test alone");
                let dir = tempfile::tempdir().unwrap();
                let data_dir = dir.path().to_owned();
                let options = ClusterOptions { data_dir, durable: false, max_connections: 100 };
                let cluster = Cluster::start(options).await.unwrap();
                (cluster.url("postgres"), Some((cluster, dir)))
            }
        };
        let name = format!("reelmill_test_{}", Uuid::now_v7().simple());
        execute(&admin, &format!("create database {name}")).await;
        let mut url = Url::parse(&admin).unwrap();
        url.set_path(&name);
        Self { url: url.into(), admin, name, cluster, relay: None }
    }

    /// A new database on a cluster of its own that keeps what was committed, behind a relay: it can be killed, and cut off.
    pub async fn killable() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(killable_in(&dir)).await.unwrap();
        let admin = cluster.url("postgres");
        let name = "farm".to_owned();
        execute(&admin, &format!("create database {name}")).await;
        let relay = Relay::to(target_of(&admin)).await;
        let config: tokio_postgres::Config = admin.parse().unwrap();
        let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec()).unwrap();
        let url = format!("postgres://{}:{password}@{}/{name}", config.get_user().unwrap(), relay.address);
        Self { url, admin, name, cluster: Some((cluster, dir)), relay: Some(relay) }
    }

    /// Kills the server of a killable database as a crash would, and starts it again on what it had written.
    pub async fn crash(&mut self) {
        let (cluster, dir) = self.cluster.take().unwrap();
        let pid = std::fs::read_to_string(cluster.location().join("postmaster.pid")).unwrap();
        let pid = Pid::from_raw(pid.lines().next().unwrap().trim().parse().unwrap());
        // PostgreSQL's immediate shutdown: no checkpoint, no goodbye.
        kill(pid, Signal::SIGQUIT).unwrap();
        drop(cluster);
        let cluster = Cluster::start(killable_in(&dir)).await.unwrap();
        self.admin = cluster.url("postgres");
        self.relay.as_ref().unwrap().lead_to(target_of(&self.admin));
        self.cluster = Some((cluster, dir));
    }

    /// A connection to this database, past any relay.
    pub async fn connect(&self) -> tokio_postgres::Client {
        self.try_connect().await.unwrap()
    }

    /// The same, where the server may have none left.
    pub async fn try_connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config: tokio_postgres::Config = self.admin.parse().unwrap();
        config.dbname(&self.name);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Drops the database, whoever is still connected.
    pub async fn drop(self) {
        if let Some((cluster, _dir)) = self.cluster {
            cluster.stop().await.unwrap();
            return;
        }
        execute(&self.admin, &format!("drop database {} with (force)", self.name)).await;
    }
}

fn killable_in(dir: &TempDir) -> ClusterOptions {
    ClusterOptions { data_dir: dir.path().to_owned(), durable: true, max_connections: 100 }
}

/// Where a server with this URL listens.
fn target_of(url: &str) -> Target {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match &config.get_hosts()[0] {
        Host::Unix(directory) => Target::Unix(directory.join(format!(".s.PGSQL.{port}"))),
        Host::Tcp(host) => Target::Tcp(format!("{host}:{port}")),
    }
}

async fn execute(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
}
