//! Makes recordings of what was on air for them, and lets go of those of which nothing comes any more.

use async_trait::async_trait;
use reelmill_shared::broker::{Ring, ring_later};
use reelmill_shared::db::jobs::{self, NewJob};
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::live_recordings::{self, Due, LiveRecording};
use reelmill_shared::db::{DbError, broadcasts, live, livestreams};
use reelmill_shared::ids::{BroadcastId, JobId, SourceId};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::job::{conversion, plan};
use reelmill_shared::media::live::assembly::Assembly;
use serde_json::json;

use super::{Context, Duty, Failure};

pub(super) struct LiveRecordings;

/// Recordings at a time.
const BATCH: i64 = 100;
/// As of jobs of which nobody says anything else.
const PRIORITY: i16 = 50;

#[async_trait]
impl Duty for LiveRecordings {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let due = live_recordings::due(&context.db, BATCH).await?;
        for one in &due {
            let of = match one {
                Due::Convert(of, broadcast) => {
                    match convert(context, of, *broadcast).await {
                        // It was deleted meanwhile.
                        Ok(()) | Err(DbError::Gone) => {}
                        Err(error) => {
                            // Tried again; it holds up nobody else's.
                            tracing::warn!(%error, %broadcast, recording = %of.recording, "what was on air could not become a recording");
                            continue;
                        }
                    }
                    of
                }
                Due::Settle(of) => of,
            };
            // Who publishes on is sent away: what was on air once is what the recording has.
            livestreams::stop(&context.db, of.project, of.livestream).await?;
            live_recordings::settle(&context.db, of.livestream).await?;
        }
        Ok(due.len() as u64)
    }
}

/// Begins to make the recording of what was on air. Done twice, it is done once: the job has the broadcast's id.
async fn convert(context: &Context, of: &LiveRecording, broadcast: BroadcastId) -> Result<(), DbError> {
    let Some(on_air) = live::aired(&context.db, of.project, broadcast).await? else { return Ok(()) };
    let window = live::whole(&context.db, &on_air, String::new()).await?;
    let Some(assembly) = Assembly::new(&window) else {
        tracing::warn!(%broadcast, recording = %of.recording, "nothing becomes a recording: there was no picture on air");
        return Ok(());
    };
    let spec = conversion::spec(broadcast, SourceId::new(), &on_air.plan, &assembly);
    let new = NewJob {
        id: JobId(broadcast.0),
        kind: JobKind::Transcode,
        recording_id: Some(of.recording),
        priority: PRIORITY,
        tasks: plan::opening(&spec, false),
        spec,
        metadata: json!({}),
        run_at: None,
        traceparent: None,
        adds_to: None,
        new_recording: None,
        new_source: true,
    };
    jobs::submit(&context.db, of.project, &new).await?;
    if !broadcasts::begin_conversion(&context.db, broadcast, None, of.recording).await? {
        tracing::info!(%broadcast, recording = %of.recording, "the broadcast has become another recording, too");
    }
    let rings = new.tasks.iter().filter(|task| task.blocked_by == 0);
    let ring = |task| Ring { job_id: Some(new.id), ..Ring::from(task) };
    ring_later(&context.broker, rings.map(ring).collect());
    tracing::info!(job_id = %new.id, recording = %of.recording, %broadcast, "what was on air becomes a recording");
    Ok(())
}
