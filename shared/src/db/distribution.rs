//! What edges were asked for, a project and day.

use std::time::Duration;

use uuid::Uuid;

use super::{Db, DbError};
use crate::db::viewers::Watched;
use crate::ids::ProjectId;

/// Requests for media of something, and how many of them an edge had what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub watched: Watched,
    pub requests: u64,
    pub hits: u64,
}

/// Adds to the sums of today.
pub async fn add(db: &Db, asked: &[Asked]) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            // In the order of projects: two apis that add to the same rows must not wait for each other in a ring.
            "insert into distribution_days (project_id, day, media_requests, media_hits)
             select coalesce(r.project_id, l.project_id), (now() at time zone 'utc')::date, sum(m.requests), sum(m.hits)
             from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as m (id, requests, hits)
             left join recordings r using (id) left join livestreams l using (id)
             where coalesce(r.project_id, l.project_id) is not null group by 1 order by 1
             on conflict (project_id, day) do update
             set media_requests = distribution_days.media_requests + excluded.media_requests,
                 media_hits = distribution_days.media_hits + excluded.media_hits",
        )
        .await?;
    let ids: Vec<Uuid> = asked.iter().map(|one| one.watched.id()).collect();
    let count = |figure: fn(&Asked) -> u64| -> Vec<i64> {
        asked.iter().map(|one| i64::try_from(figure(one)).unwrap_or(i64::MAX)).collect()
    };
    client.execute(&statement, &[&ids, &count(|one| one.requests), &count(|one| one.hits)]).await?;
    Ok(())
}

/// The share of a project's requests for media within `age`, in whole days, that edges had; `None` where there was none.
pub async fn hit_rate(db: &Db, project: ProjectId, age: Duration) -> Result<Option<f64>, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select (sum(media_hits)::float8 / nullif(sum(media_requests), 0)::float8) from distribution_days
             where project_id = $1 and day > ((now() - make_interval(secs => $2)) at time zone 'utc')::date",
            &[&project.0, &age.as_secs_f64()],
        )
        .await?;
    Ok(row.get(0))
}

/// Forgets days that are older than `age`.
pub async fn delete_old(db: &Db, age: Duration) -> Result<u64, DbError> {
    let delete = "delete from distribution_days
                  where day < ((now() - make_interval(secs => $1)) at time zone 'utc')::date";
    Ok(db.get().await?.execute(delete, &[&age.as_secs_f64()]).await?)
}
