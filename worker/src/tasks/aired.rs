//! What was on air, as a file without holes: the pieces of a broadcast are put one behind the other, and nothing is encoded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use reelmill_shared::db::live;
use reelmill_shared::ids::BroadcastId;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::media::cmaf::{DecoderConfig, Demuxer, Event, Sample, Track, media_segment};
use reelmill_shared::media::grid::{AAC_FRAME, AudioGrid};
use reelmill_shared::media::live::assembly::{Assembly, Stretch};
use reelmill_shared::media::live::plan::AUDIO;
use reelmill_shared::media::live::window::Window;
use reelmill_shared::storage::keys;
use tokio::io::AsyncWriteExt;

use super::{Amount, Bench, check_exit};
use crate::ffmpeg::argv;

/// A segment of the highest rate we allow fits.
const MAX_BOX: usize = 256 << 20;
/// AAC frames of one fragment.
const SOUND_AT_ONCE: usize = 96;
/// A frame of silence in stereo as AAC-LC (14496-3, 4.4.2): two channels without a single coefficient.
const SILENCE: &[u8] = &[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c];
/// A copy takes as long as the disk does.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

const PICTURE: &str = "aired-picture.mp4";
const SOUND: &str = "aired-sound.mp4";
const OUTPUT: &str = "aired.mp4";

/// A broadcast that is over.
pub(super) struct Aired {
    pub(super) window: Window,
    pub(super) assembly: Assembly,
}

impl Aired {
    pub(super) async fn of(bench: &Bench, id: BroadcastId) -> Result<Self, TaskError> {
        let reading = |error| TaskError::internal("reading the segment index", error);
        let (db, project) = (&bench.shop.db, bench.claimed.project_id);
        let gone = || TaskError::fatal(Reason::Unsuitable, "what was on air is gone, or was never recorded");
        let on_air = live::aired(db, project, id).await.map_err(reading)?.ok_or_else(gone)?;
        let window = live::whole(db, &on_air, keys::broadcast(project, id)).await.map_err(reading)?;
        let assembly = Assembly::new(&window).ok_or_else(|| {
            TaskError::fatal(Reason::Unsuitable, "there is no picture in what was recorded of this broadcast")
        })?;
        Ok(Self { window, assembly })
    }

    /// Seconds.
    fn duration(&self) -> f64 {
        self.assembly.grid.duration()
    }

    /// Writes a track into one file, a fragment a GOP, or some frames of sound.
    pub(super) async fn write(&self, bench: &Bench, name: &str, path: &Path) -> Result<(), TaskError> {
        let mut out = Out {
            file: tokio::fs::File::create(path).await.map_err(disk)?,
            track: None,
            changed: false,
            sequence: 0,
        };
        let sound = (name == AUDIO).then(|| self.window.track(AUDIO)).flatten();
        let mut next = 0;
        for (place, stretch) in self.assembly.stretches.iter().enumerate() {
            bench.say(place as f64 / self.assembly.stretches.len() as f64, "putting pieces together", None);
            match sound {
                Some((_, track)) => {
                    let frames = AudioGrid::beside(&self.assembly.grid, track.timescale).frames;
                    let range = self.assembly.sound_of(stretch, track.timescale, frames);
                    let begins =
                        self.assembly.sound_begins(stretch, &self.window, track).unwrap_or(range.start);
                    self.sound(bench, &mut out, stretch, &mut next, range.end, begins).await?;
                }
                None => self.picture(bench, &mut out, stretch, name).await?,
            }
        }
        out.file.flush().await.map_err(disk)
    }

    async fn picture(
        &self,
        bench: &Bench,
        out: &mut Out,
        stretch: &Stretch,
        name: &str,
    ) -> Result<(), TaskError> {
        let ticks = self.assembly.grid.rate.frame_ticks();
        let mut pieces = Pieces::open(bench, self, stretch, name).await?;
        let sets = out.describe(pieces.track(name)?)?;
        let (mut at, mut left) = (stretch.at, stretch.frames);
        let mut gop: Vec<Sample> = vec![];
        while let Some(samples) = pieces.next().await? {
            for mut sample in samples.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                left -= 1;
                sample.duration = ticks;
                if sample.sync {
                    at += out.fragment(at * u64::from(ticks), &mut gop).await?;
                    sample.data = with_sets(&sets, sample.data);
                }
                gop.push(sample);
            }
        }
        if left > 0 || gop.is_empty() {
            return Err(damaged(format!("{name} lacks {left} frames of {}", stretch.frames)));
        }
        if let Some(last) = gop.last_mut() {
            last.duration += ticks * u32::try_from(stretch.held).unwrap_or(0);
        }
        out.fragment(at * u64::from(ticks), &mut gop).await?;
        Ok(())
    }

    /// The sound of a stretch, whose frame `begins` is its first, from the frame `next` to `end`. What is missing is silence.
    async fn sound(
        &self,
        bench: &Bench,
        out: &mut Out,
        stretch: &Stretch,
        next: &mut u64,
        end: u64,
        begins: u64,
    ) -> Result<(), TaskError> {
        let mut pieces = Pieces::open(bench, self, stretch, AUDIO).await?;
        out.describe(pieces.track(AUDIO)?)?;
        let mut waiting: Vec<Sample> = vec![];
        let mut base = *next;
        let mut number = begins;
        while let Some(samples) = pieces.next().await? {
            for sample in samples {
                let place = number;
                number += 1;
                if place < *next || place >= end {
                    continue;
                }
                waiting.extend((*next..place).map(|_| frame(Bytes::from_static(SILENCE))));
                waiting.push(frame(sample.data));
                *next = place + 1;
            }
            if waiting.len() >= SOUND_AT_ONCE {
                base += out.fragment(base * AAC_FRAME, &mut waiting).await?;
            }
        }
        waiting.extend((*next..end).map(|_| frame(Bytes::from_static(SILENCE))));
        *next = end.max(*next);
        out.fragment(base * AAC_FRAME, &mut waiting).await?;
        Ok(())
    }
}

/// Writes the best rendition of a broadcast, with its sound, into one file.
pub(super) async fn assemble(bench: &Bench, id: BroadcastId) -> Result<PathBuf, TaskError> {
    let aired = Aired::of(bench, id).await?;
    let mut files: Vec<PathBuf> = vec![];
    let best = aired.window.plan.rungs.first().map(|rung| (rung.name.clone(), PICTURE));
    let sound = aired.window.plan.audio.as_ref().map(|_| (AUDIO.to_owned(), SOUND));
    for (name, file) in best.into_iter().chain(sound) {
        let path = bench.dir.join(file);
        aired.write(bench, &name, &path).await?;
        files.push(path);
    }
    let inputs: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let output = bench.dir.join(OUTPUT);
    let args: Vec<OsString> = argv::mp4(&inputs, aired.assembly.grid.rate.timescale(), None, &output);
    let amount = Amount::seconds(aired.duration());
    let ended = bench.ffmpeg("putting pieces together", &args, amount, DEADLINE, 1).await?;
    check_exit("putting pieces together", &ended)?;
    Ok(output)
}

/// The samples of a stretch, one segment after the other.
struct Pieces<'a> {
    bench: &'a Bench,
    prefix: String,
    name: String,
    numbers: std::ops::RangeInclusive<u64>,
    demuxer: Demuxer,
    track: Option<Track>,
}

impl<'a> Pieces<'a> {
    async fn open(bench: &'a Bench, aired: &Aired, stretch: &Stretch, name: &str) -> Result<Self, TaskError> {
        let prefix = keys::live_prefix(&aired.window.place, stretch.epoch);
        let mut demuxer = Demuxer::new(MAX_BOX);
        demuxer.push(&read(bench, &keys::init(&prefix, name)).await?);
        let track = match demuxer.next().map_err(damaged)? {
            Some(Event::Track(track)) => Some(track),
            _ => None,
        };
        let numbers = stretch.first..=stretch.last;
        Ok(Self { bench, prefix, name: name.to_owned(), numbers, demuxer, track })
    }

    fn track(&self, name: &str) -> Result<&Track, TaskError> {
        self.track.as_ref().ok_or_else(|| damaged(format!("{name} has no description")))
    }

    /// The next segment's; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Sample>>, TaskError> {
        let Some(number) = self.numbers.next() else { return Ok(None) };
        if self.bench.stop.is_cancelled() {
            return Err(TaskError::retryable(Reason::Internal, "the task was stopped"));
        }
        let key = keys::live_segment(&self.prefix, &self.name, number);
        self.demuxer.push(&read(self.bench, &key).await?);
        let mut samples = vec![];
        while let Some(event) = self.demuxer.next().map_err(damaged)? {
            if let Event::Fragment(fragment) = event {
                samples.extend(fragment.samples);
            }
        }
        Ok(Some(samples))
    }
}

/// The file that is written.
struct Out {
    file: tokio::fs::File,
    /// What it says of its samples, in its first stretch's words.
    track: Option<Track>,
    /// A stretch was encoded otherwise.
    changed: bool,
    sequence: u32,
}

impl Out {
    /// Begins with a description of the track. Where the samples that follow were made by another one, gives the parameter sets that are to
    /// stand before each keyframe, as a decoder reads them.
    fn describe(&mut self, track: &Track) -> Result<Option<Bytes>, TaskError> {
        let Some(known) = &self.track else {
            self.track = Some(track.clone());
            return Ok(None);
        };
        self.changed |= known.init_segment() != track.init_segment();
        if !self.changed {
            return Ok(None);
        }
        let (known, now) =
            (known.decoder_config().map_err(damaged)?, track.decoder_config().map_err(damaged)?);
        match (known, now) {
            (DecoderConfig::Avc(known), DecoderConfig::Avc(now))
            | (DecoderConfig::Hevc(known), DecoderConfig::Hevc(now))
                if known.length_bytes == 4 && now.length_bytes == 4 =>
            {
                // Always said again: what came between may have said something else.
                let mut sets = BytesMut::new();
                for set in now.parameter_sets {
                    sets.extend_from_slice(&(set.len() as u32).to_be_bytes());
                    sets.extend_from_slice(&set);
                }
                Ok(Some(sets.freeze()))
            }
            _ => Err(TaskError::fatal(
                Reason::Unsuitable,
                "after an interruption it was encoded in another way, and cannot be joined without encoding it anew",
            )),
        }
    }

    /// Writes samples, if there are any, and empties the list; says how many there were.
    async fn fragment(&mut self, start: u64, samples: &mut Vec<Sample>) -> Result<u64, TaskError> {
        if samples.is_empty() {
            return Ok(0);
        }
        if self.sequence == 0
            && let Some(track) = &self.track
        {
            self.file.write_all(&track.init_segment()).await.map_err(disk)?;
        }
        self.sequence += 1;
        let written = media_segment(self.sequence, start, &[samples]);
        self.file.write_all(&written.bytes).await.map_err(disk)?;
        let count = samples.len() as u64;
        samples.clear();
        Ok(count)
    }
}

fn with_sets(sets: &Option<Bytes>, data: Bytes) -> Bytes {
    match sets {
        Some(sets) => [sets.as_ref(), data.as_ref()].concat().into(),
        None => data,
    }
}

fn frame(data: Bytes) -> Sample {
    Sample { data, duration: AAC_FRAME as u32, composition_offset: 0, sync: true }
}

async fn read(bench: &Bench, key: &str) -> Result<Bytes, TaskError> {
    let store = |error| TaskError::retryable(Reason::Storage, format!("the object store: {error}"));
    let object = bench.shop.storage.get(key, None).await.map_err(store)?;
    let parts: Vec<Bytes> = object.body.try_collect().await.map_err(store)?;
    Ok(parts.concat().into())
}

fn disk(error: std::io::Error) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("no room to put pieces together: {error}"))
}

fn damaged(error: impl std::fmt::Display) -> TaskError {
    TaskError::fatal(Reason::Damaged, format!("what was recorded does not read: {error}"))
}
