//! What was measured of all streams that are carried, written down in one statement every ten seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use reelmill_shared::db::livestream_figures::{self, IngestFigures, SPAN};
use reelmill_shared::ids::LivestreamId;
use tokio_util::sync::CancellationToken;

use super::meter::{Meter, Totals};
use super::studio::Studio;

/// What was seen of a stream last, and when.
struct Seen {
    meter: Arc<Meter>,
    totals: Totals,
    at: Instant,
}

/// Measures until `stop`.
pub(crate) async fn run(studio: Arc<Studio>, stop: CancellationToken) {
    let mut seen: HashMap<LivestreamId, Seen> = HashMap::new();
    loop {
        let now = Utc::now();
        let span = livestream_figures::span_of(now);
        // All processes measure the same spans, as far as their clocks agree.
        let left = (span + SPAN - now).to_std().unwrap_or(SPAN);
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = stop.cancelled() => return,
        }
        let figures = measure(&studio, &mut seen);
        if figures.is_empty() {
            continue;
        }
        let written = livestream_figures::add_ingest(&studio.db, studio.carrier.worker, span, &figures);
        match tokio::time::timeout(SPAN / 2, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not write down what was measured of live streams")
            }
            Err(_) => tracing::warn!("what was measured of live streams was not written down in time"),
        }
    }
}

/// What was measured since it was looked last.
fn measure(studio: &Studio, seen: &mut HashMap<LivestreamId, Seen>) -> Vec<IngestFigures> {
    let channels = studio.channels();
    seen.retain(|livestream, _| channels.iter().any(|channel| channel.livestream == *livestream));
    let mut figures = vec![];
    let (mut on_air, mut slowest): (usize, Option<f64>) = (0, None);
    for channel in channels {
        let (totals, at) = (channel.meter.totals(), Instant::now());
        let now = Seen { meter: Arc::clone(&channel.meter), totals, at };
        let before = seen.insert(channel.livestream, now);
        if !channel.running.load(Ordering::Acquire) {
            continue;
        }
        on_air += 1;
        // A stream that was given up and taken again begins to count anew.
        let Some(before) = before.filter(|before| Arc::ptr_eq(&before.meter, &channel.meter)) else {
            continue;
        };
        let (counted, time) = (totals.since(before.totals), at - before.at);
        if time < SPAN / 2 {
            continue;
        }
        let of_one = figures_of(channel.livestream, &counted, time);
        metrics::counter!("reelmill_live_ingest_bytes_total").increment(counted.bytes);
        metrics::counter!("reelmill_live_dropped_frames_total").increment(counted.missing + counted.left_out);
        let speed = of_one.speed.map(f64::from);
        slowest = speed.map_or(slowest, |speed| Some(slowest.map_or(speed, |slowest| slowest.min(speed))));
        figures.push(of_one);
    }
    metrics::gauge!("reelmill_live_broadcasts").set(on_air as f64);
    // Where nothing is on air nothing is slow.
    metrics::gauge!("reelmill_live_slowest_speed").set(slowest.unwrap_or(1.0));
    figures
}

fn figures_of(livestream: LivestreamId, counted: &Totals, time: Duration) -> IngestFigures {
    let mean = |sum: f64, of: u64| (of > 0).then(|| (sum / of as f64) as f32);
    let bits = counted.bytes as f64 * 8.0 / time.as_secs_f64().max(0.001);
    IngestFigures {
        livestream,
        ingest_bitrate: bits.round() as i64,
        dropped_frames: i32::try_from(counted.missing + counted.left_out).unwrap_or(i32::MAX),
        frames: i32::try_from(counted.frames).unwrap_or(i32::MAX),
        keyframe_interval: mean(counted.gop_milliseconds as f64 / 1000.0, counted.gops),
        audio_video_sync: mean(counted.sound_ahead as f64, counted.pictures),
        speed: counted.speed(time).map(|speed| speed as f32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_time_they_were_counted_in() {
        let counted = Totals {
            bytes: 1_250_000,
            gops: 5,
            gop_milliseconds: 10_000,
            missing: 2,
            left_out: 1,
            sound_ahead: -5000,
            pictures: 250,
            frames: 250,
            encoded: Duration::from_secs(9),
            ..Totals::default()
        };
        let figures = figures_of(LivestreamId::new(), &counted, Duration::from_secs(10));
        assert_eq!((figures.ingest_bitrate, figures.dropped_frames, figures.frames), (1_000_000, 3, 250));
        assert_eq!((figures.keyframe_interval, figures.audio_video_sync), (Some(2.0), Some(-20.0)));
        assert_eq!(figures.speed, Some(0.9));
        let nothing = figures_of(LivestreamId::new(), &Totals::default(), Duration::from_secs(10));
        assert_eq!((nothing.keyframe_interval, nothing.audio_video_sync), (None, None));
    }
}
