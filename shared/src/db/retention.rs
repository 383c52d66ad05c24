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
use super::{Db, DbError, broadcasts, retrying, sources};
use crate::ids::{BroadcastId, ProjectId, RecordingId, SourceId};
use crate::job::retention::{Age, Kept, Retention};

pub use bury::{bury, bury_unused};

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
    for (table, column, about, kept) in [
        ("sources", "keep_until", "(spec ->> 'source')::uuid", Kept::Sources),
        ("recordings", "outputs_until", "recording_id", Kept::Outputs),
    ] {
        tx.execute(&settle_sql(table, column, about, kept), &[&ids]).await?;
        // What was never encoded has an age too: since something was first done with it.
        let first = format!(
            "update {table} it set settled_at = j.finished_at
             from (select {about} as about, min(finished_at) as finished_at from jobs
                   where id = any($1) and recording_id is not null group by 1) j
             where it.id = j.about and it.settled_at is null"
        );
        tx.execute(&first, &[&ids]).await?;
    }
    tx.commit().await?;
    Ok(ids.len() as u64)
}

/// Counts the age of what jobs encoded from their end. The last word about it is that of the last one which succeeded, or of any, where
/// there was none before; jobs without a recording only look.
fn settle_sql(table: &str, column: &str, about: &str, kept: Kept) -> String {
    format!(
        "update {table} it
         set settled_at = j.finished_at,
             {column} = case when j.status = 'succeeded' or it.settled_at is null then {} else it.{column} end
         from (select distinct on ({about}) {about} as about, status, finished_at, spec -> 'profile' -> 'retention' as keep
               from jobs
               where id = any($1) and recording_id is not null and jsonb_typeof(spec -> 'profile') = 'object'
               order by {about}, status = 'succeeded' desc, finished_at desc) j
         where it.id = j.about and (it.settled_at is null or it.settled_at < j.finished_at)",
        until(kept)
    )
}

/// What is due of a project's, with the columns id, name, since (when it was due), settled (what its age counts from) and bytes.
/// `$1` is the project, `$2` its age in seconds, null for ever. With `first`, at most `$3` of each branch, the oldest first, in the order of an
/// index: a long backlog is not read whole for each batch.
fn due_sql(kept: Kept, first: bool) -> String {
    let ordered = |text: String, by: &str| {
        if first { format!("({text} order by {by} limit $3)") } else { format!("({text})") }
    };
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
            let usual = row("r.settled_at + make_interval(secs => $2::float8)");
            let usual = format!("{usual} and r.outputs_until is null and {}", over("r.settled_at"));
            let own = format!("{} and r.outputs_until < now()", row("r.outputs_until"));
            format!("{} union all {}", ordered(usual, "r.settled_at"), ordered(own, "r.outputs_until"))
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
            let usual = row("s.settled_at + make_interval(secs => $2::float8)");
            let usual = format!("{usual} and s.keep_until is null and {}", over("s.settled_at"));
            let own = format!("{} and s.keep_until < now()", row("s.keep_until"));
            format!("{} union all {}", ordered(usual, "s.settled_at"), ordered(own, "s.keep_until"))
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
            let usual = row("j.finished_at + make_interval(secs => $2::float8)");
            let usual = format!("{usual} and j.settled and {until} is null and {}", over("j.finished_at"));
            let own = format!("{} and {until} < now()", row(until));
            format!("{} union all {}", ordered(usual, "j.finished_at"), ordered(own, until))
        }
        Kept::Broadcasts => {
            let row = |since: &str| {
                format!(
                    "select b.id, (select l.title from livestreams l where l.id = b.livestream_id) as name,
                            {since} as since, b.ended_at as settled, b.bytes
                     from broadcasts b where b.project_id = $1 and {}",
                    broadcasts::UNTOUCHED
                )
            };
            let usual = row("b.ended_at + make_interval(secs => $2::float8)");
            let usual = format!("{usual} and b.retention_until is null and {}", over("b.ended_at"));
            let own = format!("{} and b.retention_until < now()", row("b.retention_until"));
            format!("{} union all {}", ordered(usual, "b.ended_at"), ordered(own, "b.retention_until"))
        }
        Kept::Deliveries => ordered(format!(
            "select d.id, d.type as name, d.finished_at + make_interval(secs => $2::float8) as since,
                    d.finished_at as settled, octet_length(d.body)::bigint as bytes
             from webhooks w join deliveries d on d.webhook_id = w.id
             where w.project_id = $1 and d.state <> 'pending' and {}",
            over("d.finished_at")
        ), "d.finished_at"),
        // Never what webhooks have not been told of yet.
        Kept::Events => ordered(format!(
            "select e.event_id as id, e.type as name, e.created_at + make_interval(secs => $2::float8) as since,
                    e.created_at as settled, pg_column_size(e.data)::bigint as bytes
             from events e
             where e.project_id = $1 and {} and (e.xid, e.id) <= (select f.xid, f.id from fan_out f)",
            over("e.created_at")
        ), "e.xid, e.id"),
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
    /// One more than [`COUNTED`] for more than that.
    pub count: u64,
    /// `None` where that is not known.
    pub bytes: Option<u64>,
    /// The first of them, the oldest first.
    pub items: Vec<Due>,
}

/// So many are counted; a backlog may be the whole of a long history.
pub const COUNTED: u64 = 10_000;

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
    let sum = format!(
        "select count(*), sum(bytes)::bigint from (select bytes from ({}) due limit {}) due",
        due_sql(kept, false),
        COUNTED + 1
    );
    let sum = client.query_one(&sum, &[&project.0, &seconds(age)]).await?;
    let count = sum.get::<_, i64>(0).max(0) as u64;
    let text = due_sql(kept, true);
    // How much a recording takes is asked of those that are listed only: it is a sum over its segments.
    let bytes = if kept == Kept::Outputs { recordings::BYTES } else { "due.bytes" };
    let rows = client
        .query(
            &format!("select id, name, since, {bytes} as bytes from (select * from ({text}) x order by since limit $3) due order by since"),
            &[&project.0, &seconds(age), &limit],
        )
        .await?;
    let size = |bytes: Option<i64>| bytes.map(|bytes| bytes.max(0) as u64);
    Ok(DueList {
        count,
        bytes: size(sum.get(1)).filter(|_| count <= COUNTED),
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
    let text = due_sql(kept, true);
    let client = db.get().await?;
    let args: [&(dyn ToSql + Sync); 3] = [&project.0, &seconds(age), &limit];
    let first = format!("select id, settled from (select * from ({text}) x order by since limit $3) due");
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
        Kept::Outputs | Kept::Sources | Kept::Broadcasts | Kept::Jobs | Kept::Logs => {}
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
            Kept::Broadcasts => broadcasts::expire(db, BroadcastId(id), true).await?,
            _ => sources::delete_expired(db, SourceId(id), settled).await?,
        };
        gone += u64::from(went);
    }
    Ok(gone)
}
