//! The frame grid: everything is counted in frames of an exact rational rate, never in seconds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Frames per second as a reduced fraction; both parts are at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    pub num: u32,
    pub den: u32,
}

/// Rates of the trade, to which a measured rate within 0.1 % is snapped: containers that count in milliseconds
/// cannot state 30000/1001.
const STANDARD_RATES: [Rate; 8] = [
    Rate { num: 24000, den: 1001 },
    Rate { num: 24, den: 1 },
    Rate { num: 25, den: 1 },
    Rate { num: 30000, den: 1001 },
    Rate { num: 30, den: 1 },
    Rate { num: 50, den: 1 },
    Rate { num: 60000, den: 1001 },
    Rate { num: 60, den: 1 },
];

impl Rate {
    /// A reduced rate; `None` where a part is zero or does not fit in 32 bits after reduction.
    pub fn new(num: u64, den: u64) -> Option<Self> {
        if num == 0 || den == 0 {
            return None;
        }
        let divisor = gcd(num, den);
        Some(Self { num: u32::try_from(num / divisor).ok()?, den: u32::try_from(den / divisor).ok()? })
    }

    /// Parses FFmpeg's `num/den`; `None` for `0/0` and nonsense.
    pub fn parse(text: &str) -> Option<Self> {
        let (num, den) = text.split_once('/')?;
        Self::new(num.parse().ok()?, den.parse().ok()?)
    }

    /// The rate as a float, for display and rough decisions only.
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// The standard rate within 0.1 % of this one, else this one.
    pub fn snapped(self) -> Self {
        Self::standard_near(self.as_f64(), 0.001).unwrap_or(self)
    }

    /// The standard rate that is nearest to `measured` frames per second, where one is within this share of it.
    pub fn standard_near(measured: f64, share: f64) -> Option<Self> {
        let off = |rate: &Rate| (measured / rate.as_f64() - 1.0).abs();
        STANDARD_RATES.into_iter().filter(|rate| off(rate) < share).min_by(|a, b| off(a).total_cmp(&off(b)))
    }

    /// Ticks per second for a track at this rate: a multiple of the numerator, at least 10,000, so that every frame
    /// lasts a whole number of ticks.
    pub fn timescale(self) -> u32 {
        self.num.saturating_mul(self.multiplier())
    }

    /// Ticks of one frame in [`Rate::timescale`].
    pub fn frame_ticks(self) -> u32 {
        self.den.saturating_mul(self.multiplier())
    }

    fn multiplier(self) -> u32 {
        let mut multiplier = 1;
        while self.num.saturating_mul(multiplier) < 10_000 {
            multiplier *= 2;
        }
        multiplier
    }

    /// Seconds that `frames` last.
    pub fn seconds(self, frames: u64) -> f64 {
        frames as f64 * f64::from(self.den) / f64::from(self.num)
    }

    /// The number of frames nearest to `seconds`.
    pub fn frames_in(self, seconds: f64) -> u64 {
        (seconds * self.as_f64()).round().max(0.0) as u64
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// Seconds a GOP aims at.
const GOP_SECONDS: f64 = 2.0;

/// The common grid of all video rungs of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Rate of the source after conversion to a constant rate.
    pub rate: Rate,
    /// Frames of a GOP at `rate`.
    pub gop_frames: u32,
    /// GOPs of a segment.
    pub segment_gops: u32,
    /// Frames from zero to the end of the recording, at `rate`.
    pub frames: u64,
}

impl Grid {
    /// A grid with GOPs of about two seconds and segments of about `segment_seconds` (1 to 30).
    pub fn new(rate: Rate, frames: u64, segment_seconds: u32) -> Self {
        let gop_frames = rate.frames_in(GOP_SECONDS).max(1) as u32;
        let segment_gops =
            (f64::from(segment_seconds) / rate.seconds(u64::from(gop_frames))).round().max(1.0) as u32;
        Self { rate, gop_frames, segment_gops, frames }
    }

    /// The grid of a rung whose rate is capped at `max_fps`: the same GOP times with fewer frames in each.
    pub fn capped(&self, max_fps: Option<u32>) -> Self {
        let Some(cap) = max_fps.filter(|cap| f64::from(*cap) < self.rate.as_f64()) else {
            return *self;
        };
        let gop = u64::from(self.gop_frames);
        // The most frames per GOP that stay within the cap.
        let kept = (gop * u64::from(cap) * u64::from(self.rate.den) / u64::from(self.rate.num)).max(1);
        let Some(rate) = Rate::new(kept * u64::from(self.rate.num), gop * u64::from(self.rate.den)) else {
            return *self;
        };
        Self {
            rate,
            gop_frames: kept as u32,
            segment_gops: self.segment_gops,
            frames: (self.frames * kept).div_ceil(gop),
        }
    }

    /// Frames of a whole segment.
    pub fn segment_frames(&self) -> u64 {
        u64::from(self.gop_frames) * u64::from(self.segment_gops)
    }

    /// Number of segments; the last may be shorter.
    pub fn segments(&self) -> u64 {
        self.frames.div_ceil(self.segment_frames())
    }

    /// Seconds from zero to the end.
    pub fn duration(&self) -> f64 {
        self.rate.seconds(self.frames)
    }
}

/// A run of whole segments of a grid, encoded by one task. Counted in frames of the grid's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// At the start of a segment.
    pub first: u64,
    pub frames: u64,
    /// Frames before `first`, a whole GOP or none, that are encoded and dropped: the rate control has a past then.
    pub warm_up: u64,
}

impl Span {
    /// All of a grid.
    pub fn whole(grid: &Grid) -> Self {
        Self { first: 0, frames: grid.frames, warm_up: 0 }
    }

    /// Frames that are encoded.
    pub fn encoded(&self) -> u64 {
        self.warm_up + self.frames
    }

    /// The frame the encoder starts with.
    pub fn start(&self) -> u64 {
        self.first - self.warm_up
    }

    /// The same without its first `segments` segments, which somebody else makes; the last GOP of them is the warm-up now.
    #[must_use]
    pub fn without(self, segments: u64, grid: &Grid) -> Self {
        let skipped = (segments * grid.segment_frames()).min(self.frames);
        if skipped == 0 {
            return self;
        }
        Self {
            first: self.first + skipped,
            frames: self.frames - skipped,
            warm_up: u64::from(grid.gop_frames),
        }
    }
}

impl Grid {
    /// Cuts the grid into spans of so many segments each, as far as it goes. The last takes everything from `decodable` on, where only the
    /// last picture is held: nothing could be decoded for a span beyond it.
    pub fn spans(&self, segments: impl IntoIterator<Item = u64>, decodable: u64) -> Vec<Span> {
        let mut next = 0;
        let starts: Vec<u64> = segments
            .into_iter()
            .map_while(|length| {
                let (start, step) = (next, length.max(1) * self.segment_frames());
                next += step;
                // No stump at the end: it would cost a warm-up for next to nothing.
                (start == 0 || (start < self.frames && start + step / 2 < decodable)).then_some(start)
            })
            .collect();
        let ends = starts.iter().skip(1).copied().chain([self.frames]);
        let warm_up = |first| if first == 0 { 0 } else { u64::from(self.gop_frames) };
        starts
            .iter()
            .zip(ends)
            .map(|(&first, end)| Span { first, frames: end - first, warm_up: warm_up(first) })
            .collect()
    }

    /// A span of `source` on this grid of a rung, whose rate may be lower: GOPs have the same times, so their counts agree.
    pub fn rung_span(&self, source: &Self, span: &Span) -> Span {
        let frame = |frame: u64| frame / u64::from(source.gop_frames) * u64::from(self.gop_frames);
        let first = frame(span.first);
        let last = span.first + span.frames == source.frames;
        let end = if last { self.frames } else { frame(span.first + span.frames) };
        Span { first, frames: end - first, warm_up: frame(span.warm_up) }
    }
}

/// Samples in one AAC-LC frame (ISO/IEC 14496-3).
pub const AAC_FRAME: u64 = 1024;

/// The audio grid: AAC frame `n` covers the samples `[1024 n, 1024 (n + 1))`, with no edit list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioGrid {
    /// Samples per second: 44,100 or 48,000.
    pub sample_rate: u32,
    /// AAC frames in all.
    pub frames: u64,
    /// The first segment that `starts` tells of: zero but for a [part](Self::part).
    #[serde(default)]
    pub from: usize,
    /// First AAC frame of each segment, in order; that of segment zero is zero.
    #[serde(rename = "cuts", alias = "starts")]
    pub starts: Vec<u64>,
}

impl AudioGrid {
    /// Cuts audio where the video segments are cut, to the nearest AAC frame.
    pub fn beside(grid: &Grid, sample_rate: u32) -> Self {
        let at = |frame: u64| {
            let samples = u128::from(frame) * u128::from(grid.rate.den) * u128::from(sample_rate)
                / u128::from(grid.rate.num);
            samples as u64
        };
        let frames = at(grid.frames).div_ceil(AAC_FRAME).max(1);
        let starts = (0..grid.segments())
            .map(|n| (at(n * grid.segment_frames()) + AAC_FRAME / 2) / AAC_FRAME)
            .filter(|start| *start < frames)
            .collect();
        Self { sample_rate, frames, from: 0, starts }
    }

    /// Audio without a picture: segments of about `segment_seconds`.
    pub fn alone(seconds: f64, sample_rate: u32, segment_seconds: u32) -> Self {
        let frames = (seconds * f64::from(sample_rate) / AAC_FRAME as f64).ceil().max(1.0) as u64;
        let step = (u64::from(segment_seconds) * u64::from(sample_rate)).div_ceil(AAC_FRAME).max(1);
        Self { sample_rate, frames, from: 0, starts: (0..frames).step_by(step as usize).collect() }
    }

    /// The same grid, told of no further than `span` goes: who makes a span need not know where all others begin.
    pub fn part(&self, span: AudioSpan) -> Self {
        // With the start of what comes behind it, which is its end.
        let told = span.segment..=span.end();
        let starts = told.map_while(|segment| self.start(segment)).collect();
        Self { from: span.segment, starts, ..*self }
    }

    /// Where segment `n`, counted from zero, begins; `None` where there is none, or nothing is told of it.
    fn start(&self, n: usize) -> Option<u64> {
        self.starts.get(n.checked_sub(self.from)?).copied()
    }

    /// AAC frames in segment `n`, counted from zero; zero beyond the last.
    pub fn segment_len(&self, n: usize) -> u64 {
        let Some(start) = self.start(n) else { return 0 };
        self.start(n + 1).unwrap_or(self.frames) - start
    }

    /// Cuts the grid into spans of whole segments: the first of about `first` seconds, the others of about `others`.
    pub fn spans(&self, first: f64, others: f64) -> Vec<AudioSpan> {
        let seconds = |frame: u64| (frame * AAC_FRAME) as f64 / f64::from(self.sample_rate);
        let mut spans: Vec<AudioSpan> = vec![];
        let (mut begun, mut length) = (0, first);
        for (number, start) in self.starts.iter().enumerate() {
            let left = seconds(self.frames - start);
            // To the nearest frame; what is left over at the end stays with its neighbour.
            if number > 0 && seconds(start - begun) >= length - 0.1 && left >= others / 2.0 {
                (begun, length) = (*start, others);
                spans.push(AudioSpan { segment: number, segments: 0 });
            } else if number == 0 {
                spans.push(AudioSpan::default());
            }
            if let Some(span) = spans.last_mut() {
                span.segments += 1;
            }
        }
        spans
    }
}

/// A run of whole segments of an audio grid, encoded by one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AudioSpan {
    /// Number of its first segment.
    pub segment: usize,
    pub segments: usize,
}

impl AudioSpan {
    /// All of a grid.
    pub fn whole(grid: &AudioGrid) -> Self {
        Self { segment: 0, segments: grid.starts.len() }
    }

    /// The number behind its last segment.
    pub fn end(&self) -> usize {
        self.segment + self.segments
    }

    /// Its first AAC frame in `grid`.
    pub fn first_frame(&self, grid: &AudioGrid) -> u64 {
        grid.start(self.segment).unwrap_or(grid.frames)
    }

    /// Its AAC frames in `grid`.
    pub fn frames(&self, grid: &AudioGrid) -> u64 {
        let end = grid.start(self.end()).unwrap_or(grid.frames);
        end - self.first_frame(grid)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(num: u64, den: u64) -> Rate {
        Rate::new(num, den).unwrap()
    }

    #[test]
    fn rates_snap_only_to_near_neighbours() {
        assert_eq!(rate(2997, 100).snapped(), rate(30000, 1001));
        assert_eq!(rate(179, 6).snapped(), rate(179, 6));
        assert_eq!(rate(1000, 40).snapped(), rate(25, 1));
    }

    #[test]
    fn a_capped_rung_keeps_the_gop_times() {
        for (num, den) in [(25, 1), (30, 1), (30000, 1001), (60000, 1001), (179, 6), (50, 1), (10, 1)] {
            let grid = Grid::new(rate(num, den), 1000, 10);
            for cap in [24, 30] {
                let capped = grid.capped(Some(cap));
                assert!(
                    capped.rate.as_f64() <= f64::from(cap).max(grid.rate.as_f64().min(f64::from(cap))) + 1e-9
                );
                // GOP length in seconds as cross products, so that no float decides.
                let lhs = u64::from(grid.gop_frames) * u64::from(grid.rate.den) * u64::from(capped.rate.num);
                let rhs =
                    u64::from(capped.gop_frames) * u64::from(capped.rate.den) * u64::from(grid.rate.num);
                assert_eq!(lhs, rhs, "{num}/{den} capped at {cap}");
                assert_eq!(grid.segments(), capped.segments());
            }
        }
        assert_eq!(Grid::new(rate(25, 1), 100, 6).capped(Some(24)).rate, rate(24, 1));
        assert_eq!(Grid::new(rate(60000, 1001), 100, 6).capped(Some(30)).rate, rate(30000, 1001));
    }

    #[test]
    fn spans_cover_the_grid_in_whole_segments() {
        for (num, den, frames, decodable) in
            [(25, 1, 15_000, 15_000), (179, 6, 1189, 1189), (30000, 1001, 7001, 3000), (60, 1, 1, 1)]
        {
            let grid = Grid::new(rate(num, den), frames, 6);
            let capped = grid.capped(Some(24));
            for segments in 1..5 {
                let spans = grid.spans([1].into_iter().chain(std::iter::repeat(segments)), decodable);
                let (mut next, mut rung_next) = (0, 0);
                for span in &spans {
                    assert_eq!(span.first, next);
                    assert!(span.first.is_multiple_of(grid.segment_frames()));
                    assert!(span.first == 0 || span.first < decodable, "{span:?} has something to decode");
                    next += span.frames;
                    let rung = capped.rung_span(&grid, span);
                    assert_eq!(rung.first, rung_next);
                    // The encoder starts at the same time in both.
                    let here =
                        u128::from(rung.start()) * u128::from(capped.rate.den) * u128::from(grid.rate.num);
                    let there =
                        u128::from(span.start()) * u128::from(grid.rate.den) * u128::from(capped.rate.num);
                    assert_eq!(here, there);
                    rung_next += rung.frames;
                }
                assert_eq!((next, rung_next), (grid.frames, capped.frames));
            }
        }
    }

    #[test]
    fn audio_segments_follow_the_video_to_half_a_frame() {
        let grid = Grid::new(rate(30000, 1001), 2000, 6);
        let audio = AudioGrid::beside(&grid, 48_000);
        assert_eq!(audio.starts.len() as u64, grid.segments());
        for (n, start) in audio.starts.iter().enumerate() {
            let video = grid.rate.seconds(n as u64 * grid.segment_frames());
            let here = *start as f64 * 1024.0 / 48_000.0;
            assert!((video - here).abs() <= 512.0 / 48_000.0 + 1e-9);
        }
        let total: u64 = (0..audio.starts.len()).map(|n| audio.segment_len(n)).sum();
        assert_eq!(total, audio.frames);
    }

    #[test]
    fn a_part_of_an_audio_grid_tells_the_same_of_its_span() {
        let whole = AudioGrid::beside(&Grid::new(rate(30000, 1001), 60_000, 2), 48_000);
        for span in whole.spans(30.0, 300.0) {
            let part = whole.part(span);
            assert_eq!(part.starts.len(), span.segments + usize::from(span.end() < whole.starts.len()));
            assert_eq!(
                (span.first_frame(&part), span.frames(&part)),
                (span.first_frame(&whole), span.frames(&whole))
            );
            for n in span.segment..span.end() {
                assert_eq!(part.segment_len(n), whole.segment_len(n));
            }
            assert_eq!(part.segment_len(span.end() + 1), 0);
        }
        let kept = r#"{"sample_rate":48000,"frames":10,"starts":[0,6]}"#;
        let read: AudioGrid = serde_json::from_str(kept).unwrap();
        assert_eq!((read.from, read.starts), (0, vec![0, 6]), "orders from before there were parts");
    }

    #[test]
    fn a_span_without_its_first_segment_is_warmed_up_by_it() {
        let grid = Grid::new(rate(25, 1), 600, 6);
        let span = Span { first: 0, frames: 300, warm_up: 0 };
        let rest = span.without(1, &grid);
        assert_eq!(rest, Span { first: 150, frames: 150, warm_up: 50 });
        assert_eq!(rest.start(), 100);
        assert_eq!(span.without(0, &grid), span);
        assert_eq!(span.without(9, &grid).frames, 0);
    }

    #[test]
    fn audio_spans_are_whole_segments_without_a_stump() {
        let grid = AudioGrid::beside(&Grid::new(rate(30000, 1001), 60_000, 6), 48_000);
        let spans = grid.spans(30.0, 300.0);
        assert_eq!(spans[0], AudioSpan { segment: 0, segments: 5 });
        let mut next = 0;
        for span in &spans {
            assert_eq!(span.segment, next);
            next = span.end();
        }
        assert_eq!(next, grid.starts.len());
        assert_eq!(spans.iter().map(|span| span.frames(&grid)).sum::<u64>(), grid.frames);
        assert!(spans.iter().skip(1).all(|span| span.segments >= 25), "{spans:?}");
        let short = AudioGrid::alone(40.0, 44_100, 6);
        assert_eq!(short.spans(30.0, 300.0), [AudioSpan::whole(&short)]);
    }
}
