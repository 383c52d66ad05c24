//! One run: a publisher, an FFmpeg, and what becomes of its frames.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use reelmill_shared::db::DbError;
use reelmill_shared::db::live::{self, LiveHold, LiveSegment, NewBroadcast, NewRun, OnAir};
use reelmill_shared::db::sets::{Rendition, TrackKind};
use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::media::cmaf::{Event, Sample, Track, TrackConfig, media_segment};
use reelmill_shared::media::grid::AAC_FRAME;
use reelmill_shared::media::live::cutter::{Cut, Cutter, Kind};
use reelmill_shared::media::live::plan::{AUDIO, LivePlan};
use reelmill_shared::media::live::window::{Run, Update, Window};
use reelmill_shared::media::probe::Probe;
use reelmill_shared::media::profile::RateControl;
use reelmill_shared::media::tracks::Role;
use reelmill_shared::storage::keys;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Stage};
use super::ingest::{Kind as Ingest, Publisher};
use super::look;
use super::outlet::{self, Heard};
use super::store::Shelf;
use super::studio::Studio;
use crate::ffmpeg::argv::{self, LiveFiles};
use crate::ffmpeg::process::{self, Limits, RunError};

/// Why a run came to nothing, or to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFault {
    #[error("{0}")]
    Input(String),
    #[error("the encoder failed: {0}")]
    Encoder(String),
    #[error("the publisher sent nothing")]
    Nothing,
    #[error("{0}")]
    Disk(#[from] std::io::Error),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// So much of the beginning is looked into before the ladder is decided on.
const HEAD: Duration = Duration::from_millis(1200);
const HEAD_BYTES: usize = 16 << 20;
/// A publisher that was let in and sends nothing for so long is sent away.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// The same where a video is downloaded first.
const FIRST_FETCHED: Duration = Duration::from_secs(1800);
/// All tracks must have begun so long after the first has.
const ALL_TRACKS: Duration = Duration::from_secs(10);
/// Frames that are kept until all have.
const EARLY: usize = 4000;
/// A track that is so many segments ahead of another has lost it.
const APART: u64 = 2;
/// FFmpeg may take so long to end after its input has.
const LAST_FRAMES: Duration = Duration::from_secs(5);

/// Carries one publisher to its end; says why it ended.
pub(crate) async fn run(
    studio: &Studio,
    channel: &Arc<Channel>,
    stage: &mut Stage,
    mut publisher: Publisher,
    shelf: &Shelf,
) -> Result<String, RunFault> {
    let hold = publisher.taken.hold;
    let dir = Directory::new(studio.scratch.attempt(&format!("live-{}-{}", hold.livestream, hold.epoch))?);
    let patience = if publisher.kind == Ingest::Pushed { FIRST_BYTE } else { FIRST_FETCHED };
    let (head, came_at) = head(&mut publisher, patience).await?;
    let head_file = dir.0.join("head");
    tokio::fs::write(&head_file, &head).await?;
    let probe =
        look::look(&studio.programs.ffprobe, &dir.0, &head_file, head.len() as u64, &publisher.dismissed)
            .await
            .map_err(RunFault::Input)?;
    let on_air = take_the_air(studio, channel, stage, &publisher, &probe, came_at).await?;
    let encoding = Encoding::start(studio, &dir.0, &on_air.plan, &publisher, &probe)?;
    let input_over = CancellationToken::new();
    let carried = Carried {
        studio,
        channel,
        on_air: &on_air,
        shelf,
        hold,
        epoch: hold.epoch as u32,
        input_over,
        superseded: publisher.dismissed.clone(),
    };
    carried.to_the_end(stage, encoding, publisher, head, came_at).await
}

/// The first pieces, until there are enough of them, and when they came.
async fn head(publisher: &mut Publisher, patience: Duration) -> Result<(Bytes, DateTime<Utc>), RunFault> {
    let mut head = BytesMut::new();
    let mut since: Option<(Instant, DateTime<Utc>)> = None;
    loop {
        let wait = since.map_or(patience, |(since, _)| HEAD.saturating_sub(since.elapsed()));
        let piece = tokio::select! {
            piece = timeout(wait, publisher.media.recv()) => piece,
            () = publisher.dismissed.cancelled() => Ok(None),
        };
        match piece {
            Ok(Some(piece)) => {
                head.extend_from_slice(&piece);
                // A container's header comes before anything was published.
                if since.is_none() && head.len() > 64 {
                    since = Some((Instant::now(), Utc::now()));
                }
            }
            Ok(None) | Err(_) => break,
        }
        if head.len() >= HEAD_BYTES {
            break;
        }
    }
    let (_, came_at) = since.ok_or(RunFault::Nothing)?;
    Ok((head.freeze(), came_at))
}

/// The broadcast that the run belongs to: the one on air, or a new one.
async fn take_the_air(
    studio: &Studio,
    channel: &Channel,
    stage: &mut Stage,
    publisher: &Publisher,
    probe: &Probe,
    came_at: DateTime<Utc>,
) -> Result<OnAir, RunFault> {
    let taken = &publisher.taken;
    if let Some(on_air) = &stage.on_air {
        let goes_on = taken.broadcast.as_ref().is_some_and(|broadcast| broadcast.id == on_air.id);
        // Nobody else had it in between.
        if goes_on && taken.hold.epoch == stage.epoch + 1 {
            stage.epoch = taken.hold.epoch;
            return Ok(on_air.clone());
        }
        if !goes_on {
            channel.tell(Update::Ended);
        }
        stage.on_air = None;
    }
    stage.epoch = taken.hold.epoch;
    let on_air = match &taken.broadcast {
        // Another worker carried it: what it had stored goes on being listed.
        Some(on_air) => {
            let stored = live::window(&studio.db, on_air, on_air.plan.window_seconds).await?;
            let place = keys::broadcast(taken.project, on_air.id);
            let (window, lost) = live::listed(on_air, place, &stored, Some(taken.next_sequence));
            live::publish(&studio.db, on_air, &lost).await?;
            channel.open(window);
            on_air.clone()
        }
        None => {
            let plan = LivePlan::new(&taken.spec, probe)
                .ok_or_else(|| RunFault::Input("there is neither picture nor sound in it".into()))?;
            let new = NewBroadcast { plan: &plan, started_at: came_at, recorded: taken.spec.records() };
            let on_air = live::begin_broadcast(&studio.db, taken.hold, taken.project, new).await?;
            let place = keys::broadcast(taken.project, on_air.id);
            channel.open(Window::new(plan, place, came_at.timestamp_micros()));
            on_air
        }
    };
    stage.next_number = taken.next_sequence;
    stage.on_air = Some(on_air.clone());
    Ok(on_air)
}

/// A directory that goes when the run does.
struct Directory(PathBuf);

impl Directory {
    fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "could not remove the scratch of a live run");
        }
    }
}

/// An FFmpeg about to be started, and its pipes.
struct Encoding {
    dir: PathBuf,
    args: Vec<std::ffi::OsString>,
    input: tokio::net::unix::pipe::Sender,
    outputs: Vec<tokio::net::unix::pipe::Receiver>,
}

impl Encoding {
    fn start(
        studio: &Studio,
        dir: &Path,
        plan: &LivePlan,
        publisher: &Publisher,
        probe: &Probe,
    ) -> Result<Self, RunFault> {
        if !plan.rungs.is_empty() && probe.video.is_none() {
            return Err(RunFault::Input("the picture of this broadcast is missing in it".into()));
        }
        let input = dir.join("in");
        outlet::make(&input)?;
        let outputs: Vec<PathBuf> = plan.tracks().map(|track| dir.join(track)).collect();
        outputs.iter().try_for_each(|output| outlet::make(output))?;
        let files = LiveFiles {
            input: &input,
            format: publisher.container.format(),
            video: probe.video.as_ref().map(|stream| stream.index),
            stored_size: probe.video.as_ref().map_or((2, 2), |stream| (stream.width, stream.height)),
            audio: probe.audio.first().map(|stream| stream.index),
            outputs: &outputs,
        };
        let encoder = Encoder::software(plan.codec);
        let args = argv::live(plan, &files, encoder, threads());
        tracing::debug!(program = %studio.programs.ffmpeg.display(), ?args, "starting a live encoder");
        Ok(Self {
            dir: dir.to_owned(),
            args,
            input: outlet::sender(&input)?,
            outputs: outputs.iter().map(|path| outlet::receiver(path)).collect::<Result<_, _>>()?,
        })
    }
}

/// Threads of each encoder: slices of one picture, so more of them gain little.
fn threads() -> u32 {
    std::thread::available_parallelism().map_or(1, usize::from).min(4) as u32
}

/// What a run works on.
struct Carried<'a> {
    studio: &'a Studio,
    channel: &'a Channel,
    on_air: &'a OnAir,
    shelf: &'a Shelf,
    /// The run's own; the channel may be somebody else's by now.
    hold: LiveHold,
    epoch: u32,
    /// Nothing comes in any more.
    input_over: CancellationToken,
    /// Cancelled where somebody else has the stream: the publisher is sent away.
    superseded: CancellationToken,
}

impl Carried<'_> {
    async fn to_the_end(
        &self,
        stage: &mut Stage,
        encoding: Encoding,
        publisher: Publisher,
        head: Bytes,
        came_at: DateTime<Utc>,
    ) -> Result<String, RunFault> {
        let Publisher { media, dismissed, address, .. } = publisher;
        let (heard_by, mut heard) = mpsc::channel::<Heard>(256);
        let ended = CancellationToken::new();
        let followers: Vec<_> = encoding
            .outputs
            .into_iter()
            .enumerate()
            .map(|(place, pipe)| tokio::spawn(outlet::follow(place, pipe, heard_by.clone(), ended.clone())))
            .collect();
        drop(heard_by);
        let input = encoding.input;
        let stop = CancellationToken::new();
        let feeding = {
            let (dismissed, stop, over) = (dismissed.clone(), stop.clone(), self.input_over.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = outlet::feed(input, head, media) => {}
                    () = dismissed.cancelled() => {}
                    () = stop.cancelled() => {}
                }
                over.cancel();
            })
        };
        let never = Duration::from_secs(10 * 365 * 24 * 3600);
        let limits = Limits { file_size: 1 << 20, ..Limits::standard(never, 1) };
        let job = process::Run {
            program: &self.studio.programs.ffmpeg,
            args: &encoding.args,
            dir: &encoding.dir,
            deadline: never,
            // A publisher that sends nothing is ended by its connection.
            stall: never,
            limits,
        };
        let encoding = async {
            let encoder = process::run(job, &stop, |_| {});
            tokio::pin!(encoder);
            let result = tokio::select! {
                result = &mut encoder => result,
                // Nothing comes in any more: FFmpeg has a moment for what it still holds.
                _ = feeding => match timeout(LAST_FRAMES, &mut encoder).await {
                    Ok(result) => result,
                    Err(_) => {
                        stop.cancel();
                        encoder.await
                    }
                },
            };
            ended.cancel();
            stop.cancel();
            join_all(followers).await;
            result
        };
        let packing = self.pack(stage, &mut heard, &address, came_at, &stop);
        let (result, packed) = tokio::join!(encoding, packing);
        packed?;
        match result {
            Ok(ended) if ended.status.success() => Ok("the publisher has ended".into()),
            Ok(ended) => Err(RunFault::Encoder(last_line(&ended.log_tail))),
            Err(RunError::Stopped) => Ok("the publisher has gone".into()),
            Err(error) => Err(RunFault::Encoder(error.to_string())),
        }
    }

    /// Makes parts of frames until there are no more. What fails here ends FFmpeg.
    async fn pack(
        &self,
        stage: &mut Stage,
        heard: &mut mpsc::Receiver<Heard>,
        publisher: &str,
        came_at: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<(), RunFault> {
        let mut packer = None;
        let packed = self.pack_all(stage, heard, publisher, came_at, &mut packer, stop).await;
        if packed.is_err() {
            stop.cancel();
            heard.close();
        }
        if let Some(packer) = packer {
            stage.next_number = self.finish(packer);
        }
        packed
    }

    async fn pack_all(
        &self,
        stage: &Stage,
        heard: &mut mpsc::Receiver<Heard>,
        publisher: &str,
        came_at: DateTime<Utc>,
        packer: &mut Option<Packer>,
        stop: &CancellationToken,
    ) -> Result<(), RunFault> {
        let names: Vec<&str> = self.on_air.plan.tracks().collect();
        let mut tracks: Vec<Option<Track>> = names.iter().map(|_| None).collect();
        let mut early: Vec<Vec<Sample>> = names.iter().map(|_| vec![]).collect();
        let mut begun: Option<Instant> = None;
        while let Some((place, event)) = heard.recv().await {
            let event =
                event.map_err(|error| RunFault::Encoder(format!("its output does not read: {error}")))?;
            match (event, packer.as_mut()) {
                (Event::Track(track), _) => {
                    if let Some(slot) = tracks.get_mut(place) {
                        *slot = Some(track);
                    }
                }
                (Event::Fragment(fragment), Some(packer)) => {
                    for sample in fragment.samples {
                        self.frame(packer, place, sample)?;
                    }
                }
                (Event::Fragment(fragment), None) => {
                    let begun = begun.get_or_insert_with(Instant::now);
                    if begun.elapsed() > ALL_TRACKS || early.iter().map(Vec::len).sum::<usize>() > EARLY {
                        let missing: Vec<&str> = names
                            .iter()
                            .zip(&tracks)
                            .filter(|(_, it)| it.is_none())
                            .map(|(name, _)| *name)
                            .collect();
                        return Err(RunFault::Input(format!("nothing came of {}", missing.join(" and "))));
                    }
                    if let Some(frames) = early.get_mut(place) {
                        frames.extend(fragment.samples);
                    }
                }
            }
            if packer.is_none() && tracks.iter().all(Option::is_some) {
                let tracks: Vec<Track> = tracks.iter().flatten().cloned().collect();
                let begin = self.begin(stage, &tracks, publisher, came_at);
                let begun = tokio::select! {
                    begun = begin => begun?,
                    () = stop.cancelled() => return Ok(()),
                };
                let packer = packer.insert(begun);
                for (place, frames) in early.iter_mut().enumerate() {
                    for sample in std::mem::take(frames) {
                        self.frame(packer, place, sample)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// All tracks are known: the run is on air.
    async fn begin(
        &self,
        stage: &Stage,
        tracks: &[Track],
        publisher: &str,
        came_at: DateTime<Utc>,
    ) -> Result<Packer, RunFault> {
        let plan = &self.on_air.plan;
        let hold = self.hold;
        let prefix = keys::live_prefix(&keys::broadcast(self.channel.project, self.on_air.id), self.epoch);
        let first_number = stage.next_number;
        // On the timeline as late as it came, and never before the end of what was before it.
        let behind =
            self.channel.ends().unwrap_or_default().into_iter().map(|(end, _)| end).fold(0.0, f64::max);
        let late = (came_at - self.on_air.started_at).max(TimeDelta::zero());
        let late = late.num_microseconds().map_or(0.0, |micros| micros as f64 / 1e6).max(behind);
        let base = (late * plan.cadence.rate.as_f64()).ceil() as u64;

        let mut renditions = vec![];
        let mut inits = vec![];
        let mut cutters = vec![];
        for ((name, track), position) in plan.tracks().zip(tracks).zip(0..) {
            let init = track.init_segment();
            let key = keys::init(&prefix, name);
            self.studio.storage.put(&key, init.clone()).await.map_err(|error| {
                RunFault::Encoder(format!("its description could not be stored: {error}"))
            })?;
            renditions.push(rendition(plan, name, position, track, key, init.len() as u64));
            inits.push((name.to_owned(), init));
            let (kind, base) = match (name, plan.audio.as_ref()) {
                (AUDIO, Some(audio)) => {
                    let sample_rate = audio.sample_rate;
                    let samples = plan.cadence.rate.seconds(base) * f64::from(sample_rate);
                    (Kind::Audio { sample_rate }, samples.round() as u64)
                }
                _ => (Kind::Video, base * u64::from(plan.cadence.rate.frame_ticks())),
            };
            cutters.push(Cutter::new(plan.cadence, kind, first_number, base));
        }
        live::reserve(&self.studio.db, hold, first_number + 2).await?;
        let new = NewRun {
            worker: self.studio.carrier.worker,
            first_number,
            publisher: Some(publisher),
            renditions: &renditions,
        };
        let ordinal = live::begin_run(&self.studio.db, hold, self.on_air, new).await?;
        let codecs = renditions.iter().map(|rendition| rendition.codec.clone()).collect();
        self.channel.begin(Run { epoch: self.epoch, ordinal, first_number, codecs }, inits);
        self.channel.running.store(true, Ordering::Release);
        tracing::info!(livestream = %hold.livestream, broadcast = %self.on_air.id, epoch = self.epoch, "on air");
        Ok(Packer { prefix, cutters, reserved: first_number + 2 })
    }

    fn frame(&self, packer: &mut Packer, place: usize, sample: Sample) -> Result<(), RunFault> {
        let behind = packer.cutters.iter().map(Cutter::number).min().unwrap_or(0);
        let Some(cutter) = packer.cutters.get_mut(place) else { return Ok(()) };
        if cutter.number() > behind + APART {
            // Silence that was made up goes on when nothing comes in any more.
            if self.input_over.is_cancelled() {
                return Ok(());
            }
            return Err(RunFault::Input(
                "picture and sound are too far apart, or one of them has ended".into(),
            ));
        }
        let cut = cutter.push(sample).map_err(|error| RunFault::Encoder(error.to_string()))?;
        if let Some(cut) = cut {
            self.publish(packer, place, cut);
        }
        Ok(())
    }

    fn publish(&self, packer: &mut Packer, place: usize, cut: Cut) {
        let Some(name) = self.on_air.plan.tracks().nth(place) else { return };
        // Every moof of the rendition gets a number of its own; a segment never holds a thousand of them.
        let sequence = (cut.number as u32).wrapping_mul(1000).wrapping_add(cut.part + 1);
        let written = media_segment(sequence, cut.start, &[&cut.samples]);
        let number = cut.number;
        if number + 2 > packer.reserved {
            packer.reserved = number + 2;
            self.reserve(packer.reserved);
        }
        if let Some(whole) = self.channel.part(place, self.epoch, &cut, written.bytes) {
            let segment = LiveSegment {
                track: name.to_owned(),
                number,
                epoch: self.epoch,
                key: keys::live_segment(&packer.prefix, name, number),
                bytes: whole.bytes.len() as u64,
                start_ticks: whole.start,
                ticks: whole.ticks,
                gap: false,
            };
            self.shelf.put(self.on_air, segment, whole.bytes);
        }
    }

    /// Numbers are given out a segment ahead, beside the work: viewers do not wait for the database.
    fn reserve(&self, next: u64) {
        let (db, hold, superseded) = (self.studio.db.clone(), self.hold, self.superseded.clone());
        tokio::spawn(async move {
            match live::reserve(&db, hold, next).await {
                Ok(()) => {}
                // Somebody else gives numbers out by now: no more of ours.
                Err(DbError::LostRace) => superseded.cancel(),
                Err(error) => {
                    tracing::warn!(%error, livestream = %hold.livestream, "could not reserve media sequence numbers");
                }
            }
        });
    }

    /// The end of the run: what is left is published, and every track ends with the same segment. Gives the number that comes next.
    fn finish(&self, mut packer: Packer) -> u64 {
        for place in 0..packer.cutters.len() {
            if let Some(cut) = packer.cutters.get_mut(place).and_then(Cutter::finish) {
                self.publish(&mut packer, place, cut);
            }
            // A part may have ended just where its track did, within a segment.
            self.close_short(&mut packer, place);
        }
        let next = packer.cutters.iter().map(Cutter::number).max().unwrap_or(0);
        for (place, cutter) in packer.cutters.iter().enumerate() {
            let mut start = cutter.position();
            for number in cutter.number()..next {
                let Some(name) = self.on_air.plan.tracks().nth(place) else { continue };
                let ticks = self.length_of(number, place);
                self.channel.tell(Update::Gap { track: place, number, epoch: self.epoch, start, ticks });
                let segment = LiveSegment {
                    track: name.to_owned(),
                    number,
                    epoch: self.epoch,
                    key: String::new(),
                    bytes: 0,
                    start_ticks: start,
                    ticks,
                    gap: true,
                };
                self.shelf.put(self.on_air, segment, Bytes::new());
                start += ticks;
            }
        }
        next
    }

    fn close_short(&self, packer: &mut Packer, place: usize) {
        let Some(cutter) = packer.cutters.get_mut(place).filter(|cutter| cutter.is_within()) else { return };
        let number = cutter.number();
        cutter.close();
        let Some(name) = self.on_air.plan.tracks().nth(place) else { return };
        if let Some(whole) = self.channel.close(place, number) {
            let segment = LiveSegment {
                track: name.to_owned(),
                number,
                epoch: self.epoch,
                key: keys::live_segment(&packer.prefix, name, number),
                bytes: whole.bytes.len() as u64,
                start_ticks: whole.start,
                ticks: whole.ticks,
                gap: false,
            };
            self.shelf.put(self.on_air, segment, whole.bytes);
        }
    }

    /// How long a segment is that one track has and another has not.
    fn length_of(&self, number: u64, place: usize) -> u64 {
        self.channel
            .look(|window| {
                let longest = window.tracks.iter().filter_map(|track| {
                    let segment = track.segment(number).filter(|segment| !segment.gap)?;
                    Some(segment.ticks as f64 / f64::from(track.timescale.max(1)))
                });
                let seconds = longest.fold(0.0, f64::max);
                let scale = window.tracks.get(place).map_or(1, |track| track.timescale);
                (seconds * f64::from(scale)).round() as u64
            })
            .unwrap_or(0)
            .max(1)
    }
}

/// Where the frames of a run go.
struct Packer {
    prefix: String,
    cutters: Vec<Cutter>,
    /// Numbers below it were given out.
    reserved: u64,
}

fn rendition(
    plan: &LivePlan,
    name: &str,
    position: i32,
    track: &Track,
    init_key: String,
    init_bytes: u64,
) -> Rendition {
    let rung = plan.rungs.iter().find(|rung| rung.name == name);
    let declared = match (rung, &plan.audio) {
        (Some(rung), _) => RateControl::Constant { bitrate: rung.bitrate, buffer: rung.buffer }.declared(),
        (None, Some(audio)) => {
            RateControl::Constant { bitrate: audio.bitrate, buffer: audio.bitrate / 2 }.declared()
        }
        (None, None) => RateControl::Constant { bitrate: 0, buffer: 0 }.declared(),
    };
    let (size, sound) = match track.config {
        TrackConfig::Video { width, height } => (Some((u32::from(width), u32::from(height))), None),
        TrackConfig::Audio { sample_rate, channels } => (None, Some((sample_rate, u32::from(channels)))),
    };
    Rendition {
        rung: name.to_owned(),
        position,
        kind: if size.is_some() { TrackKind::Video } else { TrackKind::Audio },
        codec: track.codec.clone(),
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        frame_rate: size.map(|_| plan.frame_rate),
        sample_rate: sound.map(|(rate, _)| rate),
        channels: sound.map(|(_, channels)| channels),
        language: None,
        label: None,
        role: Role::Main,
        timescale: plan.timescale(name).unwrap_or(track.timescale),
        init_key,
        init_bytes,
        text: None,
        peak_bandwidth: declared.peak,
        average_bandwidth: declared.average,
        iframe_bandwidth: None,
        duration_ticks: 0,
    }
}

fn last_line(log: &str) -> String {
    log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

/// AAC frames are counted in samples of the track's own clock.
const _: () = assert!(AAC_FRAME == 1024);
