//! What is known of players whose quality the farm chooses.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::viewers::Watched;
use super::{Db, DbError};
use crate::ids::{LivestreamId, ProjectId, RecordingId};
use crate::media::abr::Session;

/// A session as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    pub id: String,
    pub watched: Watched,
    pub session: Session,
    pub began_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
}

/// Who was not heard of for so long has left, and begins anew.
const FORGOTTEN: &str = "interval '1 hour'";

/// Changes a session, or begins it. Others that would change it wait meanwhile.
///
/// # Errors
/// [`DbError::Gone`] where what is watched was deleted.
pub async fn change<T>(
    db: &Db,
    project: ProjectId,
    watched: Watched,
    id: &str,
    apply: impl FnOnce(&mut Session, DateTime<Utc>) -> T,
) -> Result<T, DbError> {
    let (recording, livestream) = watched.columns();
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let open = tx
        .prepare_cached(&format!(
            "insert into abr_sessions as s (project_id, recording_id, livestream_id, id) values ($1, $2, $3, $4)
             on conflict (project_id, id, coalesce(recording_id, livestream_id)) do update
             set state = case when s.seen_at < now() - {FORGOTTEN} then '{{}}' else s.state end,
                 began_at = case when s.seen_at < now() - {FORGOTTEN} then now() else s.began_at end, seen_at = now()
             returning state, now()"
        ))
        .await?;
    let row = tx.query_one(&open, &[&project.0, &recording, &livestream, &id]).await.map_err(gone)?;
    let mut session = session(&row);
    let made = apply(&mut session, row.get(1));
    let close = tx
        .prepare_cached(
            "update abr_sessions set state = $4
             where project_id = $1 and id = $2 and coalesce(recording_id, livestream_id) = $3",
        )
        .await?;
    let state = serde_json::to_value(&session)?;
    tx.execute(&close, &[&project.0, &id, &recording.or(livestream), &state]).await?;
    tx.commit().await?;
    Ok(made)
}

pub(super) fn gone(error: tokio_postgres::Error) -> DbError {
    if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) { DbError::Gone } else { error.into() }
}

/// What another program wrote that this one cannot read is no reason to stop somebody's picture.
fn session(row: &Row) -> Session {
    serde_json::from_value(row.get("state")).unwrap_or_default()
}

/// Sessions of a project that players call so, the last heard of first.
pub async fn find(db: &Db, project: ProjectId, id: &str) -> Result<Vec<Kept>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "select id, recording_id, livestream_id, state, began_at, seen_at from abr_sessions
             where project_id = $1 and id = $2 and seen_at >= now() - {FORGOTTEN}
             order by seen_at desc"
        ))
        .await?;
    let rows = client.query(&statement, &[&project.0, &id]).await?;
    Ok(rows.iter().filter_map(read).collect())
}

fn read(row: &Row) -> Option<Kept> {
    let recording = row.get::<_, Option<Uuid>>("recording_id").map(|id| Watched::Recording(RecordingId(id)));
    let livestream =
        row.get::<_, Option<Uuid>>("livestream_id").map(|id| Watched::Livestream(LivestreamId(id)));
    Some(Kept {
        id: row.get("id"),
        watched: recording.or(livestream)?,
        session: session(row),
        began_at: row.get("began_at"),
        seen_at: row.get("seen_at"),
    })
}

/// Forgets sessions that were not heard of for long, at most so many. Gives how many that were.
pub async fn delete_old(db: &Db, most: i64) -> Result<u64, DbError> {
    let client = db.get().await?;
    let deleted = client
        .execute(
            &format!(
                "delete from abr_sessions where ctid = any(array(
                     select ctid from abr_sessions where seen_at < now() - {FORGOTTEN} limit $1 for update skip locked))"
            ),
            &[&most],
        )
        .await?;
    Ok(deleted)
}
