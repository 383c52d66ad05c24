//! Samples of fragmented MP4 (ISO/IEC 14496-12): their times, lengths and a digest of each, of any number of tracks.
//!
//! A reader of its own, so that what the farm's packager writes is not judged by the farm's own idea of it. Input is hostile:
//! every length is checked against what is there, and nothing is copied.

use std::hash::{DefaultHasher, Hasher};

/// Enough for ten minutes of anything in one file.
const MOST_SAMPLES: usize = 1 << 18;
const MOST_TRACKS: usize = 16;

/// What an init segment says of its tracks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Init {
    tracks: Vec<Track>,
}

#[derive(Debug, Clone, PartialEq)]
struct Track {
    id: u32,
    /// Ticks a second.
    timescale: u32,
    video: bool,
    /// From `trex`.
    defaults: Defaults,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// The samples of one track in a file, in decode order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) track: u32,
    /// Ticks a second.
    pub(super) timescale: u32,
    pub(super) video: bool,
    pub(super) samples: Vec<Sample>,
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Decode time in ticks, by `tfdt` and the durations since.
    pub(super) time: u64,
    pub(super) duration: u32,
    pub(super) offset: i32,
    pub(super) sync: bool,
    pub(super) size: u32,
    pub(super) digest: u64,
}

impl Run {
    /// Where its last sample ends, in ticks.
    pub(super) fn end(&self) -> Option<u64> {
        self.samples.last().map(|sample| sample.time.saturating_add(sample.duration.into()))
    }
}

/// A box and what is in it.
#[derive(Clone, Copy)]
struct Boxed<'b> {
    kind: &'b [u8],
    body: &'b [u8],
    /// Where the body begins in what was taken apart.
    start: usize,
}

/// Takes bytes apart into boxes.
fn boxes(bytes: &[u8]) -> Result<Vec<Boxed<'_>>, String> {
    let mut found = vec![];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let short = || format!("it ends {} bytes into a box", rest.len());
        let (size, kind) = (word(rest, 0).ok_or_else(short)?, rest.get(4..8).ok_or_else(short)?);
        let (header, size) = match size {
            0 => (8, rest.len() as u64),
            1 => (
                16,
                u64::from(word(rest, 8).ok_or_else(short)?) << 32
                    | u64::from(word(rest, 12).ok_or_else(short)?),
            ),
            size => (8, u64::from(size)),
        };
        let end = usize::try_from(size).ok().filter(|size| *size >= header && *size <= rest.len());
        let end = end.ok_or_else(|| {
            format!("its {} says {size} bytes where {} are left", kind.escape_ascii(), rest.len())
        })?;
        found.push(Boxed { kind, body: &rest[header..end], start: at + header });
        at += end;
        if found.len() > MOST_SAMPLES {
            return Err("it has too many boxes".to_owned());
        }
    }
    Ok(found)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

impl<'b> Boxed<'b> {
    fn children(&self) -> Result<Vec<Boxed<'b>>, String> {
        boxes(self.body)
    }

    fn child(&self, kind: &[u8; 4]) -> Result<Boxed<'b>, String> {
        let found = self.children()?.into_iter().find(|child| child.kind == kind);
        found.ok_or_else(|| format!("{} has no {}", self.kind.escape_ascii(), kind.escape_ascii()))
    }

    fn word(&self, at: usize) -> Result<u32, String> {
        word(self.body, at).ok_or_else(|| format!("{} is too short", self.kind.escape_ascii()))
    }

    fn version(&self) -> Result<u32, String> {
        self.word(0).map(|word| word >> 24)
    }

    fn flags(&self) -> Result<u32, String> {
        self.word(0).map(|word| word & 0x00ff_ffff)
    }
}

impl Init {
    /// Reads an init segment.
    ///
    /// # Errors
    ///
    /// Says what is missing or broken.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let top = boxes(bytes)?;
        let moov = top.iter().find(|found| found.kind == b"moov").ok_or("it has no moov")?;
        let trex = moov.child(b"mvex")?.children()?;
        let defaults = |id| -> Result<Defaults, String> {
            let own = trex.iter().find(|trex| trex.kind == b"trex" && trex.word(4) == Ok(id));
            own.map_or(Ok(Defaults::default()), |trex| {
                Ok(Defaults { duration: trex.word(12)?, size: trex.word(16)?, flags: trex.word(20)? })
            })
        };
        let mut tracks = vec![];
        for trak in moov.children()?.iter().filter(|found| found.kind == b"trak").take(MOST_TRACKS) {
            let (tkhd, mdia) = (trak.child(b"tkhd")?, trak.child(b"mdia")?);
            let id = tkhd.word(if tkhd.version()? == 1 { 20 } else { 12 })?;
            let (mdhd, hdlr) = (mdia.child(b"mdhd")?, mdia.child(b"hdlr")?);
            let timescale = mdhd.word(if mdhd.version()? == 1 { 20 } else { 12 })?;
            if timescale == 0 {
                return Err("a track's timescale is zero".to_owned());
            }
            let video = hdlr.body.get(8..12) == Some(b"vide");
            tracks.push(Track { id, timescale, video, defaults: defaults(id)? });
        }
        if tracks.is_empty() { Err("it has no tracks".to_owned()) } else { Ok(Self { tracks }) }
    }

    /// Reads the samples of a segment or part.
    ///
    /// # Errors
    ///
    /// Says what is broken, missing or cut off.
    pub(super) fn samples(&self, bytes: &[u8]) -> Result<Vec<Run>, String> {
        let mut runs: Vec<Run> = vec![];
        let mut budget = MOST_SAMPLES;
        for found in boxes(bytes)? {
            if found.kind == b"moof" {
                // The header of a moof has 8 bytes, unless somebody wrote 2^32 of them.
                let moof_start = found.start.saturating_sub(8) as u64;
                for traf in found.children()?.iter().filter(|child| child.kind == b"traf") {
                    self.fragment(traf, moof_start, bytes, &mut runs, &mut budget)?;
                }
            }
        }
        if runs.iter().all(|run| run.samples.is_empty()) {
            return Err("it has no samples".to_owned());
        }
        Ok(runs)
    }

    fn fragment(
        &self,
        traf: &Boxed<'_>,
        moof_start: u64,
        bytes: &[u8],
        runs: &mut Vec<Run>,
        budget: &mut usize,
    ) -> Result<(), String> {
        let tfhd = traf.child(b"tfhd")?;
        let (flags, id) = (tfhd.flags()?, tfhd.word(4)?);
        let track = self.tracks.iter().find(|track| track.id == id);
        let track = track.ok_or_else(|| format!("track {id} is not in the init segment"))?;
        let mut at = 8;
        let mut optional = |flag: u32, words: usize| -> Result<Option<u64>, String> {
            if flags & flag == 0 {
                return Ok(None);
            }
            let value = (0..words).try_fold(0, |value, word| {
                tfhd.word(at + 4 * word).map(|word| value << 32 | u64::from(word))
            })?;
            at += 4 * words;
            Ok(Some(value))
        };
        let base = optional(0x1, 2)?.unwrap_or(moof_start);
        optional(0x2, 1)?;
        let mut default =
            |flag, other: u32| optional(flag, 1).map(|value| value.map_or(other, |value| value as u32));
        let defaults = Defaults {
            duration: default(0x8, track.defaults.duration)?,
            size: default(0x10, track.defaults.size)?,
            flags: default(0x20, track.defaults.flags)?,
        };
        let tfdt = traf.child(b"tfdt")?;
        let time = match tfdt.version()? {
            0 => u64::from(tfdt.word(4)?),
            _ => u64::from(tfdt.word(4)?) << 32 | u64::from(tfdt.word(8)?),
        };
        let index = runs.iter().position(|run| run.track == id).unwrap_or_else(|| {
            runs.push(Run { track: id, timescale: track.timescale, video: track.video, samples: vec![] });
            runs.len() - 1
        });
        let mut cursor = Cursor { time, data: base, base };
        for trun in traf.children()?.iter().filter(|child| child.kind == b"trun") {
            cursor.run(trun, defaults, track.video, bytes, &mut runs[index].samples, budget)?;
        }
        Ok(())
    }
}

/// Where the next sample of a fragment is, in time and in the file.
struct Cursor {
    time: u64,
    data: u64,
    base: u64,
}

impl Cursor {
    fn run(
        &mut self,
        trun: &Boxed<'_>,
        defaults: Defaults,
        video: bool,
        bytes: &[u8],
        samples: &mut Vec<Sample>,
        budget: &mut usize,
    ) -> Result<(), String> {
        let (flags, count) = (trun.flags()?, trun.word(4)? as usize);
        *budget = budget.checked_sub(count).ok_or("it has too many samples")?;
        let mut at = 8;
        let mut optional = |flag: u32| -> Result<Option<u32>, String> {
            if flags & flag == 0 {
                return Ok(None);
            }
            at += 4;
            trun.word(at - 4).map(Some)
        };
        if let Some(offset) = optional(0x1)? {
            let start = self.base.checked_add_signed(i64::from(offset as i32));
            self.data = start.ok_or("a trun points before the file")?;
        }
        let mut first_flags = optional(0x4)?;
        for _ in 0..count {
            let duration = optional(0x100)?.unwrap_or(defaults.duration);
            let size = optional(0x200)?.unwrap_or(defaults.size);
            let own_flags = optional(0x400)?.unwrap_or(defaults.flags);
            let flags = first_flags.take().unwrap_or(own_flags);
            let offset = optional(0x800)?.unwrap_or(0) as i32;
            let start = usize::try_from(self.data).ok();
            let data = start.and_then(|start| bytes.get(start..start.checked_add(size as usize)?));
            let mut hasher = DefaultHasher::new();
            hasher.write(data.ok_or("a sample lies outside of the file")?);
            let sync = !video || flags & 0x1_0000 == 0;
            samples.push(Sample { time: self.time, duration, offset, sync, size, digest: hasher.finish() });
            self.time = self.time.saturating_add(duration.into());
            self.data = self.data.saturating_add(size.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::media::cmaf;

    use super::*;
    use crate::check_hls::rules::fixtures::{init, media, track};

    #[test]
    fn what_the_farms_own_reader_sees_is_seen() {
        let (init, bytes) = (init(), media(7_200, &[true, false, false]));
        let runs = Init::parse(&init).unwrap().samples(&bytes).unwrap();
        let mut demuxer = cmaf::Demuxer::new(1 << 20);
        demuxer.push(&init);
        demuxer.push(&bytes);
        assert!(
            matches!(demuxer.next(), Ok(Some(cmaf::Event::Track(found))) if found.timescale == track().timescale)
        );
        let Ok(Some(cmaf::Event::Fragment(fragment))) = demuxer.next() else { panic!() };
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert!(run.video && run.timescale == track().timescale);
        assert_eq!(run.samples[0].time, fragment.base_decode_time);
        assert_eq!(run.end(), Some(fragment.base_decode_time + fragment.duration()));
        let ours: Vec<_> =
            run.samples.iter().map(|s| (s.duration, s.offset, s.sync, s.size as usize)).collect();
        let theirs: Vec<_> = fragment
            .samples
            .iter()
            .map(|s| (s.duration, s.composition_offset, s.sync, s.data.len()))
            .collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_file_cut_anywhere_and_random_bytes_are_survived() {
        let (init, bytes) = (init(), media(0, &[true, false]));
        let parsed = Init::parse(&init).unwrap();
        for end in 1..bytes.len() {
            // Behind the styp a cut may fall between two boxes: then there are no samples.
            assert!(parsed.samples(&bytes[..end]).is_err(), "{end}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = bytes.to_vec();
                broken[at] = value;
                let _ = parsed.samples(&broken);
                let mut broken = init.to_vec();
                broken[at % init.len()] = value;
                let _ = Init::parse(&broken);
            }
        }
        assert!(Init::parse(&bytes).is_err() && Init::parse(b"").is_err());
    }
}
