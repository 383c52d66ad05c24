//! The qualities that viewers prefer.

use super::abr::gone;
use super::{Db, DbError};
use crate::ids::RecordingId;
use crate::media::abr::Preference;

/// Keeps what a viewer prefers for a recording, in place of what was kept.
///
/// # Errors
/// [`DbError::Gone`] where the recording was deleted.
pub async fn put(
    db: &Db,
    recording: RecordingId,
    user: &str,
    preference: &Preference,
) -> Result<(), DbError> {
    let height = preference.max_height.map(|height| i32::try_from(height).unwrap_or(i32::MAX));
    db.get()
        .await?
        .execute(
            "insert into quality_preferences (recording_id, user_id, rendition, max_height, data_saver)
             values ($1, $2, $3, $4, $5)
             on conflict (recording_id, user_id) do update
             set rendition = $3, max_height = $4, data_saver = $5, updated_at = now()",
            &[&recording.0, &user, &preference.rendition, &height, &preference.data_saver],
        )
        .await
        .map_err(gone)?;
    Ok(())
}

/// What a viewer prefers for a recording.
pub async fn get(db: &Db, recording: RecordingId, user: &str) -> Result<Option<Preference>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select rendition, max_height, data_saver from quality_preferences
             where recording_id = $1 and user_id = $2",
        )
        .await?;
    let row = client.query_opt(&statement, &[&recording.0, &user]).await?;
    Ok(row.map(|row| Preference {
        rendition: row.get("rendition"),
        max_height: row.get::<_, Option<i32>>("max_height").map(i32::unsigned_abs),
        data_saver: row.get("data_saver"),
    }))
}

/// Forgets what a viewer prefers for a recording; false where nothing was kept.
pub async fn delete(db: &Db, recording: RecordingId, user: &str) -> Result<bool, DbError> {
    let deleted = db
        .get()
        .await?
        .execute(
            "delete from quality_preferences where recording_id = $1 and user_id = $2",
            &[&recording.0, &user],
        )
        .await?;
    Ok(deleted > 0)
}
