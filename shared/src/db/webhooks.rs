//! Webhooks: what events are sent to. What is on its way there is in [`super::deliveries`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_postgres::Row;

use super::events::{EventType, NewEvent, append};
use super::{Db, DbError, GenericClient};
use crate::ids::{ProjectId, WebhookId};
use crate::job::transition::words;
use crate::webhook::{DeliveryState, WebhookKind};

/// A webhook as read back, without its secrets.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub id: WebhookId,
    pub project_id: ProjectId,
    pub kind: WebhookKind,
    /// Endpoints have one.
    pub url: Option<String>,
    pub description: String,
    /// Empty for all.
    pub events: Vec<EventType>,
    /// Until when the secret before this one signs as well.
    pub previous_until: Option<DateTime<Utc>>,
    pub disabled_at: Option<DateTime<Utc>>,
    pub disabled_reason: Option<String>,
    /// Since when every attempt has failed.
    pub failing_since: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A webhook about to be written.
#[derive(Debug)]
pub struct NewWebhook<'a> {
    pub id: WebhookId,
    pub project_id: ProjectId,
    /// `None` for the callbacks of jobs.
    pub url: Option<&'a str>,
    pub description: &'a str,
    pub events: &'a [EventType],
    /// Sealed.
    pub secret: &'a [u8],
}

/// What came of a wish for a new webhook.
#[derive(Debug)]
pub enum Created {
    Now(Box<Webhook>),
    /// The project has as many as it may have.
    TooMany,
    /// The project's callbacks have one already.
    Taken,
}

/// What is changed of a webhook; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change<'a> {
    pub url: Option<&'a str>,
    pub description: Option<&'a str>,
    pub events: Option<&'a [EventType]>,
    pub enabled: Option<bool>,
}

/// Webhooks a project may have.
pub const MOST: i64 = 100;

const COLUMNS: &str = "id, project_id, kind, url, description, events, \
                       case when previous_until > now() then previous_until end as previous_until, disabled_at, \
                       disabled_reason, failing_since, created_at, updated_at";

fn read(row: &Row) -> Result<Webhook, DbError> {
    Ok(Webhook {
        id: WebhookId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        kind: row.get::<_, &str>("kind").parse()?,
        url: row.get("url"),
        description: row.get("description"),
        events: types(row)?,
        previous_until: row.get("previous_until"),
        disabled_at: row.get("disabled_at"),
        disabled_reason: row.get("disabled_reason"),
        failing_since: row.get("failing_since"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// The filter of a row.
fn types(row: &Row) -> Result<Vec<EventType>, DbError> {
    let words: Vec<&str> = row.get("events");
    Ok(words.into_iter().map(str::parse).collect::<Result<_, _>>()?)
}

/// Writes a webhook.
pub async fn insert(db: &Db, new: &NewWebhook<'_>) -> Result<Created, DbError> {
    let kind = if new.url.is_some() { WebhookKind::Endpoint } else { WebhookKind::Callbacks };
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "insert into webhooks (id, project_id, kind, url, description, events, secret)
                 select $1, $2, $3, $4, $5, $6, $7
                 where (select count(*) from webhooks where project_id = $2) < $8
                 returning {COLUMNS}"
            ),
            &[
                &new.id.0,
                &new.project_id.0,
                &kind.as_str(),
                &new.url,
                &new.description,
                &words(new.events),
                &new.secret,
                &MOST,
            ],
        )
        .await
        .map_err(DbError::from);
    match row {
        Ok(Some(row)) => Ok(Created::Now(Box::new(read(&row)?))),
        Ok(None) => Ok(Created::TooMany),
        Err(error) if error.is_duplicate() => Ok(Created::Taken),
        Err(error) => Err(error),
    }
}

/// Makes sure that the project's callbacks have a webhook; `secret` (sealed for `id`) is for a new one.
pub async fn ensure_callbacks(
    db: &Db,
    project: ProjectId,
    id: WebhookId,
    secret: &[u8],
) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "insert into webhooks (id, project_id, kind, description, events, secret)
             values ($1, $2, 'callbacks', '', '{}', $3) on conflict do nothing",
            &[&id.0, &project.0, &secret],
        )
        .await?;
    Ok(())
}

/// True where the project's callbacks have a webhook.
pub async fn has_callbacks(db: &Db, project: ProjectId) -> Result<bool, DbError> {
    let row = db
        .get()
        .await?
        .query_one(
            "select exists (select 1 from webhooks where project_id = $1 and kind = 'callbacks')",
            &[&project.0],
        )
        .await?;
    Ok(row.get(0))
}

/// The project's webhook with this id.
pub async fn get(db: &Db, project: ProjectId, id: WebhookId) -> Result<Option<Webhook>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!("select {COLUMNS} from webhooks where id = $1 and project_id = $2"),
            &[&id.0, &project.0],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Webhooks of a project, newest first, after `after`.
pub async fn list(
    db: &Db,
    project: ProjectId,
    after: Option<WebhookId>,
    limit: i64,
) -> Result<Vec<Webhook>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from webhooks
                 where project_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"
            ),
            &[&project.0, &after.map(|id| id.0), &limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Changes a webhook; `None` where the project has none with this id. One that is enabled, or sent elsewhere, begins anew; what
/// is on its way to one that is disabled is dead.
pub async fn update(
    db: &Db,
    project: ProjectId,
    id: WebhookId,
    change: &Change<'_>,
) -> Result<Option<Webhook>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_opt(
            &format!(
                "update webhooks
                 set url = coalesce($3, url), description = coalesce($4, description),
                     events = coalesce($5::text[], events),
                     disabled_at = case when $6::boolean then null when not $6 then coalesce(disabled_at, now())
                                        else disabled_at end,
                     disabled_reason = case when $6 then null
                                            when not $6 then coalesce(disabled_reason, 'it was switched off')
                                            else disabled_reason end,
                     failing_since = case when $6 or $3 is not null then null else failing_since end,
                     quiet_until = case when $6 or $3 is not null then null else quiet_until end,
                     updated_at = now()
                 where id = $1 and project_id = $2
                 returning {COLUMNS}"
            ),
            &[
                &id.0,
                &project.0,
                &change.url,
                &change.description,
                &change.events.map(words),
                &change.enabled,
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    if change.enabled == Some(false) {
        bury(&tx, id).await?;
    }
    tx.commit().await?;
    read(&row).map(Some)
}

/// Deletes a webhook with its deliveries; false where the project has none with this id.
pub async fn delete(db: &Db, project: ProjectId, id: WebhookId) -> Result<bool, DbError> {
    let gone = db
        .get()
        .await?
        .execute("delete from webhooks where id = $1 and project_id = $2", &[&id.0, &project.0])
        .await?;
    Ok(gone == 1)
}

/// Gives a webhook a new secret (sealed); the old one signs for `keep` longer. `None` where the project has none with this id.
pub async fn rotate(
    db: &Db,
    project: ProjectId,
    id: WebhookId,
    secret: &[u8],
    keep: Duration,
) -> Result<Option<Webhook>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "update webhooks
                 set previous_secret = case when $4::float8 > 0 then secret end,
                     previous_until = case when $4 > 0 then now() + make_interval(secs => $4) end,
                     secret = $3, updated_at = now()
                 where id = $1 and project_id = $2 returning {COLUMNS}"
            ),
            &[&id.0, &project.0, &secret, &keep.as_secs_f64()],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// The secrets (sealed) that sign for a webhook now, the newest first; none where there is no such webhook.
pub async fn secrets(db: &Db, id: WebhookId) -> Result<Vec<Vec<u8>>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            "select secret, case when previous_until > now() then previous_secret end as previous_secret
             from webhooks where id = $1",
            &[&id.0],
        )
        .await?;
    Ok(row.map(|row| read_secrets(&row)).unwrap_or_default())
}

/// The secrets of a row.
pub(super) fn read_secrets(row: &Row) -> Vec<Vec<u8>> {
    [row.get::<_, Option<Vec<u8>>>("secret"), row.get("previous_secret")].into_iter().flatten().collect()
}

/// Every secret that is kept (sealed), of all projects.
pub async fn all_secrets(db: &Db) -> Result<Vec<(WebhookId, Vec<u8>)>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select id, secret from webhooks
             union all select id, previous_secret from webhooks where previous_secret is not null",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (WebhookId(row.get(0)), row.get(1))).collect())
}

/// Puts a secret that was sealed anew into its place; nothing where another one stands there by now.
pub async fn replace_secret(db: &Db, id: WebhookId, old: &[u8], new: &[u8]) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update webhooks set secret = case when secret = $2 then $3 else secret end,
                    previous_secret = case when previous_secret = $2 then $3 else previous_secret end
             where id = $1 and (secret = $2 or previous_secret = $2)",
            &[&id.0, &old, &new],
        )
        .await?;
    Ok(())
}

/// Sends a webhook nothing more, and tells why in the log. In the caller's transaction, which holds the webhook's row.
pub(super) async fn disable(tx: &impl GenericClient, id: WebhookId, reason: &str) -> Result<(), DbError> {
    let row = tx
        .query_opt(
            "update webhooks set disabled_at = now(), disabled_reason = $2, updated_at = now()
             where id = $1 and disabled_at is null returning project_id",
            &[&id.0, &reason],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    bury(tx, id).await?;
    let event = NewEvent {
        project_id: ProjectId(row.get(0)),
        kind: EventType::WebhookDisabled,
        job_id: None,
        recording_id: None,
        livestream_id: None,
        data: json!({ "webhook_id": id, "reason": reason }),
    };
    append(tx, event).await
}

/// Gives up what is on its way to a webhook. In the caller's transaction, which holds the webhook's row.
async fn bury(tx: &impl GenericClient, id: WebhookId) -> Result<(), DbError> {
    tx.execute(
        "update deliveries
         set state = 'dead', error = coalesce(error || '; then ', '') || 'the webhook was disabled',
             leased_until = null, finished_at = now()
         where webhook_id = $1 and state = any($2)",
        &[&id.0, &words(DeliveryState::Dead.predecessors())],
    )
    .await?;
    Ok(())
}
