//! The floor: a row is claimed and committed, changed again and committed, in a table that has nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use reelmill_shared::config::DatabaseConfig;
use reelmill_shared::db::Db;
use tokio::task::JoinSet;

/// A plain queue with `rows` that wait, on an empty database.
pub(crate) async fn fill(url: &str, rows: usize, clients: usize) -> anyhow::Result<Db> {
    let db = Db::new(&DatabaseConfig { url: url.to_owned(), pool_size: clients as u32 })?;
    let client = db.get().await?;
    client
        .batch_execute(&format!(
            "create table queue (id bigint primary key, payload jsonb not null, state text not null)
                 with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
             create index on queue (id) where state = 'ready';
             insert into queue select n, '{{\"n\": 1}}', 'ready' from generate_series(1, {rows}) n"
        ))
        .await?;
    client.batch_execute("vacuum analyze queue").await?;
    client.batch_execute("checkpoint").await?;
    Ok(db)
}

/// Tasks per second.
pub(super) async fn rate(url: &str, tasks: usize, clients: usize) -> anyhow::Result<f64> {
    let db = fill(url, tasks, clients).await?;
    let begun = Instant::now();
    let done = Arc::new(AtomicUsize::new(0));
    work(&db, clients, &done, &Arc::new(AtomicUsize::new(usize::MAX))).await?;
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    db.close();
    Ok(rate)
}

/// Has `clients` work until nothing is left, or `most` are done.
pub(crate) async fn work(
    db: &Db,
    clients: usize,
    done: &Arc<AtomicUsize>,
    most: &Arc<AtomicUsize>,
) -> anyhow::Result<()> {
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (db, done, most) = (db.clone(), Arc::clone(done), Arc::clone(most));
        all.spawn(async move {
            while done.load(Ordering::Relaxed) < most.load(Ordering::Relaxed) && cycle(&db).await? {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(ended) = all.join_next().await {
        ended??;
    }
    Ok(())
}

async fn cycle(db: &Db) -> anyhow::Result<bool> {
    let client = db.get().await?;
    let claim = client
        .prepare_cached(
            "update queue set state = 'running' where id = (
                 select id from queue where state = 'ready' order by id limit 1 for update skip locked)
             returning id, payload",
        )
        .await?;
    let Some(row) = client.query_opt(&claim, &[]).await? else { return Ok(false) };
    let complete = client.prepare_cached("update queue set state = 'done' where id = $1").await?;
    client.execute(&complete, &[&row.get::<_, i64>(0)]).await?;
    Ok(true)
}
