//! Measures bit rates as RFC 8216 (4.1 and 4.3.4.2) tells a server to, and compares what the master playlist says.

use super::{Playback, Track};

/// `EXTINF` is rounded to the microsecond and bit rates to the bit, for the picture and for the sound.
const ROUNDING: f64 = 1e-5;

pub fn check(playback: &Playback) {
    let sound = playback.audio.as_ref().filter(|track| track.variant.is_none());
    for track in playback.video.iter().chain(&playback.audio) {
        let Some(variant) = &track.variant else { continue };
        let right = peak(track) + sound.map_or(0.0, peak);
        let said = variant.bandwidth as f64;
        assert!(
            (said - right).abs() <= 2.0 + right * ROUNDING,
            "{}: BANDWIDTH={said}, measured {right}",
            track.name
        );
        let right = average(track) + sound.map_or(0.0, average);
        let said = variant.average_bandwidth.unwrap() as f64;
        assert!(
            (said - right).abs() <= 2.0 + right * ROUNDING,
            "{}: AVERAGE-BANDWIDTH={said}, measured {right}",
            track.name
        );
    }
}

/// The largest bit rate of any run of segments that lasts 0.5 to 1.5 target durations.
fn peak(track: &Track) -> f64 {
    let target = track.target_duration as f64;
    let mut peak: Option<f64> = None;
    for first in 0..track.bytes.len() {
        for last in first..track.bytes.len() {
            let seconds: f64 = track.lengths[first..=last].iter().sum();
            if (0.5 * target - 1e-9..=1.5 * target + 1e-9).contains(&seconds) {
                let bits = track.bytes[first..=last].iter().sum::<u64>() as f64 * 8.0;
                peak = Some(peak.unwrap_or(0.0).max(bits / seconds));
            }
        }
    }
    // A recording shorter than any such run has nothing but its average.
    peak.unwrap_or_else(|| average(track))
}

fn average(track: &Track) -> f64 {
    track.bytes.iter().sum::<u64>() as f64 * 8.0 / track.duration()
}
