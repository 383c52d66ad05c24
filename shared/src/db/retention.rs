//! What has reached its age, and how it goes.
//!
//! Ages count from what a job left when it was over, which [`settle`] notes. What is due is said once, in [`due_sql`], for who lists it and
//! for who deletes it; each deletion looks again under the locks that keep others from building on what it takes.

mod bury;
mod jobs;

use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::recordings::{self, Expired};
use super::{Db, DbError, retrying, sources};
use crate::ids::{ProjectId, RecordingId, SourceId};
use crate::job::retention::{Age, Kept, Retention};

pub use bury::bury;

/// A project and the ages it has set.
#[derive(Debug, Clone, PartialEq)]
pub struct Wishes {
    pub project: ProjectId,
    pub retention: Retention,
}

/// All projects.
pub async fn wishes(db: &Db) -> Result<Vec<Wishes>, DbError> {
    let rows = db.get().await?.query("select id, retention from projects order by id", &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Wishes { project: ProjectId(row.get(0)), retention: serde_json::from_value(row.get(1))? })
        })
        .collect()
}

/// Notes of `limit` jobs that are over when that was, and what their profiles say of ages. Returns how many there were.
pub async fn settle(db: &Db, limit: i64) -> Result<u64, DbError> {
    retrying(|| settle_once(db, limit)).await
}

/// When something goes of which a profile speaks: null where it does not, infinity where it says for ever. `$name` is a setting.
fn until(kept: Kept) -> String {
    let setting = kept.as_str();
    format!(
        "case when jsonb_typeof(j.keep -> '{setting}') = 'number'
              then j.finished_at + make_interval(secs => (j.keep ->> '{setting}')::float8 * 86400)
              when j.keep ->> '{setting}' = 'forever' then 'infinity'::timestamptz end"
    )
}

async fn settle_once(db: &Db, limit: i64) -> Result<u64, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let rows = tx
        .query(
            &format!(
                "with over as (
                     select id from jobs where finished_at is not null and not settled
                     order by finished_at limit $1 for no key update skip locked)
                 update jobs mine set settled = true, keep_until = {}, logs_until = {}
                 from (select jobs.id, finished_at, spec -> 'profile' -> 'retention' as keep
                       from jobs join over using (id)) j
                 where mine.id = j.id returning mine.id",
                until(Kept::Jobs),
                until(Kept::Logs)
            ),
            &[&limit],
        )
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    // The last word about a source or a recording is that of the last job which encoded it.
    let last = |of: &str| {
        format!(
            "(select distinct on ({of}) {of} as about, finished_at, spec -> 'profile' -> 'retention' as keep
              from jobs where id = any($1) and jsonb_typeof(spec -> 'profile') = 'object'
              order by {of}, finished_at desc) j"
        )
    };
    tx.execute(
        &format!(
            "update sources s set settled_at = j.finished_at, keep_until = {} from {}
             where s.id = j.about and (s.settled_at is null or s.settled_at < j.finished_at)",
            until(Kept::Sources),
            last("(spec ->> 'source')::uuid")
        ),
        &[&ids],
    )
    .await?;
    tx.execute(
        &format!(
            "update recordings r set settled_at = j.finished_at, outputs_until = {} from {}
             where r.id = j.about and (r.settled_at is null or r.settled_at < j.finished_at)",
            until(Kept::Outputs),
            last("recording_id")
        ),
        &[&ids],
    )
    .await?;
    tx.commit().await?;
    Ok(ids.len() as u64)
}

/// What is due of a project's, with the columns id, name, since (when it was due), settled (what its age counts from) and bytes.
/// `$1` is the project, `$2` its age in seconds, null for ever.
fn due_sql(kept: Kept) -> String {
    let over = |at: &str| format!("{at} < now() - make_interval(secs => $2::float8)");
    match kept {
        Kept::Outputs => {
            let row = |since: &str| {
                format!(
                    "select r.id, r.title as name, {since} as since, r.settled_at as settled, null::bigint as bytes from recordings r
                     where r.project_id = $1 and r.deleted_at is null and {}",
                    recordings::UNTOUCHED
                )
            };
            format!(
                "{} and r.outputs_until is null and {} union all {} and r.outputs_until < now()",
                row("r.settled_at + make_interval(secs => $2::float8)"),
                over("r.settled_at"),
                row("r.outputs_until")
            )
        }
        Kept::Sources => {
            let row = |since: &str| {
                format!(
                    "select s.id,
                            coalesce((select title from recordings r where r.source_id = s.id and r.deleted_at is null
                                      order by r.id limit 1), '') as name,
                            {since} as since, s.settled_at as settled, s.bytes from sources s
                     where s.project_id = $1 and s.deleted_at is null and {}",
                    sources::UNTOUCHED
                )
            };
            format!(
                "{} and s.keep_until is null and {} union all {} and s.keep_until < now()",
                row("s.settled_at + make_interval(secs => $2::float8)"),
                over("s.settled_at"),
                row("s.keep_until")
            )
        }
        Kept::Jobs | Kept::Logs => {
            let (until, gone) = if kept == Kept::Jobs {
                ("j.keep_until", "j.hidden_at is null")
            } else {
                ("j.logs_until", "j.logs_deleted_at is null")
            };
            let row = |since: &str| {
                format!(
                    "select j.id, j.kind || ', ' || j.status as name, {since} as since, j.finished_at as settled,
                            null::bigint as bytes
                     from jobs j where j.project_id = $1 and {gone}"
                )
            };
            format!(
                "{} and j.settled and {until} is null and {} union all {} and {until} < now()",
                row("j.finished_at + make_interval(secs => $2::float8)"),
                over("j.finished_at"),
                row(until)
            )
        }
        Kept::Deliveries => format!(
            "select d.id, d.type as name, d.finished_at + make_interval(secs => $2::float8) as since,
                    d.finished_at as settled, octet_length(d.body)::bigint as bytes
             from webhooks w join deliveries d on d.webhook_id = w.id
             where w.project_id = $1 and d.state <> 'pending' and {}",
            over("d.finished_at")
        ),
        // Never what webhooks have not been told of yet.
        Kept::Events => format!(
            "select e.event_id as id, e.type as name, e.created_at + make_interval(secs => $2::float8) as since,
                    e.created_at as settled, pg_column_size(e.data)::bigint as bytes
             from events e
             where e.project_id = $1 and {} and (e.xid, e.id) <= (select f.xid, f.id from fan_out f)",
            over("e.created_at")
        ),
    }
}

/// Something that is due.
#[derive(Debug, Clone)]
pub struct Due {
    pub id: Uuid,
    /// A title, or what kind of thing it is.
    pub name: String,
    /// Since when.
    pub since: DateTime<Utc>,
    pub bytes: Option<u64>,
}

/// What is due of one kind.
#[derive(Debug, Clone)]
pub struct DueList {
    pub count: u64,
    /// `None` where that is not known.
    pub bytes: Option<u64>,
    /// The first of them, the oldest first.
    pub items: Vec<Due>,
}

fn seconds(age: Option<Age>) -> Option<f64> {
    age.and_then(Age::span).map(|span| span.as_secs_f64())
}

/// Lists what would go of a project's, if `age` were its word; without one only what profiles speak of. Changes nothing.
pub async fn due(
    db: &Db,
    project: ProjectId,
    kept: Kept,
    age: Option<Age>,
    limit: i64,
) -> Result<DueList, DbError> {
    let client = db.get().await?;
    let text = due_sql(kept);
    let args: [&(dyn ToSql + Sync); 2] = [&project.0, &seconds(age)];
    let sum =
        client.query_one(&format!("select count(*), sum(bytes)::bigint from ({text}) due"), &args).await?;
    // How much a recording takes is asked of those that are listed only: it is a sum over its segments.
    let bytes = if kept == Kept::Outputs { recordings::BYTES } else { "due.bytes" };
    let rows = client
        .query(
            &format!("select id, name, since, {bytes} as bytes from ({text} order by since limit $3) due order by since"),
            &[&project.0, &seconds(age), &limit],
        )
        .await?;
    let size = |bytes: Option<i64>| bytes.map(|bytes| bytes.max(0) as u64);
    Ok(DueList {
        count: sum.get::<_, i64>(0).max(0) as u64,
        bytes: size(sum.get(1)),
        items: rows
            .iter()
            .map(|row| Due {
                id: row.get("id"),
                name: row.get("name"),
                since: row.get("since"),
                bytes: size(row.get("bytes")),
            })
            .collect(),
    })
}

/// Deletes what is due of a project's, `limit` at most. Returns how many went.
pub async fn delete_due(
    db: &Db,
    project: ProjectId,
    kept: Kept,
    age: Option<Age>,
    limit: i64,
) -> Result<u64, DbError> {
    if matches!(kept, Kept::Jobs | Kept::Logs) {
        return jobs::delete_due(db, project, kept, seconds(age), limit).await;
    }
    let text = due_sql(kept);
    let client = db.get().await?;
    let args: [&(dyn ToSql + Sync); 3] = [&project.0, &seconds(age), &limit];
    let first = format!("select id, settled from ({text} order by since limit $3) due");
    match kept {
        Kept::Deliveries => {
            let gone = format!(
                "delete from deliveries d using ({first}) due where d.id = due.id and d.state <> 'pending'"
            );
            return Ok(client.execute(&gone, &args).await?);
        }
        Kept::Events => {
            // The log is in order of time, near enough: what is not due yet among its oldest keeps the rest waiting.
            let gone = "with cursor as (select xid, id from fan_out),
                 oldest as (
                     select e.xid, e.id, e.created_at from events e, cursor c
                     where e.project_id = $1 and (e.xid, e.id) <= (c.xid, c.id) order by e.xid, e.id limit $3)
                 delete from events e using oldest o
                 where e.xid = o.xid and e.id = o.id and o.created_at < now() - make_interval(secs => $2::float8)";
            return Ok(client.execute(gone, &args).await?);
        }
        Kept::Outputs | Kept::Sources | Kept::Jobs | Kept::Logs => {}
    }
    let rows = client.query(&first, &args).await?;
    drop(client);
    let mut gone = 0;
    for row in rows {
        let (id, settled): (Uuid, DateTime<Utc>) = (row.get("id"), row.get("settled"));
        let went = match kept {
            Kept::Outputs => {
                recordings::delete_expired(db, project, RecordingId(id), Expired { settled }).await?
            }
            _ => sources::delete_expired(db, SourceId(id), settled).await?,
        };
        gone += u64::from(went);
    }
    Ok(gone)
}
