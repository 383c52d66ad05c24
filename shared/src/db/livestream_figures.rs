//! What was measured of livestreams on air. Whoever measures writes rows of its own, one for each span of [`SPAN`]; who reads adds them
//! up, so that any number of processes may have a part in a figure.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::livestreams::WATCHED;
use super::{Db, DbError};
use crate::ids::{LivestreamId, WorkerId};
use crate::live::latency;

/// A row tells of so much time.
pub const SPAN: Duration = Duration::from_secs(10);
const SPAN_DELTA: TimeDelta = TimeDelta::seconds(10);

/// The span that a moment lies in, by its beginning.
pub fn span_of(moment: DateTime<Utc>) -> DateTime<Utc> {
    // Only a clock before 1677 could not be rounded.
    moment.duration_trunc(SPAN_DELTA).unwrap_or(moment)
}

/// What a worker measured of a stream that it carries.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestFigures {
    pub livestream: LivestreamId,
    /// Bits per second.
    pub ingest_bitrate: i64,
    /// Pictures that did not come, or were left out.
    pub dropped_frames: i32,
    /// Pictures that were encoded.
    pub frames: i32,
    /// Seconds, of what comes in; `None` where no two keyframes came.
    pub keyframe_interval: Option<f32>,
    /// Milliseconds by which sound comes ahead of the picture.
    pub audio_video_sync: Option<f32>,
    /// Seconds encoded a second, of those in which something came in; `None` where nothing did.
    pub speed: Option<f32>,
}

/// Writes what a worker measured within the span that begins at `at`, with who watched at its end.
pub async fn add_ingest(
    db: &Db,
    worker: WorkerId,
    at: DateTime<Utc>,
    figures: &[IngestFigures],
) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(&format!(
            "insert into livestream_figures (livestream_id, at, source, viewer_count, ingest_bitrate, dropped_frames, frames,
                                             keyframe_interval, audio_video_sync, speed)
             select l.id, $2, $1, ({WATCHED}), m.bitrate, m.dropped, m.frames, m.keyframes, m.sync, m.speed
             from unnest($3::uuid[], $4::bigint[], $5::int[], $6::int[], $7::real[], $8::real[], $9::real[])
                 as m (id, bitrate, dropped, frames, keyframes, sync, speed)
             join livestreams l using (id)
             on conflict do nothing"
        ))
        .await?;
    let ids: Vec<Uuid> = figures.iter().map(|it| it.livestream.0).collect();
    let bitrates: Vec<i64> = figures.iter().map(|it| it.ingest_bitrate).collect();
    let dropped: Vec<i32> = figures.iter().map(|it| it.dropped_frames).collect();
    let frames: Vec<i32> = figures.iter().map(|it| it.frames).collect();
    let keyframes: Vec<Option<f32>> = figures.iter().map(|it| it.keyframe_interval).collect();
    let sync: Vec<Option<f32>> = figures.iter().map(|it| it.audio_video_sync).collect();
    let speeds: Vec<Option<f32>> = figures.iter().map(|it| it.speed).collect();
    client
        .execute(
            &statement,
            &[&worker.0, &at, &ids, &bitrates, &dropped, &frames, &keyframes, &sync, &speeds],
        )
        .await?;
    Ok(())
}

/// What an edge measured of a stream that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeFigures {
    pub livestream: LivestreamId,
    /// Bits per second that it sent.
    pub bandwidth_usage: i64,
    /// Requests that it could not answer, and errors that players told it of.
    pub error_count: i32,
    /// How often players told of themselves.
    pub reports: i32,
    /// Those of them who had not waited for media since they had told last.
    pub smooth_reports: i32,
    /// Of all latencies that were told, in milliseconds.
    pub latency_sum: i64,
    pub latency_count: i32,
    /// By [`latency::class`]; the last ones may be left out.
    pub latencies: Vec<i32>,
    /// Segments and parts that were asked for, and how many of them it had.
    pub media_requests: i32,
    pub media_hits: i32,
}

/// Writes what an edge, by an id of its process, measured within the span that begins at `at`.
pub async fn add_edge(
    db: &Db,
    edge: Uuid,
    at: DateTime<Utc>,
    figures: &[EdgeFigures],
) -> Result<(), DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            // An array of arrays cannot have rows of different lengths; text can.
            "insert into livestream_figures (livestream_id, at, source, bandwidth_usage, error_count, reports, smooth_reports,
                                             latency_sum, latency_count, latencies, media_requests, media_hits)
             select l.id, $2, $1, m.bandwidth, m.errors, m.reports, m.smooth, m.sum, m.count, m.latencies::int[], m.requests, m.hits
             from unnest($3::uuid[], $4::bigint[], $5::int[], $6::int[], $7::int[], $8::bigint[], $9::int[], $10::text[],
                         $11::int[], $12::int[])
                 as m (id, bandwidth, errors, reports, smooth, sum, count, latencies, requests, hits)
             join livestreams l using (id)
             on conflict do nothing",
        )
        .await?;
    let ids: Vec<Uuid> = figures.iter().map(|it| it.livestream.0).collect();
    let bandwidths: Vec<i64> = figures.iter().map(|it| it.bandwidth_usage).collect();
    let errors: Vec<i32> = figures.iter().map(|it| it.error_count).collect();
    let reports: Vec<i32> = figures.iter().map(|it| it.reports).collect();
    let smooth: Vec<i32> = figures.iter().map(|it| it.smooth_reports).collect();
    let sums: Vec<i64> = figures.iter().map(|it| it.latency_sum).collect();
    let counts: Vec<i32> = figures.iter().map(|it| it.latency_count).collect();
    let latencies: Vec<Option<String>> = figures.iter().map(array).collect();
    let requests: Vec<i32> = figures.iter().map(|it| it.media_requests).collect();
    let hits: Vec<i32> = figures.iter().map(|it| it.media_hits).collect();
    client
        .execute(
            &statement,
            &[
                &edge,
                &at,
                &ids,
                &bandwidths,
                &errors,
                &reports,
                &smooth,
                &sums,
                &counts,
                &latencies,
                &requests,
                &hits,
            ],
        )
        .await?;
    Ok(())
}

/// Classes as PostgreSQL writes an array.
fn array(figures: &EdgeFigures) -> Option<String> {
    let counts: Vec<String> = figures.latencies.iter().map(i32::to_string).collect();
    (figures.latency_count > 0).then(|| format!("{{{}}}", counts.join(",")))
}

/// What was measured within a step; `None` is: nobody measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Where the step begins.
    pub at: DateTime<Utc>,
    /// The mean.
    pub viewer_count: Option<f64>,
    /// Bits per second, by all edges together.
    pub bandwidth_usage: Option<f64>,
    /// Bits per second.
    pub ingest_bitrate: Option<f64>,
    /// How many, in the step.
    pub dropped_frames: Option<i64>,
    /// Seconds.
    pub keyframe_interval: Option<f64>,
    /// Milliseconds by which sound comes ahead of the picture.
    pub audio_video_sync: Option<f64>,
    /// Per cent of players' reports in which nothing had been waited for.
    pub buffer_health: Option<f64>,
    /// 0 to 1: of the segments and parts that edges were asked for, those they had.
    pub cdn_hit_ratio: Option<f64>,
    /// Milliseconds.
    pub average_latency: Option<f64>,
    /// Milliseconds.
    pub p95_latency: Option<f64>,
    /// How many, in the step.
    pub error_count: Option<i64>,
    /// 0 to 100: see [`quality_score`].
    pub quality_score: Option<f64>,
    /// Of encoding, relative to playing.
    pub speed: Option<f64>,
}

/// How good it was, from 0 to 100: the share of its pictures that came, of its time that was encoded when it should, and of players'
/// reports without a wait, multiplied. `None` where one of them was not measured.
fn quality_score(
    frames: Option<i64>,
    dropped: Option<i64>,
    speed: Option<f64>,
    buffer_health: Option<f64>,
) -> Option<f64> {
    let (frames, dropped) = (frames? as f64, dropped? as f64);
    if frames <= 0.0 {
        return None;
    }
    Some((1.0 - dropped / frames).clamp(0.0, 1.0) * speed?.clamp(0.0, 1.0) * buffer_health?)
}

fn read(row: &Row, latencies: &HashMap<DateTime<Utc>, Vec<i64>>) -> Figures {
    let at = row.get("step");
    let share = |of: &str, all: &str| {
        let (of, all): (Option<i64>, Option<i64>) = (row.get(of), row.get(all));
        Some(of? as f64 / all.filter(|all| *all > 0)? as f64)
    };
    let buffer_health = share("smooth_reports", "reports").map(|share| share * 100.0);
    let (dropped_frames, speed) = (row.get("dropped_frames"), row.get("speed"));
    Figures {
        at,
        viewer_count: row.get("viewer_count"),
        bandwidth_usage: row.get("bandwidth_usage"),
        ingest_bitrate: row.get("ingest_bitrate"),
        dropped_frames,
        keyframe_interval: row.get("keyframe_interval"),
        audio_video_sync: row.get("audio_video_sync"),
        buffer_health,
        cdn_hit_ratio: share("media_hits", "media_requests"),
        average_latency: share("latency_sum", "latency_count"),
        p95_latency: latencies.get(&at).and_then(|counts| latency::percentile(counts, 0.95)),
        error_count: row.get("error_count"),
        quality_score: quality_score(row.get("frames"), dropped_frames, speed, buffer_health),
        speed,
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

/// The figures of each step in which anything was measured, oldest first.
pub async fn read_steps(db: &Db, livestream: LivestreamId, steps: Steps) -> Result<Vec<Figures>, DbError> {
    let client = db.get().await?;
    let seconds = steps.step.as_secs_f64();
    let statement = client
        .prepare_cached(
            // First all who measured the same span, then the spans of a step. A span in which no edge sent anything had no viewers.
            "with spans as (
                 select at, max(viewer_count) as viewer_count, sum(bandwidth_usage) as bandwidth_usage,
                        sum(ingest_bitrate) as ingest_bitrate, sum(dropped_frames) as dropped_frames, sum(frames) as frames,
                        avg(keyframe_interval) as keyframe_interval, avg(audio_video_sync) as audio_video_sync,
                        sum(media_requests) as media_requests, sum(media_hits) as media_hits, sum(error_count) as error_count, sum(reports) as reports,
                        sum(smooth_reports) as smooth_reports, sum(latency_sum) as latency_sum,
                        sum(latency_count) as latency_count, avg(speed) as speed
                 from livestream_figures where livestream_id = $1 and at >= $2 and at < $3 group by at)
             select date_bin(make_interval(secs => $4), at, $2) as step,
                    avg(viewer_count)::float8 as viewer_count,
                    (sum(bandwidth_usage) / count(*))::float8 as bandwidth_usage,
                    avg(ingest_bitrate)::float8 as ingest_bitrate, sum(dropped_frames)::bigint as dropped_frames,
                    sum(frames)::bigint as frames, avg(keyframe_interval)::float8 as keyframe_interval,
                    avg(audio_video_sync)::float8 as audio_video_sync,
                    sum(media_requests)::bigint as media_requests, sum(media_hits)::bigint as media_hits,
                    sum(error_count)::bigint as error_count, sum(reports)::bigint as reports,
                    sum(smooth_reports)::bigint as smooth_reports, sum(latency_sum)::bigint as latency_sum,
                    sum(latency_count)::bigint as latency_count, avg(speed)::float8 as speed
             from spans group by 1 order by 1",
        )
        .await?;
    let rows = client.query(&statement, &[&livestream.0, &steps.from, &steps.to, &seconds]).await?;
    let classes = client
        .prepare_cached(
            "select date_bin(make_interval(secs => $4), at, $2) as step, class::int, sum(count)::bigint as count
             from livestream_figures, unnest(latencies) with ordinality as counted (count, class)
             where livestream_id = $1 and at >= $2 and at < $3 and latencies is not null group by 1, 2",
        )
        .await?;
    let mut latencies: HashMap<DateTime<Utc>, Vec<i64>> = HashMap::new();
    for row in client.query(&classes, &[&livestream.0, &steps.from, &steps.to, &seconds]).await? {
        let counts = latencies.entry(row.get("step")).or_insert_with(|| vec![0; latency::CLASSES]);
        // Arrays count from one.
        let class = usize::try_from(row.get::<_, i32>("class") - 1).unwrap_or(0);
        if let Some(count) = counts.get_mut(class) {
            *count += row.get::<_, i64>("count");
        }
    }
    Ok(rows.iter().map(|row| read(row, &latencies)).collect())
}

/// The figures of several livestreams that a small picture is drawn of: `(viewer_count, ingest_bitrate)` of each span since `from`, oldest first.
pub async fn recent(
    db: &Db,
    livestreams: &[LivestreamId],
    from: DateTime<Utc>,
) -> Result<HashMap<LivestreamId, Vec<(i32, i64)>>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select livestream_id, coalesce(max(viewer_count), 0) as viewers, coalesce(sum(ingest_bitrate), 0)::bigint as bitrate
             from livestream_figures where livestream_id = any($1) and at >= $2 group by livestream_id, at order by at",
        )
        .await?;
    let ids: Vec<Uuid> = livestreams.iter().map(|id| id.0).collect();
    let mut all: HashMap<LivestreamId, Vec<(i32, i64)>> = HashMap::new();
    for row in client.query(&statement, &[&ids, &from]).await? {
        let of_one = all.entry(LivestreamId(row.get("livestream_id"))).or_default();
        of_one.push((row.get("viewers"), row.get("bitrate")));
    }
    Ok(all)
}

/// Forgets what is older than `age`, at most so many rows. Gives how many that were.
pub async fn delete_old(db: &Db, age: Duration, most: i64) -> Result<u64, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "delete from livestream_figures where ctid = any(array(
                 select ctid from livestream_figures where at < now() - make_interval(secs => $1) limit $2))",
        )
        .await?;
    Ok(client.execute(&statement, &[&age.as_secs_f64(), &most]).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_needs_all_that_it_is_made_of() {
        assert_eq!(quality_score(Some(100), Some(10), Some(1.2), Some(50.0)), Some(45.0));
        assert_eq!(quality_score(Some(100), Some(200), Some(1.0), Some(50.0)), Some(0.0));
        for (frames, dropped, speed, health) in [
            (None, Some(0), Some(1.0), Some(100.0)),
            (Some(0), Some(0), Some(1.0), Some(100.0)),
            (Some(1), None, Some(1.0), Some(100.0)),
            (Some(1), Some(0), None, Some(100.0)),
            (Some(1), Some(0), Some(1.0), None),
        ] {
            assert_eq!(quality_score(frames, dropped, speed, health), None);
        }
    }

    #[test]
    fn spans_begin_with_whole_tens_of_seconds() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(span_of(at("2026-03-01T12:00:19.999Z")), at("2026-03-01T12:00:10Z"));
        assert_eq!(span_of(at("2026-03-01T12:00:20Z")), at("2026-03-01T12:00:20Z"));
    }
}
