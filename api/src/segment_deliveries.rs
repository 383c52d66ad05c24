//! Delivers the segments that were asked for: an api claims those for viewers whose sockets it holds, and those for a CDN.

use std::sync::Arc;
use std::time::Duration;

use reelmill_shared::db::segment_deliveries::{self, SegmentDelivery};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::media::live::names::LiveFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::playback::{Container, StreamFile};
use crate::problem::{Answer, Problem};
use crate::routes::livestreams::control::live_token;
use crate::routes::recordings::viewer_token;
use crate::sockets::PushError;
use crate::state::App;

/// How often deliveries are looked for while somebody here could get one.
const POLL: Duration = Duration::from_millis(250);
/// The wait behind the first failed attempt; it doubles with each.
const WAIT: Duration = Duration::from_millis(500);

/// A segment by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Recorded { rung: String, ordinal: i32, number: u32 },
    OnAir { track: String, number: u64 },
}

impl Wanted {
    /// Reads a file name of what is watched; `None` where it is not that of a segment of picture or sound.
    pub(crate) fn parse(watched: Watched, name: &str) -> Option<Self> {
        match watched {
            Watched::Recording(_) => match StreamFile::parse(name)? {
                StreamFile::Segment { rung, ordinal, number, container: Container::Fmp4 }
                    if name.ends_with(".m4s") =>
                {
                    Some(Self::Recorded { rung, ordinal, number })
                }
                _ => None,
            },
            Watched::Livestream(_) => match LiveFile::parse(name)? {
                LiveFile::Segment { track, number } => Some(Self::OnAir { track, number }),
                _ => None,
            },
        }
    }
}

/// Refuses what only a CDN could be sent, where there is none.
pub(crate) fn warmable(app: &App) -> Answer<()> {
    let missing = || {
        Problem::field(
            "/viewer_id",
            "is missing, and there is no CDN to fetch it ahead: set REELMILL_CDN_URL",
        )
    };
    app.cdn.client().map(drop).ok_or_else(missing)
}

/// Has the CDN fetch a segment ahead, under the address that viewers have.
async fn warm(app: &App, delivery: &SegmentDelivery) -> Answer<()> {
    let name = &delivery.segment;
    let path = match delivery.watched {
        Watched::Recording(id) => {
            let (token, _) = viewer_token(app, id).await?;
            format!("/v/{token}/stream/{name}")
        }
        Watched::Livestream(id) => {
            let (token, _) = live_token(app, id).await;
            format!("/v/{token}/live/{id}/{name}")
        }
    };
    Ok(app.cdn.warm(&[path]).await?)
}

/// Claims and delivers until `stop`.
pub(crate) async fn deliver(app: App, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(app.config.deliveries.workers));
    let running = TaskTracker::new();
    while stop.run_until_cancelled(due(&app, &slots)).await.is_some() {
        match claim(&app, &slots).await {
            Ok(claimed) => {
                for (delivery, slot) in claimed {
                    let app = app.clone();
                    running.spawn(async move {
                        attempt(&app, &delivery).await;
                        drop(slot);
                        // There may be more for the slot.
                        app.sockets.nudge();
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "could not look for segments to deliver"),
        }
    }
    running.close();
    running.wait().await;
}

/// Waits until it is worth looking.
async fn due(app: &App, slots: &Semaphore) {
    tokio::select! {
        () = app.sockets.nudged() => {}
        () = sleep(POLL) => {}
    }
    // Closed by nobody.
    let _ = slots.acquire().await;
}

/// No more than can be delivered at once, so that what matters most goes first.
async fn claim(
    app: &App,
    slots: &Arc<Semaphore>,
) -> Result<Vec<(SegmentDelivery, OwnedSemaphorePermit)>, reelmill_shared::db::DbError> {
    let (here, warm) = (app.sockets.viewers(), warmable(app).is_ok());
    if here.is_empty() && !warm {
        return Ok(vec![]);
    }
    let free: Vec<OwnedSemaphorePermit> =
        std::iter::from_fn(|| Arc::clone(slots).try_acquire_owned().ok()).collect();
    let limit = i64::try_from(free.len()).unwrap_or(i64::MAX);
    let claimed = segment_deliveries::claim(&app.db, &here, warm, limit).await?;
    Ok(claimed.into_iter().zip(free).collect())
}

/// Tries once, and writes down what came of it.
async fn attempt(app: &App, delivery: &SegmentDelivery) {
    let outcome = match timeout(delivery.timeout, tried(app, delivery)).await {
        Ok(outcome) => outcome,
        Err(_) => Err("it was not taken in time".to_owned()),
    };
    let label = if outcome.is_ok() { "delivered" } else { "missed" };
    metrics::counter!("reelmill_segment_deliveries_total", "outcome" => label).increment(1);
    let written = match &outcome {
        Ok(()) => segment_deliveries::delivered(&app.db, delivery).await.map(drop),
        Err(why) => {
            let doublings = delivery.attempts.clamp(1, 8).unsigned_abs() - 1;
            let wait = WAIT * 2u32.pow(doublings);
            segment_deliveries::missed(&app.db, delivery, why, wait).await.map(drop)
        }
    };
    if let Err(error) = written {
        // Its claim ends, and it is tried again.
        tracing::warn!(%error, delivery = %delivery.id, "could not write down what came of a delivery");
    }
}

async fn tried(app: &App, delivery: &SegmentDelivery) -> Result<(), String> {
    let Some(viewer) = &delivery.viewer else {
        return warm(app, delivery).await.map_err(|problem| problem.detail().to_owned());
    };
    let Some(wanted) = Wanted::parse(delivery.watched, &delivery.segment) else {
        return Err("this is no name of a segment".to_owned());
    };
    let pushed = app.sockets.push(delivery.stream, viewer, delivery.id, wanted).await;
    pushed.map_err(|error: PushError| error.to_string())
}

#[cfg(test)]
mod tests {
    use reelmill_shared::ids::{LivestreamId, RecordingId};

    use super::*;

    #[test]
    fn segments_are_called_as_in_playlists() {
        let (recording, livestream) =
            (Watched::Recording(RecordingId::new()), Watched::Livestream(LivestreamId::new()));
        let recorded = Wanted::Recorded { rung: "720p".into(), ordinal: 1, number: 12 };
        assert_eq!(Wanted::parse(recording, "720p-1-12.m4s"), Some(recorded));
        assert_eq!(
            Wanted::parse(livestream, "720p-12.m4s"),
            Some(Wanted::OnAir { track: "720p".into(), number: 12 })
        );
        for other in ["720p-1-12.ts", "subtitles-1-0.vtt", "720p-1-init.mp4", "master.m3u8", "../x", ""] {
            assert_eq!(Wanted::parse(recording, other), None, "{other}");
        }
        for other in ["720p-12.3.m4s", "720p-init-1.mp4", "720p.m3u8"] {
            assert_eq!(Wanted::parse(livestream, other), None, "{other}");
        }
    }
}
