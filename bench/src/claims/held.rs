//! What a transaction that stays open does: no row version that it might see can be cleaned up, and the claim wades through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reelmill_shared::db::Db;
use reelmill_testkit::database::TestDatabase;

use crate::claimer::Crew;
use crate::queue::bare;

/// The rate before, under and after a snapshot of `seconds`, second by second; of the farm, and of a plain table.
pub(super) async fn run(db: &Db, crew: &Crew, seconds: u64) -> anyhow::Result<()> {
    println!("an old snapshot held open for {seconds} s, tasks/s in each third of the time:");
    let working = crew.start().await?;
    series("farm", db, seconds, || working.finished()).await?;
    working.stop().await?;

    let database = TestDatabase::new().await;
    let table = bare::fill(&database.url, 1_000_000, crew.workers + 2).await?;
    let done = Arc::new(AtomicUsize::new(0));
    let (working, over) = (Arc::clone(&done), Arc::new(AtomicUsize::new(usize::MAX)));
    let (clients, plain, stop) = (crew.workers, table.clone(), Arc::clone(&over));
    let work = tokio::spawn(async move { bare::work(&plain, clients, &working, &stop).await });
    series("plain table", &table, seconds, || done.load(Ordering::Relaxed)).await?;
    over.store(0, Ordering::Relaxed);
    work.await??;
    table.close();
    database.drop().await;
    Ok(())
}

async fn series(name: &str, db: &Db, seconds: u64, finished: impl Fn() -> usize) -> anyhow::Result<()> {
    let before = thirds(seconds, &finished).await;
    let holder = db.get().await?;
    holder.batch_execute("set idle_in_transaction_session_timeout = 0").await?;
    holder.batch_execute("begin isolation level repeatable read").await?;
    holder.batch_execute("select count(*) from pg_class").await?;
    let under = thirds(seconds, &finished).await;
    holder.batch_execute("commit").await?;
    let after = thirds(seconds, &finished).await;
    println!("  {name}: before {before}, under it {under}, after it {after}");
    Ok(())
}

async fn thirds(seconds: u64, finished: impl Fn() -> usize) -> String {
    let third = Duration::from_secs(seconds) / 3;
    let mut rates = vec![];
    for _ in 0..3 {
        let from = finished();
        tokio::time::sleep(third).await;
        rates.push(format!("{:.0}", (finished() - from) as f64 / third.as_secs_f64()));
    }
    rates.join(" ")
}
