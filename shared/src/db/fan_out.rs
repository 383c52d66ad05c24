//! From the event log to deliveries: each event once to each webhook that wants it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::events::{self, Event, Position, Span};
use super::leader::Leadership;
use super::{Db, DbError, GenericClient};
use crate::ids::{DeliveryId, JobId, ProjectId, WebhookId};
use crate::webhook::{HOLDS, WebhookKind, body};

/// Events turned into deliveries in one transaction.
const BATCH: i64 = 500;
/// Events that may be replayed at once.
pub const MOST_REPLAYED: i64 = 10_000;

/// What a webhook wants.
struct Target {
    id: WebhookId,
    project_id: ProjectId,
    kind: WebhookKind,
    /// Words; the programs that wrote them may know more of them than this one.
    events: Vec<String>,
    created_at: DateTime<Utc>,
}

/// A delivery about to be written.
struct NewDelivery {
    webhook_id: WebhookId,
    lane: Uuid,
    event_id: Uuid,
    kind: String,
    subject: Uuid,
    /// Of callbacks.
    url: Option<String>,
    body: String,
}

/// Turns the next events behind the horizon into deliveries. Gives how many events that were, 500 at most; more may be waiting.
pub async fn advance(db: &Db, leadership: &Leadership) -> Result<u64, DbError> {
    let mut client = db.get().await?;
    // Most of the time there is nothing to do, and looking must cost nothing.
    if events::read_after(&client, position(&client).await?, 1).await?.is_empty() {
        return Ok(0);
    }
    let tx = client.transaction().await?;
    leadership.guard(&tx).await?;
    tx.execute("select 1 from fan_out for update", &[]).await?;
    let batch = events::read_after(&tx, position(&tx).await?, BATCH).await?;
    let Some(last) = batch.last().map(|event| event.position) else { return Ok(0) };
    let mut projects: Vec<_> = batch.iter().map(|event| event.project_id.0).collect();
    projects.sort_unstable();
    projects.dedup();
    // Held until the commit: one that is disabled meanwhile finds what goes to it here.
    let rows = tx
        .query(
            &format!("{TARGETS} where project_id = any($1) and disabled_at is null order by id for share"),
            &[&projects],
        )
        .await?;
    let targets = rows.iter().map(read_target).collect::<Result<Vec<_>, _>>()?;
    let made = addressed(&tx, &batch, &targets).await?;
    insert(&tx, &made, false).await?;
    tx.execute("update fan_out set xid = $1::text::xid8, id = $2", &[&last.xid.to_string(), &last.id])
        .await?;
    tx.commit().await?;
    Ok(batch.len() as u64)
}

const TARGETS: &str = "select id, project_id, kind, events, disabled_at, created_at from webhooks";

fn read_target(row: &tokio_postgres::Row) -> Result<Target, DbError> {
    Ok(Target {
        id: WebhookId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        kind: row.get::<_, &str>("kind").parse()?,
        events: row.get("events"),
        created_at: row.get("created_at"),
    })
}

/// How far it has come.
async fn position(client: &impl GenericClient) -> Result<Position, DbError> {
    let statement = client.prepare_cached("select xid::text, id from fan_out").await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(Position { xid: row.get::<_, &str>(0).parse().unwrap_or_default(), id: row.get(1) })
}

/// What came of a wish to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// So many deliveries are on their way.
    Now(u64),
    /// There are more events than [`MOST_REPLAYED`].
    TooMany,
    /// The webhook is disabled.
    Disabled,
    /// The project has no such webhook, or no such delivery.
    NotFound,
    /// This very event is on its way there.
    Pending,
}

/// Sends the events of a span to a webhook again, those included that it never got because it was disabled. What is on its way,
/// or will be made a delivery in a moment, is not doubled. Its filter does not matter where `span` names types.
pub async fn replay_span(db: &Db, id: WebhookId, span: &Span) -> Result<Replayed, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let found = tx
        .query_opt(
            &format!("{TARGETS} where id = $1 and project_id = $2 for share"),
            &[&id.0, &span.project.0],
        )
        .await?;
    let Some(row) = found else { return Ok(Replayed::NotFound) };
    if row.get::<_, Option<DateTime<Utc>>>("disabled_at").is_some() {
        return Ok(Replayed::Disabled);
    }
    let mut target = read_target(&row)?;
    target.created_at = span.from;
    if !span.types.is_empty() {
        target.events.clear();
    }
    let found = events::read_span(&tx, span, position(&tx).await?, MOST_REPLAYED + 1).await?;
    if found.len() as i64 > MOST_REPLAYED {
        return Ok(Replayed::TooMany);
    }
    let made = addressed(&tx, &found, &[target]).await?;
    let made = insert(&tx, &made, true).await?;
    tx.commit().await?;
    Ok(Replayed::Now(made))
}

/// Which of `events` go where.
async fn addressed(
    tx: &impl GenericClient,
    events: &[Event],
    targets: &[Target],
) -> Result<Vec<NewDelivery>, DbError> {
    let mut of_project: HashMap<ProjectId, Vec<&Target>> = HashMap::new();
    for target in targets {
        of_project.entry(target.project_id).or_default().push(target);
    }
    let has_callbacks = |project: &ProjectId| {
        let targets = of_project.get(project).into_iter().flatten();
        targets.into_iter().any(|target| target.kind == WebhookKind::Callbacks)
    };
    let jobs =
        events.iter().filter(|event| has_callbacks(&event.project_id)).filter_map(|event| event.job_id);
    let callbacks = callbacks(tx, jobs.collect()).await?;
    let mut made = vec![];
    for event in events {
        let mut text = None;
        for target in of_project.get(&event.project_id).into_iter().flatten() {
            let wanted = target.events.is_empty() || target.events.contains(&event.kind);
            if !wanted || event.created_at < target.created_at {
                continue;
            }
            let (lane, url) = match target.kind {
                WebhookKind::Endpoint => (target.id.0, None),
                WebhookKind::Callbacks => match event.job_id.and_then(|job| callbacks.get(&job)) {
                    Some(url) => (lane(target.project_id, url), Some(url.clone())),
                    None => continue,
                },
            };
            let body = text.get_or_insert_with(|| body(&event.kind, event.created_at, &event.data));
            made.push(NewDelivery {
                webhook_id: target.id,
                lane,
                event_id: event.event_id,
                kind: event.kind.clone(),
                subject: event
                    .recording_id
                    .map(|id| id.0)
                    .or(event.livestream_id.map(|id| id.0))
                    .or(event.job_id.map(|id| id.0))
                    .unwrap_or(event.event_id),
                url,
                body: body.clone(),
            });
        }
    }
    Ok(made)
}

/// Where those of `jobs` that name an address want their events.
async fn callbacks(tx: &impl GenericClient, jobs: Vec<JobId>) -> Result<HashMap<JobId, String>, DbError> {
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<_> = jobs.into_iter().map(|id| id.0).collect();
    let rows = tx
        .query(
            "select id, spec ->> 'callback_url' from jobs where id = any($1) and spec ->> 'callback_url' is not null",
            &[&ids],
        )
        .await?;
    Ok(rows.iter().map(|row| (JobId(row.get(0)), row.get(1))).collect())
}

/// One for each server that jobs of a project name: what one of them does must not hold up the others.
fn lane(project: ProjectId, url: &str) -> Uuid {
    let server = Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let digest = Sha256::new().chain_update(project.0).chain_update(server).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(bytes)
}

/// Writes deliveries in their order. What follows something that waits for its next attempt waits with it.
async fn insert(tx: &impl GenericClient, new: &[NewDelivery], replay: bool) -> Result<u64, DbError> {
    if new.is_empty() {
        return Ok(0);
    }
    let statement = tx
        .prepare_cached(
            "insert into deliveries (id, webhook_id, lane, event_id, type, subject, url, body, replay, next_attempt_at)
             select n.id, n.webhook_id, n.lane, n.event_id, n.type, n.subject, n.url, n.body, $9,
                    greatest(now(), (select max(d.next_attempt_at) from deliveries d
                                     where d.webhook_id = n.webhook_id and d.subject = n.subject
                                       and d.state = 'pending' and d.attempts < $10))
             from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::text[])
                  with ordinality as n (id, webhook_id, lane, event_id, type, subject, url, body, place)
             where not $9 or not exists (
                 select 1 from deliveries d
                 where d.webhook_id = n.webhook_id and d.subject = n.subject and d.event_id = n.event_id
                   and d.state = 'pending')
             order by n.place
             on conflict do nothing",
        )
        .await?;
    let ids: Vec<_> = new.iter().map(|_| DeliveryId::new().0).collect();
    let webhooks: Vec<_> = new.iter().map(|delivery| delivery.webhook_id.0).collect();
    let lanes: Vec<_> = new.iter().map(|delivery| delivery.lane).collect();
    let events: Vec<_> = new.iter().map(|delivery| delivery.event_id).collect();
    let kinds: Vec<_> = new.iter().map(|delivery| delivery.kind.as_str()).collect();
    let subjects: Vec<_> = new.iter().map(|delivery| delivery.subject).collect();
    let urls: Vec<_> = new.iter().map(|delivery| delivery.url.as_deref()).collect();
    let bodies: Vec<_> = new.iter().map(|delivery| delivery.body.as_str()).collect();
    let written = tx
        .execute(
            &statement,
            &[&ids, &webhooks, &lanes, &events, &kinds, &subjects, &urls, &bodies, &replay, &HOLDS],
        )
        .await?;
    Ok(written)
}
