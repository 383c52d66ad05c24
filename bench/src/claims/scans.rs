//! What is asked again and again beside the claim, on the full queue: the scheduler's looks and the lists of the API.

use std::time::{Duration, Instant};

use reelmill_shared::db::jobs::{self, JobFilter};
use reelmill_shared::db::{Db, DbError, leases, pools, tasks};
use reelmill_shared::ids::ProjectId;
use reelmill_shared::job::state::JobStatus;

use crate::figures::quantile;

/// Times each a few times.
pub(super) async fn tell(db: &Db, project: ProjectId) -> anyhow::Result<()> {
    println!("asked again and again, on the full queue (median of 5):");
    time("demand of each pool (every 4 s)", async || tasks::demand(db).await.map(drop)).await?;
    time("jobs that are not over (every 4 s)", async || jobs::count_unfinished(db).await.map(drop)).await?;
    time("forgotten rings (every 2 s)", async || {
        tasks::forgotten(db, Duration::from_secs(1), 16).await.map(drop)
    })
    .await?;
    time("tasks that became due (every 2 s)", async || tasks::promote_due(db, 5000).await.map(drop)).await?;
    time("pools, for the page and the API", async || pools::list(db).await.map(drop)).await?;
    time("free slots, at a submission", async || leases::free_slots(db, "cpu").await.map(drop)).await?;
    for status in [None, Some(JobStatus::Queued), Some(JobStatus::Running), Some(JobStatus::Failed)] {
        let name =
            status.map_or("a page of jobs".to_owned(), |status| format!("a page of jobs that are {status}"));
        let filter = JobFilter { status, ..JobFilter::default() };
        time(&name, async || jobs::list(db, project, filter, None, 50).await.map(drop)).await?;
    }
    Ok(())
}

async fn time(name: &str, ask: impl AsyncFn() -> Result<(), DbError>) -> anyhow::Result<()> {
    let mut took = vec![];
    for _ in 0..5 {
        let asked = Instant::now();
        ask().await?;
        took.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    println!("  {name}: {:.2} ms", quantile(&mut took, 0.5));
    Ok(())
}
