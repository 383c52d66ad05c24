//! Measures bit rates as RFC 8216 (4.1 and 4.3.4.2) tells a server to, and compares what the master playlist says.

use m3u8_rs::VariantStream;

use super::{Playback, Track};

/// `EXTINF` is rounded to the microsecond and bit rates to the bit, for the picture and for the sound.
const ROUNDING: f64 = 1e-5;

pub fn check(playback: &Playback) {
    let sound = playback.audio.as_ref().filter(|track| track.variant.is_none()).map(Measured::track);
    let (beside_peak, beside_average) =
        sound.as_ref().map_or((0.0, 0.0), |sound| (sound.peak(), sound.average()));
    for track in playback.tracks() {
        let Some(variant) = &track.variant else { continue };
        let here = Measured::track(track);
        told(variant, &track.name, here.peak() + beside_peak, here.average() + beside_average);
    }
    if let Some(variant) = &playback.sound_alone {
        told(variant, "sound alone", beside_peak, beside_average);
    }
    for iframes in &playback.iframes {
        let here = Measured {
            target: iframes.target_duration,
            lengths: &iframes.lengths,
            bytes: iframes.ranges.iter().map(|(.., bytes)| *bytes).collect(),
        };
        told(&iframes.variant, &iframes.variant.uri, here.peak(), here.average());
    }
}

/// Compares what a line of the master playlist says with what is right.
fn told(variant: &VariantStream, name: &str, peak: f64, average: f64) {
    let near = |said: u64, right: f64| (said as f64 - right).abs() <= 2.0 + right * ROUNDING;
    let said = variant.bandwidth;
    assert!(near(said, peak), "{name}: BANDWIDTH={said}, measured {peak}");
    let said = variant.average_bandwidth.unwrap();
    assert!(near(said, average), "{name}: AVERAGE-BANDWIDTH={said}, measured {average}");
}

/// What a playlist lists.
struct Measured<'p> {
    target: u64,
    lengths: &'p [f64],
    bytes: Vec<u64>,
}

impl<'p> Measured<'p> {
    fn track(track: &'p Track) -> Self {
        Self { target: track.target_duration, lengths: &track.lengths, bytes: track.bytes.clone() }
    }

    /// The largest bit rate of any run of segments that lasts 0.5 to 1.5 target durations.
    fn peak(&self) -> f64 {
        let target = self.target as f64;
        let mut peak: Option<f64> = None;
        for first in 0..self.bytes.len() {
            for last in first..self.bytes.len() {
                let seconds: f64 = self.lengths[first..=last].iter().sum();
                if (0.5 * target - 1e-9..=1.5 * target + 1e-9).contains(&seconds) {
                    let bits = self.bytes[first..=last].iter().sum::<u64>() as f64 * 8.0;
                    peak = Some(peak.unwrap_or(0.0).max(bits / seconds));
                }
            }
        }
        // A recording shorter than any such run has nothing but its average.
        peak.unwrap_or_else(|| self.average())
    }

    fn average(&self) -> f64 {
        self.bytes.iter().sum::<u64>() as f64 * 8.0 / self.lengths.iter().sum::<f64>()
    }
}
