//! One file a kind of task. A kind is a function from its orders to what it publishes.

mod aired;
mod audio;
mod complexity;
mod dry_run;
mod encode;
pub(crate) mod fetch;
mod finish;
mod loudness;
mod mp4;
mod probe;
mod quality;
mod remux;
mod report;
mod representative;
mod stills;
mod storyboard;
mod subtitles;
mod take_over;
mod thumbnail;
mod thumbnails;

pub(crate) use encode::VideoCut;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reelmill_shared::config::WorkerConfig;
use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets::{self, EncodedRendition};
use reelmill_shared::db::sources::{self, Source};
use reelmill_shared::db::tasks::{Claimed, Progress};
use reelmill_shared::db::{Db, progress};
use reelmill_shared::ids::{SetId, SourceId};
use reelmill_shared::job::capability::Pool;
use reelmill_shared::job::edit::Watermark;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::{Extent, TaskSpec};
use reelmill_shared::net::GuardedClient;
use reelmill_shared::storage::Storage;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{SourceCache, SourceFile};
use crate::extent;
use crate::ffmpeg::Programs;
use crate::ffmpeg::process::{Ended, Limits, Run, RunError, run};
use crate::ffmpeg::progress::{Parser, Report};

/// What every task of this worker shares.
pub struct Shop {
    pub config: WorkerConfig,
    pub db: Db,
    pub storage: Storage,
    pub cache: SourceCache,
    pub programs: Programs,
    pub http: GuardedClient,
}

/// What one attempt at one task works with.
pub struct Bench {
    pub shop: Arc<Shop>,
    pub claimed: Claimed,
    /// Scratch directory of this attempt alone.
    pub dir: PathBuf,
    /// Where this attempt's objects go.
    pub prefix: String,
    /// Cancelled when the lease is lost or the worker gives up.
    pub stop: CancellationToken,
    /// The latest progress; written to the database beside the work.
    pub progress: watch::Sender<Progress>,
    /// The end of FFmpeg's log.
    pub log: std::sync::Mutex<Option<String>>,
    /// What its FFmpegs took so far.
    pub cpu: std::sync::Mutex<Option<Duration>>,
}

/// Does what the orders say. What comes back is published in one guarded transaction.
pub async fn perform(bench: &Bench) -> Result<Vec<Publication>, TaskError> {
    match &bench.claimed.spec {
        TaskSpec::Fetch(spec) => fetch::perform(bench, spec).await,
        TaskSpec::Probe(spec) => probe::perform(bench, spec).await,
        TaskSpec::Remux(spec) => remux::perform(bench, spec).await,
        TaskSpec::TakeOver(spec) => take_over::perform(bench, spec).await,
        TaskSpec::Complexity(spec) => complexity::perform(bench, spec).await,
        TaskSpec::Encode(spec) => encode::perform(bench, spec).await,
        TaskSpec::Audio(spec) => audio::perform(bench, spec).await,
        TaskSpec::Loudness(spec) => loudness::perform(bench, spec).await,
        TaskSpec::Subtitles(spec) => subtitles::perform(bench, spec).await,
        TaskSpec::Thumbnail(spec) => thumbnail::perform(bench, spec).await,
        TaskSpec::Storyboard(spec) => storyboard::perform(bench, spec).await,
        TaskSpec::Thumbnails(spec) => thumbnails::perform(bench, spec).await,
        TaskSpec::Quality(spec) => quality::perform(bench, spec).await,
        TaskSpec::Report(spec) => report::perform(bench, spec).await,
        TaskSpec::Finish(spec) => finish::perform(bench, spec).await,
        TaskSpec::Mp4(spec) => mp4::perform(bench, spec).await,
    }
}

impl Bench {
    /// The row of a source.
    async fn source(&self, id: SourceId) -> Result<Source, TaskError> {
        sources::get(&self.shop.db, id)
            .await
            .map_err(|error| TaskError::internal("reading the source", error))?
            .ok_or_else(|| TaskError::fatal(Reason::Internal, "the source is gone"))
    }

    /// A source as a file on this host.
    async fn open(&self, source: &Source) -> Result<SourceFile, TaskError> {
        self.say(0.0, "fetching the source", None);
        self.shop.cache.file(&self.shop.storage, source).await
    }

    /// A source as a file that holds at least `extent` of it, where there is one.
    async fn open_extent(&self, source: &Source, extent: Option<&Extent>) -> Result<SourceFile, TaskError> {
        let Some(extent) = extent else { return self.open(source).await };
        if let Some(whole) = self.shop.cache.at_hand(&self.shop.storage, source) {
            return Ok(whole);
        }
        self.say(0.0, "fetching the source's beginning", None);
        let path = self.dir.join("beginning");
        extent::fetch(&self.shop.storage, source, extent, &path).await?;
        Ok(SourceFile::own(path))
    }

    /// The image that a job lays on its pictures, as a file on this host.
    async fn open_mark(&self, mark: Option<&Watermark>) -> Result<Option<SourceFile>, TaskError> {
        match mark {
            Some(mark) => Ok(Some(self.open(&self.source(mark.source).await?).await?)),
            None => Ok(None),
        }
    }

    /// Tells how far the task is.
    fn say(&self, done: f64, phase: &str, report: Option<&Report>) {
        let speed = report.and_then(|report| report.speed);
        let done = done.clamp(0.0, 1.0) as f32;
        let started = report.and_then(|report| report.out_time_us).map(|us| us as f32 / 1e6);
        // What is left of the media at the present speed, once there is one to speak of.
        let eta_seconds =
            started.zip(speed).filter(|(_, speed)| *speed > 0.0 && done >= STEADY).map(|(time, speed)| {
                let whole = time / done;
                (whole - time).max(0.0) / speed
            });
        self.progress.send_replace(Progress {
            progress: done,
            phase: phase.to_owned(),
            fps: report.and_then(|report| report.fps),
            speed,
            eta_seconds,
        });
    }

    /// Runs FFmpeg to its end, its progress told as a share of `amount`.
    async fn ffmpeg(
        &self,
        phase: &str,
        args: &[OsString],
        amount: Amount,
        limits: Duration,
        threads: u32,
    ) -> Result<Ended, TaskError> {
        let mut parser = Parser::default();
        let started = Instant::now();
        let on_line = |line: &str| {
            if let Some(report) =
                parser.line(line).map(|report| amount.on_our_clock(report, started.elapsed()))
            {
                let done = report.out_time_us.map_or(0.0, |us| us as f64 / 1e6 / amount.seconds.max(0.001));
                self.say(done, phase, Some(&report));
            }
        };
        self.say(0.0, phase, None);
        let program = self.shop.programs.ffmpeg.clone();
        self.note(&program, args);
        let ended = self.child(&program, args, limits, threads, on_line).await?;
        self.keep_log(&ended.log_tail);
        if let Some(took) = ended.cpu {
            let mut all = self.cpu.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *all = Some(all.unwrap_or_default() + took);
        }
        Ok(ended)
    }

    async fn child(
        &self,
        program: &Path,
        args: &[OsString],
        deadline: Duration,
        threads: u32,
        on_line: impl FnMut(&str) + Send,
    ) -> Result<Ended, TaskError> {
        let limits = Limits::standard(deadline, threads);
        let limits = if self.claimed.spec.pool() == Pool::Gpu { limits.with_drivers() } else { limits };
        let stall = self.shop.config.stall;
        let job = Run { program, args, dir: &self.dir, deadline, stall, limits };
        run(job, &self.stop, on_line).await.map_err(|error| match error {
            RunError::Start(..) | RunError::Io(_) => TaskError::internal("running FFmpeg", error),
            RunError::Stalled(stall, log) => {
                self.keep_log(&log);
                TaskError::retryable(
                    Reason::DeadlineExceeded,
                    format!("FFmpeg hung: it did nothing for {} s", stall.as_secs()),
                )
            }
            RunError::Stopped => TaskError::retryable(Reason::Internal, "the task was stopped"),
            RunError::Deadline(_, log) => {
                self.keep_log(&log);
                TaskError::retryable(
                    Reason::DeadlineExceeded,
                    format!("FFmpeg ran longer than the {} s this task may take", deadline.as_secs()),
                )
            }
        })
    }

    /// Keeps the exact command with the attempt, beside the work.
    fn note(&self, program: &Path, args: &[OsString]) {
        let command = command_line(program, args);
        let (db, hold) = (self.shop.db.clone(), self.claimed.hold);
        tokio::spawn(async move {
            if let Err(error) = progress::note_command(&db, hold, &command).await {
                tracing::warn!(%error, task_id = %hold.task_id, "could not keep a command");
            }
        });
    }

    fn keep_log(&self, log: &str) {
        if !log.trim().is_empty() {
            *self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(log.to_owned());
        }
    }
}

/// A command as it is shown.
fn command_line(program: &Path, args: &[OsString]) -> Vec<String> {
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(args.iter().map(OsString::as_os_str))
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}

/// How much an FFmpeg is to make.
#[derive(Debug, Clone, Copy)]
struct Amount {
    seconds: f64,
    /// Frames of the first output, where those are to be counted: FFmpeg's own times mean nothing where it keeps the file's.
    frames: Option<u64>,
}

impl Amount {
    fn seconds(seconds: f64) -> Self {
        Self { seconds, frames: None }
    }

    /// A report with times counted from the start of the work.
    fn on_our_clock(self, report: Report, elapsed: Duration) -> Report {
        let (Some(frames), Some(frame)) = (self.frames.filter(|frames| *frames > 0), report.frame) else {
            return report;
        };
        let seconds = frame as f64 / frames as f64 * self.seconds;
        let speed = (seconds / elapsed.as_secs_f64().max(0.001)) as f32;
        Report { out_time_us: Some((seconds * 1e6) as u64), speed: Some(speed), ..report }
    }
}

/// Before this share of the work is done, a speed says nothing about what is left.
const STEADY: f32 = 0.02;

/// All chunks of a rendition are played with one init segment: what this one was encoded with must be what the others were.
async fn same_init(bench: &Bench, set: SetId, encoded: &EncodedRendition) -> Result<(), TaskError> {
    let rung = &encoded.rendition.rung;
    let known = sets::init_digest(&bench.shop.db, set, rung)
        .await
        .map_err(|error| TaskError::internal("reading the segment index", error))?;
    if known.is_some_and(|known| known != encoded.init_sha256) {
        return Err(TaskError::fatal(
            Reason::CheckFailed,
            format!(
                "{rung} was encoded with other parameters than its other chunks; do all workers have the same FFmpeg?"
            ),
        ));
    }
    Ok(())
}

/// Turns FFmpeg's end into an error, where it is one. FFmpeg says why in its log; the last lines go into the message.
fn check_exit(what: &str, ended: &Ended) -> Result<(), TaskError> {
    if ended.status.success() {
        return Ok(());
    }
    let reason: Vec<&str> =
        ended.log_tail.lines().rev().filter(|line| !line.trim().is_empty()).take(2).collect();
    let reason: Vec<&str> = reason.into_iter().rev().collect();
    let text = if reason.is_empty() { "it gave no reason".to_owned() } else { reason.join("; ") };
    // A signal comes from outside (out of memory, an operator); an exit code is FFmpeg's own judgement of this input,
    // but that may be a full disk too, so it is worth another attempt.
    let end = match ended.status.code() {
        Some(code) => format!("ended with code {code}"),
        None => format!("was killed ({})", ended.status),
    };
    let full = ended.log_tail.contains("No space left on device");
    let reason = if full { Reason::Storage } else { Reason::Ffmpeg };
    Err(TaskError::retryable(reason, format!("{what}: FFmpeg {end}: {text}")))
}
