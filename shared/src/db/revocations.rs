//! Viewers' tokens that were taken back before their end. Those of something are signed with how often that was done, and are worth nothing
//! once it is done again.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Db, DbError, cdn};
use crate::cdn::SurrogateKey;

fn generation(row: &Row) -> u32 {
    row.get::<_, i32>("generation").unsigned_abs()
}

/// Takes back all tokens of something, and lets a CDN forget what it keeps of it. Gives the generation of those that come from now on.
pub async fn revoke(db: &Db, subject: Uuid, key: SurrogateKey) -> Result<u32, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_one(
            "insert into revocations as r (subject) values ($1)
             on conflict (subject) do update set generation = r.generation + 1, revoked_at = now()
             returning generation",
            &[&subject],
        )
        .await?;
    cdn::forget(&tx, key).await?;
    tx.commit().await?;
    Ok(generation(&row))
}

/// The generation of tokens of something; zero where none were ever taken back.
pub async fn of(db: &Db, subject: Uuid) -> Result<u32, DbError> {
    let client = db.get().await?;
    let statement = client.prepare_cached("select generation from revocations where subject = $1").await?;
    Ok(client.query_opt(&statement, &[&subject]).await?.as_ref().map_or(0, generation))
}

/// What was taken back within `age`, with the generation that is good; all there ever was where that is left out.
pub async fn recent(db: &Db, age: Option<Duration>) -> Result<Vec<(Uuid, u32)>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select subject, generation from revocations
             where $1::float8 is null or revoked_at > now() - make_interval(secs => $1)",
        )
        .await?;
    let rows = client.query(&statement, &[&age.map(|age| age.as_secs_f64())]).await?;
    Ok(rows.iter().map(|row| (row.get("subject"), generation(row))).collect())
}

/// Forgets those of what was deleted: nothing is opened by them in any case.
pub async fn delete_over(db: &Db) -> Result<u64, DbError> {
    let deleted = db
        .get()
        .await?
        .execute(
            "delete from revocations v
             where not exists (select 1 from recordings r where r.id = v.subject and r.deleted_at is null)
               and not exists (select 1 from livestreams l where l.id = v.subject and l.deleted_at is null)",
            &[],
        )
        .await?;
    Ok(deleted)
}
