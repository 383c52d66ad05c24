//! Rendition reports wait until it is known how far the rendition was that they tell of.

use std::time::Duration;

use super::{Rendition, Watch, lock};
use crate::check_hls::observation::{Observation, ReportSeen, Seen};
use crate::check_hls::playlist::Last;

/// More than can come together in a moment.
const MOST: usize = 4096;
/// Two parts, and this much for the way.
const MOMENT: Duration = Duration::from_millis(300);

/// Reports that are not judged yet.
#[derive(Default)]
pub(super) struct Reports(Vec<Pending>);

struct Pending {
    seen: ReportSeen,
    /// The rendition it is about.
    about: usize,
    /// Its state from then on is later than what the report could know.
    due: Duration,
    /// When nothing has come of it by then, nothing has changed.
    give_up: Duration,
}

/// Keeps the reports of a playlist.
pub(super) fn keep(watch: &Watch, seen: &Seen) {
    let media = &seen.media;
    let Some(target) = media.part_target else { return };
    let moment = Duration::from_secs_f64(2.0 * target.min(10.0)) + MOMENT;
    for report in &media.reports {
        let Ok(url) = seen.base.join(&report.uri) else { continue };
        let Some(about) = watch.renditions.iter().position(|other| other.url.path() == url.path()) else {
            continue;
        };
        let earliest = seen.at.saturating_sub(moment);
        let pending = Pending {
            seen: ReportSeen {
                place: seen.place.clone().line(report.line),
                report: report.clone(),
                own: media.last(),
                before: at_latest(&watch.renditions[about], earliest),
                after: Last { msn: 0, part: 0 },
            },
            about,
            due: seen.at + moment,
            give_up: seen.at + moment + Duration::from_secs(2 * media.target_duration),
        };
        let mut reports = lock(&watch.reports);
        if reports.0.len() < MOST {
            reports.0.push(pending);
        }
    }
}

/// Judges those of which enough is known.
pub(super) fn settle(watch: &Watch) {
    let now = watch.now();
    let mut ready = vec![];
    lock(&watch.reports).0.retain_mut(|pending| {
        let rendition = &watch.renditions[pending.about];
        let after = at_earliest(rendition, pending.due);
        let after = after.or_else(|| (now >= pending.give_up).then(|| at_latest(rendition, now)).flatten());
        let Some(after) = after else { return now < pending.give_up };
        pending.seen.after = after;
        ready.push(ReportSeen {
            place: pending.seen.place.clone(),
            report: pending.seen.report.clone(),
            ..pending.seen
        });
        false
    });
    for seen in &ready {
        watch.observe(&Observation::Report(seen));
    }
}

/// How far the rendition was known to be at that time.
fn at_latest(rendition: &Rendition, at: Duration) -> Option<Last> {
    lock(&rendition.history).iter().rev().find(|(then, _)| *then <= at).map(|(_, last)| *last)
}

/// How far it was when it was looked at next.
fn at_earliest(rendition: &Rendition, at: Duration) -> Option<Last> {
    lock(&rendition.history).iter().find(|(then, _)| *then >= at).map(|(_, last)| *last)
}
