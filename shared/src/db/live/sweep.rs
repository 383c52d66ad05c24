//! What was published and is not kept: segments that have left the live window of streams that are not recorded, and what was published
//! while a recording was paused.

use std::time::Duration;

use uuid::Uuid;

use super::super::leader::Leadership;
use super::super::{Db, DbError};
use crate::ids::{BroadcastId, SetId};

/// A segment that nobody asks for any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    pub set: SetId,
    pub rung: String,
    pub number: i32,
    /// Empty where it is a gap.
    pub key: String,
}

/// Seconds from the end of a broadcast `b` at which its segments can no longer be asked for: behind the window by as much as the longest
/// playlist that listed them, and their own length (rfc8216bis, 6.2.2). The window holds three target durations at least.
const REACH: &str = "(2 * greatest((b.plan ->> 'window_seconds')::float8, 3 * (b.plan -> 'cadence' ->> 'target_duration')::float8)
    + (b.plan -> 'cadence' ->> 'target_duration')::float8)";

/// Segments whose objects are to be deleted, `limit` at most. They are told of until they are forgotten.
pub async fn outdated(db: &Db, limit: i64) -> Result<Vec<Outdated>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            // Counted from the newest one: the time between two publishers is not listed. Of what is recorded only what comes behind the
            // first pause is looked at.
            &format!(
                "with those as (
                     select b.id, b.set_id, b.recorded, {REACH} as reach,
                            b.status <> 'recording' and b.ended_at < now() - make_interval(secs => {REACH}) as over,
                            (select min(p.first_number) from broadcast_pauses p where p.broadcast_id = b.id and not p.swept) as first
                     from broadcasts b
                     where not b.recorded and b.status in ('recording', 'finalizing')
                        or b.id in (select broadcast_id from broadcast_pauses where not swept) and b.status <> 'expired')
                 select t.set_id, s.rung, s.number, s.key
                 from those t join renditions r on r.set_id = t.set_id
                 cross join lateral (
                     select g.rung, g.number, g.key,
                            sum(g.duration_ticks) over (order by g.number desc) - g.duration_ticks as behind
                     from segments g
                     where g.set_id = t.set_id and g.rung = r.rung and (not t.recorded or g.number >= t.first)) s
                 where (t.over or s.behind > t.reach * r.timescale)
                   and (not t.recorded or exists (
                       select 1 from broadcast_pauses p
                       where p.broadcast_id = t.id and s.number >= p.first_number
                         and (p.until_number is null or s.number < p.until_number)))
                 order by s.number limit $1"
            ),
            &[&limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Outdated {
            set: SetId(row.get("set_id")),
            rung: row.get("rung"),
            number: row.get("number"),
            key: row.get("key"),
        })
        .collect())
}

/// Forgets segments whose objects are gone, and pauses of which nothing is left.
pub async fn forget(db: &Db, leadership: &Leadership, segments: &[Outdated]) -> Result<(), DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    let sets: Vec<Uuid> = segments.iter().map(|segment| segment.set.0).collect();
    let rungs: Vec<&str> = segments.iter().map(|segment| segment.rung.as_str()).collect();
    let numbers: Vec<i32> = segments.iter().map(|segment| segment.number).collect();
    tx.execute(
        "delete from segments s using unnest($1::uuid[], $2::text[], $3::int[]) as gone (set_id, rung, number)
         where s.set_id = gone.set_id and s.rung = gone.rung and s.number = gone.number",
        &[&sets, &rungs, &numbers],
    )
    .await?;
    // Something behind it is stored, or nothing comes any more: then nothing of it does.
    tx.execute(
        "update broadcast_pauses p set swept = true
         from broadcasts b
         where b.id = p.broadcast_id and not p.swept
           and (p.until_number is not null or b.status not in ('recording', 'finalizing'))
           and (b.status not in ('recording', 'finalizing')
                or exists (select 1 from segments s where s.set_id = b.set_id and s.number >= p.until_number))
           and not exists (
               select 1 from segments s
               where s.set_id = b.set_id and s.number >= p.first_number
                 and (p.until_number is null or s.number < p.until_number))",
        &[],
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Broadcasts that are over, were not recorded, and whose last window nobody sees any more.
pub async fn over(db: &Db, limit: i64) -> Result<Vec<BroadcastId>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select b.id from broadcasts b
                 where not b.recorded and b.status in ('available', 'failed')
                   and b.ended_at < now() - make_interval(secs => least({REACH}, $2)) limit $1"
            ),
            &[&limit, &LAST_LOOK.as_secs_f64()],
        )
        .await?;
    Ok(rows.iter().map(|row| BroadcastId(row.get(0))).collect())
}

/// The window of what is over is of use to those who still watch it only.
const LAST_LOOK: Duration = Duration::from_secs(3600);
