//! Figures of the whole farm, for dashboards and autoscaling.

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{cdn, jobs, snapshots, tasks};
use reelmill_shared::job::capability::Pool;

use super::{Context, Duty, Failure};

pub(super) struct Demand;

#[async_trait]
impl Duty for Demand {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let demand = tasks::demand(&context.db).await?;
        // A pool without demand must read zero, not what it read last.
        for pool in Pool::ALL {
            let found = demand.iter().find(|row| row.pool == pool.as_str());
            let figure = |value: f64, name: &'static str| {
                ::metrics::gauge!(name, "pool" => pool.as_str()).set(value);
            };
            figure(found.map_or(0.0, |row| row.ready as f64), "reelmill_tasks_ready");
            figure(found.map_or(0.0, |row| row.running as f64), "reelmill_tasks_running");
            figure(found.map_or(0.0, |row| (row.ready + row.running) as f64), "reelmill_demand_slots");
            figure(found.map_or(0.0, |row| row.oldest_seconds), "reelmill_oldest_ready_age_seconds");
        }
        ::metrics::gauge!("reelmill_oldest_snapshot_age_seconds")
            .set(snapshots::oldest_seconds(&context.db).await?);
        let mut unfinished = [("queued", 0), ("running", 0)];
        for (status, count) in jobs::count_unfinished(&context.db).await? {
            if let Some(row) = unfinished.iter_mut().find(|row| row.0 == status) {
                row.1 += count;
            }
        }
        for (status, count) in unfinished {
            ::metrics::gauge!("reelmill_jobs_unfinished", "status" => status).set(count as f64);
        }
        let (waiting, oldest) = cdn::waiting(&context.db).await?;
        ::metrics::gauge!("reelmill_cdn_purges_waiting").set(waiting as f64);
        ::metrics::gauge!("reelmill_cdn_oldest_purge_age_seconds").set(oldest);
        Ok(0)
    }
}
