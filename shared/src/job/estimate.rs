//! What a plan will take, from what earlier attempts took. Figures are medians: one that ran on a struggling machine changes nothing.

use serde::{Deserialize, Serialize};

use super::task::{AudioSpec, EncodeRung, EncodeSpec, TaskSpec};
use crate::media::codec::Codec;
use crate::media::profile::{Preset, RateControl};

/// The most samples a figure rests on: the newest.
pub const NEWEST: usize = 25;

/// How many times more or fewer pixels something comparable may have.
const COMPARABLE: f64 = 2.0;

/// What an encode amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The encoders it runs, sorted and joined by `+`.
    pub encoders: String,
    pub preset: Preset,
    /// Of all rungs together, at the rate of the source.
    pub pixels_per_frame: f64,
    /// All that is encoded, warm-up among it.
    pub megapixels: f64,
}

impl Workload {
    /// The amount of an encode's work.
    pub fn of(spec: &EncodeSpec) -> Self {
        let mut encoders: Vec<&str> = spec.rungs.iter().map(|rung| rung.encoder.as_str()).collect();
        encoders.sort_unstable();
        encoders.dedup();
        let pixels: f64 = spec
            .rungs
            .iter()
            .map(|rung| {
                f64::from(rung.width) * f64::from(rung.height) * spec.rung_span(rung).encoded() as f64
            })
            .sum();
        Self {
            encoders: encoders.join("+"),
            preset: spec.preset,
            pixels_per_frame: pixels / spec.span().encoded().max(1) as f64,
            megapixels: pixels / 1e6,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.encoders == other.encoders && self.preset == other.preset
    }
}

/// True for orders whose CPU time counts: next to encoding, the rest is nothing.
pub fn is_work(orders: &TaskSpec) -> bool {
    matches!(orders, TaskSpec::Encode(_) | TaskSpec::Audio(_))
}

/// Seconds of sound that a task encodes.
fn audio_seconds(spec: &AudioSpec) -> f64 {
    let frames = spec.span().frames(&spec.grid);
    (frames * crate::media::grid::AAC_FRAME) as f64 / f64::from(spec.grid.sample_rate.max(1))
}

/// A rendition that was made, for the sizes of those that will be.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeRendition {
    pub codec: Codec,
    pub preset: Preset,
    pub rate_control: RateControl,
    pub pixels: f64,
    /// Bits per pixel of every frame.
    pub bits_per_pixel: f64,
}

/// What is remembered, the newest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// CPU seconds of encodes.
    encodes: Vec<(Workload, f64)>,
    /// CPU seconds per second of sound.
    audio: Vec<f64>,
    renditions: Vec<MadeRendition>,
}

/// A figure and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub value: f64,
    /// How many; `None`: the recipe says it, there is nothing to learn.
    pub samples: Option<usize>,
}

impl Figure {
    fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, ..self }
    }
}

/// What a whole plan will take. A figure is `None` where nothing is known of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Of FFmpeg, all threads together.
    pub cpu_seconds: Option<f64>,
    /// The fewest earlier attempts that one of its parts rests on.
    pub cpu_samples: usize,
    /// Of the media that will be stored.
    pub bytes: Option<u64>,
    /// The fewest earlier renditions that one of its parts rests on; `None`: the recipe says it all.
    pub bytes_samples: Option<usize>,
}

impl Estimate {
    /// From the sums over all tasks and over all that is stored.
    pub fn new(cpu: Sum, bytes: Sum) -> Self {
        Self {
            cpu_seconds: cpu.value,
            cpu_samples: cpu.samples.unwrap_or(0),
            bytes: bytes.value.map(|bytes| bytes as u64),
            bytes_samples: bytes.samples,
        }
    }
}

/// Figures added up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    /// `None` where nothing is known of a part: half a sum would be taken for a whole one.
    value: Option<f64>,
    /// The fewest samples that one of its parts rests on, 0 where nothing is known of one; `None`: nothing had to be learned.
    samples: Option<usize>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { value: Some(0.0), samples: None }
    }
}

impl Sum {
    /// Adds a part; `None` where there is nothing to go by.
    pub fn add(&mut self, part: Option<Figure>) {
        let samples = part.map_or(Some(0), |part| part.samples);
        self.value = self.value.zip(part).map(|(sum, part)| sum + part.value);
        self.samples = self.samples.into_iter().chain(samples).min();
    }
}

impl History {
    /// Adds a finished attempt; the newest come first.
    pub fn add_attempt(&mut self, orders: &TaskSpec, cpu_seconds: f64) {
        match orders {
            TaskSpec::Encode(spec) => self.encodes.push((Workload::of(spec), cpu_seconds)),
            TaskSpec::Audio(spec) => {
                let seconds = audio_seconds(spec);
                if seconds > 0.0 {
                    self.audio.push(cpu_seconds / seconds);
                }
            }
            _ => {}
        }
    }

    /// Adds a finished rendition; the newest come first.
    pub fn add_rendition(&mut self, made: MadeRendition) {
        self.renditions.push(made);
    }

    /// CPU seconds of a task; `None` where nothing like it was done yet, or it [takes nothing](is_work) worth counting.
    pub fn cpu(&self, orders: &TaskSpec) -> Option<Figure> {
        match orders {
            TaskSpec::Encode(spec) => {
                let work = Workload::of(spec);
                let alike = || self.encodes.iter().filter(|(known, _)| known.is_like(&work));
                let near = alike().filter(|(known, _)| near(known.pixels_per_frame, work.pixels_per_frame));
                let rate = |(known, cpu): &(Workload, f64)| cpu / known.megapixels.max(1e-6);
                let learned = median(near.map(rate)).or_else(|| median(alike().map(rate)));
                Some(learned?.times(work.megapixels))
            }
            TaskSpec::Audio(spec) => Some(median(self.audio.iter().copied())?.times(audio_seconds(spec))),
            _ => None,
        }
    }

    /// Bits per second of a rung, never above its ceiling; `None` where nothing like it was made yet.
    pub fn bitrate(&self, rung: &EncodeRung, preset: Preset) -> Option<Figure> {
        let RateControl::CappedCrf { crf, max_bitrate, .. } = rung.rate_control else {
            // It is made to measure: nothing is to be learned.
            return Some(Figure { value: rung.rate_control.max_bitrate() as f64, samples: None });
        };
        let (codec, pixels) = (rung.encoder.codec(), f64::from(rung.width) * f64::from(rung.height));
        let frame_rate = rung.grid.rate.as_f64();
        // A rendition held down by its ceiling would tell too little of one with another ceiling, but a median bears some.
        let at_this_quality = |made: &MadeRendition| match made.rate_control {
            RateControl::CappedCrf { crf: other, .. } if made.preset == preset && made.codec == codec => {
                Some(made.bits_per_pixel * crf_factor(crf, other))
            }
            _ => None,
        };
        let comparable = self.renditions.iter().filter(|made| near(made.pixels, pixels));
        let learned = median(comparable.filter_map(at_this_quality))
            .or_else(|| median(self.renditions.iter().filter_map(at_this_quality)));
        let figure = learned?.times(pixels * frame_rate);
        Some(Figure { value: figure.value.min(max_bitrate as f64), ..figure })
    }
}

/// x264's and x265's scale, and roughly that of others: six points more, half the bits.
fn crf_factor(wanted: u8, known: u8) -> f64 {
    2_f64.powf((f64::from(known) - f64::from(wanted)) / 6.0)
}

fn near(one: f64, other: f64) -> bool {
    one <= other * COMPARABLE && other <= one * COMPARABLE
}

/// The middle of the first [`NEWEST`] values; of an even number the mean of the two.
fn median(values: impl Iterator<Item = f64>) -> Option<Figure> {
    let mut values: Vec<f64> = values.take(NEWEST).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let value = match values.len() % 2 {
        1 => *values.get(middle)?,
        _ => (values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0,
    };
    Some(Figure { value, samples: Some(values.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SetId, SourceId};
    use crate::job::encoder::Encoder;
    use crate::media::grid::{Grid, Rate};
    use crate::media::probe::UnsaidColours;

    const CRF: RateControl = RateControl::CappedCrf { crf: 23, max_bitrate: 4_000_000, buffer: 8_000_000 };

    fn encode(preset: Preset, sizes: &[(u32, u32)]) -> TaskSpec {
        let grid = Grid { rate: Rate { num: 25, den: 1 }, gop_frames: 50, segment_gops: 3, frames: 100 };
        let rung = |(width, height)| EncodeRung {
            name: format!("{height}p"),
            position: 0,
            encoder: Encoder::Libx264,
            skip_segments: 0,
            width,
            height,
            content: None,
            grid,
            rate_control: CRF,
        };
        TaskSpec::Encode(EncodeSpec {
            source: SourceId::new(),
            set: SetId::new(),
            stream: 0,
            grid,
            span: None,
            extent: None,
            offset_ms: 0,
            crop: None,
            watermark: None,
            hold_frames: 0,
            stored_size: None,
            deinterlace: false,
            tone_map: false,
            unsaid_colours: UnsaidColours::default(),
            preset,
            threads: 1,
            rungs: sizes.iter().copied().map(rung).collect(),
            deadline_seconds: 1,
        })
    }

    #[test]
    fn one_bad_day_changes_nothing() {
        let orders = encode(Preset::Fast, &[(1000, 1000)]);
        let mut history = History::default();
        for cpu in [3.0, 300.0, 2.0, 2.5, 2.0] {
            history.add_attempt(&orders, cpu);
        }
        let figure = history.cpu(&orders).unwrap();
        assert_eq!(figure, Figure { value: 2.5, samples: Some(5) });
        let twice = history.cpu(&encode(Preset::Fast, &[(1000, 1000), (1000, 1000)])).unwrap();
        assert_eq!(twice.value, 5.0, "by the pixel");
    }

    #[test]
    fn what_is_not_comparable_teaches_little_or_nothing() {
        let mut history = History::default();
        // A lead: one small rung, and the decoding of all of the source.
        history.add_attempt(&encode(Preset::Fast, &[(320, 180)]), 10.0);
        history.add_attempt(&encode(Preset::Fast, &[(1280, 720), (640, 360)]), 5.76);
        let ladder = history.cpu(&encode(Preset::Fast, &[(1280, 720), (480, 270)])).unwrap();
        assert_eq!(ladder.samples, Some(1));
        assert!((ladder.value - 5.76 * 105.12 / 115.2).abs() < 1e-9, "{ladder:?}");
        let far = history.cpu(&encode(Preset::Fast, &[(3840, 2160)])).unwrap();
        assert_eq!(far.samples, Some(2), "better than nothing");
        let other = history.cpu(&encode(Preset::Slow, &[(1280, 720)]));
        assert_eq!(other, None);
    }

    #[test]
    fn only_the_newest_count() {
        let orders = encode(Preset::Fast, &[(1000, 1000)]);
        let mut history = History::default();
        (0..NEWEST).for_each(|_| history.add_attempt(&orders, 1.0));
        (0..10 * NEWEST).for_each(|_| history.add_attempt(&orders, 9.0));
        assert_eq!(history.cpu(&orders), Some(Figure { value: 1.0, samples: Some(NEWEST) }));
    }

    #[test]
    fn sizes_follow_quality_and_stay_below_the_ceiling() {
        let mut history = History::default();
        let rate = |history: &History, rate_control| {
            let TaskSpec::Encode(spec) = encode(Preset::Fast, &[(1000, 1000)]) else { panic!() };
            history.bitrate(&EncodeRung { rate_control, ..spec.rungs[0].clone() }, Preset::Fast)
        };
        assert_eq!(rate(&history, CRF), None);
        let steady = RateControl::Constant { bitrate: 700_000, buffer: 1 };
        assert_eq!(rate(&history, steady), Some(Figure { value: 700_000.0, samples: None }));
        let made = MadeRendition {
            codec: Codec::H264,
            preset: Preset::Fast,
            rate_control: CRF,
            pixels: 1.5e6,
            bits_per_pixel: 0.04,
        };
        history.add_rendition(MadeRendition { codec: Codec::Av1, bits_per_pixel: 0.01, ..made.clone() });
        history.add_rendition(made);
        assert_eq!(rate(&history, CRF), Some(Figure { value: 1_000_000.0, samples: Some(1) }));
        let of = |crf| RateControl::CappedCrf { crf, max_bitrate: 4_000_000, buffer: 1 };
        assert_eq!(rate(&history, of(29)).unwrap().value, 500_000.0);
        assert_eq!(rate(&history, of(5)).unwrap().value, 4_000_000.0);
    }

    #[test]
    fn a_sum_is_as_sure_as_its_least_sure_part() {
        let part = |samples| Some(Figure { value: 1.0, samples });
        let mut sum = Sum::default();
        sum.add(part(None));
        assert_eq!(sum, Sum { value: Some(1.0), samples: None });
        for samples in [7, 3, 5] {
            sum.add(part(Some(samples)));
        }
        assert_eq!(sum, Sum { value: Some(4.0), samples: Some(3) });
        sum.add(None);
        sum.add(part(Some(9)));
        assert_eq!(sum, Sum { value: None, samples: Some(0) }, "who knows");
    }
}
