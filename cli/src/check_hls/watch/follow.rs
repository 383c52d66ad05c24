//! One viewer of a rendition: each playlist as soon as there is one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{Rendition, Request, SOON, Watch, patience, reports};
use crate::check_hls::observation::{Asked, Observation, Outcome, Seen};

/// Before a request that failed is sent again.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows a rendition until it ends, and hands every playlist on.
pub(super) async fn follow(watch: &Watch, rendition: &Rendition, fresh: mpsc::Sender<Arc<Seen>>) {
    let first = rendition.latest();
    went_on(watch, rendition, None, &first);
    let _ = fresh.try_send(first);
    loop {
        let before = rendition.latest();
        if before.media.end {
            return after_end(watch, rendition).await;
        }
        let Some(after) = next(watch, rendition, &before).await else { continue };
        went_on(watch, rendition, Some(&before), &after);
        rendition.latest.send_replace(after.clone());
        // Whoever downloads may be behind; the next playlist names what this one does.
        let _ = fresh.try_send(after);
    }
}

/// The next full playlist, by blocking where the server offers that.
async fn next(watch: &Watch, rendition: &Rendition, before: &Arc<Seen>) -> Option<Arc<Seen>> {
    let media = &before.media;
    if !media.control.can_block {
        let half = Duration::from_secs_f64(media.target_duration as f64 / 2.0);
        sleep(half.clamp(AGAIN, SOON)).await;
        let request = Request { directives: &[], timeout: SOON * 2, must_come: true };
        let answer = watch.playlist(&rendition.name, &rendition.url, media.target_duration, &request).await;
        return match answer {
            Some((Outcome::Playlist(seen), _)) => Some((*seen).into()),
            _ => None,
        };
    }
    let (msn, part) = media.next();
    let asked = if media.part_target.is_some() { Asked::Part { msn, part } } else { Asked::Whole { msn } };
    let sent = Instant::now();
    match watch.ask(rendition, asked, patience(before, watch.usual())).await {
        Some(Outcome::Playlist(seen)) => {
            if let Asked::Part { .. } = asked {
                // The part before was listed when this was sent, so no more than this is known of the time between.
                rendition.pace(sent.elapsed().saturating_sub(watch.usual()));
            }
            if seen.media.last() <= media.last() && !seen.media.end {
                // Answered early: nobody is helped by asking as fast as that.
                sleep(AGAIN).await;
            }
            Some((*seen).into())
        }
        // What a stalled stream is given up with.
        Some(Outcome::Status(503) | Outcome::Silence) => {
            sleep(AGAIN / 5).await;
            None
        }
        Some(Outcome::Status(status)) => {
            watch.refused(rendition, media.target_duration, status);
            sleep(AGAIN).await;
            None
        }
        None => {
            sleep(AGAIN).await;
            None
        }
    }
}

/// Shows a playlist beside the one before it and beside those of the other renditions.
fn went_on(watch: &Watch, rendition: &Rendition, before: Option<&Arc<Seen>>, after: &Arc<Seen>) {
    if let Some(before) = before {
        watch.observe(&Observation::Next { before, after });
    }
    watch.observe(&Observation::Siblings { seen: after, others: &rendition.others });
    for other in watch.renditions.iter().filter(|other| other.name != rendition.name) {
        watch.observe(&Observation::Across { one: after, other: &other.latest() });
    }
    if let Some(last) = after.media.last() {
        rendition.remember(after.at, last);
    }
    reports::keep(watch, after);
    reports::settle(watch);
}

/// What a stream that is over does with directives.
async fn after_end(watch: &Watch, rendition: &Rendition) {
    let control = &rendition.latest().media.control;
    if control.can_block || control.can_skip_until.is_some() {
        watch.ask(rendition, Asked::AfterEnd, SOON).await;
    }
}
