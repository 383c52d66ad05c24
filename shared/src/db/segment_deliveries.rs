//! Segments on their way to viewers who joined a stream, and to a CDN: a bounded queue, claimed by the api that can deliver.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::streams::Stream;
use super::viewers::Watched;
use super::{Db, DbError};
use crate::ids::{LivestreamId, ProjectId, RecordingId, SegmentDeliveryId, StreamId};
use crate::job::state::words;

words! {
    /// Where a delivery stands. `Delivered` and `Failed` are final.
    SegmentDeliveryStatus("delivery status") {
        Queued = "queued",
        Delivering = "delivering",
        Delivered = "delivered",
        Failed = "failed",
    }
}

/// A delivery as read back.
#[derive(Debug, Clone)]
pub struct SegmentDelivery {
    pub id: SegmentDeliveryId,
    pub stream: StreamId,
    pub watched: Watched,
    /// `None` for a CDN.
    pub viewer: Option<String>,
    pub segment: String,
    pub priority: i16,
    pub status: SegmentDeliveryStatus,
    pub attempts: i32,
    pub max_attempts: i32,
    /// What one attempt may take.
    pub timeout: Duration,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A delivery about to be queued.
#[derive(Debug)]
pub struct NewSegmentDelivery<'a> {
    pub viewer: Option<&'a str>,
    pub segment: &'a str,
    pub priority: i16,
    pub max_attempts: i32,
    pub timeout: Duration,
    /// After so long nobody wants it any more.
    pub keep: Duration,
}

const COLUMNS: &str =
    "d.id, d.stream_id, s.recording_id, s.livestream_id, d.viewer, d.segment, d.priority, d.status, d.attempts,
    d.max_attempts, d.timeout_seconds, d.error, d.created_at, d.expires_at, d.finished_at";

fn read(row: &Row) -> Result<SegmentDelivery, DbError> {
    // It is one of both.
    let watched = match row.get::<_, Option<Uuid>>("recording_id") {
        Some(id) => Watched::Recording(RecordingId(id)),
        None => Watched::Livestream(LivestreamId(row.get("livestream_id"))),
    };
    let seconds: f32 = row.get("timeout_seconds");
    Ok(SegmentDelivery {
        id: SegmentDeliveryId(row.get("id")),
        stream: StreamId(row.get("stream_id")),
        watched,
        viewer: row.get("viewer"),
        segment: row.get("segment"),
        priority: row.get("priority"),
        status: row.get::<_, &str>("status").parse()?,
        attempts: row.get("attempts"),
        max_attempts: row.get("max_attempts"),
        timeout: Duration::try_from_secs_f32(seconds).unwrap_or_default(),
        error: row.get("error"),
        created_at: row.get("created_at"),
        expires_at: row.get("expires_at"),
        finished_at: row.get("finished_at"),
    })
}

/// Queues a delivery; `None` where so many of its stream wait, or it was closed.
pub async fn queue(
    db: &Db,
    stream: &Stream,
    new: &NewSegmentDelivery<'_>,
    most: i64,
) -> Result<Option<SegmentDelivery>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // One at a time, whichever api asks: else two would take the last place.
    tx.query_opt("select 1 from streams where id = $1 for no key update", &[&stream.id.0]).await?;
    let row = tx
        .query_opt(
            &format!(
                "with d as (
                     insert into segment_deliveries (id, project_id, stream_id, viewer, segment, priority, max_attempts, timeout_seconds, expires_at)
                     select $1, s.project_id, s.id, $3, $4, $5, $6, $7, now() + make_interval(secs => $8)
                     from streams s
                     where s.id = $2 and s.ended_at is null
                       and (select count(*) from segment_deliveries where stream_id = $2 and finished_at is null) < $9
                     returning *)
                 select {COLUMNS} from d join streams s on s.id = d.stream_id"
            ),
            &[
                &SegmentDeliveryId::new().0,
                &stream.id.0,
                &new.viewer,
                &new.segment,
                &new.priority,
                &new.max_attempts,
                &new.timeout.as_secs_f32(),
                &new.keep.as_secs_f64(),
                &most,
            ],
        )
        .await?;
    tx.commit().await?;
    row.as_ref().map(read).transpose()
}

/// A delivery of a project.
pub async fn find(
    db: &Db,
    project: ProjectId,
    id: SegmentDeliveryId,
) -> Result<Option<SegmentDelivery>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "select {COLUMNS} from segment_deliveries d join streams s on s.id = d.stream_id where d.id = $1 and d.project_id = $2"
            ),
            &[&id.0, &project.0],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// How much longer than an attempt its claim lasts: whoever claimed it says what came of it by then, or is gone.
const GRACE: f64 = 5.0;

/// Claims what whoever asks can deliver: to these viewers, and to a CDN where `warm`. What matters most comes first.
pub async fn claim(
    db: &Db,
    viewers: &[(StreamId, String)],
    warm: bool,
    limit: i64,
) -> Result<Vec<SegmentDelivery>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "with ready as (
                 -- Projects take turns: priorities rank within one.
                 select d.id, row_number() over (partition by s.project_id order by d.priority desc, d.ready_at, d.id) as turn
                 from segment_deliveries d join streams s on s.id = d.stream_id
                 where d.finished_at is null and d.expires_at > now() and d.attempts < d.max_attempts
                   and (d.status = 'queued' and d.ready_at <= now() or d.status = 'delivering' and d.leased_until <= now())
                   and (d.viewer is null and $3 or (d.stream_id, d.viewer) in (select * from unnest($1::uuid[], $2::text[])))),
             due as (
                 select d.id from segment_deliveries d join ready r using (id)
                 where d.status = 'queued' or d.status = 'delivering' and d.leased_until <= now()
                 order by r.turn, d.priority desc, d.id limit $4 for update of d skip locked)
             update segment_deliveries d
             set status = 'delivering', attempts = attempts + 1, leased_until = now() + make_interval(secs => timeout_seconds::float8 + $5)
             from streams s
             where d.id in (select id from due) and s.id = d.stream_id
             returning {COLUMNS}"
        ))
        .await?;
    let streams: Vec<Uuid> = viewers.iter().map(|(stream, _)| stream.0).collect();
    let names: Vec<&str> = viewers.iter().map(|(_, name)| name.as_str()).collect();
    let rows = client.query(&statement, &[&streams, &names, &warm, &limit, &GRACE]).await?;
    let mut claimed = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    // An UPDATE returns its rows in no order.
    claimed.sort_by_key(|delivery| (-delivery.priority, delivery.created_at));
    Ok(claimed)
}

/// It was delivered, by the attempt of this number; false where that lost it.
pub async fn delivered(db: &Db, delivery: &SegmentDelivery) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update segment_deliveries set status = 'delivered', finished_at = now(), error = null, leased_until = null
             where id = $1 and attempts = $2 and status = 'delivering'",
            &[&delivery.id.0, &delivery.attempts],
        )
        .await?;
    Ok(changed > 0)
}

/// It was not: it is tried again after a while, unless that was the last attempt.
pub async fn missed(
    db: &Db,
    delivery: &SegmentDelivery,
    error: &str,
    wait: Duration,
) -> Result<Option<SegmentDeliveryStatus>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            "with missed as (
                 update segment_deliveries
                 set status = case when attempts < max_attempts then 'queued' else 'failed' end, error = $3, leased_until = null,
                     ready_at = now() + make_interval(secs => $4),
                     finished_at = case when attempts < max_attempts then null else now() end
                 where id = $1 and attempts = $2 and status = 'delivering'
                 returning stream_id, status),
             counted as (
                 update streams s set delivery_failures = delivery_failures + 1
                 from missed m where s.id = m.stream_id and m.status = 'failed')
             select status from missed",
            &[&delivery.id.0, &delivery.attempts, &error, &wait.as_secs_f64()],
        )
        .await?;
    Ok(row.map(|row| row.get::<_, &str>(0).parse()).transpose()?)
}

/// Fails what nobody wants any more and nobody delivers now.
pub async fn expire(db: &Db) -> Result<u64, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "with late as (
                 update segment_deliveries
                 set status = 'failed', finished_at = now(), leased_until = null,
                     error = coalesce(error || '; ', '') || 'it was not delivered in time'
                 where finished_at is null and expires_at <= now() and (leased_until is null or leased_until <= now())
                 returning stream_id),
             counted as (
                 update streams s set delivery_failures = delivery_failures + l.failed
                 from (select stream_id, count(*) as failed from late group by stream_id) l where s.id = l.stream_id)
             select count(*) from late",
            &[],
        )
        .await?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// Forgets so many of those that were over for so long.
pub async fn delete_old(db: &Db, age: Duration, limit: i64) -> Result<u64, DbError> {
    let deleted = db
        .get()
        .await?
        .execute(
            "delete from segment_deliveries where id in (
                 select id from segment_deliveries where finished_at < now() - make_interval(secs => $1) limit $2)",
            &[&age.as_secs_f64(), &limit],
        )
        .await?;
    Ok(deleted)
}

/// What came of the deliveries of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    pub delivered: u32,
    pub failed: u32,
    /// Those that are not over.
    pub waiting: u32,
}

/// Of those that were over within `span`.
pub async fn outcomes(db: &Db, project: ProjectId, span: Duration) -> Result<Outcomes, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select count(*) filter (where status = 'delivered')::int as delivered,
                    count(*) filter (where status = 'failed')::int as failed,
                    (select count(*) from segment_deliveries d join streams s on s.id = d.stream_id
                     where s.project_id = $1 and d.finished_at is null)::int as waiting
             from segment_deliveries where project_id = $1 and finished_at > now() - make_interval(secs => $2)",
            &[&project.0, &span.as_secs_f64()],
        )
        .await?;
    let count = |name: &str| row.get::<_, i32>(name).unsigned_abs();
    Ok(Outcomes { delivered: count("delivered"), failed: count("failed"), waiting: count("waiting") })
}
