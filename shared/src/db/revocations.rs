//! Viewers' tokens that were taken back before their end. A token does not say when it was given out, but when it ends: those that end until
//! some time are refused, and the next ones end later than that.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, DbError, cdn};
use crate::cdn::SurrogateKey;

/// Takes back all tokens of something that end until then, and what was given out since they were taken back last, which may end a second
/// later; lets a CDN forget what it keeps of it. Gives until when they are taken back.
pub async fn revoke(
    db: &Db,
    subject: Uuid,
    until: DateTime<Utc>,
    key: SurrogateKey,
) -> Result<DateTime<Utc>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_one(
            "insert into revocations as r (subject, until) values ($1, $2)
             on conflict (subject) do update
                 set until = greatest(r.until + interval '1 second', excluded.until), revoked_at = now()
             returning until",
            &[&subject, &until],
        )
        .await?;
    cdn::forget(&tx, key).await?;
    tx.commit().await?;
    Ok(row.get("until"))
}

/// Until when tokens of something are taken back that have not ended by themselves; `None` where none are.
pub async fn until(db: &Db, subject: Uuid) -> Result<Option<DateTime<Utc>>, DbError> {
    let client = db.get().await?;
    let statement =
        client.prepare_cached("select until from revocations where subject = $1 and until > now()").await?;
    Ok(client.query_opt(&statement, &[&subject]).await?.map(|row| row.get("until")))
}

/// What was taken back within `age` and has not ended by itself; all of it where that is left out.
pub async fn recent(db: &Db, age: Option<Duration>) -> Result<Vec<(Uuid, DateTime<Utc>)>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select subject, until from revocations
             where until > now() and ($1::float8 is null or revoked_at > now() - make_interval(secs => $1))",
        )
        .await?;
    let rows = client.query(&statement, &[&age.map(|age| age.as_secs_f64())]).await?;
    Ok(rows.iter().map(|row| (row.get("subject"), row.get("until"))).collect())
}

/// Forgets what has ended by itself.
pub async fn delete_over(db: &Db) -> Result<u64, DbError> {
    Ok(db.get().await?.execute("delete from revocations where until < now()", &[]).await?)
}
