//! What a person changes of a job that is under way.

use super::super::{Db, DbError, GenericClient, finish, retrying, tasks};
use super::conclude;
use crate::ids::{JobId, ProjectId};
use crate::job::state::JobStatus;

/// Locks a project's job and its open tasks, in the order everybody takes these locks, and reads its state; `None` where the project has
/// no such job.
async fn hold(tx: &impl GenericClient, project: ProjectId, id: JobId) -> Result<Option<JobStatus>, DbError> {
    finish::lock_open_tasks(tx, id).await?;
    let row = tx
        .query_opt(
            "select status from jobs where id = $1 and project_id = $2 for no key update",
            &[&id.0, &project.0],
        )
        .await?;
    Ok(row.map(|row| row.get::<_, &str>("status").parse()).transpose()?)
}

/// Gives an open job another priority, which its tasks that wait follow at once. `None` where the project has no such job; else its
/// state: one that is over keeps what it had.
pub async fn set_priority(
    db: &Db,
    project: ProjectId,
    id: JobId,
    priority: i16,
) -> Result<Option<JobStatus>, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        let status = hold(&tx, project, id).await?;
        if status.is_some_and(|status| !status.is_final()) {
            tx.execute("update jobs set priority = $2 where id = $1", &[&id.0, &priority]).await?;
            let key = tasks::ready_key("ready_at", "$2::smallint", "ahead_seconds");
            tx.execute(
                &format!(
                    "update tasks set ready_key = {key}
                     where job_id = $1 and status in ('blocked', 'ready') and not deferred"
                ),
                &[&id.0, &priority],
            )
            .await?;
            tx.commit().await?;
        }
        Ok(status)
    })
    .await
}

/// What came of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled now.
    Now,
    /// It was over already.
    TooLate(JobStatus),
    NotFound,
}

/// Cancels a job and all its tasks. Workers notice at their next guarded write.
pub async fn cancel(db: &Db, project: ProjectId, id: JobId) -> Result<Cancelled, DbError> {
    retrying(|| async move {
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        match hold(&tx, project, id).await? {
            None => Ok(Cancelled::NotFound),
            Some(status) if status.is_final() => Ok(Cancelled::TooLate(status)),
            Some(_) => {
                conclude(&tx, id, JobStatus::Cancelled, None).await?;
                tx.commit().await?;
                Ok(Cancelled::Now)
            }
        }
    })
    .await
}
