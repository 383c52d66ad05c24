//! Projects: tenants and their share of the farm.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Db, DbError};
use crate::ids::ProjectId;
use crate::job::retention::{Age, Kept, Retention};

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    /// Share of the farm relative to other projects with work; above zero.
    pub weight: f64,
    /// Tasks that may run at once, in all pools together.
    pub max_running: Option<u32>,
    /// Livestreams that may be on air at once.
    pub max_concurrent_streams: u32,
    /// Ages of its own; the farm's count for the rest.
    pub retention: Retention,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Tasks that run now.
    pub running: u64,
}

/// What somebody wants changed of a project; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change<'a> {
    pub name: Option<&'a str>,
    pub weight: Option<f64>,
    /// `Some(None)` lifts the limit.
    pub max_running: Option<Option<u32>>,
    pub max_concurrent_streams: Option<u32>,
    /// `None` takes an age back: the farm's counts again.
    pub retention: BTreeMap<Kept, Option<Age>>,
}

const COLUMNS: &str = "p.id, p.name, p.weight, p.max_running, p.max_concurrent_streams, p.retention, p.created_at, p.updated_at,
                       (select count(*) from task_leases l where l.project_id = p.id) as running";

fn read(row: &Row) -> Result<Project, DbError> {
    Ok(Project {
        id: ProjectId(row.get("id")),
        name: row.get("name"),
        weight: row.get("weight"),
        max_running: row.get::<_, Option<i32>>("max_running").map(|most| most.max(0) as u32),
        max_concurrent_streams: row.get::<_, i32>("max_concurrent_streams").max(0) as u32,
        retention: serde_json::from_value(row.get("retention"))?,
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        running: row.get::<_, i64>("running").max(0) as u64,
    })
}

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

/// Makes a project; `None` where the name is taken.
pub async fn create(db: &Db, name: &str, change: Change<'_>) -> Result<Option<Project>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "with p as (
                     insert into projects (id, name, weight, max_running, retention, max_concurrent_streams)
                     values ($1, $2, coalesce($3::float8, 1), $4, jsonb_strip_nulls($5), coalesce($6::int, 100))
                     on conflict (name) do nothing returning *)
                 select {COLUMNS} from p"
            ),
            &[
                &ProjectId::new().0,
                &name,
                &change.weight,
                &change.max_running.flatten().map(|most| most as i32),
                &serde_json::to_value(&change.retention)?,
                &change.max_concurrent_streams.map(|most| most as i32),
            ],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Changes a project; `None` where there is none.
///
/// # Errors
/// [`DbError::is_duplicate`] where the new name is taken.
pub async fn update(db: &Db, id: ProjectId, change: Change<'_>) -> Result<Option<Project>, DbError> {
    let row = db
        .get()
        .await?
        .query_opt(
            &format!(
                "with p as (
                     update projects
                     set name = coalesce($2, name), weight = coalesce($3::float8, weight),
                         max_running = case when $4 then $5 else max_running end,
                         retention = jsonb_strip_nulls(retention || $6),
                         max_concurrent_streams = coalesce($7::int, max_concurrent_streams), updated_at = now()
                     where id = $1 returning *)
                 select {COLUMNS} from p"
            ),
            &[
                &id.0,
                &change.name,
                &change.weight,
                &change.max_running.is_some(),
                &change.max_running.flatten().map(|most| most as i32),
                &serde_json::to_value(&change.retention)?,
                &change.max_concurrent_streams.map(|most| most as i32),
            ],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// A project by its id.
pub async fn get(db: &Db, id: ProjectId) -> Result<Option<Project>, DbError> {
    let client = db.get().await?;
    let row = client.query_opt(&format!("select {COLUMNS} from projects p where id = $1"), &[&id.0]).await?;
    row.as_ref().map(read).transpose()
}

/// Projects, newest first, after `after`.
pub async fn list(db: &Db, after: Option<ProjectId>, limit: i64) -> Result<Vec<Project>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select {COLUMNS} from projects p where $1::uuid is null or id < $1 order by id desc limit $2"
            ),
            &[&after.map(|id| id.0), &limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// What came of a wish to delete a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Now,
    /// It has something still; the word says what.
    InUse(&'static str),
    NotFound,
}

/// Deletes a project that has nothing: its keys, profiles and webhooks go with it.
pub async fn delete(db: &Db, id: ProjectId) -> Result<Deleted, DbError> {
    // What keeps a project, in the order in which people would look.
    const KEEPS: [(&str, &str); 5] = [
        ("jobs", "jobs"),
        ("recordings", "recordings"),
        ("livestreams", "livestreams"),
        ("uploads", "uploads"),
        ("sources", "sources"),
    ];
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    // Whoever writes a row that refers to it waits for the end of this, and finds it gone.
    if tx.query_opt("select 1 from projects where id = $1 for update", &[&id.0]).await?.is_none() {
        return Ok(Deleted::NotFound);
    }
    for (table, word) in KEEPS {
        let any = tx
            .query_one(&format!("select exists (select 1 from {table} where project_id = $1)"), &[&id.0])
            .await?;
        if any.get(0) {
            return Ok(Deleted::InUse(word));
        }
    }
    for table in ["webhooks", "api_keys", "profiles", "idempotency_keys", "events"] {
        tx.execute(&format!("delete from {table} where project_id = $1"), &[&id.0]).await?;
    }
    tx.execute("delete from projects where id = $1", &[&id.0]).await?;
    tx.commit().await?;
    Ok(Deleted::Now)
}
