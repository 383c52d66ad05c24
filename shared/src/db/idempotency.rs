//! Answers kept under the client's `Idempotency-Key`.

use std::time::Duration;

use uuid::Uuid;

use super::{Db, DbError};
use crate::ids::ProjectId;

/// How long an answer is replayed.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// After this long an unanswered request is taken for dead: its server went down.
const IN_FLIGHT: Duration = Duration::from_secs(120);

/// How often somebody who is still at it says so with [`refresh`].
pub const REFRESH: Duration = Duration::from_secs(30);

/// A kept answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<String>,
    /// Sealed by the one who keeps it.
    pub body: Vec<u8>,
}

/// What a key means for a request.
#[derive(Debug)]
pub enum Begun {
    /// The first with this key: go on, then [`complete`], [`abandon`] or [`forget`]. The id is for what the request makes: a repetition of
    /// one whose end nobody knows gets the same.
    First(Uuid),
    /// Answered before.
    Replay(Answer),
    /// The first one is still being answered.
    InFlight,
    /// The key was used for another request.
    Mismatch,
}

/// Takes a key for a request with this fingerprint.
pub async fn begin(db: &Db, project: ProjectId, key: &str, fingerprint: &[u8]) -> Result<Begun, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "insert into idempotency_keys as k (project_id, key, fingerprint, reserved) values ($1, $2, $3, $6)
             on conflict (project_id, key) do update
             set fingerprint = excluded.fingerprint, created_at = now(), status = null, body = null,
                 content_type = null, location = null, abandoned = false,
                 reserved = case when k.status is null and k.fingerprint = excluded.fingerprint
                                 then coalesce(k.reserved, excluded.reserved) else excluded.reserved end
             where k.created_at < now() - make_interval(secs => $4) or k.abandoned
                or (k.status is null and k.created_at < now() - make_interval(secs => $5))
             returning reserved",
        )
        .await?;
    let taken = client
        .query_opt(
            &statement,
            &[&project.0, &key, &fingerprint, &KEPT.as_secs_f64(), &IN_FLIGHT.as_secs_f64(), &Uuid::now_v7()],
        )
        .await?;
    if let Some(row) = taken {
        return Ok(Begun::First(row.get("reserved")));
    }
    let row = client
        .query_opt(
            "select fingerprint, status, content_type, location, body from idempotency_keys
             where project_id = $1 and key = $2",
            &[&project.0, &key],
        )
        .await?;
    // Gone between the two statements: the first one failed and let the key go.
    let Some(row) = row else {
        return Ok(Begun::InFlight);
    };
    if row.get::<_, &[u8]>("fingerprint") != fingerprint {
        return Ok(Begun::Mismatch);
    }
    Ok(match row.get::<_, Option<i32>>("status") {
        None => Begun::InFlight,
        Some(status) => Begun::Replay(Answer {
            status: u16::try_from(status).unwrap_or(500),
            content_type: row.get("content_type"),
            location: row.get("location"),
            body: row.get::<_, Option<Vec<u8>>>("body").unwrap_or_default(),
        }),
    })
}

/// Says that the first request is still being answered.
pub async fn refresh(db: &Db, project: ProjectId, key: &str) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update idempotency_keys set created_at = now()
             where project_id = $1 and key = $2 and status is null",
            &[&project.0, &key],
        )
        .await?;
    Ok(())
}

/// Keeps the answer.
pub async fn complete(db: &Db, project: ProjectId, key: &str, answer: &Answer) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "update idempotency_keys set status = $3, content_type = $4, location = $5, body = $6
             where project_id = $1 and key = $2 and status is null",
        )
        .await?;
    client
        .execute(
            &statement,
            &[
                &project.0,
                &key,
                &i32::from(answer.status),
                &answer.content_type,
                &answer.location,
                &answer.body,
            ],
        )
        .await?;
    Ok(())
}

/// Lets the key go for the same request: this one failed, and whether it did what it was to do is not known.
pub async fn abandon(db: &Db, project: ProjectId, key: &str) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "update idempotency_keys set abandoned = true where project_id = $1 and key = $2 and status is null",
            &[&project.0, &key],
        )
        .await?;
    Ok(())
}

/// Lets the key go: the request came to nothing that should be repeated.
pub async fn forget(db: &Db, project: ProjectId, key: &str) -> Result<(), DbError> {
    db.get()
        .await?
        .execute(
            "delete from idempotency_keys where project_id = $1 and key = $2 and status is null",
            &[&project.0, &key],
        )
        .await?;
    Ok(())
}

/// Forgets old answers. Returns how many.
pub async fn delete_old(db: &Db) -> Result<u64, DbError> {
    let gone = db
        .get()
        .await?
        .execute(
            "delete from idempotency_keys where created_at < now() - make_interval(secs => $1)",
            &[&KEPT.as_secs_f64()],
        )
        .await?;
    Ok(gone)
}
