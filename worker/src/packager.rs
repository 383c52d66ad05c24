//! From the fragmented MP4 that FFmpeg is still writing to final segments in the store.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use reelmill_shared::db::sets::{EncodedRendition, Rendition, Segment};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::media::cmaf::{Demuxer, Event, Sample, Track, TrackConfig, media_segment};
use reelmill_shared::media::hls::Bandwidth;
use reelmill_shared::storage::{Storage, keys};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

/// A GOP of the highest rate we allow fits; a box that claims more is damage.
const MAX_BOX: usize = 256 << 20;

/// How samples become segments.
pub trait Cut: Send {
    /// Corrects what a track says of itself, before anything else.
    fn correct(&self, _track: &mut Track) {}

    /// Takes a fragment's samples; gives the segments that are complete now.
    fn take(&mut self, track: &Track, samples: Vec<Sample>) -> Result<Vec<Cutting>, TaskError>;

    /// Gives what is left at the end, or says what is missing.
    fn finish(&mut self) -> Result<Vec<Cutting>, TaskError>;

    /// Ticks between decoding and presentation.
    fn delay(&self) -> u32;
}

/// A segment about to be written.
#[derive(Debug)]
pub struct Cutting {
    pub number: u32,
    pub base_decode_time: u64,
    /// One moof each.
    pub gops: Vec<Vec<Sample>>,
}

impl Cutting {
    fn duration(&self) -> u64 {
        self.gops.iter().flatten().map(|sample| u64::from(sample.duration)).sum()
    }
}

/// Follows one output file of FFmpeg.
pub struct Packager<C> {
    name: String,
    path: PathBuf,
    prefix: String,
    storage: Storage,
    read: u64,
    demuxer: Demuxer,
    track: Option<Track>,
    cut: C,
    segments: Vec<Segment>,
}

impl<C: Cut> Packager<C> {
    /// Follows `path`; writes under `prefix` for the rendition `name`.
    pub fn new(storage: Storage, prefix: &str, name: &str, path: PathBuf, cut: C) -> Self {
        Self {
            name: name.to_owned(),
            path,
            prefix: prefix.to_owned(),
            storage,
            read: 0,
            demuxer: Demuxer::new(MAX_BOX),
            track: None,
            cut,
            segments: vec![],
        }
    }

    /// The file it follows.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was added since the last time and stores the segments that are complete.
    pub async fn follow(&mut self) -> Result<(), TaskError> {
        let mut file = match tokio::fs::File::open(&self.path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.disk(&error)),
        };
        tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::Start(self.read))
            .await
            .map_err(|e| self.disk(&e))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).await.map_err(|e| self.disk(&e))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            self.read += count as u64;
            self.demuxer.push(bytes);
            while let Some(event) = self.demuxer.next().map_err(|e| self.damaged(&e))? {
                match event {
                    Event::Track(mut track) => {
                        self.cut.correct(&mut track);
                        self.track = Some(track);
                    }
                    Event::Fragment(fragment) => {
                        let Some(track) = &self.track else {
                            return Err(self.damaged(&"a fragment before moov"));
                        };
                        let cuttings = self.cut.take(track, fragment.samples)?;
                        self.store(cuttings).await?;
                    }
                }
            }
        }
    }

    /// After FFmpeg has ended: stores the rest and sums up what was made of the rendition. Its bandwidth is measured when all of it
    /// is there; until then it is what was `declared`.
    pub async fn finish(
        mut self,
        position: i32,
        language: Option<String>,
        declared: Bandwidth,
    ) -> Result<EncodedRendition, TaskError> {
        self.follow().await?;
        self.demuxer.finish().map_err(|e| self.damaged(&e))?;
        let rest = self.cut.finish()?;
        self.store(rest).await?;
        let Some(track) = self.track.take() else {
            return Err(self.damaged(&"no track"));
        };

        let init = track.init_segment_delayed(self.cut.delay());
        let init_key = keys::init(&self.prefix, &self.name);
        let init_bytes = init.len() as u64;
        let init_sha256 = Sha256::digest(&init).to_vec();
        self.put(&init_key, init).await?;
        let first = self.segments.first().map_or(0, |segment| segment.number);
        if !self.segments.iter().zip(first..).all(|(segment, number)| segment.number == number) {
            return Err(self.damaged(&"its segments are not whole"));
        }
        if self.segments.is_empty() {
            return Err(self.damaged(&"no segments"));
        }
        let rendition = Rendition {
            rung: self.name.clone(),
            position,
            codec: track.codec.clone(),
            timescale: track.timescale,
            init_key,
            init_bytes,
            peak_bandwidth: declared.peak,
            average_bandwidth: declared.average,
            language,
            ..describe(&track)
        };
        Ok(EncodedRendition { rendition, init_sha256, segments: self.segments })
    }

    async fn store(&mut self, cuttings: Vec<Cutting>) -> Result<(), TaskError> {
        for cutting in cuttings {
            let gops: Vec<&[Sample]> = cutting.gops.iter().map(Vec::as_slice).collect();
            // Every moof of the rendition gets a number of its own; a segment never holds a thousand of them.
            let written = media_segment(cutting.number * 1000 + 1, cutting.base_decode_time, &gops);
            let key = keys::segment(&self.prefix, &self.name, cutting.number);
            let bytes = written.bytes.len() as u64;
            self.put(&key, written.bytes).await?;
            let is_video =
                self.track.as_ref().is_some_and(|track| matches!(track.config, TrackConfig::Video { .. }));
            let keyframes = if is_video { written.keyframes } else { vec![] };
            let duration_ticks = cutting.duration();
            self.segments.push(Segment { number: cutting.number, key, bytes, duration_ticks, keyframes });
        }
        Ok(())
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), TaskError> {
        self.storage.put(key, bytes).await.map_err(|error| {
            TaskError::retryable(Reason::Storage, format!("could not store {}: {error}", self.name))
        })
    }

    fn disk(&self, error: &std::io::Error) -> TaskError {
        TaskError::retryable(
            Reason::Storage,
            format!("could not read FFmpeg's output of {}: {error}", self.name),
        )
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> TaskError {
        TaskError::retryable(
            Reason::CheckFailed,
            format!("FFmpeg's output of {} does not read: {error}", self.name),
        )
    }
}

fn describe(track: &Track) -> Rendition {
    use reelmill_shared::db::sets::TrackKind;
    use reelmill_shared::media::tracks::Role;
    let empty = Rendition {
        rung: String::new(),
        position: 0,
        kind: TrackKind::Video,
        codec: String::new(),
        width: None,
        height: None,
        frame_rate: None,
        sample_rate: None,
        channels: None,
        language: None,
        label: None,
        role: Role::Main,
        timescale: 1,
        init_key: String::new(),
        init_bytes: 0,
        text: None,
        peak_bandwidth: 0,
        average_bandwidth: 0,
        iframe_bandwidth: None,
        duration_ticks: 0,
    };
    match track.config {
        TrackConfig::Video { width, height } => {
            Rendition { width: Some(width.into()), height: Some(height.into()), ..empty }
        }
        TrackConfig::Audio { sample_rate, channels } => Rendition {
            kind: TrackKind::Audio,
            sample_rate: Some(sample_rate),
            channels: Some(channels.into()),
            ..empty
        },
    }
}

/// Removes FFmpeg's file once it is taken apart; it is scratch, but large.
pub async fn discard(path: &Path) {
    let _ = tokio::fs::remove_file(path).await;
}
