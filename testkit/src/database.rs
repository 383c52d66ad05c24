//! A database of one's own for each test.

use reelmill_shared::db::cluster::{Cluster, ClusterOptions};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use url::Url;
use uuid::Uuid;

/// An empty database, dropped (or forgotten with its cluster) at the end.
pub struct TestDatabase {
    pub url: String,
    admin: String,
    name: String,
    /// Without a shared server: a cluster for this test alone.
    cluster: Option<(Cluster, TempDir)>,
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
        Self { url: url.into(), admin, name, cluster }
    }

    /// A connection to this database.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
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

async fn execute(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
}
