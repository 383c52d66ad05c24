//! Measures bit rates as RFC 8216 (4.1 and 4.3.4.2) tells a server to, and compares what the master playlist says.

use m3u8_rs::VariantStream;

use super::playback::Text;
use super::{Playback, Track};

/// `EXTINF` is rounded to the microsecond and bit rates to the bit, for the picture and for the sound.
const ROUNDING: f64 = 1e-5;

pub fn check(playback: &Playback) {
    // The most demanding of the tracks that may play beside it, and of the texts.
    let most =
        |beside: &[Measured<'_>], rate: fn(&Measured<'_>) -> f64| beside.iter().map(rate).fold(0.0, f64::max);
    let sounds = playback.sounds().filter(|track| track.variant.is_none());
    let sounds: Vec<Measured<'_>> = sounds.map(Measured::track).collect();
    let texts: Vec<Measured<'_>> = playback.text.iter().map(Measured::text).collect();
    let beside = |rate: fn(&Measured<'_>) -> f64| most(&sounds, rate) + most(&texts, rate);
    let (beside_peak, beside_average) = (beside(|it| it.peak()), beside(|it| it.average()));
    for track in playback.tracks() {
        let Some(variant) = &track.variant else { continue };
        let here = Measured::track(track);
        let (peak, average) = if playback.video.is_empty() {
            // Sound alone: it or another track.
            (here.peak().max(beside_peak), here.average().max(beside_average))
        } else {
            (here.peak() + beside_peak, here.average() + beside_average)
        };
        told(variant, &track.name, peak, average);
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

    fn text(text: &'p Text) -> Self {
        let bytes = text.segments.iter().map(|segment| segment.len() as u64).collect();
        Self { target: text.target_duration, lengths: &text.lengths, bytes }
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
