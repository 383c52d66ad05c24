//! What was measured of livestreams on air.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::{Db, DbError};
use crate::ids::LivestreamId;

/// Means of what was measured within a step; `None` is: nobody measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Means {
    /// Where the step begins.
    pub at: DateTime<Utc>,
    pub viewer_count: Option<f64>,
    /// Bits per second.
    pub bandwidth_usage: Option<f64>,
    /// Bits per second.
    pub ingest_bitrate: Option<f64>,
    pub dropped_frames: Option<f64>,
    /// Seconds.
    pub keyframe_interval: Option<f64>,
    pub audio_video_sync: Option<f64>,
    pub buffer_health: Option<f64>,
    pub cdn_hit_ratio: Option<f64>,
    /// Milliseconds.
    pub average_latency: Option<f64>,
    /// Milliseconds.
    pub p95_latency: Option<f64>,
    pub error_count: Option<f64>,
    pub quality_score: Option<f64>,
    /// Of encoding, relative to playing.
    pub speed: Option<f64>,
}

fn read(row: &Row) -> Means {
    Means {
        at: row.get("step"),
        viewer_count: row.get("viewer_count"),
        bandwidth_usage: row.get("bandwidth_usage"),
        ingest_bitrate: row.get("ingest_bitrate"),
        dropped_frames: row.get("dropped_frames"),
        keyframe_interval: row.get("keyframe_interval"),
        audio_video_sync: row.get("audio_video_sync"),
        buffer_health: row.get("buffer_health"),
        cdn_hit_ratio: row.get("cdn_hit_ratio"),
        average_latency: row.get("average_latency"),
        p95_latency: row.get("p95_latency"),
        error_count: row.get("error_count"),
        quality_score: row.get("quality_score"),
        speed: row.get("speed"),
    }
}

/// A span of time, cut into steps that are counted from its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    pub from: DateTime<Utc>,
    /// The first moment that is no longer of it.
    pub to: DateTime<Utc>,
    /// Longer than zero.
    pub step: Duration,
}

/// Means of each step in which anything was measured, oldest first.
pub async fn means(db: &Db, livestream: LivestreamId, steps: Steps) -> Result<Vec<Means>, DbError> {
    const FIGURES: [&str; 13] = [
        "viewer_count",
        "bandwidth_usage",
        "ingest_bitrate",
        "dropped_frames",
        "keyframe_interval",
        "audio_video_sync",
        "buffer_health",
        "cdn_hit_ratio",
        "average_latency",
        "p95_latency",
        "error_count",
        "quality_score",
        "speed",
    ];
    let means = FIGURES.map(|figure| format!("avg({figure})::float8 as {figure}")).join(", ");
    let rows = db
        .get()
        .await?
        .query(
            &format!(
                "select date_bin(make_interval(secs => $4), at, $2) as step, {means} from livestream_figures
                 where livestream_id = $1 and at >= $2 and at < $3 group by 1 order by 1"
            ),
            &[&livestream.0, &steps.from, &steps.to, &steps.step.as_secs_f64()],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}
