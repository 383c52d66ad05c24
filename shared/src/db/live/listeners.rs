//! Who listens for publishers that come by SRT. To listen is not to carry: a stream is taken when its publisher comes, as by RTMP.

use std::time::Duration;

use super::super::{Db, DbError};
use crate::ids::{LivestreamId, WorkerId};

/// A stream that somebody listens for, and the source it has now, sealed: another passphrase needs another listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub livestream: LivestreamId,
    pub source: Option<Vec<u8>>,
}

/// Of livestreams `l`: a publisher may come by SRT.
const EXPECTED: &str =
    "l.deleted_at is null and l.spec->>'source' = 'srt' and not coalesce((l.spec->>'calls')::bool, false)
    and (l.armed_at is not null or not coalesce((l.spec->>'require_start')::bool, false))";

/// Streams whose publisher may come by SRT and that nobody listens for: those that were asked for first, then the newest.
pub async fn unheard(db: &Db, limit: i64) -> Result<Vec<LivestreamId>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "select l.id from livestreams l
             where {EXPECTED} and not exists (
                 select 1 from live_listeners e where e.livestream_id = l.id and e.expires_at > now())
             order by l.armed_at, l.id desc limit $1"
        ))
        .await?;
    let rows = client.query(&statement, &[&limit]).await?;
    Ok(rows.iter().map(|row| LivestreamId(row.get(0))).collect())
}

/// Says that a worker listens at `address`; `None` where somebody does already, or nobody is expected any more.
pub async fn listen(
    db: &Db,
    livestream: LivestreamId,
    worker: WorkerId,
    address: &str,
    lease: Duration,
) -> Result<Option<Listener>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "with listening as (
                 insert into live_listeners (livestream_id, worker_id, address, expires_at)
                 select l.id, $2, $3, now() + make_interval(secs => $4) from livestreams l where l.id = $1 and {EXPECTED}
                 on conflict (livestream_id) do update
                 set worker_id = excluded.worker_id, address = excluded.address, expires_at = excluded.expires_at
                 where live_listeners.expires_at <= now()
                 returning livestream_id)
             select l.id, l.source from livestreams l join listening on listening.livestream_id = l.id"
        ))
        .await?;
    let row =
        client.query_opt(&statement, &[&livestream.0, &worker.0, &address, &lease.as_secs_f64()]).await?;
    Ok(row.map(|row| Listener { livestream: LivestreamId(row.get("id")), source: row.get("source") }))
}

/// Prolongs what a worker listens for, as far as a publisher is still expected; gives that. The others are nobody's concern any more.
pub async fn keep_listening(
    db: &Db,
    worker: WorkerId,
    livestreams: &[LivestreamId],
    lease: Duration,
) -> Result<Vec<Listener>, DbError> {
    let client = db.get().await?;
    let ids: Vec<_> = livestreams.iter().map(|livestream| livestream.0).collect();
    let statement = client
        .prepare_cached(&format!(
            "update live_listeners e set expires_at = now() + make_interval(secs => $3)
             from livestreams l
             where e.worker_id = $1 and e.livestream_id = any($2) and l.id = e.livestream_id and {EXPECTED}
             returning l.id, l.source"
        ))
        .await?;
    let rows = client.query(&statement, &[&worker.0, &ids, &lease.as_secs_f64()]).await?;
    Ok(rows
        .iter()
        .map(|row| Listener { livestream: LivestreamId(row.get("id")), source: row.get("source") })
        .collect())
}

/// Says that a worker listens no more: another one may.
pub async fn hang_up(db: &Db, livestream: LivestreamId, worker: WorkerId) -> Result<(), DbError> {
    let client = db.get().await?;
    client
        .execute(
            "delete from live_listeners where livestream_id = $1 and worker_id = $2",
            &[&livestream.0, &worker.0],
        )
        .await?;
    Ok(())
}
