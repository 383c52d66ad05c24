//! Jobs that are over, and their logs.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::{Db, DbError, GenericClient, retrying};
use super::due_sql;
use crate::ids::ProjectId;
use crate::job::retention::Kept;

/// Deletes jobs or logs of jobs that are due. Returns how many.
pub(super) async fn delete_due(
    db: &Db,
    project: ProjectId,
    kept: Kept,
    age: Option<f64>,
    limit: i64,
) -> Result<u64, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let args: [&(dyn ToSql + Sync); 3] = [&project.0, &age, &limit];
        let text =
            format!("select id from (select * from ({}) x order by since limit $3) due", due_sql(kept, true));
        let rows = tx.query(&text, &args).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        // What is over stays so: only another who does the same could be in the way.
        let locked = tx
            .query("select id from jobs where id = any($1) order by id for update skip locked", &[&ids])
            .await?;
        let ids: Vec<Uuid> = locked.iter().map(|row| row.get(0)).collect();
        match kept {
            Kept::Logs => delete_logs(&tx, &ids).await?,
            _ => hide(&tx, &ids).await?,
        }
        tx.commit().await?;
        Ok(ids.len() as u64)
    })
    .await
}

async fn delete_logs(tx: &impl GenericClient, jobs: &[Uuid]) -> Result<(), DbError> {
    tx.execute(
        "update attempts a set command = null, log_tail = null from tasks t
         where t.job_id = any($1) and a.task_id = t.id and (a.command is not null or a.log_tail is not null)",
        &[&jobs],
    )
    .await?;
    tx.execute("update jobs set logs_deleted_at = now() where id = any($1)", &[&jobs]).await?;
    Ok(())
}

/// Takes jobs out of everybody's sight. Those that no recording has go for good; the others when theirs does, because their rows say where
/// what it is made of lies.
async fn hide(tx: &impl GenericClient, jobs: &[Uuid]) -> Result<(), DbError> {
    tx.execute("update jobs set hidden_at = now() where id = any($1)", &[&jobs]).await?;
    delete_logs(tx, jobs).await?;
    withdraw_unfinished(tx, jobs).await?;
    let alone = tx.query("select id from jobs where id = any($1) and recording_id is null", &[&jobs]).await?;
    let alone: Vec<Uuid> = alone.iter().map(|row| row.get(0)).collect();
    remove(tx, &alone).await
}

/// Deletes the rows of jobs of which nothing is left.
pub(super) async fn remove(tx: &impl GenericClient, jobs: &[Uuid]) -> Result<(), DbError> {
    if jobs.is_empty() {
        return Ok(());
    }
    tx.execute("update jobs set retry_of = null where retry_of = any($1) and id <> all($1)", &[&jobs])
        .await?;
    tx.execute("delete from task_progress where job_id = any($1)", &[&jobs]).await?;
    tx.execute("delete from tasks where job_id = any($1)", &[&jobs]).await?;
    tx.execute("delete from jobs where id = any($1)", &[&jobs]).await?;
    Ok(())
}

/// What a failed job had published lies there for a retry, which nobody can wish for any more: unless it can be watched, it goes, with
/// all that the jobs which it retried had added to it.
async fn withdraw_unfinished(tx: &impl GenericClient, jobs: &[Uuid]) -> Result<(), DbError> {
    let rows = tx
        .query(
            "with recursive half_made as (
                 select s.id, s.job_id from sets s join jobs j on j.id = s.job_id
                 where j.id = any($1) and j.status <> 'succeeded'
                   and not exists (select 1 from recording_sets rs
                                   where rs.set_id = s.id and (rs.active or rs.static_prefix is not null))
                   -- Another try of the same may build on it.
                   and not exists (select 1 from recording_sets rs join jobs other on other.recording_id = rs.recording_id
                                   where rs.set_id = s.id and other.hidden_at is null and other.status <> 'succeeded')),
             makers as (
                 select id, retry_of from jobs where id in (select job_id from half_made)
                 union
                 select j.id, j.retry_of from makers m join jobs j on j.id = m.retry_of),
             swept as (
                 insert into garbage (prefix, due_at)
                 select a.prefix, now()
                 from tasks t join attempts a on a.task_id = t.id and a.outcome = 'succeeded'
                 where t.job_id in (select id from makers)
                   -- Those belong to the source and to the recording.
                   and t.kind not in ('fetch', 'mp4', 'thumbnail'))
             select id from half_made",
            &[&jobs],
        )
        .await?;
    let sets: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    tx.execute("delete from recording_sets where set_id = any($1)", &[&sets]).await?;
    tx.execute("delete from sets where id = any($1)", &[&sets]).await?;
    Ok(())
}
