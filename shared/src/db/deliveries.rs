//! Deliveries: claimed, reported, listed, replayed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::fan_out::Replayed;
use super::{Db, DbError, webhooks};
use crate::ids::{DeliveryId, ProjectId, WebhookId};
use crate::job::transition::words;
use crate::webhook::{DeliveryState, HOLDS, WebhookKind};

/// A delivery as listed.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    pub webhook_id: WebhookId,
    pub event_id: Uuid,
    pub kind: String,
    /// Of callbacks.
    pub url: Option<String>,
    pub replay: bool,
    pub state: DeliveryState,
    pub attempts: i32,
    /// While it is pending.
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub attempted_at: Option<DateTime<Utc>>,
    pub status: Option<i32>,
    pub error: Option<String>,
    pub response: Option<String>,
    pub duration_ms: Option<i32>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A delivery that is to be attempted now.
#[derive(Debug)]
pub struct Claimed {
    pub id: DeliveryId,
    pub webhook_id: WebhookId,
    pub url: String,
    pub event_id: Uuid,
    pub body: String,
    /// This attempt among them.
    pub attempts: i32,
    /// Sealed, the newest first.
    pub secrets: Vec<Vec<u8>>,
}

/// Which deliveries are claimed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Those to endpoints that failed last time and those to addresses of jobs, of which nothing is known; or the others.
    pub doubtful: bool,
    pub limit: i64,
    /// Attempts that may be under way to one receiver; one that failed last time has one.
    pub per_receiver: i64,
    /// How long an attempt may take before its sender counts as dead.
    pub lease: Duration,
}

/// Claims deliveries that are due: each receiver's first before anybody's second, and of one subject in order, as long as the
/// earlier ones hold the later ones.
pub async fn claim(db: &Db, wanted: Wanted) -> Result<Vec<Claimed>, DbError> {
    let client = db.get().await?;
    // The planner does not know how few are taken: the lateral and the array keep it from reading the whole table for them.
    let statement = client
        .prepare_cached(
            "with recursive lanes as (
                 (select lane, webhook_id from deliveries where state = 'pending' order by lane limit 1)
                 union all
                 select n.lane, n.webhook_id from lanes l, lateral (
                     select d.lane, d.webhook_id from deliveries d
                     where d.state = 'pending' and d.lane > l.lane order by d.lane limit 1) n
             ), open as (
                 select l.lane,
                        case when w.failing_since is null then $3::bigint else 1 end - (
                            select count(*) from deliveries d
                            where d.lane = l.lane and d.state = 'pending' and d.leased_until > now()) as room
                 from lanes l join webhooks w on w.id = l.webhook_id
                 where w.disabled_at is null and (w.quiet_until is null or w.quiet_until <= now())
                   and (w.kind = 'callbacks' or w.failing_since is not null) = $1
             ), due as (
                 select d.id, d.next_attempt_at, row_number() over (partition by o.lane order by d.next_attempt_at) as nth
                 from open o, lateral (
                     select d.id, d.next_attempt_at from deliveries d
                     where d.lane = o.lane and d.state = 'pending' and d.next_attempt_at <= now()
                       and (d.leased_until is null or d.leased_until <= now())
                       and not exists (
                           select 1 from deliveries b
                           where b.webhook_id = d.webhook_id and b.subject = d.subject and b.state = 'pending'
                             and b.place < d.place and (b.attempts < $5 or b.leased_until > now()))
                     order by d.next_attempt_at, d.place limit greatest(o.room, 0)) d
             ), taken as (
                 select t.id from (select id from due order by nth, next_attempt_at limit $2) n, lateral (
                     select d.id from deliveries d
                     where d.id = n.id and d.state = 'pending' and (d.leased_until is null or d.leased_until <= now())
                     for update skip locked) t
             )
             update deliveries d
             set attempts = d.attempts + 1, attempted_at = now(), leased_until = now() + make_interval(secs => $4)
             from webhooks w
             where d.id = any(array(select id from taken)) and w.id = d.webhook_id
             returning d.id, d.webhook_id, coalesce(d.url, w.url) as url, d.event_id, d.body, d.attempts, w.secret,
                       case when w.previous_until > now() then w.previous_secret end as previous_secret",
        )
        .await?;
    let rows = client
        .query(
            &statement,
            &[&wanted.doubtful, &wanted.limit, &wanted.per_receiver, &wanted.lease.as_secs_f64(), &HOLDS],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Claimed {
            id: DeliveryId(row.get("id")),
            webhook_id: WebhookId(row.get("webhook_id")),
            url: row.get("url"),
            event_id: row.get("event_id"),
            body: row.get("body"),
            attempts: row.get("attempts"),
            secrets: webhooks::read_secrets(row),
        })
        .collect())
}

/// What an attempt brought.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub status: Option<i32>,
    pub error: Option<String>,
    /// The beginning of what the receiver said.
    pub response: Option<String>,
    pub duration_ms: i32,
}

/// What follows an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The next one comes after so long; and the receiver wants to hear nothing at all for so long.
    Again { wait: Duration, quiet: Duration },
    /// It was the last one.
    Dead,
    /// The receiver wants nothing more, ever.
    Gone,
}

/// Reports an attempt that succeeded. False where the delivery was not this sender's any more.
pub async fn succeed(db: &Db, claimed: &Claimed, report: &Report) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    tx.execute(
        "update webhooks set failing_since = null, quiet_until = null where id = $1 and failing_since is not null",
        &[&claimed.webhook_id.0],
    )
    .await?;
    let changed = tx
        .execute(
            "update deliveries
             set state = 'delivered', leased_until = null, finished_at = now(), status = $3, error = null,
                 response = $4, duration_ms = $5
             where id = $1 and attempts = $2 and state = any($6)",
            &[
                &claimed.id.0,
                &claimed.attempts,
                &report.status,
                &report.response,
                &report.duration_ms,
                &words(DeliveryState::Delivered.predecessors()),
            ],
        )
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

/// Reports an attempt that failed. An endpoint to which everything has failed for `patience`, or that is gone, is disabled.
/// False where the delivery was not this sender's any more.
pub async fn fail(
    db: &Db,
    claimed: &Claimed,
    report: &Report,
    failed: Failed,
    patience: Duration,
) -> Result<bool, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Before its deliveries, as everybody does.
    let row = tx
        .query_opt(
            "select kind, failing_since <= now() - make_interval(secs => $2) as hopeless
             from webhooks where id = $1 for no key update",
            &[&claimed.webhook_id.0, &patience.as_secs_f64()],
        )
        .await?;
    // Deleted meanwhile, and its deliveries with it.
    let Some(row) = row else { return Ok(false) };
    let (wait, quiet) = match failed {
        Failed::Again { wait, quiet } => (Some(wait.as_secs_f64()), quiet.as_secs_f64()),
        Failed::Dead | Failed::Gone => (None, 0.0),
    };
    let changed = tx
        .query_opt(
            "update deliveries
             set state = case when $7::float8 is null then 'dead' else 'pending' end, leased_until = null,
                 finished_at = case when $7 is null then now() end,
                 next_attempt_at = now() + make_interval(secs => coalesce($7, 0)),
                 status = $3, error = $4, response = $5, duration_ms = $6
             where id = $1 and attempts = $2 and state = any($8)
             returning subject, place, next_attempt_at",
            &[
                &claimed.id.0,
                &claimed.attempts,
                &report.status,
                &report.error,
                &report.response,
                &report.duration_ms,
                &wait,
                &words(DeliveryState::Dead.predecessors()),
            ],
        )
        .await?;
    let Some(changed) = changed else { return Ok(false) };
    if wait.is_some() && claimed.attempts < HOLDS {
        // They could not be claimed before; until then nobody has to look at them.
        tx.execute(
            "update deliveries set next_attempt_at = greatest(next_attempt_at, $4)
             where webhook_id = $1 and subject = $2 and place > $3 and state = 'pending' and attempts = 0",
            &[
                &claimed.webhook_id.0,
                &changed.get::<_, Uuid>("subject"),
                &changed.get::<_, i64>("place"),
                &changed.get::<_, DateTime<Utc>>("next_attempt_at"),
            ],
        )
        .await?;
    }
    match row.get::<_, &str>("kind").parse()? {
        WebhookKind::Endpoint => {
            tx.execute(
                "update webhooks
                 set failing_since = coalesce(failing_since, now()),
                     quiet_until = case when $2::float8 > 0 then now() + make_interval(secs => $2) else quiet_until end
                 where id = $1 and (failing_since is null or $2::float8 > 0)",
                &[&claimed.webhook_id.0, &quiet],
            )
            .await?;
            if failed == Failed::Gone {
                webhooks::disable(&tx, claimed.webhook_id, "its receiver answered 410 Gone").await?;
            } else if row.get::<_, Option<bool>>("hopeless").unwrap_or(false) {
                let days = patience.as_secs_f64() / 86_400.0;
                let reason = format!("every attempt has failed for {} days", (days * 10.0).round() / 10.0);
                webhooks::disable(&tx, claimed.webhook_id, &reason).await?;
            }
        }
        // One job's address says nothing of the others'.
        WebhookKind::Callbacks if failed == Failed::Gone => {
            tx.execute(
                "update deliveries
                 set state = 'dead', error = 'its receiver answered 410 Gone before', leased_until = null,
                     finished_at = now()
                 where webhook_id = $1 and subject = $2 and url = $3 and state = 'pending'",
                &[&claimed.webhook_id.0, &changed.get::<_, Uuid>("subject"), &claimed.url],
            )
            .await?;
        }
        WebhookKind::Callbacks => {}
    }
    tx.commit().await?;
    Ok(true)
}

const COLUMNS: &str = "d.id, d.place, d.webhook_id, d.event_id, d.type, d.url, d.replay, d.state, d.attempts, \
                       case when d.state = 'pending' then d.next_attempt_at end as next_attempt_at, d.attempted_at, \
                       d.status, d.error, d.response, d.duration_ms, d.created_at, d.finished_at";

fn read(row: &Row) -> Result<Delivery, DbError> {
    Ok(Delivery {
        id: DeliveryId(row.get("id")),
        webhook_id: WebhookId(row.get("webhook_id")),
        event_id: row.get("event_id"),
        kind: row.get("type"),
        url: row.get("url"),
        replay: row.get("replay"),
        state: row.get::<_, &str>("state").parse()?,
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        attempted_at: row.get("attempted_at"),
        status: row.get("status"),
        error: row.get("error"),
        response: row.get("response"),
        duration_ms: row.get("duration_ms"),
        created_at: row.get("created_at"),
        finished_at: row.get("finished_at"),
    })
}

/// Deliveries of a webhook, the last ones first, before `before`.
pub async fn list(
    db: &Db,
    webhook: WebhookId,
    state: Option<DeliveryState>,
    before: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<Delivery>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from deliveries d
                 where d.webhook_id = $1 and ($2::text is null or d.state = $2)
                   and ($3::uuid is null or d.place < (select place from deliveries where id = $3))
                 order by d.place desc limit $4"
            ),
            &[&webhook.0, &state.map(|state| state.as_str()), &before.map(|id| id.0), &limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Sends the event of a delivery again, as a delivery of its own; gives that one, or why there is none.
pub async fn replay(
    db: &Db,
    project: ProjectId,
    id: DeliveryId,
) -> Result<Result<Delivery, Replayed>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_opt(
            "select w.disabled_at is not null as disabled,
                    exists (select 1 from deliveries p
                            where p.webhook_id = d.webhook_id and p.subject = d.subject and p.event_id = d.event_id
                              and p.state = 'pending') as pending
             from deliveries d join webhooks w on w.id = d.webhook_id
             where d.id = $1 and w.project_id = $2 for share of w",
            &[&id.0, &project.0],
        )
        .await?;
    let refused = match &row {
        None => Some(Replayed::NotFound),
        Some(row) if row.get("disabled") => Some(Replayed::Disabled),
        Some(row) if row.get("pending") => Some(Replayed::Pending),
        Some(_) => None,
    };
    if let Some(refused) = refused {
        return Ok(Err(refused));
    }
    let row = tx
        .query_opt(
            &format!(
                "insert into deliveries as d (id, webhook_id, lane, event_id, type, subject, url, body, replay)
                 select $2, webhook_id, lane, event_id, type, subject, url, body, true from deliveries where id = $1
                 on conflict do nothing
                 returning {COLUMNS}"
            ),
            &[&id.0, &DeliveryId::new().0],
        )
        .await?;
    tx.commit().await?;
    // Somebody else has just asked for it, too.
    row.as_ref().map(read).transpose().map(|made| made.ok_or(Replayed::Pending))
}

/// What is on its way, for the metrics: how many, and the age of the oldest in seconds.
pub async fn pending(db: &Db) -> Result<(i64, f64), DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float8
             from deliveries where state = 'pending'",
            &[],
        )
        .await?;
    Ok((row.get(0), row.get(1)))
}
