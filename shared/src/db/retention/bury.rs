//! The rows of what was deleted.

use uuid::Uuid;

use super::super::{Db, DbError, GenericClient, retrying};
use super::jobs::remove;
use crate::ids::RecordingId;

/// Deletes the rows of sources of which nothing was ever made: of dry runs, and of uploads that nobody used. Returns how many.
pub async fn bury_unused(db: &Db, limit: i64) -> Result<u64, DbError> {
    let gone = db
        .get()
        .await?
        .execute(
            "with dead as (
                 select s.id from sources s
                 where s.deleted_at < now() - interval '1 day' and s.settled_at is null
                   and not exists (select 1 from recordings r where r.source_id = s.id)
                   and not exists (select 1 from sources made where made.remux_of = s.id)
                   and not exists (select 1 from jobs j where j.spec ->> 'source' = s.id::text
                                   and j.recording_id is null and j.finished_at is null)
                 order by s.deleted_at limit $1),
             uploaded as (delete from uploads u using dead where u.source_id = dead.id)
             delete from sources s using dead where s.id = dead.id",
            &[&limit],
        )
        .await?;
    Ok(gone)
}

/// Deletes the rows of recordings that were deleted and handed to the sweeper, with those of their jobs and sources, where nobody sees
/// these jobs any more and nobody was lent what they made. Looks at `limit` recordings after `after`; returns how many it
/// deleted, and where to go on, `None` after the last.
pub async fn bury(
    db: &Db,
    after: Option<RecordingId>,
    limit: i64,
) -> Result<(u64, Option<RecordingId>), DbError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "select r.id,
                    not exists (select 1 from jobs j where j.recording_id = r.id and j.hidden_at is null)
                    and not exists (
                        select 1 from jobs j join sets s on s.job_id = j.id
                        join recording_sets rs on rs.set_id = s.id join recordings other on other.id = rs.recording_id
                        where j.recording_id = r.id and other.id <> r.id and other.discarded_at is null) as is_free
             from recordings r where r.discarded_at is not null and ($1::uuid is null or r.id > $1) order by r.id limit $2",
            &[&after.map(|id| id.0), &limit],
        )
        .await?;
    drop(client);
    let mut buried = 0;
    for row in rows.iter().filter(|row| row.get("is_free")) {
        let id: Uuid = row.get("id");
        retrying(|| async move {
            let mut client = db.get().await?;
            let tx = client.transaction().await?;
            bury_one(&tx, id).await?;
            tx.commit().await?;
            Ok(())
        })
        .await?;
        buried += 1;
    }
    let more = rows.len() as i64 == limit;
    Ok((buried, rows.last().filter(|_| more).map(|row| RecordingId(row.get("id")))))
}

async fn bury_one(tx: &impl GenericClient, id: Uuid) -> Result<(), DbError> {
    // Nobody can be lent a set of it meanwhile: it takes a recording that lives to lend one.
    let rows = tx.query("select id from jobs where recording_id = $1 order by id for update", &[&id]).await?;
    let jobs: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    tx.execute(
        "select 1 from sources where id = (select source_id from recordings where id = $1) for update",
        &[&id],
    )
    .await?;
    tx.execute("delete from downloads where recording_id = $1", &[&id]).await?;
    tx.execute("delete from pictures where recording_id = $1", &[&id]).await?;
    tx.execute(
        "delete from recording_sets
         where recording_id = $1 or set_id in (select id from sets where job_id = any($2))",
        &[&id, &jobs],
    )
    .await?;
    tx.execute("delete from sets where job_id = any($1)", &[&jobs]).await?;
    remove(tx, &jobs).await?;
    let row = tx.query_opt("delete from recordings where id = $1 returning source_id", &[&id]).await?;
    let Some(source) = row.and_then(|row| row.get::<_, Option<Uuid>>(0)) else { return Ok(()) };
    let over = "deleted_at is not null and not exists (select 1 from recordings r where r.source_id = $1)";
    tx.execute(
        &format!("delete from uploads where source_id = (select id from sources where id = $1 and {over})"),
        &[&source],
    )
    .await?;
    tx.execute(
        &format!("delete from sources where remux_of = (select id from sources where id = $1 and {over})"),
        &[&source],
    )
    .await?;
    tx.execute(&format!("delete from sources where id = $1 and {over}"), &[&source]).await?;
    Ok(())
}
