//! How near renditions are to their source: figures of frames to figures of segments, and those to a report.

use serde::{Deserialize, Serialize};

use super::capability::Capability;
use super::state::words;

words! {
    /// What is measured.
    Metric("metric") {
        /// Peak signal-to-noise ratio over all planes, in dB: of the mean square error of all frames.
        Psnr = "psnr",
        /// Structural similarity over all planes, 0 to 1: mean of all frames.
        Ssim = "ssim",
        /// Netflix's assessment of what people would see, 0 to 100, by the model that libvmaf takes by itself: mean of all frames.
        Vmaf = "vmaf",
    }
}

/// A wish for a report, frozen into the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityWish {
    /// At least one, each once.
    pub metrics: Vec<Metric>,
    #[serde(default)]
    pub least: Least,
}

/// What the mean of every rendition must reach, or the job fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Least {
    /// dB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmaf: Option<f64>,
}

impl Least {
    /// True where nothing must be reached.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn of(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Psnr => self.psnr,
            Metric::Ssim => self.ssim,
            Metric::Vmaf => self.vmaf,
        }
    }
}

/// One metric of a segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Of the frames: the square error for PSNR, the similarity for SSIM, the score for VMAF.
    pub mean: f64,
    /// Of the frame that is worst.
    pub worst: f64,
}

/// What was measured of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentQuality {
    pub rung: String,
    /// From zero.
    pub number: u32,
    pub frames: u32,
    pub square_error: Option<Figure>,
    pub similarity: Option<Figure>,
    pub vmaf: Option<Figure>,
}

impl SegmentQuality {
    fn figure(&self, metric: Metric) -> Option<Figure> {
        match metric {
            Metric::Psnr => self.square_error,
            Metric::Ssim => self.similarity,
            Metric::Vmaf => self.vmaf,
        }
    }
}

impl Metric {
    /// What FFmpeg measures however it was built.
    pub const EVERYWHERE: &'static [Self] = &[Self::Psnr, Self::Ssim];

    /// What a worker must have proven to measure it.
    pub fn needs(self) -> Capability {
        match self {
            Self::Psnr | Self::Ssim => Capability::Base,
            Self::Vmaf => Capability::Libvmaf,
        }
    }

    /// The figure of some frames, of which each has one of `values`; `None` of none.
    pub fn figure(self, values: &[f64]) -> Option<Figure> {
        let worst = match self {
            Self::Psnr => values.iter().copied().reduce(f64::max),
            Self::Ssim | Self::Vmaf => values.iter().copied().reduce(f64::min),
        };
        Some(Figure { mean: values.iter().sum::<f64>() / values.len() as f64, worst: worst? })
    }

    /// From what is averaged to what a person reads, to as many digits as mean something.
    fn shown(self, value: f64) -> f64 {
        match self {
            Self::Psnr => (psnr(value) * 1e4).round() / 1e4,
            Self::Ssim => (value * 1e6).round() / 1e6,
            Self::Vmaf => (value * 1e4).round() / 1e4,
        }
    }

    fn with_unit(self, value: f64) -> String {
        match self {
            Self::Psnr => format!("{value:.2} dB"),
            Self::Ssim => format!("{value:.4}"),
            Self::Vmaf => format!("{value:.2}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Psnr => "PSNR",
            Self::Ssim => "SSIM",
            Self::Vmaf => "VMAF",
        }
    }
}

/// Where nothing differs, PSNR is infinite, which JSON cannot say.
pub const MOST_PSNR: f64 = 100.0;
/// The top of VMAF's scale.
pub const MOST_VMAF: f64 = 100.0;

/// PSNR in dB of a mean square error of 8-bit samples, at most [`MOST_PSNR`].
pub fn psnr(square_error: f64) -> f64 {
    (10.0 * (255.0_f64.powi(2) / square_error.max(f64::MIN_POSITIVE)).log10()).min(MOST_PSNR)
}

/// The quality of a job's renditions, as it is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Best first.
    pub renditions: Vec<RenditionQuality>,
}

/// The quality of one rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenditionQuality {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<Summary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<Summary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmaf: Option<Summary>,
}

/// One metric of a rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub mean: f64,
    /// Of the worst frame.
    pub min: f64,
    /// Worst first.
    pub worst_segments: Vec<WorstSegment>,
}

/// A segment that others look better than.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstSegment {
    /// From zero, as in the names of files.
    pub number: u32,
    /// Seconds into the recording.
    pub start: f64,
    pub value: f64,
}

/// How many of the worst segments are named.
const NAMED: usize = 3;

impl Report {
    /// The report of `rungs`, whose segments but the last have `segment_seconds`, from what was measured of them.
    ///
    /// # Errors
    /// What is missing, where a rung has not as many segments as it is said to have.
    pub fn new(
        rungs: &[(String, u64)],
        metrics: &[Metric],
        segment_seconds: f64,
        measured: &[SegmentQuality],
    ) -> Result<Self, String> {
        let rendition = |(name, segments): &(String, u64)| {
            let own: Vec<&SegmentQuality> = measured.iter().filter(|segment| segment.rung == *name).collect();
            let summary = |metric: Metric| {
                if !metrics.contains(&metric) {
                    return Ok(None);
                }
                let figures: Vec<(&SegmentQuality, Figure)> =
                    own.iter().filter_map(|segment| Some((*segment, segment.figure(metric)?))).collect();
                if figures.len() as u64 != *segments || figures.is_empty() {
                    return Err(format!(
                        "{} of {segments} segments of {name} have a {}",
                        figures.len(),
                        metric.name()
                    ));
                }
                Ok(Some(summary(metric, segment_seconds, figures)))
            };
            Ok(RenditionQuality {
                name: name.clone(),
                psnr: summary(Metric::Psnr)?,
                ssim: summary(Metric::Ssim)?,
                vmaf: summary(Metric::Vmaf)?,
            })
        };
        Ok(Self { renditions: rungs.iter().map(rendition).collect::<Result<_, String>>()? })
    }

    /// What falls short of `least`, in words; `None` where nothing does.
    pub fn shortfall(&self, least: &Least) -> Option<String> {
        let short = |rendition: &RenditionQuality, metric: Metric, summary: Option<&Summary>| {
            let (least, summary) = least.of(metric).zip(summary)?;
            (summary.mean < least).then(|| {
                let worst = summary.worst_segments.first().map_or(String::new(), |worst| {
                    format!(
                        " (its worst segment, number {} at {:.1} s, has {})",
                        worst.number,
                        worst.start,
                        metric.with_unit(worst.value)
                    )
                });
                format!(
                    "{} has a {} of {}{worst}, and at least {} were asked for",
                    rendition.name,
                    metric.name(),
                    metric.with_unit(summary.mean),
                    metric.with_unit(least),
                )
            })
        };
        let all: Vec<String> = self
            .renditions
            .iter()
            .flat_map(|rendition| {
                [
                    short(rendition, Metric::Psnr, rendition.psnr.as_ref()),
                    short(rendition, Metric::Ssim, rendition.ssim.as_ref()),
                    short(rendition, Metric::Vmaf, rendition.vmaf.as_ref()),
                ]
            })
            .flatten()
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

fn summary(metric: Metric, segment_seconds: f64, mut figures: Vec<(&SegmentQuality, Figure)>) -> Summary {
    let frames: f64 = figures.iter().map(|(segment, _)| f64::from(segment.frames)).sum();
    let total: f64 = figures.iter().map(|(segment, figure)| f64::from(segment.frames) * figure.mean).sum();
    let worst: Vec<f64> = figures.iter().map(|(_, figure)| figure.worst).collect();
    let min = metric.figure(&worst).map_or(0.0, |figure| figure.worst);
    // The number decides between equals: the same report each time.
    figures.sort_by(|(a, left), (b, right)| {
        let order = left.mean.total_cmp(&right.mean);
        let order = if metric == Metric::Psnr { order.reverse() } else { order };
        order.then(a.number.cmp(&b.number))
    });
    let named = figures.iter().take(NAMED).map(|(segment, figure)| WorstSegment {
        number: segment.number,
        start: (f64::from(segment.number) * segment_seconds * 1e3).round() / 1e3,
        value: metric.shown(figure.mean),
    });
    Summary {
        mean: metric.shown(total / frames.max(1.0)),
        min: metric.shown(min),
        worst_segments: named.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(rung: &str, number: u32, frames: u32, mse: f64, ssim: f64) -> SegmentQuality {
        SegmentQuality {
            rung: rung.into(),
            number,
            frames,
            square_error: Some(Figure { mean: mse, worst: mse * 2.0 }),
            similarity: Some(Figure { mean: ssim, worst: ssim - 0.1 }),
            vmaf: None,
        }
    }

    const BOTH: [Metric; 2] = [Metric::Psnr, Metric::Ssim];

    #[test]
    fn the_mean_is_that_of_frames_and_the_worst_are_named() {
        let measured: Vec<SegmentQuality> = vec![
            segment("a", 0, 150, 1.0, 0.99),
            segment("a", 1, 150, 4.0, 0.90),
            segment("a", 2, 150, 2.0, 0.95),
            segment("a", 3, 150, 0.0, 1.0),
            segment("a", 4, 50, 13.0, 0.80),
        ];
        let report = Report::new(&[("a".into(), 5)], &BOTH, 6.006, &measured).unwrap();
        let psnr_of = report.renditions[0].psnr.as_ref().unwrap();
        // (1 + 4 + 2 + 0) * 150 + 13 * 50 over 650 frames.
        assert_eq!(psnr_of.mean, (psnr(1700.0 / 650.0) * 1e4).round() / 1e4);
        assert_eq!(psnr_of.min, (psnr(26.0) * 1e4).round() / 1e4);
        let named: Vec<(u32, f64)> = psnr_of.worst_segments.iter().map(|w| (w.number, w.start)).collect();
        assert_eq!(named, [(4, 24.024), (1, 6.006), (2, 12.012)]);
        let ssim = report.renditions[0].ssim.as_ref().unwrap();
        // (0.99 + 0.90 + 0.95 + 1) * 150 + 0.80 * 50 over 650 frames.
        assert_eq!(ssim.mean, 0.947692);
        assert_eq!((ssim.min, ssim.worst_segments[0].value), (0.7, 0.8));
    }

    #[test]
    fn what_was_not_asked_for_is_not_there_and_a_hole_is_told() {
        let measured = [segment("a", 0, 10, 0.0, 1.0), segment("b", 0, 10, 0.0, 1.0)];
        let report = Report::new(&[("a".into(), 1)], &[Metric::Psnr], 6.0, &measured).unwrap();
        assert_eq!(report.renditions[0].ssim, None);
        assert_eq!(report.renditions[0].psnr.as_ref().unwrap().mean, MOST_PSNR);
        let hole = Report::new(&[("a".into(), 2)], &BOTH, 6.0, &measured).unwrap_err();
        assert_eq!(hole, "1 of 2 segments of a have a PSNR");
        assert!(Report::new(&[("c".into(), 0)], &BOTH, 6.0, &measured).is_err());
    }

    #[test]
    fn a_shortfall_says_which_rendition_which_metric_and_both_figures() {
        let measured = [segment("a", 0, 10, 1.0, 0.99), segment("b", 0, 10, 10.0, 0.9)];
        let rungs = [("a".to_owned(), 1), ("b".to_owned(), 1)];
        let report = Report::new(&rungs, &BOTH, 6.0, &measured).unwrap();
        assert_eq!(report.shortfall(&Least { psnr: Some(38.0), ssim: Some(0.9), vmaf: None }), None);
        let told = report.shortfall(&Least { psnr: Some(40.0), ssim: Some(0.95), vmaf: None }).unwrap();
        assert_eq!(
            told,
            "b has a PSNR of 38.13 dB (its worst segment, number 0 at 0.0 s, has 38.13 dB), and at least 40.00 dB were asked for; \
             b has a SSIM of 0.9000 (its worst segment, number 0 at 0.0 s, has 0.9000), and at least 0.9500 were asked for"
        );
    }

    #[test]
    fn vmaf_is_a_mean_of_frames_where_more_is_better() {
        let score = |number, frames, mean| SegmentQuality {
            square_error: None,
            similarity: None,
            vmaf: Some(Figure { mean, worst: mean - 10.0 }),
            ..segment("a", number, frames, 0.0, 0.0)
        };
        let measured = [score(0, 150, 96.0), score(1, 150, 92.5), score(2, 50, 80.0)];
        let report = Report::new(&[("a".into(), 3)], &[Metric::Vmaf], 6.0, &measured).unwrap();
        let rendition = &report.renditions[0];
        assert_eq!((&rendition.psnr, &rendition.ssim), (&None, &None));
        let vmaf = rendition.vmaf.as_ref().unwrap();
        // (96 + 92.5) * 150 + 80 * 50 over 350 frames.
        assert_eq!((vmaf.mean, vmaf.min), (92.2143, 70.0));
        let named: Vec<(u32, f64)> = vmaf.worst_segments.iter().map(|w| (w.number, w.value)).collect();
        assert_eq!(named, [(2, 80.0), (1, 92.5), (0, 96.0)]);
        let least = |score| Least { vmaf: Some(score), ..Least::default() };
        assert_eq!(report.shortfall(&least(92.2)), None);
        assert_eq!(
            report.shortfall(&least(93.0)).unwrap(),
            "a has a VMAF of 92.21 (its worst segment, number 2 at 12.0 s, has 80.00), and at least 93.00 were asked for"
        );
    }
}
