//! Livestreams on the home page, each with a small picture of its last quarter of an hour.

use chrono::{TimeDelta, Utc};
use reelmill_shared::db::livestream_figures;
use reelmill_shared::db::livestreams::{self, LivestreamFilter, Page};
use reelmill_shared::ids::{LivestreamId, ProjectId};

use crate::problem::Answer;
use crate::state::App;

/// A livestream as it is listed.
pub(crate) struct LiveRow {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) watch_url: String,
    pub(crate) status: String,
    pub(crate) viewers: String,
    pub(crate) plot: Option<Plot>,
}

/// A line in a box of [`WIDTH`] by [`HEIGHT`].
pub(crate) struct Plot {
    /// As SVG has them in `polyline`.
    pub(crate) points: String,
    /// The same in words.
    pub(crate) label: String,
}

const LISTED: i64 = 12;
const SINCE: TimeDelta = TimeDelta::minutes(15);
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;

/// The newest livestreams of a project.
pub(crate) async fn rows(app: &App, project: ProjectId) -> Answer<Vec<LiveRow>> {
    let page = Page { after: None, offset: 0, limit: LISTED };
    let streams = livestreams::list(&app.db, project, LivestreamFilter::default(), page).await?;
    let busy: Vec<LivestreamId> =
        streams.iter().filter(|stream| stream.status.is_busy()).map(|stream| stream.id).collect();
    let mut figures = if busy.is_empty() {
        Default::default()
    } else {
        livestream_figures::recent(&app.db, &busy, Utc::now() - SINCE).await?
    };
    let rows = streams.into_iter().map(|stream| LiveRow {
        id: stream.id.to_string(),
        title: stream.terms.title,
        watch_url: format!("/watch/live/{}", stream.id),
        status: stream.status.to_string(),
        viewers: match stream.viewer_count {
            1 => "1 viewer".to_owned(),
            count => format!("{count} viewers"),
        },
        plot: figures.remove(&stream.id).as_deref().and_then(plot),
    });
    Ok(rows.collect())
}

/// Of the viewers, or of the rate that comes in where there were none; `None` where there is no line yet.
fn plot(figures: &[(i32, i64)]) -> Option<Plot> {
    let watched = figures.iter().any(|(viewers, _)| *viewers > 0);
    let values: Vec<f64> = figures
        .iter()
        .map(|(viewers, bitrate)| if watched { f64::from(*viewers) } else { *bitrate as f64 / 1000.0 })
        .collect();
    let (least, most) =
        (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
    let step = WIDTH / values.len().checked_sub(1).filter(|steps| *steps > 0)? as f64;
    // From zero up, so that small changes look small; a pixel is left for the line itself.
    let y = |value: f64| HEIGHT - 1.0 - value / most.max(1.0) * (HEIGHT - 2.0);
    let points =
        values.iter().enumerate().map(|(n, value)| format!("{:.1},{:.1}", n as f64 * step, y(*value)));
    let what = if watched { "Viewers" } else { "Kbit/s coming in" };
    Some(Plot {
        points: points.collect::<Vec<_>>().join(" "),
        label: format!("{what} in the last quarter of an hour: from {least:.0} to {most:.0}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_edge_to_edge_and_begins_at_zero() {
        let drawn = plot(&[(0, 1000), (10, 1000), (5, 1000)]).unwrap();
        assert_eq!(drawn.points, "0.0,27.0 60.0,1.0 120.0,14.0");
        assert_eq!(drawn.label, "Viewers in the last quarter of an hour: from 0 to 10");
        let unwatched = plot(&[(0, 1_000_000), (0, 2_000_000)]).unwrap();
        assert_eq!(unwatched.points, "0.0,14.0 120.0,1.0");
        assert!(unwatched.label.starts_with("Kbit/s"));
        assert!(plot(&[(1, 1)]).is_none() && plot(&[]).is_none());
    }
}
