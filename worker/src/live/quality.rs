//! What changes in the course of a broadcast: what comes in, and how many rungs are made of it.

use reelmill_shared::db::DbError;
use reelmill_shared::db::live::{self, LiveHold, OnAir, StoredWindow};
use reelmill_shared::db::livestream_events::{self, NewEntry};
use reelmill_shared::live::event::{LiveEventType, Severity};
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::live::plan::{LivePlan, LiveRung};
use reelmill_shared::media::probe::Probe;

use super::channel::{Channel, Stage};
use super::studio::Studio;

/// The next run of the same publisher has a rung less.
pub(super) async fn lighten(
    studio: &Studio,
    channel: &Channel,
    stage: &mut Stage,
    hold: LiveHold,
) -> Result<(), DbError> {
    another_run(studio, channel, stage, hold).await?;
    stage.dropped += 1;
    metrics::counter!("reelmill_live_rungs_dropped_total").increment(1);
    Ok(())
}

/// The same publisher goes on with another run.
pub(super) async fn another_run(
    studio: &Studio,
    channel: &Channel,
    stage: &mut Stage,
    hold: LiveHold,
) -> Result<(), DbError> {
    let _settled = studio.epochs.lock().await;
    let next = live::raise(&studio.db, hold).await?;
    channel.raise(hold, next);
    stage.epoch = next.epoch;
    Ok(())
}

/// A publisher that came back, or took over, may send another picture than was sent before.
pub(super) async fn tell_of_another_picture(
    studio: &Studio,
    stage: &mut Stage,
    on_air: &OnAir,
    hold: LiveHold,
    probe: &Probe,
) {
    let Some(video) = &probe.video else { return };
    let now = ((video.width, video.height), video.rate.snapped());
    let Some(before) = stage.picture.replace(now).filter(|before| *before != now) else { return };
    let said =
        |((width, height), rate): ((u32, u32), Rate)| format!("{width}x{height} at {:.2}/s", rate.as_f64());
    let entry = NewEntry {
        broadcast_id: Some(on_air.id),
        kind: LiveEventType::QualityChanged,
        severity: Severity::Info,
        message: &format!("what comes in was {} and is {}", said(before), said(now)),
        details: serde_json::json!({ "from": said(before), "to": said(now) }),
    };
    let told = async { livestream_events::append(&studio.db.get().await?, hold.livestream, &entry).await };
    if let Err(error) = told.await {
        tracing::debug!(%error, livestream = %hold.livestream, "could not tell of another picture");
    }
}

/// How many of the best rungs the last run went without: a broadcast does not get them back, whoever carries it.
pub(super) fn dropped(plan: &LivePlan, stored: &StoredWindow) -> usize {
    let Some(last) = stored.runs.last() else { return 0 };
    let had = |rung: &LiveRung| last.inits.get(&rung.name).is_some();
    plan.rungs.iter().take_while(|rung| !had(rung)).count().min(plan.rungs.len().saturating_sub(1))
}
