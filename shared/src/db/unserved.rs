//! Tasks that no worker can do.

use std::time::Duration;

use super::leader::Leadership;
use super::{Db, DbError, finish, jobs};
use crate::ids::JobId;
use crate::job::capability::Capability;
use crate::job::error::{Reason, TaskError};
use crate::job::state::JobStatus;

/// Fails jobs, `limit` at most, with a task that has been ready for `after` and that no worker which was there in that time could do.
/// Guarded by leadership. Tasks that any worker can do wait however long: the farm may be scaled to nothing. So do those of a profile
/// that requires hardware, because it says so. Returns each with the class of the task.
pub async fn fail(
    db: &Db,
    leadership: &Leadership,
    after: Duration,
    limit: i64,
) -> Result<Vec<(JobId, String)>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            // Of many tasks there are few classes: they are found by skipping through the index.
            "with recursive classes as (
                 (select pool, class from tasks where status = 'ready' order by pool, class limit 1)
                 union all
                 select n.pool, n.class from classes c, lateral (
                     select pool, class from tasks
                     where status = 'ready' and (pool, class) > (c.pool, c.class) order by pool, class limit 1) n
             )
             select distinct t.job_id, c.class
             from classes c, lateral (
                 select job_id from tasks
                 where status = 'ready' and pool = c.pool and class = c.class
                   and ready_at < now() - make_interval(secs => $1)) t
             join jobs j on j.id = t.job_id
             where c.class <> $2 and coalesce(j.spec -> 'profile' ->> 'hardware', '') <> 'require_gpu'
               and not exists (
                   select 1 from workers w
                   where w.pool = c.pool and w.seen_at > now() - make_interval(secs => $1)
                     and string_to_array(c.class, '+') <@ w.capabilities)
             limit $3",
            &[&after.as_secs_f64(), &Capability::Base.as_str(), &limit],
        )
        .await?;
    let mut failed = vec![];
    for row in rows {
        let (job, class) = (JobId(row.get("job_id")), row.get::<_, String>("class"));
        let error = TaskError::fatal(
            Reason::Unsuitable,
            format!(
                "no worker that has {} was there for {} s; start one, or choose a profile without it",
                class.replace('+', " and "),
                after.as_secs()
            ),
        );
        let mut client = db.get().await?;
        let tx = client.transaction().await?;
        leadership.guard(&tx).await?;
        finish::lock_open_tasks(&tx, job).await?;
        jobs::conclude(&tx, job, JobStatus::Failed, Some(&error)).await?;
        tx.commit().await?;
        failed.push((job, class));
    }
    Ok(failed)
}
