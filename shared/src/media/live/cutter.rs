//! From the frames of one track to its parts and segments.

use super::cadence::Cadence;
use crate::media::cmaf::Sample;

/// Counts the frames of one track through one run, and says where it is cut. Frames are counted, never timed: the encoder gives
/// every frame of the grid, in order.
#[derive(Debug)]
pub struct Cutter {
    cadence: Cadence,
    kind: Kind,
    first_number: u64,
    /// Ticks of the broadcast's timeline where the run begins.
    base: u64,
    /// Frames that are still to be dropped: the encoder's priming.
    drop: u32,
    /// Frames in parts that were given out.
    done: u64,
    part: u64,
    pending: Vec<Sample>,
}

/// What a track is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Video,
    /// AAC-LC at so many samples per second.
    Audio {
        sample_rate: u32,
    },
}

/// A part, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Media sequence number of its segment.
    pub number: u64,
    /// Its place in the segment, from zero.
    pub part: u32,
    /// When it begins, in ticks of the track on the broadcast's timeline.
    pub start: u64,
    pub samples: Vec<Sample>,
    /// Decoding can begin with it.
    pub independent: bool,
    /// It is the last of its segment.
    pub closes: bool,
}

impl Cut {
    /// How long it lasts, in ticks.
    pub fn ticks(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.duration)).sum()
    }
}

/// The encoder did not keep to the grid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} should be a keyframe and is not")]
pub struct NoKeyframe {
    pub frame: u64,
}

/// AAC encoders put one frame of nothing in front.
const AAC_PRIMING: u32 = 1;

impl Cutter {
    /// A cutter at the start of a run, whose first segment is `first_number` and whose first frame lies at `base` ticks of the
    /// broadcast's timeline.
    pub fn new(cadence: Cadence, kind: Kind, first_number: u64, base: u64) -> Self {
        let drop = match kind {
            Kind::Video => 0,
            Kind::Audio { .. } => AAC_PRIMING,
        };
        Self { cadence, kind, first_number, base, drop, done: 0, part: 0, pending: vec![] }
    }

    /// Takes the next frame; gives the part that it completes.
    ///
    /// # Errors
    /// A GOP of the grid does not begin with a keyframe.
    pub fn push(&mut self, sample: Sample) -> Result<Option<Cut>, NoKeyframe> {
        if self.drop > 0 {
            self.drop -= 1;
            return Ok(None);
        }
        let frame = self.done + self.pending.len() as u64;
        if self.kind == Kind::Video
            && frame.is_multiple_of(u64::from(self.cadence.gop_frames))
            && !sample.sync
        {
            return Err(NoKeyframe { frame });
        }
        self.pending.push(Sample { duration: self.frame_ticks(), ..sample });
        let complete = self.done + self.pending.len() as u64 >= self.boundary(self.part + 1);
        Ok(complete.then(|| self.cut(false)))
    }

    /// The end of the run: what is left is the last part of a segment that ends early.
    pub fn finish(&mut self) -> Option<Cut> {
        (!self.pending.is_empty()).then(|| self.cut(true))
    }

    /// The segment that has parts already ends with them.
    pub fn close(&mut self) {
        let parts = self.cadence.segment_parts();
        self.part = self.part.div_ceil(parts) * parts;
    }

    /// The number of the segment that the next frame belongs to.
    pub fn number(&self) -> u64 {
        self.first_number + self.part / self.cadence.segment_parts()
    }

    /// Whether the segment that the next frame belongs to has parts already.
    pub fn is_within(&self) -> bool {
        !self.part.is_multiple_of(self.cadence.segment_parts())
    }

    /// The number behind the last segment that there are frames of, given out or not.
    pub fn reach(&self) -> u64 {
        self.number() + u64::from(self.is_within() || !self.pending.is_empty())
    }

    /// Forgets the frames of a segment from `number` on, where nothing of it was given out: another track has none of it.
    pub fn forget_from(&mut self, number: u64) {
        if self.number() >= number && !self.is_within() {
            self.pending.clear();
        }
    }

    /// Where the next part begins, in ticks of the broadcast's timeline.
    pub fn position(&self) -> u64 {
        self.base + self.done * u64::from(self.frame_ticks())
    }

    fn cut(&mut self, early: bool) -> Cut {
        let parts = self.cadence.segment_parts();
        let samples = std::mem::take(&mut self.pending);
        let cut = Cut {
            number: self.number(),
            part: (self.part % parts) as u32,
            start: self.position(),
            independent: samples.first().is_some_and(|sample| sample.sync),
            closes: early || (self.part + 1).is_multiple_of(parts),
            samples,
        };
        self.done += cut.samples.len() as u64;
        self.part = if early { (self.part / parts + 1) * parts } else { self.part + 1 };
        cut
    }

    fn boundary(&self, part: u64) -> u64 {
        match self.kind {
            Kind::Video => self.cadence.part_frame(part),
            Kind::Audio { sample_rate } => self.cadence.part_aac_frame(part, sample_rate),
        }
    }

    fn frame_ticks(&self) -> u32 {
        match self.kind {
            Kind::Video => self.cadence.rate.frame_ticks(),
            Kind::Audio { .. } => crate::media::grid::AAC_FRAME as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::cadence::Wanted;
    use super::*;
    use crate::media::grid::Rate;

    fn cadence() -> Cadence {
        Cadence::new(Wanted {
            rate: Rate { num: 25, den: 1 },
            sample_rate: Some(48_000),
            keyframe_interval: 2,
            segment_duration: 6,
            part_duration_ms: 500,
        })
    }

    fn frame(sync: bool) -> Sample {
        Sample { duration: 1, composition_offset: 0, sync, data: Bytes::from_static(b"x") }
    }

    #[test]
    fn a_run_of_video_is_cut_into_even_parts_and_whole_segments() {
        let mut cutter = Cutter::new(cadence(), Kind::Video, 7, 1000);
        let mut cuts = vec![];
        for n in 0..310_u64 {
            cuts.extend(cutter.push(frame(n % 50 == 0)).unwrap());
        }
        assert_eq!(cuts.iter().map(|cut| cut.samples.len()).take(4).collect::<Vec<_>>(), [13, 12, 13, 12]);
        assert_eq!(
            cuts.iter().filter(|cut| cut.closes).map(|cut| (cut.number, cut.part)).collect::<Vec<_>>(),
            [(7, 11), (8, 11)]
        );
        assert_eq!(
            cuts.iter().filter(|cut| cut.independent).map(|cut| cut.part).take(4).collect::<Vec<_>>(),
            [0, 4, 8, 0]
        );
        let mut at = 1000;
        for cut in &cuts {
            assert_eq!(cut.start, at);
            at += cut.ticks();
        }
        let last = cutter.finish().unwrap();
        assert_eq!((last.number, last.part, last.samples.len(), last.closes), (9, 0, 10, true));
        assert_eq!(cutter.finish(), None);
        assert_eq!((cutter.number(), cutter.is_within()), (10, false));
    }

    #[test]
    fn sound_keeps_beside_the_picture() {
        let kind = Kind::Audio { sample_rate: 48_000 };
        let mut cutter = Cutter::new(cadence(), kind, 1, 0);
        let mut frames = 0;
        let mut cuts = vec![];
        // Ten minutes and the priming.
        for _ in 0..28_126 {
            cuts.extend(cutter.push(frame(true)).unwrap());
        }
        for cut in &cuts {
            assert_eq!(cut.start, frames * 1024);
            assert!((23..=24).contains(&cut.samples.len()));
            frames += cut.samples.len() as u64;
            if cut.closes {
                let picture = (cut.number) as f64 * 6.0;
                assert!((frames as f64 * 1024.0 / 48_000.0 - picture).abs() < 0.011, "{cut:?}");
            }
        }
        assert_eq!(cuts.last().map(|cut| cut.number), Some(100));
    }

    #[test]
    fn an_encoder_off_the_grid_is_noticed() {
        let mut cutter = Cutter::new(cadence(), Kind::Video, 1, 0);
        assert!(cutter.push(frame(true)).is_ok());
        for _ in 1..50 {
            cutter.push(frame(false)).unwrap();
        }
        assert_eq!(cutter.push(frame(false)), Err(NoKeyframe { frame: 50 }));
    }
}
