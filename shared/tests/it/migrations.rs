//! The schema on its way from one version to the next, with rows in it.

use std::collections::BTreeMap;
use std::time::Duration;

use reelmill_shared::config::DatabaseConfig;
use reelmill_shared::db::finish::AttemptNote;
use reelmill_shared::db::migrate::{self, MIGRATIONS, Standing};
use reelmill_shared::db::{Db, DbError, events, finish, jobs, leader, recordings, tasks};
use reelmill_shared::ids::{JobId, ProjectId, RecordingId, SchedulerId};
use reelmill_shared::job::state::JobStatus;
use reelmill_testkit::database::TestDatabase;
use refinery::{Migration, Runner};
use serde_json::Value;

use crate::fixture::{LEASE, claimant, horizon};

/// Rows as the programs left them whose newest migration was this one: jobs in every state, one under a lease, files that came and
/// did not, a recording that plays. Taken from a farm of those programs, never edited.
const OLD: usize = 9;
const ROWS: &str = include_str!("migrations/0009.sql");

/// A database whose schema is as `version` left it.
async fn at(version: usize) -> (TestDatabase, Db) {
    let database = TestDatabase::new().await;
    let db = Db::new(&DatabaseConfig { url: database.url.clone(), pool_size: 8 }).unwrap();
    let migrations: Vec<Migration> =
        MIGRATIONS[..version].iter().map(|(name, sql)| Migration::unapplied(name, sql).unwrap()).collect();
    let mut client = database.connect().await;
    Runner::new(&migrations).run_async(&mut client).await.unwrap();
    (database, db)
}

async fn done(database: TestDatabase, db: Db) {
    db.close();
    database.drop().await;
}

/// All rows of all tables, by table, as JSON.
async fn rows(db: &Db) -> BTreeMap<String, Vec<Value>> {
    let client = db.get().await.unwrap();
    let tables = "select table_name::text from information_schema.tables
                  where table_schema = 'public' and table_name <> 'refinery_schema_history'";
    let mut all = BTreeMap::new();
    for table in client.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let rows = client.query(&format!("select to_jsonb(t) from {table} t"), &[]).await.unwrap();
        all.insert(table, rows.iter().map(|row| row.get(0)).collect());
    }
    all
}

/// True where `row` says all that `before` says, and perhaps more.
fn keeps(before: &Value, row: &Value) -> bool {
    before.as_object().unwrap().iter().all(|(column, value)| row.get(column) == Some(value))
}

#[tokio::test]
async fn rows_of_every_earlier_version_survive_and_are_worked_on() {
    for version in OLD..=MIGRATIONS.len() {
        let (database, db) = at(version).await;
        // What the oldest of these programs writes is taken by every schema after it.
        db.get().await.unwrap().batch_execute(ROWS).await.unwrap();
        let before = rows(&db).await;
        migrate::migrate(&db).await.unwrap();
        assert_eq!(migrate::standing(&db).await.unwrap(), Standing::Fit);
        let after = rows(&db).await;
        for (table, old) in &before {
            let new = &after[table];
            assert_eq!(new.len(), old.len(), "{table}, from version {version}");
            for row in old {
                assert!(new.iter().any(|now| keeps(row, now)), "{table}, from version {version}: {row}");
            }
        }
        everything_reads(&db).await;
        what_is_open_is_finished(&db).await;
        let refused = "update jobs set status = 'lost'; ";
        let error = db.get().await.unwrap().batch_execute(refused).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("23514"), "a check: {error}");
        done(database, db).await;
    }
}

/// Ids of a table.
async fn ids(db: &Db, table: &str) -> Vec<uuid::Uuid> {
    let rows = db.get().await.unwrap().query(&format!("select id from {table} order by id"), &[]).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn everything_reads(db: &Db) {
    horizon(db).await;
    for id in ids(db, "jobs").await {
        let job = jobs::find(db, JobId(id)).await.unwrap().unwrap();
        let read = tasks::of_job(db, job.id).await.unwrap();
        assert!(!read.is_empty(), "{id} has its tasks");
        tasks::attempts_of_job(db, job.id).await.unwrap();
        assert!(!events::of_job_after(db, job.id, events::Position::default()).await.unwrap().is_empty());
    }
    let project = ProjectId(ids(db, "projects").await[0]);
    for id in ids(db, "recordings").await {
        assert!(recordings::get(db, project, RecordingId(id)).await.unwrap().is_some());
    }
}

/// The lease of the worker that is gone ends, and every task that is open is done once.
async fn what_is_open_is_finished(db: &Db) {
    let client = db.get().await.unwrap();
    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("select count(*) from task_leases").await, 1);
    client.execute("update task_leases set expires_at = now()", &[]).await.unwrap();
    let leadership = leader::acquire(db, SchedulerId::new(), LEASE).await.unwrap();
    // The lead of a scheduler that was killed ends too.
    let leadership = match leadership {
        Some(leadership) => leadership,
        None => {
            client.execute("update leaders set expires_at = now()", &[]).await.unwrap();
            leader::acquire(db, SchedulerId::new(), LEASE).await.unwrap().unwrap()
        }
    };
    assert_eq!(finish::expire_leases(db, &leadership, 10).await.unwrap().len(), 1);
    let open = "select count(*) from jobs where status in ('queued', 'running')";
    assert_eq!(count(open).await, 2);
    let worker = claimant();
    let mut finished = vec![];
    while let Some(claimed) = tasks::claim(db, &worker).await.unwrap() {
        let followed = finish::succeed(db, &claimed, &[], &AttemptNote::default()).await.unwrap();
        finished.extend(followed.job);
    }
    assert_eq!(finished, [JobStatus::Succeeded; 2]);
    assert_eq!(count(open).await, 0);
    assert_eq!(count("select count(*) from tasks where attempts > max_attempts").await, 0);
}

#[tokio::test]
async fn many_migrators_do_it_once() {
    let (database, db) = at(0).await;
    // As many processes: none knows of the others' connections.
    let migrators: Vec<Db> = (0..8)
        .map(|_| Db::new(&DatabaseConfig { url: database.url.clone(), pool_size: 2 }).unwrap())
        .collect();
    let runs = futures::future::join_all(migrators.iter().map(migrate::migrate)).await;
    assert!(runs.iter().all(Result::is_ok), "{runs:?}");
    let client = db.get().await.unwrap();
    let applied = client.query("select version from refinery_schema_history", &[]).await.unwrap();
    assert_eq!(applied.len(), MIGRATIONS.len());
    drop(client);
    done(database, db).await;
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_taken_and_one_with_a_hole_is_refused() {
    let (database, db) = at(MIGRATIONS.len()).await;
    let execute = async |sql: &str| db.get().await.unwrap().batch_execute(sql).await.unwrap();
    let newer = migrate::newest() + 1;
    execute(&format!(
        "create table of_the_future (id uuid primary key);
         alter table tasks add column foreboding text;
         insert into refinery_schema_history (version, name, applied_on, checksum)
         values ({newer}, 'future', '2030-01-01T00:00:00Z', '1');"
    ))
    .await;
    assert_eq!(migrate::standing(&db).await.unwrap(), Standing::Fit);
    migrate::migrate(&db).await.unwrap();
    execute("delete from refinery_schema_history where version = 3").await;
    let refused = migrate::migrate(&db).await.unwrap_err();
    assert!(matches!(&refused, DbError::Schema(why) if why.contains("V3__playable")), "{refused}");
    done(database, db).await;
}

#[tokio::test]
async fn an_older_schema_is_waited_for() {
    let (database, db) = at(OLD).await;
    assert_eq!(migrate::standing(&db).await.unwrap(), Standing::Older { version: OLD as i32 });
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { reelmill_shared::lifecycle::wait_for_schema(&db, &Default::default()).await }
    });
    migrate::migrate(&db).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
    assert!(waited.unwrap());
    done(database, db).await;
}

/// Words that take something away, or ask of rows what the release before does not put into them.
const CONTRACTS: [&str; 8] = [
    "drop table",
    "drop column",
    "drop view",
    "rename to",
    "rename column",
    "set not null",
    "set data type",
    "drop default",
];

/// Why a statement may be more than the release before can live with.
fn objection(statement: &str) -> Option<String> {
    let words = statement.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    if let Some(found) = CONTRACTS.iter().find(|found| words.contains(**found)) {
        return Some((*found).to_owned());
    }
    if words.starts_with("alter table") && words.contains(" type ") && words.contains("alter column") {
        return Some("another type".to_owned());
    }
    let adds = words.split(',').any(|part| {
        part.contains("add column")
            && part.contains("not null")
            && !part.contains("default")
            && !part.contains("generated")
    });
    (words.starts_with("alter table") && adds).then(|| "not null without a default".to_owned())
}

/// What a comment before a statement must say of it: since which version no program uses what it takes away.
const NOTE: &str = "-- contract: unused since ";

/// Objections to a file that no such comment answers.
fn objections(sql: &str) -> Vec<String> {
    // Without comments, but for the notes: a semicolon in one ends no statement.
    let lines = sql.lines().map(|line| {
        if line.trim().starts_with(NOTE) { line } else { line.split("--").next().unwrap_or_default() }
    });
    let sql = lines.collect::<Vec<_>>().join("\n");
    let bare = |statement: &str| -> String {
        let lines = statement.lines().map(|line| line.split("--").next().unwrap_or_default());
        lines.collect::<Vec<_>>().join("\n")
    };
    let is_noted = |statement: &str| {
        let version = statement.lines().find_map(|line| line.trim().strip_prefix(NOTE));
        version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    };
    sql.split(';')
        .filter(|statement| !is_noted(statement))
        .filter_map(|statement| {
            Some(format!("{}: {}", objection(bare(statement).trim())?, bare(statement).trim()))
        })
        .collect()
}

#[test]
fn migrations_expand_and_contract_only_what_nobody_uses() {
    for (name, sql) in MIGRATIONS {
        assert_eq!(objections(sql), Vec::<String>::new(), "{name}: see migrations/README.md");
    }
}

#[test]
fn what_the_release_before_cannot_live_with_is_found() {
    for bad in [
        "alter table jobs drop column kind;",
        "ALTER TABLE jobs\n    RENAME COLUMN kind TO sort;",
        "alter table jobs rename to orders;",
        "drop table pools;",
        "alter table jobs alter column kind set not null;",
        "alter table jobs alter column priority type integer;",
        "alter table jobs alter column priority set data type integer;",
        "create index a on jobs (id); alter table jobs add column a text default '', add column b text not null;",
        "-- told here; and there\nalter table jobs add column c text not null;",
        "-- contract: unused since\nalter table jobs drop column kind;",
    ] {
        assert_eq!(objections(bad).len(), 1, "{bad}");
    }
    for good in [
        "alter table jobs add column a text, add column b text not null default '';",
        "-- drop table jobs would be bad\ncreate table a (id uuid not null); create index on jobs (id);",
        "-- contract: unused since 0.3.0\nalter table jobs drop column kind;",
        "drop index jobs_mark;",
    ] {
        assert_eq!(objections(good), Vec::<String>::new(), "{good}");
    }
}
