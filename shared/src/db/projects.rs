//! Projects.

use super::{Db, DbError};
use crate::ids::ProjectId;

/// The project with this name, made if it is not there.
pub async fn ensure(db: &Db, name: &str) -> Result<ProjectId, DbError> {
    let client = db.get().await?;
    client
        .execute(
            "insert into projects (id, name) values ($1, $2) on conflict (name) do nothing",
            &[&ProjectId::new().0, &name],
        )
        .await?;
    let row = client.query_one("select id from projects where name = $1", &[&name]).await?;
    Ok(ProjectId(row.get(0)))
}

/// A project as listed.
#[derive(Debug, Clone)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
}

/// The project with this id.
pub async fn get(db: &Db, id: ProjectId) -> Result<Option<Project>, DbError> {
    let client = db.get().await?;
    let row = client.query_opt("select id, name from projects where id = $1", &[&id.0]).await?;
    Ok(row.map(|row| Project { id: ProjectId(row.get(0)), name: row.get(1) }))
}
