//! What was made before and need not be made again: a set of the same bytes by the same recipe, played by another recording of the
//! project; renditions of a recording's set that are a part of its next one.

use serde_json::json;
use tokio_postgres::Row;

use super::finish::merge_result;
use super::recordings;
use super::tasks::Claimed;
use super::{Db, DbError, GenericClient, jobs, retrying};
use crate::ids::{JobId, RecordingId, SetId};
use crate::job::plan::Adopted;
use crate::job::spec::Output;

/// A finished set that a recording refers to, so that it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Borrowed {
    pub set: SetId,
    /// Which job made it, of which recording.
    pub job: JobId,
    pub from: RecordingId,
}

/// Lookups of sets by recipe, at most this many.
const CANDIDATES: i64 = 5;

/// Lets `recording` refer to a finished set with this recipe, where its project has one that a living recording plays. From
/// then on the set stays for as long as the recording does, whoever else is deleted.
///
/// # Errors
/// [`DbError::LostRace`] where `claimed` no longer owns its task.
pub async fn borrow(
    db: &Db,
    claimed: &Claimed,
    recording: RecordingId,
    recipe: &[u8],
) -> Result<Option<Borrowed>, DbError> {
    retrying(|| borrow_once(db, claimed, recording, recipe)).await
}

async fn borrow_once(
    db: &Db,
    claimed: &Claimed,
    recording: RecordingId,
    recipe: &[u8],
) -> Result<Option<Borrowed>, DbError> {
    let mut client = db.get().await?;
    let tx = client.transaction().await?;
    let candidates = candidates(&tx, claimed, Some(recording), recipe).await?;
    if candidates.is_empty() {
        return Ok(None);
    }
    // Somebody else's task is none of ours.
    let hold = claimed.hold;
    tx.query_opt(
        "select 1 from tasks where id = $1 and epoch = $2 and status = 'running' for no key update",
        &[&hold.task_id.0, &hold.epoch],
    )
    .await?
    .ok_or(DbError::LostRace)?;
    // A deletion of the lender that comes now waits and then sees the reference; one that came before has marked it. All of them
    // at once and in one order: two that borrow from each other must not wait in a circle.
    let mut involved: Vec<_> =
        candidates.iter().map(|row| row.get::<_, uuid::Uuid>("recording_id")).collect();
    involved.push(recording.0);
    let living = tx
        .query(
            "select id from recordings where id = any($1) and deleted_at is null order by id for no key update",
            &[&involved],
        )
        .await?;
    let lives = |id: uuid::Uuid| living.iter().any(|row| row.get::<_, uuid::Uuid>(0) == id);
    if !lives(recording.0) {
        return Ok(None);
    }
    let Some(row) = candidates.iter().find(|row| lives(row.get("recording_id"))) else { return Ok(None) };
    let (set, from): (uuid::Uuid, uuid::Uuid) = (row.get("id"), row.get("recording_id"));
    tx.execute(
        "insert into recording_sets (recording_id, set_id, ordinal, static_prefix)
         select $1, $2, 1 + coalesce((select max(ordinal) from recording_sets where recording_id = $1), 0), static_prefix
         from recording_sets where recording_id = $3 and set_id = $2
         on conflict (recording_id, set_id) do nothing",
        &[&recording.0, &set, &from],
    )
    .await?;
    tx.commit().await?;
    Ok(Some(Borrowed { set: SetId(set), job: JobId(row.get("job_id")), from: RecordingId(from) }))
}

/// A finished set with this recipe, for somebody who only wants to know.
pub async fn find(db: &Db, claimed: &Claimed, recipe: &[u8]) -> Result<Option<Borrowed>, DbError> {
    let client = db.get().await?;
    let rows = candidates(&client, claimed, None, recipe).await?;
    Ok(rows.first().map(|row| Borrowed {
        set: SetId(row.get("id")),
        job: JobId(row.get("job_id")),
        from: RecordingId(row.get("recording_id")),
    }))
}

/// Finished sets with this recipe that living recordings play, best first. Only those of jobs that have succeeded are taken, and none
/// that lacks pictures the job wants: they go with the set, so only who makes it makes them.
async fn candidates(
    client: &impl GenericClient,
    claimed: &Claimed,
    recording: Option<RecordingId>,
    recipe: &[u8],
) -> Result<Vec<Row>, DbError> {
    let spec = &claimed.job_spec;
    let storyboard = spec.outputs.contains(&Output::Storyboard);
    let series = spec.series.map(serde_json::to_value).transpose()?;
    let rows = client
        .query(
            "select s.id, s.job_id, rs.recording_id
             from sets s
             join jobs j on j.id = s.job_id and j.status = 'succeeded'
             join recording_sets rs on rs.set_id = s.id and rs.static_prefix is not null
             join recordings r on r.id = rs.recording_id and r.deleted_at is null
             where s.project_id = $1 and s.recipe = $2
               and (not $5 or s.storyboard is not null
                    or (j.spec -> 'outputs' ? 'storyboard' and (j.spec -> 'outputs_by_default')::bool = $6))
               and ($7::jsonb is null or j.spec -> 'series' = $7)
             order by rs.recording_id is not distinct from $3 desc, s.id desc, rs.recording_id limit $4",
            &[
                &claimed.project_id.0,
                &recipe,
                &recording.map(|id| id.0),
                &CANDIDATES,
                &storyboard,
                &spec.outputs_by_default,
                &series,
            ],
        )
        .await?;
    Ok(rows)
}

/// Makes a borrowed set the one the recording plays, and the recording ready. In the caller's guarded transaction.
pub(super) async fn activate(
    tx: &impl GenericClient,
    claimed: &Claimed,
    recording: RecordingId,
    borrowed: &Borrowed,
) -> Result<(), DbError> {
    let row = tx.query_one("select duration_seconds from sets where id = $1", &[&borrowed.set.0]).await?;
    tx.execute(
        "update recording_sets set active = (set_id = $2) where recording_id = $1",
        &[&recording.0, &borrowed.set.0],
    )
    .await?;
    let seconds = row.get::<_, Option<f64>>(0).unwrap_or_default();
    recordings::set_ready(tx, claimed.project_id, recording, claimed.job_id, seconds).await?;
    jobs::set_playable(tx, claimed.job_id).await?;
    let maker = tx
        .query_one(
            "select coalesce(result, '{}') - 'reused_from' - 'thumbnail',
                 exists (select 1 from tasks where job_id = $1 and kind = 'storyboard')
             from jobs where id = $1",
            &[&borrowed.job.0],
        )
        .await?;
    // What was planned, decided and measured holds for the borrower too.
    merge_result(tx, claimed.job_id, &maker.get(0)).await?;
    let reused = json!({ "reused_from": {
        "job_id": borrowed.job,
        "recording_id": borrowed.from,
        "set_id": borrowed.set,
        "storyboard": maker.get::<_, bool>(1),
    } });
    merge_result(tx, claimed.job_id, &reused).await
}

/// Gives a new set of the recording renditions that a finished one has, with the files to be downloaded that were made of them. The
/// recording refers to both sets, so the objects stay as long as it does. In the caller's guarded transaction.
pub(super) async fn adopt(
    tx: &impl GenericClient,
    recording: RecordingId,
    set: SetId,
    adopted: &Adopted,
) -> Result<(), DbError> {
    let (names, places): (Vec<&str>, Vec<i32>) =
        adopted.places.iter().map(|(name, place)| (name.as_str(), *place)).unzip();
    tx.execute(
        "insert into renditions (set_id, rung, position, kind, codec, width, height, fps_num, fps_den, sample_rate, channels,
             language, timescale, init_key, init_bytes, init_sha256, peak_bandwidth, average_bandwidth,
             iframe_peak_bandwidth, iframe_average_bandwidth, duration_ticks, epoch, label, role, text_key, text_bytes)
         select $2, rung, case when kind = 'video' then a.position else r.position end, kind, codec, width, height, fps_num, fps_den, sample_rate, channels,
             language, timescale, init_key, init_bytes, init_sha256, peak_bandwidth, average_bandwidth,
             iframe_peak_bandwidth, iframe_average_bandwidth, duration_ticks, epoch, label, role, text_key, text_bytes
         from renditions r join unnest($3::text[], $4::int[]) as a (rung, position) using (rung)
         where r.set_id = $1",
        &[&adopted.set.0, &set.0, &names, &places],
    )
    .await?;
    tx.execute(
        "insert into segments (set_id, rung, number, epoch, key, bytes, duration_ticks, independent, date, keyframes)
         select $2, rung, number, epoch, key, bytes, duration_ticks, independent, date, keyframes
         from segments where set_id = $1 and rung = any($3)",
        &[&adopted.set.0, &set.0, &names],
    )
    .await?;
    tx.execute(
        "insert into downloads (recording_id, set_id, rung, key, bytes, created_at)
         select recording_id, $2, rung, key, bytes, created_at
         from downloads where set_id = $1 and rung = any($3) and recording_id = $4",
        &[&adopted.set.0, &set.0, &names, &recording.0],
    )
    .await?;
    Ok(())
}
