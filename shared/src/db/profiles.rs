//! A project's own profiles; the built-in ones are in the program.

use super::{Db, DbError};
use crate::ids::ProjectId;
use crate::media::profile::Profile;

/// The project's profile with this name.
pub async fn get(db: &Db, project: ProjectId, name: &str) -> Result<Option<Profile>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt("select body from profiles where project_id = $1 and name = $2", &[&project.0, &name])
        .await?;
    Ok(row.map(|row| serde_json::from_value(row.get(0))).transpose()?)
}

/// All profiles of a project by name, after `after`.
pub async fn list(
    db: &Db,
    project: ProjectId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Profile>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select body from profiles where project_id = $1 and ($2::text is null or name > $2)
             order by name limit $3",
            &[&project.0, &after, &limit],
        )
        .await?;
    rows.into_iter().map(|row| Ok(serde_json::from_value(row.get(0))?)).collect()
}

/// Writes a new profile; false where the name is taken.
pub async fn insert(db: &Db, project: ProjectId, name: &str, profile: &Profile) -> Result<bool, DbError> {
    let written = db
        .get()
        .await?
        .execute(
            "insert into profiles (project_id, name, body) values ($1, $2, $3) on conflict do nothing",
            &[&project.0, &name, &serde_json::to_value(profile)?],
        )
        .await?;
    Ok(written == 1)
}

/// Replaces a profile; false where there is none. Jobs that froze the old one keep it.
pub async fn replace(db: &Db, project: ProjectId, name: &str, profile: &Profile) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update profiles set body = $3, updated_at = now() where project_id = $1 and name = $2",
            &[&project.0, &name, &serde_json::to_value(profile)?],
        )
        .await?;
    Ok(changed == 1)
}

/// Deletes a profile; false where there is none.
pub async fn delete(db: &Db, project: ProjectId, name: &str) -> Result<bool, DbError> {
    let gone = db
        .get()
        .await?
        .execute("delete from profiles where project_id = $1 and name = $2", &[&project.0, &name])
        .await?;
    Ok(gone == 1)
}
