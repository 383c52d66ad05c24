//! Following a job to its end: the job is read once a second where it changed, and at once when its event stream stirs.

use std::time::Duration;

use futures::StreamExt;
use reelmill_shared::ids::{JobId, TaskId};
use reelmill_shared::job::state::{JobStatus, TaskStatus};
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::documents::{Fault, Job, JobLog};
use super::failure::Failure;
use super::http::{Document, Farm};
use super::output::{Format, print};
use super::progress::Display;
use super::{Context, Interrupted, sse, text};

const POLL: Duration = Duration::from_secs(1);
/// The farm sends a comment every 15 s on a stream that has nothing to tell.
const SILENCE: Duration = Duration::from_secs(40);
const RECONNECT: Duration = Duration::from_secs(2);
/// A farm that restarts is back sooner than this.
const PATIENCE: Duration = Duration::from_secs(120);
const LOG_LINES: usize = 15;

/// Follows a job, prints its document where JSON is wanted, and fails as the job did. Gives the job where it succeeded.
pub(crate) async fn watch(context: &Context, id: JobId) -> Result<Job, Failure> {
    let document = follow(context, id).await?;
    if context.format == Format::Json {
        print(&document.text)?;
    }
    succeeded(context, document.view).await
}

/// The same, but prints nothing of the job: it is only a means to an end.
pub(crate) async fn watch_quietly(context: &Context, id: JobId) -> Result<Job, Failure> {
    let job = follow(context, id).await?.view;
    succeeded(context, job).await
}

async fn succeeded(context: &Context, job: Job) -> Result<Job, Failure> {
    let id = job.id;
    match job.status {
        JobStatus::Succeeded => Ok(job),
        JobStatus::Cancelled => Err(Failure::Failed(format!("the job {id} was cancelled"))),
        _ => Err(Failure::Failed(obituary(&context.farm, &job).await)),
    }
}

async fn follow(context: &Context, id: JobId) -> Result<Document<Job>, Failure> {
    let farm = &context.farm;
    context.on_interrupt(Interrupted::Watching(id));
    let mut known = Known { farm, id, etag: None, document: farm.get(&["jobs", &id.to_string()]).await? };
    let mut display = Display::new();
    let (notices, mut listen) = mpsc::channel(64);
    let feed = feed(farm, id, notices);
    tokio::pin!(feed);
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost: Option<Instant> = None;
    loop {
        let job = &known.document.view;
        display.update(job);
        if job.is_over() {
            display.finish(job);
            context.on_interrupt(Interrupted::Nothing);
            return Ok(known.document);
        }
        tokio::select! {
            never = &mut feed => match never {},
            Some(notice) = listen.recv() => match notice {
                Notice::Progress(change) => {
                    apply(&mut known.document.view, change);
                    continue;
                }
                Notice::Changed => {}
            },
            _ = ticks.tick() => {}
        }
        match known.refresh().await {
            Ok(()) if lost.take().is_some() => display.say("the farm answers again"),
            Ok(()) => {}
            Err(failure) if failure.may_pass() => {
                let since = *lost.get_or_insert_with(|| {
                    display.say(&format!("{failure}; the job is not affected, trying again"));
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(failure);
                }
                sleep(POLL).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The job as last read.
struct Known<'f> {
    farm: &'f Farm,
    id: JobId,
    etag: Option<header::HeaderValue>,
    document: Document<Job>,
}

impl Known<'_> {
    async fn refresh(&mut self) -> Result<(), Failure> {
        let mut request = self.farm.request(Method::GET, self.farm.url(&["jobs", &self.id.to_string()]));
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = self.farm.send(request).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        let etag = response.headers().get(header::ETAG).cloned();
        self.document = self.farm.document(response).await?;
        self.etag = etag;
        Ok(())
    }
}

enum Notice {
    /// Something happened: read the job.
    Changed,
    Progress(ProgressFrame),
}

/// Data of a `progress` frame.
#[derive(Debug, Deserialize)]
struct ProgressFrame {
    task_id: TaskId,
    progress: Figures,
}

#[derive(Debug, Deserialize)]
struct Figures {
    progress: f64,
    phase: Option<String>,
    fps: Option<f64>,
    speed: Option<f64>,
    eta_seconds: Option<f64>,
}

/// Newer figures of a running task. The job's own are read with the job.
fn apply(job: &mut Job, change: ProgressFrame) {
    let task =
        job.tasks.iter_mut().find(|task| task.id == change.task_id && task.status == TaskStatus::Running);
    if let Some(task) = task {
        let Figures { progress, phase, fps, speed, eta_seconds } = change.progress;
        task.progress = progress;
        task.phase = phase.or(task.phase.take());
        (task.fps, task.speed, task.eta_seconds) = (fps, speed, eta_seconds);
    }
}

/// Listens to the job's event stream for ever. Whatever goes wrong here only makes the picture slower: the job is read anyway.
async fn feed(farm: &Farm, id: JobId, notices: mpsc::Sender<Notice>) -> std::convert::Infallible {
    let mut parser = sse::Parser::default();
    loop {
        // Errors are told by whoever reads the job.
        let _ = listen(farm, id, &mut parser, &notices).await;
        parser.reconnect();
        sleep(RECONNECT).await;
    }
}

async fn listen(
    farm: &Farm,
    id: JobId,
    parser: &mut sse::Parser,
    notices: &mpsc::Sender<Notice>,
) -> Result<(), Failure> {
    let url = farm.url(&["jobs", &id.to_string(), "events"]);
    let mut request = farm.request_without_end(Method::GET, url).header(header::ACCEPT, "text/event-stream");
    if let Some(last) = parser.last_event_id() {
        request = request.header("last-event-id", last);
    }
    let silent = |_| Failure::Broken("the event stream fell silent".to_owned());
    let response = timeout(SILENCE, farm.send(request)).await.map_err(silent)??;
    let mut bytes = response.bytes_stream();
    while let Some(chunk) = timeout(SILENCE, bytes.next()).await.map_err(silent)? {
        let chunk = chunk.map_err(|error| farm.transport(&error))?;
        for frame in parser.push(&chunk) {
            let notice = match frame.event.as_str() {
                "progress" => serde_json::from_str(&frame.data).ok().map(Notice::Progress),
                _ => Some(Notice::Changed),
            };
            if let Some(notice) = notice
                && notices.send(notice).await.is_err()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Why a job failed, with the end of what FFmpeg said.
async fn obituary(farm: &Farm, job: &Job) -> String {
    let mut text = match &job.error {
        Some(Fault { reason, message }) => format!("the job {} failed: {message} ({reason})", job.id),
        None => format!("the job {} failed", job.id),
    };
    // The failure is worth telling also where the log cannot be had.
    let Ok(log) = farm.get::<JobLog>(&["jobs", &job.id.to_string(), "log"]).await else {
        return text;
    };
    let failed = |outcome: &str| matches!(outcome, "failed" | "lost");
    let last =
        log.view.attempts.iter().rev().find(|attempt| failed(&attempt.outcome) && attempt.log.is_some());
    let Some((attempt, tail)) = last.and_then(|attempt| Some((attempt, attempt.log.as_deref()?))) else {
        return text;
    };
    let lines: Vec<String> = text::lines(tail).collect();
    if !lines.is_empty() {
        text.push_str(&format!("\nthe last lines of its log ({}, try {}):", attempt.kind, attempt.attempt));
    }
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_frames_reach_the_running_task_only() {
        let task = |id: &str, status: &str| {
            serde_json::json!({
                "id": id, "kind": "encode", "status": status, "worker": null, "attempt": 1, "max_attempts": 3,
                "progress": 1.0, "phase": "encoding",
            })
        };
        let (running, done) =
            ("01a1f8b4-7152-7089-b7cc-ae5dad334ac5", "01a1f8b4-7152-7089-b7cc-ae5bf7921d02");
        let mut job: Job = serde_json::from_value(serde_json::json!({
            "id": "01a1f8b4-7093-702b-a7f4-ded97abf1264", "kind": "transcode", "status": "running", "recording_id": null,
            "priority": 50, "progress": 0.4, "tasks": [task(running, "running"), task(done, "succeeded")],
            "created_at": "2026-11-20T11:25:37Z",
        }))
        .unwrap();
        for id in [running, done, "01a1f8b4-7093-702b-a7f4-ded97abf1264"] {
            let data = format!(
                r#"{{"task_id":"{id}","progress":{{"progress":0.5,"phase":"checking","fps":30.0,"speed":1.2,"eta_seconds":4.0}}}}"#
            );
            apply(&mut job, serde_json::from_str(&data).unwrap());
        }
        let shown: Vec<_> =
            job.tasks.iter().map(|task| (task.progress, task.phase.as_deref(), task.fps)).collect();
        assert_eq!(shown, [(0.5, Some("checking"), Some(30.0)), (1.0, Some("encoding"), None)]);
    }
}
