//! How long GOPs, segments and parts are. Worked out once, from the frame rate and the AAC frame, so that every part of every
//! rendition is legal; it never changes while a playlist lives.

use serde::{Deserialize, Serialize};

use crate::media::grid::{AAC_FRAME, Rate};

/// The beat of a broadcast. Renditions of sound follow it on their own grid of AAC frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cadence {
    /// Of every rung.
    pub rate: Rate,
    /// Frames from one keyframe to the next.
    pub gop_frames: u32,
    pub segment_gops: u32,
    /// Parts of every GOP; where it does not divide evenly they differ by a frame.
    pub gop_parts: u32,
    /// PART-TARGET in microseconds.
    pub part_target: u64,
    /// EXT-X-TARGETDURATION in seconds.
    pub target_duration: u32,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub rate: Rate,
    /// Of the sound, where there is some.
    pub sample_rate: Option<u32>,
    /// Seconds.
    pub keyframe_interval: u32,
    /// Seconds.
    pub segment_duration: u32,
    pub part_duration_ms: u32,
}

/// A part but the last of a segment must last at least so many hundredths of PART-TARGET (rfc8216bis, 4.4.3.8 with 4.4.4.9).
const LEAST: u64 = 85;
/// How much longer than asked for parts may be: a whole number of frames seldom lasts just as long.
const LENIENCE: u64 = 110;

impl Cadence {
    /// The beat nearest to what is wanted: the longest parts that are not much longer than asked for, and legal in picture and sound.
    pub fn new(wanted: Wanted) -> Self {
        let rate = wanted.rate;
        let gop_frames = rate.frames_in(f64::from(wanted.keyframe_interval)).clamp(1, 6000) as u32;
        let segment_gops = (wanted.segment_duration / wanted.keyframe_interval.max(1)).max(1);
        let asked = u64::from(wanted.part_duration_ms) * 1000;
        let most = asked * LENIENCE / 100;
        let legal: Vec<(u32, u64)> = (1..=gop_frames)
            .filter_map(|parts| Some((parts, legal_target(rate, gop_frames, parts, wanted.sample_rate)?)))
            .collect();
        let (gop_parts, part_target) = legal
            .iter()
            .find(|(_, target)| *target <= most)
            // With few pictures a second none may be as short as that: the shortest that are legal.
            .or_else(|| legal.iter().min_by_key(|(_, target)| *target))
            .copied()
            // A GOP is a part.
            .unwrap_or_else(|| (1, longest(rate, gop_frames, 1, wanted.sample_rate)));
        let segment = micros(rate, u64::from(gop_frames) * u64::from(segment_gops));
        // Sound is cut to the nearest of its frames, so its segments may be longer by one.
        let with_sound = segment + wanted.sample_rate.map_or(0, aac_micros);
        let target_duration = ((with_sound + 500_000) / 1_000_000).max(1) as u32;
        Self { rate, gop_frames, segment_gops, gop_parts, part_target, target_duration }
    }

    /// Frames of a whole segment.
    pub fn segment_frames(&self) -> u64 {
        u64::from(self.gop_frames) * u64::from(self.segment_gops)
    }

    /// Parts of a whole segment.
    pub fn segment_parts(&self) -> u64 {
        u64::from(self.gop_parts) * u64::from(self.segment_gops)
    }

    /// The first frame of part `part` of a run, counted from its start.
    pub fn part_frame(&self, part: u64) -> u64 {
        let (gop, within) = (part / u64::from(self.gop_parts), part % u64::from(self.gop_parts));
        gop * u64::from(self.gop_frames)
            + boundary(within, u64::from(self.gop_frames), u64::from(self.gop_parts))
    }

    /// The first AAC frame of part `part` of a run.
    pub fn part_aac_frame(&self, part: u64, sample_rate: u32) -> u64 {
        // A part lasts gop_frames / gop_parts frames of den / num seconds.
        let numerator = u128::from(part)
            * u128::from(self.gop_frames)
            * u128::from(self.rate.den)
            * u128::from(sample_rate);
        let denominator = u128::from(self.gop_parts) * u128::from(self.rate.num) * u128::from(AAC_FRAME);
        ((numerator + denominator / 2) / denominator) as u64
    }

    /// PART-HOLD-BACK in microseconds: three parts (Apple's authoring specification, 8.10; the draft asks for two).
    pub fn part_hold_back(&self) -> u64 {
        3 * self.part_target
    }

    /// Seconds of a whole segment.
    pub fn segment_seconds(&self) -> f64 {
        self.rate.seconds(self.segment_frames())
    }
}

/// Where part `n` of `parts` begins in `whole`, to the nearest.
fn boundary(n: u64, whole: u64, parts: u64) -> u64 {
    (n * whole + parts / 2) / parts
}

fn micros(rate: Rate, frames: u64) -> u64 {
    frames * u64::from(rate.den) * 1_000_000 / u64::from(rate.num)
}

fn micros_up(rate: Rate, frames: u64) -> u64 {
    (frames * u64::from(rate.den) * 1_000_000).div_ceil(u64::from(rate.num))
}

fn aac_micros(sample_rate: u32) -> u64 {
    (AAC_FRAME * 1_000_000).div_ceil(u64::from(sample_rate.max(1)))
}

/// The PART-TARGET of a GOP cut into `parts`, where none of them is too short for it.
fn legal_target(rate: Rate, gop: u32, parts: u32, sample_rate: Option<u32>) -> Option<u64> {
    let target = longest(rate, gop, parts, sample_rate);
    let shortest_video = micros(rate, u64::from(gop / parts));
    let shortest_audio = sample_rate.map(|sample_rate| {
        let frames = u64::from(gop) * u64::from(rate.den) * u64::from(sample_rate)
            / (u64::from(parts) * u64::from(rate.num) * AAC_FRAME);
        frames * AAC_FRAME * 1_000_000 / u64::from(sample_rate)
    });
    let shortest = shortest_audio.map_or(shortest_video, |audio| audio.min(shortest_video));
    (shortest * 100 >= target * LEAST).then_some(target)
}

/// The longest part of a GOP cut into `parts`, in microseconds, rounded up to a whole millisecond so that what playlists say of
/// a part never exceeds what they say of all.
fn longest(rate: Rate, gop: u32, parts: u32, sample_rate: Option<u32>) -> u64 {
    let video = micros_up(rate, u64::from(gop.div_ceil(parts)));
    let audio = sample_rate.map_or(0, |sample_rate| {
        let frames = (u64::from(gop) * u64::from(rate.den) * u64::from(sample_rate))
            .div_ceil(u64::from(parts) * u64::from(rate.num) * AAC_FRAME);
        (frames * AAC_FRAME * 1_000_000).div_ceil(u64::from(sample_rate))
    });
    video.max(audio).div_ceil(1000) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(num: u32, den: u32, sample_rate: Option<u32>, part_duration_ms: u32) -> Wanted {
        Wanted {
            rate: Rate { num, den },
            sample_rate,
            keyframe_interval: 2,
            segment_duration: 6,
            part_duration_ms,
        }
    }

    #[test]
    fn every_part_of_picture_and_sound_is_legal_at_all_rates() {
        let rates = [
            (24000, 1001),
            (24, 1),
            (25, 1),
            (25, 2),
            (30000, 1001),
            (30, 1),
            (50, 1),
            (60000, 1001),
            (60, 1),
            (15, 1),
        ];
        for (num, den) in rates {
            for sample_rate in [None, Some(44_100), Some(48_000)] {
                for part_ms in [100, 200, 250, 333, 500, 1000, 2000] {
                    let cadence = Cadence::new(wanted(num, den, sample_rate, part_ms));
                    check(&cadence, sample_rate, part_ms);
                }
            }
        }
    }

    fn check(cadence: &Cadence, sample_rate: Option<u32>, part_ms: u32) {
        let what = format!("{cadence:?} {sample_rate:?} {part_ms}");
        let target = cadence.part_target as f64 / 1e6;
        let mut lengths: Vec<f64> = vec![];
        for part in 0..2000 {
            let frames = cadence.part_frame(part + 1) - cadence.part_frame(part);
            lengths.push(cadence.rate.seconds(frames));
            if let Some(rate) = sample_rate {
                let frames = cadence.part_aac_frame(part + 1, rate) - cadence.part_aac_frame(part, rate);
                lengths.push(frames as f64 * 1024.0 / f64::from(rate));
            }
        }
        let longest = lengths.iter().copied().fold(0.0, f64::max);
        let shortest = lengths.iter().copied().fold(f64::MAX, f64::min);
        assert!(longest <= target + 1e-9, "{what}: {longest}");
        assert!(shortest >= 0.85 * target - 1e-6, "{what}: {shortest} of {target}");
        if part_ms >= 200 && cadence.rate.as_f64() >= 24.0 {
            assert!(target <= f64::from(part_ms) / 1000.0 * 1.1 + 1e-9, "{what}");
        }
        assert_eq!(cadence.part_frame(u64::from(cadence.gop_parts)), u64::from(cadence.gop_frames), "{what}");
        let segment = cadence.segment_seconds();
        assert!(segment.round() <= f64::from(cadence.target_duration), "{what}");
    }

    #[test]
    fn the_usual_rates_get_what_was_asked_for() {
        let at = |num, den, ms| Cadence::new(wanted(num, den, Some(48_000), ms));
        let c = at(25, 1, 500);
        assert_eq!(
            (c.gop_frames, c.segment_gops, c.gop_parts, c.part_target, c.target_duration),
            (50, 3, 4, 520_000, 6)
        );
        let c = at(30, 1, 500);
        assert_eq!((c.gop_frames, c.gop_parts, c.part_target), (60, 4, 512_000));
        let c = at(25, 1, 250);
        assert_eq!((c.gop_parts, c.part_target), (10, 214_000));
        assert_eq!(c.part_hold_back(), 642_000);
    }

    #[test]
    fn parts_of_sound_cover_it_without_a_hole() {
        let cadence = Cadence::new(wanted(30000, 1001, Some(44_100), 500));
        let mut last = 0;
        for part in 1..10_000 {
            let frame = cadence.part_aac_frame(part, 44_100);
            assert!(frame > last);
            last = frame;
        }
        // Never further from the picture than half a frame of sound.
        let seconds = cadence.rate.seconds(cadence.part_frame(4 * 2000));
        let sound = cadence.part_aac_frame(4 * 2000, 44_100) as f64 * 1024.0 / 44_100.0;
        assert!((seconds - sound).abs() <= 512.0 / 44_100.0 + 1e-9);
    }
}
