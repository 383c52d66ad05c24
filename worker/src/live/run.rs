//! One run: a publisher, an FFmpeg, and what becomes of its frames.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use reelmill_shared::db::DbError;
use reelmill_shared::db::live::{self, LiveHold, NewBroadcast, OnAir};
use reelmill_shared::live::event::Severity;
use reelmill_shared::live::spec::Overload;
use reelmill_shared::media::live::plan::LivePlan;
use reelmill_shared::media::live::window::{Update, Window};
use reelmill_shared::media::probe::Probe;
use reelmill_shared::storage::keys;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Stage};
use super::encoder;
use super::encoding::{Directory, Encoding};
use super::health::{self, Patient};
use super::ingest::{Kind as Ingest, Publisher};
use super::intake::{Fed, Intake};
use super::look;
use super::outlet::{self, Heard};
use super::passing;
use super::quality;
use super::store::Shelf;
use super::studio::Studio;
use super::takeover;
use super::thumbnail::Watched;
use crate::ffmpeg::argv::Container;
use crate::ffmpeg::process::{self, RunError};
use crate::ffmpeg::progress::Parser;

/// Why a run came to nothing, or to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFault {
    #[error("{0}")]
    Input(String),
    #[error("the encoder failed: {0}")]
    Encoder(String),
    #[error("the publisher sent nothing")]
    Nothing,
    /// A picture that is passed through does not keep to the grid.
    #[error("the picture cannot be passed through: {0}")]
    Unfit(String),
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
/// A run has no end of its own.
pub(super) const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
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
    let taken = publisher.taken.clone();
    let (head, given) =
        tokio::join!(head(&mut publisher, patience), takeover::ask_for_the_rest(studio, &taken));
    let (head, came_at) = head?;
    if let Some(given) = given {
        // What was reserved for the one before and not used is ours, as all the numbers behind it.
        publisher.taken.next_sequence = publisher.taken.next_sequence.min(given);
    }
    let head_file = dir.0.join("head");
    tokio::fs::write(&head_file, &head).await?;
    let probe =
        look::look(&studio.programs.ffprobe, &dir.0, &head_file, head.len() as u64, &publisher.dismissed)
            .await
            .map_err(RunFault::Input)?;
    let on_air = take_the_air(studio, channel, stage, &publisher, &probe, came_at).await?;
    quality::tell_of_another_picture(studio, stage, &on_air, hold, &probe).await;
    let rate = probe.video.as_ref().map(|video| video.rate);
    let Publisher { taken, media, dismissed, address, .. } = publisher;
    let container = Container::of(&head);
    let mut intake = Intake::new(container, &head, media, rate, Arc::clone(&channel.meter));
    let mut dropped = None;
    let to_be_passed = !taken.spec.settings.enable_transcoding && !on_air.plan.rungs.is_empty();
    if let Some(why) = passing::unfit(&on_air.plan, &probe).filter(|_| to_be_passed && !stage.unfit) {
        stage.unfit = true;
        tell_unfit(studio, hold, &why).await?;
    }
    loop {
        let plan = on_air.plan.without(stage.dropped);
        let passed = to_be_passed && !stage.unfit;
        let encoder = encoder::choose(&plan, taken.spec.settings.gpu_acceleration, &studio.encoders);
        let hold = LiveHold { epoch: stage.epoch, ..hold };
        let encoding =
            Encoding::start(studio, &dir.0, &plan, (encoder, container, hold.epoch), &probe, passed)?;
        let carried = Carried {
            studio,
            channel,
            on_air: &on_air,
            plan: &plan,
            first_track: stage.dropped,
            passed,
            can_be_cut: intake.can_be_cut(),
            just_dropped: dropped.take(),
            may_lighten: plan.rungs.len() > 1
                && intake.can_be_cut()
                && taken.spec.settings.overload == Overload::DropRung,
            shelf,
            hold,
            epoch: hold.epoch as u32,
            input_over: CancellationToken::new(),
            superseded: dismissed.clone(),
        };
        let (fed, why) = carried.to_the_end(stage, encoding, &mut intake, &address, came_at).await?;
        if fed == Fed::Over || dismissed.is_cancelled() {
            return Ok(why);
        }
        if passed && stage.unfit {
            quality::another_run(studio, channel, stage, hold).await?;
            continue;
        }
        quality::lighten(studio, channel, stage, hold).await?;
        dropped = plan.rungs.first().map(|rung| rung.name.clone());
    }
}

/// Whoever runs the stream should know why it costs an encoder.
pub(super) async fn tell_unfit(studio: &Studio, hold: LiveHold, why: &str) -> Result<(), DbError> {
    let told = format!("the picture is encoded, at its own size, and not passed through: {why}");
    live::note(&studio.db, hold.livestream, Severity::Warning, &told).await
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
            stage.dropped = quality::dropped(&on_air.plan, &stored);
            let place = keys::broadcast(taken.project, on_air.id);
            let came = (came_at - on_air.started_at).max(TimeDelta::zero()).as_seconds_f64();
            let follower = live::Follower { next_sequence: taken.next_sequence, came };
            let (mut window, lost) = live::listed(on_air, place, &stored, Some(follower));
            live::publish(&studio.db, on_air, &lost).await?;
            // Numbers never go back: what viewers saw leave has left.
            window.trim();
            channel.open(window);
            on_air.clone()
        }
        None => {
            (stage.dropped, stage.unfit, stage.picture) = (0, false, None);
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

/// What a run works on.
pub(super) struct Carried<'a> {
    pub(super) studio: &'a Studio,
    pub(super) channel: &'a Channel,
    pub(super) on_air: &'a OnAir,
    /// That of the broadcast without the rungs that were dropped.
    pub(super) plan: &'a LivePlan,
    /// The place of its first track among all.
    pub(super) first_track: usize,
    /// The picture goes out as it comes.
    pub(super) passed: bool,
    /// Another FFmpeg can go on where this one stops.
    pub(super) can_be_cut: bool,
    /// The rung that the run before still had.
    pub(super) just_dropped: Option<String>,
    /// Another rung may be dropped.
    pub(super) may_lighten: bool,
    pub(super) shelf: &'a Shelf,
    /// The run's own; the channel may be somebody else's by now.
    pub(super) hold: LiveHold,
    pub(super) epoch: u32,
    /// Nothing comes in any more.
    pub(super) input_over: CancellationToken,
    /// Cancelled where somebody else has the stream: the publisher is sent away.
    pub(super) superseded: CancellationToken,
}

impl Carried<'_> {
    async fn to_the_end(
        &self,
        stage: &mut Stage,
        encoding: Encoding,
        intake: &mut Intake,
        address: &str,
        came_at: DateTime<Utc>,
    ) -> Result<(Fed, String), RunFault> {
        let (heard_by, mut heard) = mpsc::channel::<Heard>(256);
        let ended = CancellationToken::new();
        let followers: Vec<_> = encoding
            .outputs
            .into_iter()
            .enumerate()
            .map(|(place, pipe)| tokio::spawn(outlet::follow(place, pipe, heard_by.clone(), ended.clone())))
            .collect();
        drop(heard_by);
        let (input, dir) = (encoding.input, encoding.dir.clone());
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let feeding = async {
            let fed = tokio::select! {
                fed = intake.feed(input, &cut) => fed,
                () = self.superseded.cancelled() => Fed::Over,
                () = stop.cancelled() => Fed::Over,
            };
            self.input_over.cancel();
            fed
        };
        let job = process::Run {
            program: &self.studio.programs.ffmpeg,
            args: &encoding.args,
            dir: &encoding.dir,
            deadline: NEVER,
            // A publisher that sends nothing is ended by its connection.
            stall: NEVER,
            limits: encoding.limits,
        };
        let meter = &self.channel.meter;
        let (mut progress, mut left_out) = (Parser::default(), 0);
        let encoding = async {
            let encoder = process::run(job, &stop, |line| {
                if let Some(count) = progress.line(line).and_then(|report| report.dropped) {
                    meter.add(|totals| totals.left_out += count.saturating_sub(left_out));
                    left_out = count;
                }
            });
            tokio::pin!(encoder, feeding);
            let patient = Patient {
                db: &self.studio.db,
                livestream: self.hold.livestream,
                broadcast: self.on_air.id,
                meter,
            };
            let watching = async {
                health::watch(patient, self.may_lighten).await;
                cut.cancel();
                std::future::pending::<()>().await;
            };
            let mut fed = Fed::Over;
            let result = tokio::select! {
                result = &mut encoder => result,
                // Nothing comes in any more: FFmpeg has a moment for what it still holds.
                how = &mut feeding => {
                    fed = how;
                    match timeout(LAST_FRAMES, &mut encoder).await {
                        Ok(result) => result,
                        Err(_) => {
                            stop.cancel();
                            encoder.await
                        }
                    }
                }
                () = watching => return (Err(RunError::Stopped), Fed::Over),
            };
            ended.cancel();
            stop.cancel();
            join_all(followers).await;
            (result, fed)
        };
        let taken = CancellationToken::new();
        let packing = async {
            let packed = self.pack(stage, &mut heard, (address, came_at), &stop, &cut).await;
            taken.cancel();
            packed
        };
        let pictures = async {
            if !self.on_air.plan.rungs.is_empty() {
                let (channel, on_air, dir) = (self.channel, self.on_air, dir.as_path());
                let watched = Watched { studio: self.studio, channel, on_air, epoch: self.epoch, dir };
                Box::pin(watched.keep(taken.clone())).await;
            }
        };
        let ((result, fed), packed, ()) = tokio::join!(encoding, packing, pictures);
        packed?;
        match result {
            // What it could not encode in time is late anyway.
            _ if fed == Fed::Cut => Ok((fed, String::new())),
            Ok(ended) if ended.status.success() => Ok((fed, "the publisher has ended".into())),
            Ok(ended) => Err(RunFault::Encoder(last_line(&ended.log_tail))),
            Err(RunError::Stopped) => Ok((fed, "the publisher has gone".into())),
            Err(error) => Err(RunFault::Encoder(error.to_string())),
        }
    }
}

fn last_line(log: &str) -> String {
    log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
