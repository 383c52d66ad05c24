//! One attempt at one task, from its scratch directory to its guarded end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use rand::Rng;
use reelmill_shared::broker::{Broker, ring_later};
use reelmill_shared::db::finish::{self, AttemptNote, Followed, Publication};
use reelmill_shared::db::tasks::{Claimed, Progress, prefix};
use reelmill_shared::db::{DbError, progress};
use reelmill_shared::job::error::{Reason, TaskError};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::scratch::Scratch;
use crate::tasks::{Bench, Shop, perform};

/// What an attempt needs.
pub(crate) struct Attempt {
    pub(crate) shop: Arc<Shop>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) claimed: Claimed,
    /// Cancelled when the lease is lost.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the worker shuts down and will not wait any longer.
    pub(crate) give_back: CancellationToken,
}

/// How often progress is written; also how soon a cancelled job is noticed.
const TELL: Duration = Duration::from_secs(1);

/// How long a task that was told to stop may take to do so.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Runs the attempt. An error means that its end could not be reported; the lease will tell.
pub(crate) async fn run(attempt: Attempt) -> Result<(), DbError> {
    let claimed = &attempt.claimed;
    let span = tracing::info_span!(
        "task",
        task_id = %claimed.hold.task_id,
        job_id = %claimed.job_id,
        kind = %claimed.spec.kind(),
        attempt = claimed.attempt,
        traceparent = claimed.traceparent.as_deref().unwrap_or_default(),
    );
    // The state of all kinds of work: too much to be moved about.
    Box::pin(run_in_span(&attempt)).instrument(span).await
}

async fn run_in_span(attempt: &Attempt) -> Result<(), DbError> {
    let started = Instant::now();
    let (shop, claimed) = (&attempt.shop, &attempt.claimed);
    let dir = match attempt.scratch.attempt(&format!("{}-{}", claimed.hold.task_id, claimed.hold.epoch)) {
        Ok(dir) => dir,
        Err(error) => {
            let error = TaskError::retryable(Reason::Storage, format!("no scratch directory: {error}"));
            return report_failure(attempt, &error, AttemptNote::default()).await;
        }
    };
    let (progress, told) = watch::channel(Progress {
        progress: 0.0,
        phase: "starting".to_owned(),
        fps: None,
        speed: None,
        eta_seconds: None,
    });
    // One token for everything that ends the work early.
    let stop = attempt.stop.child_token();
    let bench = Bench {
        shop: Arc::clone(shop),
        claimed: claimed.clone(),
        dir: dir.clone(),
        prefix: prefix(claimed.project_id, claimed.hold),
        stop: stop.clone(),
        progress,
        log: Mutex::new(None),
        cpu: Mutex::new(None),
    };
    let result = {
        let working = std::panic::AssertUnwindSafe(perform(&bench)).catch_unwind();
        tokio::pin!(working);
        let telling = tell(attempt, told);
        tokio::select! {
            result = &mut working => result,
            () = stopped(attempt, telling) => {
                stop.cancel();
                // Children end at once; whatever else goes on (a download, a write to the store) is dropped after a moment.
                tokio::select! {
                    result = &mut working => result,
                    () = sleep(LAST_WORDS) => Ok(Err(TaskError::retryable(Reason::Internal, "the task was stopped"))),
                }
            }
        }
    };
    let result =
        result.unwrap_or_else(|_| Err(TaskError::retryable(Reason::Internal, "the worker's code panicked")));
    let cpu = *bench.cpu.lock().unwrap_or_else(PoisonError::into_inner);
    let note = AttemptNote {
        log_tail: bench.log.lock().unwrap_or_else(PoisonError::into_inner).take(),
        cpu_seconds: cpu.map(|cpu| cpu.as_secs_f64()),
    };
    clean(dir).await;
    let ended = end(attempt, result, note).await;
    metrics::histogram!("reelmill_task_run_seconds", "kind" => claimed.spec.kind().as_str())
        .record(started.elapsed().as_secs_f64());
    ended
}

/// Returns when the work must end early: the lease is lost, the job cancelled, or the worker shuts down.
async fn stopped(attempt: &Attempt, telling: impl Future<Output = ()>) {
    tokio::select! {
        () = telling => {}
        () = attempt.stop.cancelled() => {}
        () = attempt.give_back.cancelled() => {}
    }
}

/// Writes progress while it changes. Returns when the database says that the task is somebody else's or over.
async fn tell(attempt: &Attempt, mut told: watch::Receiver<Progress>) {
    let mut tick = interval(TELL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // At once would tell nothing yet.
    tick.tick().await;
    loop {
        tick.tick().await;
        let latest = told.borrow_and_update().clone();
        let hold = attempt.claimed.hold;
        match progress::put(&attempt.shop.db, attempt.claimed.job_id, hold, &latest).await {
            Ok(true) => {}
            Ok(false) => {
                attempt.stop.cancel();
                return;
            }
            Err(error) => tracing::debug!(%error, "could not write progress"),
        }
    }
}

async fn end(
    attempt: &Attempt,
    result: Result<Vec<Publication>, TaskError>,
    note: AttemptNote,
) -> Result<(), DbError> {
    match result {
        Ok(publications) => {
            let told = insistently(attempt, || {
                finish::succeed(&attempt.shop.db, &attempt.claimed, &publications, &note)
            })
            .await;
            let followed = match told {
                Ok(followed) => followed,
                Err(error) => {
                    let refused = error.refusal().ok_or(error)?;
                    return report_failure(attempt, &refused, note).await;
                }
            };
            metrics::counter!("reelmill_task_attempts_total", "kind" => attempt.claimed.spec.kind().as_str(), "outcome" => "succeeded")
                .increment(1);
            tracing::info!("task succeeded");
            follow(attempt, followed);
            Ok(())
        }
        // The lease may stand yet: a word now spares the task the wait for its end. Where it does not, nobody listens.
        Err(_) if attempt.stop.is_cancelled() => {
            let lost = TaskError::retryable(
                Reason::WorkerLost,
                "the worker lost touch with the database and stopped before its lease would end",
            );
            report_failure(attempt, &lost, note).await
        }
        Err(_) if attempt.give_back.is_cancelled() => {
            let followed = insistently(attempt, || {
                finish::release(&attempt.shop.db, attempt.claimed.job_id, attempt.claimed.hold)
            })
            .await?;
            tracing::info!("task given back");
            follow(attempt, followed);
            Ok(())
        }
        Err(error) => report_failure(attempt, &error, note).await,
    }
}

async fn report_failure(attempt: &Attempt, error: &TaskError, note: AttemptNote) -> Result<(), DbError> {
    let jitter = rand::rng().random();
    let followed =
        insistently(attempt, || finish::fail(&attempt.shop.db, &attempt.claimed, error, &note, jitter))
            .await?;
    metrics::counter!(
        "reelmill_task_attempts_total",
        "kind" => attempt.claimed.spec.kind().as_str(),
        "outcome" => "failed",
        "reason" => error.reason.as_str(),
    )
    .increment(1);
    tracing::warn!(reason = %error.reason, retryable = error.retryable, %error, "task failed");
    follow(attempt, followed);
    Ok(())
}

/// Repeats a report through outages of the database for as long as the lease may live. The report is guarded: where the first one
/// was committed and only its answer lost, the second finds the task over and changes nothing.
async fn insistently<F, R>(attempt: &Attempt, mut report: F) -> Result<Followed, DbError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Followed, DbError>>,
{
    let deadline = Instant::now() + attempt.shop.config.lease;
    loop {
        match report().await {
            Err(error) if error.is_outage() && Instant::now() < deadline => {
                tracing::warn!(%error, "could not report; trying again");
                sleep(Duration::from_millis(300)).await;
            }
            other => return other,
        }
    }
}

fn follow(attempt: &Attempt, followed: Followed) {
    if let Some(status) = followed.job {
        tracing::info!(job_status = %status, "job over");
    }
    if let Some(took) = followed.playable {
        metrics::histogram!("reelmill_recording_playable_seconds").record(took.as_secs_f64());
        tracing::info!(seconds = took.as_secs_f64(), "recording playable");
    }
    if let Some(took) = followed.ready {
        metrics::histogram!("reelmill_recording_ready_seconds").record(took.as_secs_f64());
        tracing::info!(seconds = took.as_secs_f64(), "recording ready");
    }
    let rings = followed.rings.into_iter().map(|mut ring| {
        ring.job_id = Some(attempt.claimed.job_id);
        ring.traceparent.clone_from(&attempt.claimed.traceparent);
        ring
    });
    ring_later(&attempt.broker, rings.collect());
}

async fn clean(dir: PathBuf) {
    if let Err(error) = tokio::fs::remove_dir_all(&dir).await {
        tracing::warn!(%error, dir = %dir.display(), "could not remove an attempt's scratch");
    }
}
