//! The schema's history. Runs once, in order, under a lock.

use std::collections::BTreeMap;

use refinery::{Migration, Runner};

use super::{Db, DbError};

/// All migrations, oldest first: their names and what they do. A released file is never edited.
pub const MIGRATIONS: [(&str, &str); 33] = [
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
    ("V19__live", include_str!("../../../migrations/0019_live.sql")),
    ("V20__live_limits", include_str!("../../../migrations/0020_live_limits.sql")),
    ("V21__listeners", include_str!("../../../migrations/0021_listeners.sql")),
    ("V22__broadcasts_kept", include_str!("../../../migrations/0022_broadcasts_kept.sql")),
    ("V23__live_figures", include_str!("../../../migrations/0023_live_figures.sql")),
    ("V24__imported", include_str!("../../../migrations/0024_imported.sql")),
    ("V25__playback", include_str!("../../../migrations/0025_playback.sql")),
    ("V26__abr", include_str!("../../../migrations/0026_abr.sql")),
    ("V27__viewing", include_str!("../../../migrations/0027_viewing.sql")),
    ("V28__streams", include_str!("../../../migrations/0028_streams.sql")),
    ("V29__segment_deliveries", include_str!("../../../migrations/0029_segment_deliveries.sql")),
    ("V30__cdn", include_str!("../../../migrations/0030_cdn.sql")),
    ("V31__live_recordings", include_str!("../../../migrations/0031_live_recordings.sql")),
    ("V32__revocations", include_str!("../../../migrations/0032_revocations.sql")),
    ("V33__stream_bandwidth", include_str!("../../../migrations/0033_stream_bandwidth.sql")),
];

/// Any number will do as long as nothing else in this database takes it: "reelmill" in ASCII.
const LOCK: i64 = 0x7265_656c_6d69_6c6c;

/// How the schema of a database stands to this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All that this program needs is there. What newer programs added to it does not concern this one.
    Fit,
    /// Migrations of this program have not run yet; `version` is the newest that has, zero where none has.
    Older { version: i32 },
    /// Something else than this program's history, and what: no migration makes it fit.
    Foreign(String),
}

/// Brings the schema to this program's version. Several callers may race: one works, the others wait for it. A schema that newer
/// programs have added to is left as it is.
///
/// # Errors
/// [`DbError::Schema`] where the schema is [`Standing::Foreign`]; nothing is changed then.
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
    let own = own()?;
    if let Standing::Foreign(why) = compare(&own, &applied(client).await?) {
        return Err(DbError::Schema(why));
    }
    // What this program does not know comes from a newer one.
    Runner::new(&own).set_abort_missing(false).run_async(client).await?;
    Ok(())
}

/// How the schema stands to this program now.
pub async fn standing(db: &Db) -> Result<Standing, DbError> {
    Ok(compare(&own()?, &applied(&**db.get().await?).await?))
}

/// The version of this program's schema: the number in the last migration's name.
pub fn newest() -> i32 {
    let number = |name: &str| name.strip_prefix('V')?.split_once("__")?.0.parse().ok();
    MIGRATIONS.last().and_then(|(name, _)| number(name)).unwrap_or(0)
}

fn own() -> Result<Vec<Migration>, DbError> {
    Ok(MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect::<Result<_, _>>()?)
}

/// The checksums of the migrations that have run, by version.
async fn applied(client: &tokio_postgres::Client) -> Result<BTreeMap<i32, String>, DbError> {
    let there = client.query_one("select to_regclass('refinery_schema_history') is not null", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(BTreeMap::new());
    }
    let rows = client.query("select version, checksum from refinery_schema_history", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn compare(own: &[Migration], applied: &BTreeMap<i32, String>) -> Standing {
    let version = applied.keys().next_back().copied().unwrap_or(0);
    let mut standing = Standing::Fit;
    for migration in own {
        match applied.get(&migration.version()) {
            Some(checksum) if *checksum == migration.checksum().to_string() => {}
            Some(_) => {
                return Standing::Foreign(format!("migration {migration} has run there in another form"));
            }
            None if migration.version() < version => {
                return Standing::Foreign(format!(
                    "migration {migration} is missing below version {version}"
                ));
            }
            None => standing = Standing::Older { version },
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_fits_is_older_or_is_another() {
        let own = own().unwrap();
        let all: BTreeMap<i32, String> =
            own.iter().map(|one| (one.version(), one.checksum().to_string())).collect();
        let with = |change: &dyn Fn(&mut BTreeMap<i32, String>)| {
            let mut applied = all.clone();
            change(&mut applied);
            compare(&own, &applied)
        };
        let last = newest();
        assert_eq!(with(&|_| {}), Standing::Fit);
        assert_eq!(with(&|applied| drop(applied.insert(last + 1, "newer".into()))), Standing::Fit);
        assert_eq!(with(&|applied| applied.clear()), Standing::Older { version: 0 });
        let version = own.iter().rev().nth(1).unwrap().version();
        assert_eq!(with(&|applied| drop(applied.remove(&last))), Standing::Older { version });
        assert!(matches!(with(&|applied| drop(applied.remove(&2))), Standing::Foreign(_)), "a hole");
        assert!(matches!(with(&|applied| drop(applied.insert(2, "other".into()))), Standing::Foreign(_)));
    }
}
