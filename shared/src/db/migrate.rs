//! The schema's history. Runs once, in order, under a lock.

use refinery::{Migration, Runner};

use super::{Db, DbError};

/// All migrations, oldest first. A released file is never edited.
const MIGRATIONS: [(&str, &str); 18] = [
    ("V1__initial", include_str!("../../../migrations/0001_initial.sql")),
    ("V2__chunks", include_str!("../../../migrations/0002_chunks.sql")),
    ("V3__playable", include_str!("../../../migrations/0003_playable.sql")),
    ("V4__keyframes", include_str!("../../../migrations/0004_keyframes.sql")),
    ("V5__downloads", include_str!("../../../migrations/0005_downloads.sql")),
    ("V6__pictures", include_str!("../../../migrations/0006_pictures.sql")),
    ("V7__segment_quality", include_str!("../../../migrations/0007_segment_quality.sql")),
    ("V8__reuse", include_str!("../../../migrations/0008_reuse.sql")),
    ("V9__tracks", include_str!("../../../migrations/0009_tracks.sql")),
    ("V10__ready", include_str!("../../../migrations/0010_ready.sql")),
    ("V11__marks", include_str!("../../../migrations/0011_marks.sql")),
    ("V12__scheduling", include_str!("../../../migrations/0012_scheduling.sql")),
    ("V13__reserved", include_str!("../../../migrations/0013_reserved.sql")),
    ("V14__webhooks", include_str!("../../../migrations/0014_webhooks.sql")),
    ("V15__ahead", include_str!("../../../migrations/0015_ahead.sql")),
    ("V16__retention", include_str!("../../../migrations/0016_retention.sql")),
    ("V17__progress", include_str!("../../../migrations/0017_progress.sql")),
    ("V18__big_queues", include_str!("../../../migrations/0018_big_queues.sql")),
];

/// Any number will do as long as nothing else in this database takes it: "reelmill" in ASCII.
const LOCK: i64 = 0x7265_656c_6d69_6c6c;

/// Brings the schema to this program's version. Several callers may race: one works, the others wait for it.
pub async fn migrate(db: &Db) -> Result<(), DbError> {
    // Out of the pool: its settings go with it, whatever happens. Waiting for the lock and long migrations must not run into the
    // pool's time limits.
    let mut client = super::Connection::take(db.get().await?);
    client.batch_execute("set statement_timeout = 0").await?;
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let result = run(&mut client).await;
    client.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    result
}

async fn run(client: &mut tokio_postgres::Client) -> Result<(), DbError> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<Result<Vec<_>, _>>()?;
    Runner::new(&migrations).set_abort_missing(false).run_async(client).await?;
    Ok(())
}

/// True where the schema is at least this program's version.
pub async fn is_current(db: &Db) -> Result<bool, DbError> {
    let client = db.get().await?;
    let there = client.query_one("select to_regclass('refinery_schema_history') is not null", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(false);
    }
    let row =
        client.query_one("select coalesce(max(version), 0)::int from refinery_schema_history", &[]).await?;
    Ok(row.get::<_, i32>(0) >= newest())
}

/// The version of this program's schema: the number in the last migration's name.
fn newest() -> i32 {
    let number = |name: &str| name.strip_prefix('V')?.split_once("__")?.0.parse().ok();
    MIGRATIONS.last().and_then(|(name, _)| number(name)).unwrap_or(0)
}
