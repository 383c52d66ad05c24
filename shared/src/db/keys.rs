//! API keys. Only their hashes are kept.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Db, DbError};
use crate::auth::Scope;
use crate::ids::{KeyId, ProjectId};

/// A key as listed.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: KeyId,
    pub project_id: ProjectId,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<Scope>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A key about to be written.
#[derive(Debug)]
pub struct NewKey<'a> {
    pub project_id: ProjectId,
    pub name: &'a str,
    pub prefix: &'a str,
    /// SHA-256 of the key.
    pub hash: &'a [u8],
    pub scopes: &'a [Scope],
    pub expires_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, project_id, name, prefix, scopes, created_at, expires_at, revoked_at";

fn read(row: &Row) -> Result<ApiKey, DbError> {
    let scopes: Vec<&str> = row.get("scopes");
    Ok(ApiKey {
        id: KeyId(row.get("id")),
        project_id: ProjectId(row.get("project_id")),
        name: row.get("name"),
        prefix: row.get("prefix"),
        scopes: scopes.into_iter().map(str::parse).collect::<Result<_, _>>()?,
        created_at: row.get("created_at"),
        expires_at: row.get("expires_at"),
        revoked_at: row.get("revoked_at"),
    })
}

/// Writes a key.
pub async fn insert(db: &Db, key: &NewKey<'_>) -> Result<ApiKey, DbError> {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let row = db
        .get()
        .await?
        .query_one(
            &format!(
                "insert into api_keys (id, project_id, name, prefix, hash, scopes, expires_at)
                 values ($1, $2, $3, $4, $5, $6, $7) returning {COLUMNS}"
            ),
            &[
                &KeyId::new().0,
                &key.project_id.0,
                &key.name,
                &key.prefix,
                &key.hash,
                &scopes,
                &key.expires_at,
            ],
        )
        .await?;
    read(&row)
}

/// Makes sure that the key with this hash is there: the farm's first key comes from its settings.
pub async fn ensure(db: &Db, key: &NewKey<'_>) -> Result<(), DbError> {
    match insert(db, key).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_duplicate() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The key with this hash, unless it is revoked or expired.
pub async fn find_valid(db: &Db, hash: &[u8]) -> Result<Option<ApiKey>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "select {COLUMNS} from api_keys
             where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())"
        ))
        .await?;
    client.query_opt(&statement, &[&hash]).await?.as_ref().map(read).transpose()
}

/// The key with this id, unless it is revoked or expired.
pub async fn get_valid(db: &Db, id: KeyId) -> Result<Option<ApiKey>, DbError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            &format!(
                "select {COLUMNS} from api_keys
                 where id = $1 and revoked_at is null and (expires_at is null or expires_at > now())"
            ),
            &[&id.0],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Keys of a project, newest first, after the key `after`.
pub async fn list(
    db: &Db,
    project: ProjectId,
    after: Option<KeyId>,
    limit: i64,
) -> Result<Vec<ApiKey>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from api_keys
                 where project_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"
            ),
            &[&project.0, &after.map(|id| id.0), &limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Revokes a key; false where the project has none with this id.
pub async fn revoke(db: &Db, project: ProjectId, id: KeyId) -> Result<bool, DbError> {
    let changed = db
        .get()
        .await?
        .execute(
            "update api_keys set revoked_at = coalesce(revoked_at, now()) where id = $1 and project_id = $2",
            &[&id.0, &project.0],
        )
        .await?;
    Ok(changed == 1)
}
