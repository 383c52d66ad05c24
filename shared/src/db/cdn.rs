//! The CDN's switch, what it has to forget, and what it is to fetch ahead.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Db, DbError, GenericClient};
use crate::cdn::SurrogateKey;
use crate::ids::RecordingId;

/// Whether viewers are sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    pub enabled: bool,
    /// When it was turned last; `None` where it never was.
    pub updated_at: Option<DateTime<Utc>>,
}

/// How the switch stands: on until somebody turns it.
pub async fn switch(db: &Db) -> Result<Switch, DbError> {
    let row = db.get().await?.query_opt("select enabled, updated_at from cdn", &[]).await?;
    Ok(row.map_or(Switch { enabled: true, updated_at: None }, |row| read(&row)))
}

/// Turns it.
pub async fn turn(db: &Db, enabled: bool) -> Result<Switch, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "insert into cdn (enabled) values ($1)
             on conflict (only_row) do update set enabled = excluded.enabled, updated_at = now()
             returning enabled, updated_at",
            &[&enabled],
        )
        .await?;
    Ok(read(&row))
}

fn read(row: &Row) -> Switch {
    Switch { enabled: row.get("enabled"), updated_at: row.get("updated_at") }
}

/// Notes that the CDN has to forget what has this key. In the caller's transaction, with what makes it wrong.
pub(crate) async fn forget(client: &impl GenericClient, key: SurrogateKey) -> Result<(), DbError> {
    let statement = client.prepare_cached("insert into cdn_purges (surrogate_key) values ($1)").await?;
    client.execute(&statement, &[&key.to_string()]).await?;
    Ok(())
}

/// Notes that a recording plays something else from now on. In the caller's transaction.
pub(crate) async fn renew(client: &impl GenericClient, recording: RecordingId) -> Result<(), DbError> {
    forget(client, SurrogateKey::Listings(recording)).await?;
    let statement = client
        .prepare_cached(
            // Behind the second purge, which would undo it.
            "insert into cdn_warmings (recording_id, due_at) values ($1, now() + make_interval(secs => $2))
             on conflict (recording_id) do update set due_at = excluded.due_at",
        )
        .await?;
    client.execute(&statement, &[&recording.0, &(2 * AGAIN).as_secs_f64()]).await?;
    Ok(())
}

/// By then no api gives out what it kept in its short caches when the first purge came.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest wait between two attempts, as a power of two of seconds.
const SLOWEST: i32 = 8;

/// A key that the CDN has to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    pub id: i64,
    pub surrogate_key: String,
}

/// Those that are due, the oldest first.
pub async fn due(db: &Db, limit: i64) -> Result<Vec<Purge>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id, surrogate_key from cdn_purges where due_at <= now() order by due_at, id limit $1",
            &[&limit],
        )
        .await?;
    Ok(rows.iter().map(|row| Purge { id: row.get("id"), surrogate_key: row.get("surrogate_key") }).collect())
}

/// The CDN was told: once more after a moment, or that was it.
pub async fn purged(db: &Db, purges: &[Purge]) -> Result<(), DbError> {
    let ids: Vec<i64> = purges.iter().map(|purge| purge.id).collect();
    db.get()
        .await?
        .execute(
            "with over as (delete from cdn_purges where id = any($1) and not again returning id)
             update cdn_purges set again = false, attempts = 0, due_at = now() + make_interval(secs => $2)
             where id = any($1) and again",
            &[&ids, &AGAIN.as_secs_f64()],
        )
        .await?;
    Ok(())
}

/// The CDN could not be told: again after a while, which grows to minutes.
pub async fn unpurged(db: &Db, purges: &[Purge]) -> Result<(), DbError> {
    let ids: Vec<i64> = purges.iter().map(|purge| purge.id).collect();
    db.get()
        .await?
        .execute(
            "update cdn_purges
             set due_at = now() + make_interval(secs => 2 ^ least(attempts, $2)), attempts = attempts + 1
             where id = any($1)",
            &[&ids, &SLOWEST],
        )
        .await?;
    Ok(())
}

/// Forgets what nobody can be told of, at most so many.
pub async fn drop_some(db: &Db, limit: i64) -> Result<(), DbError> {
    let purges = "delete from cdn_purges where id = any(array(select id from cdn_purges limit $1))";
    db.get().await?.execute(purges, &[&limit]).await?;
    Ok(())
}

/// How many purges wait, and for how many seconds the oldest has.
pub async fn waiting(db: &Db) -> Result<(i64, f64), DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float8
             from cdn_purges where again",
            &[],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// Takes recordings that are to be fetched ahead now.
pub async fn take_warmings(db: &Db, limit: i64) -> Result<Vec<RecordingId>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "delete from cdn_warmings where recording_id = any(array(
                 select recording_id from cdn_warmings where due_at <= now() order by due_at limit $1
                 for update skip locked))
             returning recording_id",
            &[&limit],
        )
        .await?;
    Ok(rows.iter().map(|row| RecordingId(row.get(0))).collect())
}
