//! From the frames of a run to parts in the ring and segments in the store.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::db::DbError;
use reelmill_shared::db::live::{self, LiveSegment, NewRun};
use reelmill_shared::db::sets::{Rendition, TrackKind};
use reelmill_shared::media::cmaf::{Event, Sample, Track, TrackConfig, media_segment};
use reelmill_shared::media::grid::AAC_FRAME;
use reelmill_shared::media::live::cutter::{Cut, Cutter, Kind};
use reelmill_shared::media::live::plan::{AUDIO, LivePlan};
use reelmill_shared::media::live::window::{Run, Update};
use reelmill_shared::media::profile::RateControl;
use reelmill_shared::media::tracks::Role;
use reelmill_shared::storage::keys;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channel::Stage;
use super::channel::Whole;
use super::outlet::Heard;
use super::passing::Pace;
use super::run::{self, Carried, RunFault};

/// All tracks must have begun so long after the first has.
const ALL_TRACKS: Duration = Duration::from_secs(10);
/// Frames that are kept until all have.
const EARLY: usize = 4000;
/// A track that is so many segments ahead of another has lost it.
const APART: u64 = 2;

impl Carried<'_> {
    /// Makes parts of frames until there are no more. What fails here ends FFmpeg.
    pub(super) async fn pack(
        &self,
        stage: &mut Stage,
        heard: &mut mpsc::Receiver<Heard>,
        (publisher, came_at): (&str, DateTime<Utc>),
        stop: &CancellationToken,
        cut: &CancellationToken,
    ) -> Result<(), RunFault> {
        let mut packer = None;
        let mut packed = self.pack_all(stage, heard, publisher, came_at, &mut packer, stop).await;
        if let Err(RunFault::Unfit(why)) = &packed {
            stage.unfit = true;
            if let Err(error) = run::tell_unfit(self.studio, self.hold, why).await {
                tracing::debug!(%error, livestream = %self.hold.livestream, "could not tell why a picture is encoded");
            }
            if self.can_be_cut {
                // Another FFmpeg goes on from the next keyframe; what this one still makes is of no use.
                cut.cancel();
                while heard.recv().await.is_some() {}
                packed = Ok(());
            }
        }
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
        let names: Vec<&str> = self.plan.tracks().collect();
        let mut tracks: Vec<Option<Track>> = names.iter().map(|_| None).collect();
        let mut early: Vec<Vec<Sample>> = names.iter().map(|_| vec![]).collect();
        let mut begun: Option<Instant> = None;
        let mut pace = Pace::default();
        while let Some((place, event)) = heard.recv().await {
            let event =
                event.map_err(|error| RunFault::Encoder(format!("its output does not read: {error}")))?;
            if let (true, 0, Event::Fragment(fragment), Some(Some(track))) =
                (self.passed, place, &event, tracks.first())
            {
                let seconds = fragment.base_decode_time as f64 / f64::from(track.timescale.max(1));
                if !pace.keeps(seconds, fragment.samples.len(), self.plan.cadence.rate.as_f64()) {
                    return Err(RunFault::Unfit("its pictures do not come at a constant rate".into()));
                }
            }
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
        let plan = self.plan;
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
        for ((name, track), position) in plan.tracks().zip(tracks).zip(self.first_track as i32..) {
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
            dropped: self.just_dropped.as_deref(),
        };
        let ordinal = live::begin_run(&self.studio.db, hold, self.on_air, new).await?;
        let dropped = (0..self.first_track).map(|_| String::new());
        let codecs = dropped.chain(renditions.iter().map(|rendition| rendition.codec.clone())).collect();
        let began = Some((plan.cadence.rate.seconds(base) * 1e6).round() as u64);
        self.channel.begin(Run { epoch: self.epoch, ordinal, first_number, codecs, began }, inits);
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
        if place == 0 {
            let lasts = self.frame_lasts();
            self.channel.meter.add(|totals| {
                totals.frames += 1;
                totals.encoded += lasts;
            });
        }
        let cut = cutter.push(sample).map_err(|error| match self.passed && place == 0 {
            true => RunFault::Unfit(format!("{error}, or the grid is not that of its keyframes")),
            false => RunFault::Encoder(error.to_string()),
        })?;
        if let Some(cut) = cut {
            self.publish(packer, place, cut);
        }
        Ok(())
    }

    fn publish(&self, packer: &mut Packer, place: usize, cut: Cut) {
        let Some(name) = self.plan.tracks().nth(place) else { return };
        // Every moof of the rendition gets a number of its own; a segment never holds a thousand of them.
        let sequence = (cut.number as u32).wrapping_mul(1000).wrapping_add(cut.part + 1);
        let written = media_segment(sequence, cut.start, &[&cut.samples]);
        let number = cut.number;
        if number + 2 > packer.reserved {
            packer.reserved = number + 2;
            self.reserve(packer.reserved);
        }
        if let Some(whole) = self.channel.part(self.first_track + place, self.epoch, &cut, written.bytes) {
            self.leave_out(place, number, whole.start, whole.ticks);
            self.keep(&packer.prefix, name, number, whole);
        }
    }

    /// A whole segment goes to the store and the index.
    fn keep(&self, prefix: &str, name: &str, number: u64, whole: Whole) {
        let segment = LiveSegment {
            track: name.to_owned(),
            number,
            epoch: self.epoch,
            key: keys::live_segment(prefix, name, number),
            bytes: whole.bytes.len() as u64,
            start_ticks: whole.start,
            ticks: whole.ticks,
            gap: false,
        };
        self.shelf.put(self.on_air, segment, whole.bytes);
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
        // A picture or two of a segment that there is no sound of would be a segment of their own, with a gap beside it.
        let common = packer.cutters.iter().map(Cutter::reach).min().unwrap_or(0);
        packer.cutters.iter_mut().for_each(|cutter| cutter.forget_from(common));
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
                let ticks = self.length_of(number, self.first_track + place);
                self.gap(self.first_track + place, number, start, ticks);
                self.leave_out(place, number, start, ticks);
                start += ticks;
            }
        }
        next
    }

    /// Tells that a segment of a track, by its place among all, is not there.
    fn gap(&self, track: usize, number: u64, start: u64, ticks: u64) {
        let Some(name) = self.on_air.plan.tracks().nth(track) else { return };
        self.channel.tell(Update::Gap { track, number, epoch: self.epoch, start, ticks });
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
    }

    /// Rungs that were dropped have a gap for every segment of the best one that is left: all tracks list the same numbers.
    fn leave_out(&self, place: usize, number: u64, start: u64, ticks: u64) {
        if place == 0 {
            (0..self.first_track).for_each(|track| self.gap(track, number, start, ticks));
        }
    }

    /// How long a frame of the first track is.
    fn frame_lasts(&self) -> Duration {
        let seconds = match (&self.plan.audio, self.plan.rungs.is_empty()) {
            (Some(audio), true) => AAC_FRAME as f64 / f64::from(audio.sample_rate),
            _ => self.plan.cadence.rate.seconds(1),
        };
        Duration::from_secs_f64(seconds)
    }

    fn close_short(&self, packer: &mut Packer, place: usize) {
        let Some(cutter) = packer.cutters.get_mut(place).filter(|cutter| cutter.is_within()) else { return };
        let number = cutter.number();
        cutter.close();
        let Some(name) = self.plan.tracks().nth(place) else { return };
        if let Some(whole) = self.channel.close(self.first_track + place, number) {
            self.leave_out(place, number, whole.start, whole.ticks);
            self.keep(&packer.prefix, name, number, whole);
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

/// AAC frames are counted in samples of the track's own clock.
const _: () = assert!(AAC_FRAME == 1024);
