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
