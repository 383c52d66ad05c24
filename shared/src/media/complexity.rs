//! A ladder for one title: from what samples of a source need to which rungs of its ladder are worth making, and at what ceiling.

use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::grid::{Grid, Span};
use super::profile::RateControl;

/// What a sample of a source needs at one rung.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Bits per second at the rung's quality.
    pub bitrate: u64,
    /// What is left of the picture when it is brought to the size of the next smaller rung and back: PSNR in dB, and SSIM. `None` where
    /// no rung is smaller.
    pub smaller: Option<(f64, f64)>,
}

/// A rung as it was fitted to the source, and what the samples need at it.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledRung {
    pub name: String,
    pub codec: Codec,
    pub size: (u32, u32),
    pub rate_control: RateControl,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// What becomes of a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungVerdict {
    pub name: String,
    #[serde(flatten)]
    pub decision: Decision,
    /// In plain words, with the figures.
    pub reason: String,
}

/// What is done with a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    Kept,
    /// Kept, with this ceiling in bits per second in place of the recipe's.
    Capped {
        max_bitrate: u64,
    },
    Dropped,
}

/// Seconds below which nothing is sampled: the samples would be most of the source.
pub const SHORTEST_SECONDS: f64 = 20.0;
/// Samples of a source, each a GOP of about two seconds: one a minute within these bounds.
const FEWEST_SAMPLES: u64 = 3;
const MOST_SAMPLES: u64 = 5;

/// Two sizes show the same where, at every sample, no more is lost between them than this. PSNR guards what SSIM passes over: sharp text
/// on a large flat ground.
const SAME_PSNR: f64 = 45.0;
const SAME_SSIM: f64 = 0.99;
/// A ceiling is this many times what the busiest sample needs: nobody saw what lies between the samples.
const HEADROOM: f64 = 2.0;
/// And at least this share of the recipe's, for the same reason.
const LEAST_SHARE: f64 = 0.125;
/// A ceiling that is not at least this much lower is not worth a word.
const WORTH_CAPPING: f64 = 0.9;
/// Bits per second that whoever can play anything can play: a larger rung that needs no more makes those between it and the smallest
/// idle.
const EVERYBODYS: u64 = 300_000;
/// Where a rung needs at most this many times what the next smaller one needs, the smaller one saves nobody anything.
const NEARLY: f64 = 1.15;

/// Where a source on this grid is sampled: GOPs spread evenly, as frames at which they begin; `None` where it is too short.
pub fn sampled(grid: &Grid) -> Option<Vec<Span>> {
    let gop = u64::from(grid.gop_frames);
    let gops = grid.frames / gop;
    if grid.duration() < SHORTEST_SECONDS || gops < MOST_SAMPLES {
        return None;
    }
    let count = ((grid.duration() / 60.0) as u64).clamp(FEWEST_SAMPLES, MOST_SAMPLES);
    let span = |n| Span { first: gops * (2 * n + 1) / (2 * count) * gop, frames: gop, warm_up: 0 };
    Some((0..count).map(span).collect())
}

/// Decides on each of `rungs`, which are in the order of the ladder, best first: of each codec alone, because not every player has every
/// one. The last of a codec is kept as it is: it may be playing already.
pub fn decide(rungs: &[SampledRung]) -> Vec<RungVerdict> {
    let verdict = |rung: &SampledRung| {
        let alike: Vec<&SampledRung> = rungs.iter().filter(|other| other.codec == rung.codec).collect();
        decide_alike(&alike).into_iter().find(|verdict| verdict.name == rung.name)
    };
    rungs.iter().filter_map(verdict).collect()
}

fn decide_alike(rungs: &[&SampledRung]) -> Vec<RungVerdict> {
    let Some((smallest, others)) = rungs.split_last() else { return vec![] };
    let mut verdicts: Vec<RungVerdict> = vec![];
    // The nearest larger rung that stays.
    let mut above: Option<&SampledRung> = None;
    for (place, &rung) in others.iter().enumerate() {
        let below = rungs.get(place + 1).unwrap_or(smallest);
        let (decision, reason) = match dropped(rung, above, below) {
            Some(reason) => (Decision::Dropped, reason),
            None => {
                above = Some(rung);
                capped(rung)
            }
        };
        verdicts.push(RungVerdict { name: rung.name.clone(), decision, reason });
    }
    verdicts.push(RungVerdict {
        name: smallest.name.clone(),
        decision: Decision::Kept,
        reason: "the smallest rung is kept as it is: everybody can play it, and somebody may be doing so"
            .into(),
    });
    verdicts
}

/// Why a rung adds nothing to its neighbours; `None` where it does.
fn dropped(rung: &SampledRung, above: Option<&SampledRung>, below: &SampledRung) -> Option<String> {
    if rung.size == below.size {
        let ceiling = below.rate_control.max_bitrate();
        return (ceiling >= rung.wants()).then(|| {
            format!(
                "{} has the same size and its {} are all the picture needs (at most {})",
                below.name,
                kbps(ceiling),
                kbps(rung.wants())
            )
        });
    }
    match above {
        None => {
            let (psnr, ssim) = rung.smaller()?;
            (psnr >= SAME_PSNR && ssim >= SAME_SSIM).then(|| {
                let (width, height) = below.size;
                format!(
                    "the source shows hardly more at this size than at {width}x{height} ({}): PSNR {psnr:.1} dB and SSIM {ssim:.4} between them",
                    below.name
                )
            })
        }
        Some(above) if above.spends() <= EVERYBODYS => Some(format!(
            "{} needs at most {}, which whoever plays anything can play",
            above.name,
            kbps(above.spends())
        )),
        Some(above) if above.spends() as f64 <= rung.spends() as f64 * NEARLY => Some(format!(
            "{} needs at most {}, hardly more than the {} of this one",
            above.name,
            kbps(above.spends()),
            kbps(rung.spends())
        )),
        Some(_) => None,
    }
}

fn capped(rung: &SampledRung) -> (Decision, String) {
    let (ceiling, busiest) = (rung.rate_control.max_bitrate(), rung.busiest());
    let least = (ceiling as f64 * LEAST_SHARE) as u64;
    let max_bitrate = rung.wants().max(least);
    if max_bitrate as f64 >= ceiling as f64 * WORTH_CAPPING {
        let reason =
            format!("its samples need up to {}, and the recipe allows {}", kbps(busiest), kbps(ceiling));
        return (Decision::Kept, reason);
    }
    let why = if rung.wants() >= least {
        "twice that is room enough"
    } else {
        "an eighth of what the recipe allows is room enough"
    };
    let reason =
        format!("its samples need up to {}: {why}, not the recipe's {}", kbps(busiest), kbps(ceiling));
    (Decision::Capped { max_bitrate }, reason)
}

impl SampledRung {
    fn busiest(&self) -> u64 {
        self.samples.iter().map(|sample| sample.bitrate).max().unwrap_or(u64::MAX)
    }

    /// What it needs of what it is allowed.
    fn spends(&self) -> u64 {
        self.busiest().min(self.rate_control.max_bitrate())
    }

    /// A ceiling that holds nothing back, in bits per second to a thousand.
    fn wants(&self) -> u64 {
        ((self.busiest() as f64 * HEADROOM / 1000.0).ceil() * 1000.0) as u64
    }

    /// What the next smaller size loses at the sample where it loses most.
    fn smaller(&self) -> Option<(f64, f64)> {
        self.samples
            .iter()
            .map(|sample| sample.smaller)
            .reduce(|a, b| a.zip(b).map(|((p, s), (q, t))| (p.min(q), s.min(t))))
            .flatten()
    }
}

impl RateControl {
    /// The same under a lower ceiling, its buffer as many seconds as before.
    #[must_use]
    pub fn under(self, ceiling: u64) -> Self {
        let most = self.max_bitrate().max(1);
        let shorter =
            |buffer: u64| (u128::from(buffer) * u128::from(ceiling) / u128::from(most)).max(1) as u64;
        match self {
            _ if ceiling >= most => self,
            Self::CappedCrf { crf, buffer, .. } => {
                Self::CappedCrf { crf, max_bitrate: ceiling, buffer: shorter(buffer) }
            }
            Self::Constant { buffer, .. } => Self::Constant { bitrate: ceiling, buffer: shorter(buffer) },
        }
    }
}

fn kbps(bits: u64) -> String {
    format!("{} kbit/s", bits.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::grid::Rate;

    /// The web ladder, each rung with what its busiest sample needs in kbit/s and what the next size down loses.
    fn web(needs: [(u64, f64, f64); 4]) -> Vec<SampledRung> {
        let rung = |(name, size, kbps): (&str, (u32, u32), u64), (needs, psnr, ssim): (u64, f64, f64)| {
            let sample = |share: u64, better: f64| Sample {
                bitrate: needs * 1000 / share,
                smaller: (name != "360p").then_some((psnr + better, ssim)),
            };
            let rate_control =
                RateControl::CappedCrf { crf: 22, max_bitrate: kbps * 1000, buffer: kbps * 2000 };
            SampledRung {
                name: name.into(),
                codec: Codec::H264,
                size,
                rate_control,
                samples: vec![sample(2, 5.0), sample(1, 0.0), sample(3, 9.0)],
            }
        };
        [
            ("1080p", (1920, 1080), 6000),
            ("720p", (1280, 720), 3500),
            ("480p", (854, 480), 1600),
            ("360p", (640, 360), 900),
        ]
        .into_iter()
        .zip(needs)
        .map(|(row, needs)| rung(row, needs))
        .collect()
    }

    fn decisions(rungs: &[SampledRung]) -> Vec<Decision> {
        decide(rungs).into_iter().map(|verdict| verdict.decision).collect()
    }

    use Decision::{Capped, Dropped, Kept};

    #[test]
    fn a_busy_source_keeps_its_ladder() {
        let noise = web([(30_000, 25.0, 0.6), (14_000, 25.0, 0.6), (7_000, 25.0, 0.6), (4_000, 25.0, 0.6)]);
        assert_eq!(decisions(&noise), [Kept; 4]);
        let reason = &decide(&noise)[0].reason;
        assert_eq!(reason, "its samples need up to 30000 kbit/s, and the recipe allows 6000 kbit/s");
    }

    #[test]
    fn slides_need_one_large_rung_and_the_smallest() {
        let slides = web([(110, 32.0, 0.98), (70, 33.0, 0.98), (45, 34.0, 0.98), (30, 0.0, 0.0)]);
        let capped = Capped { max_bitrate: 750_000 };
        assert_eq!(decisions(&slides), [capped, Dropped, Dropped, Kept]);
        let verdicts = decide(&slides);
        assert_eq!(
            verdicts[0].reason,
            "its samples need up to 110 kbit/s: an eighth of what the recipe allows is room enough, not the recipe's 6000 kbit/s"
        );
        assert_eq!(
            verdicts[1].reason,
            "1080p needs at most 110 kbit/s, which whoever plays anything can play"
        );
    }

    #[test]
    fn a_blown_up_source_loses_the_rungs_that_show_no_more() {
        let soft = web([(1500, 51.0, 0.998), (1400, 46.0, 0.994), (900, 38.0, 0.96), (600, 0.0, 0.0)]);
        assert_eq!(decisions(&soft), [Dropped, Dropped, Kept, Kept]);
        assert_eq!(
            decide(&soft)[0].reason,
            "the source shows hardly more at this size than at 1280x720 (720p): PSNR 51.0 dB and SSIM 0.9980 between them"
        );
        // Sharp text on a flat ground: SSIM alone would let it go.
        let text = web([(900, 34.0, 0.997), (700, 35.0, 0.997), (500, 36.0, 0.997), (300, 0.0, 0.0)]);
        assert_eq!(decisions(&text)[0], Capped { max_bitrate: 1_800_000 });
    }

    #[test]
    fn a_rung_between_two_that_need_the_same_goes() {
        let odd = web([(2000, 40.0, 0.98), (1900, 40.0, 0.98), (1000, 40.0, 0.98), (600, 0.0, 0.0)]);
        assert_eq!(decisions(&odd), [Capped { max_bitrate: 4_000_000 }, Dropped, Kept, Kept]);
    }

    #[test]
    fn of_rungs_of_one_size_the_cheaper_stays_where_it_is_enough() {
        let rung = |name: &str, kbps: u64, needs: u64| SampledRung {
            name: name.into(),
            codec: Codec::H264,
            size: (1280, 720),
            rate_control: RateControl::Constant { bitrate: kbps * 1000, buffer: kbps * 2000 },
            samples: vec![Sample { bitrate: needs * 1000, smaller: None }],
        };
        assert_eq!(decisions(&[rung("high", 2000, 400), rung("low", 1000, 400)]), [Dropped, Kept]);
        assert_eq!(decisions(&[rung("high", 2000, 900), rung("low", 1000, 900)]), [Kept, Kept]);
        assert_eq!(
            decisions(&[rung("high", 2000, 5000), rung("mid", 1000, 5000), rung("low", 500, 5000)]),
            [Kept; 3]
        );
        let capped = Capped { max_bitrate: 1_400_000 };
        assert_eq!(decisions(&[rung("high", 2000, 700), rung("low", 1000, 700)]), [capped, Kept]);
    }

    #[test]
    fn each_codec_has_a_ladder_of_its_own() {
        let soft = web([(1500, 51.0, 0.998), (1400, 46.0, 0.994), (900, 38.0, 0.96), (600, 0.0, 0.0)]);
        let mixed: Vec<SampledRung> = soft
            .iter()
            .flat_map(|rung| {
                let other =
                    SampledRung { name: format!("{}_hevc", rung.name), codec: Codec::Hevc, ..rung.clone() };
                [rung.clone(), other]
            })
            .collect();
        assert_eq!(decisions(&mixed), [Dropped, Dropped, Dropped, Dropped, Kept, Kept, Kept, Kept]);
        let one_each = [mixed[0].clone(), mixed[3].clone()];
        assert_eq!(decisions(&one_each), [Kept, Kept]);
    }

    #[test]
    fn one_rung_and_none_stay() {
        let rungs = web([(1, 99.0, 1.0); 4]);
        assert_eq!(decisions(&rungs[3..]), [Kept]);
        assert_eq!(decisions(&[]), []);
    }

    #[test]
    fn a_ceiling_is_never_raised_and_the_buffer_follows() {
        let crf = RateControl::CappedCrf { crf: 22, max_bitrate: 4_000_000, buffer: 8_000_000 };
        let lower = RateControl::CappedCrf { crf: 22, max_bitrate: 1_000_000, buffer: 2_000_000 };
        assert_eq!(crf.under(1_000_000), lower);
        assert_eq!(crf.under(5_000_000), crf);
        let steady = RateControl::Constant { bitrate: 4_000_000, buffer: 4_000_000 };
        assert_eq!(steady.under(500_000), RateControl::Constant { bitrate: 500_000, buffer: 500_000 });
    }

    #[test]
    fn samples_are_whole_gops_spread_over_the_source() {
        let grid = |seconds: u64| Grid::new(Rate { num: 25, den: 1 }, seconds * 25, 6);
        assert_eq!(sampled(&grid(10)), None);
        let starts = |seconds| -> Vec<u64> {
            sampled(&grid(seconds)).unwrap().iter().map(|span| span.first / 25).collect()
        };
        assert_eq!(starts(24), [4, 12, 20]);
        assert_eq!(starts(600), [60, 180, 300, 420, 540]);
        let odd = Grid::new(Rate { num: 179, den: 6 }, 1189, 6);
        let spans = sampled(&odd).unwrap();
        assert!(spans.iter().all(|s| s.first.is_multiple_of(60) && s.first + s.frames <= odd.frames));
    }
}
