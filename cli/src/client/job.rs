//! `job`.

use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;
use reelmill_shared::ids::{JobId, TaskId};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::job::state::JobStatus;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::documents::{Attempt, AudioTrack, Fault, Job, JobLog, Probe, Task, VideoTrack};
use super::failure::Failure;
use super::http::Farm;
use super::lists::{self, Paging};
use super::output::{Column, Format, fields, note, print, table};
use super::text::{ago, bitrate, lines, percent, plain, quote, short_number, size, span, times};
use super::{Context, submit, watch};

/// Commands about jobs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum JobCommand {
    /// Submit a job: transcode a file, a URL, an upload or a recording
    Submit(Box<submit::SubmitArgs>),
    /// Follow a job to its end; Ctrl-C stops watching, not the job
    Watch(JobArgs),
    /// Show a job and its tasks
    Status(JobArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Cancel a job
    Cancel(JobArgs),
    /// Do again what a failed or cancelled job left undone, as a new job
    Retry(RetryArgs),
    /// Change the rank of a job among those of its project
    Priority(PriorityArgs),
    /// Show what happened in a job, attempt by attempt, with commands and the ends of the logs
    Log(LogArgs),
}

/// A job.
#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
}

/// Options of `job retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
    /// Follow the new job to its end
    #[arg(long)]
    watch: bool,
}

/// Options of `job priority`.
#[derive(Debug, clap::Args)]
pub(crate) struct PriorityArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
    /// 0 to 100; larger is sooner
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    priority: u8,
}

/// Options of `job list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_parser = PossibleValuesParser::new(JobStatus::ALL.iter().map(|status| status.as_str())))]
    status: Option<String>,
    /// Only jobs of this kind
    #[arg(long, value_parser = PossibleValuesParser::new(JobKind::ALL.iter().map(|kind| kind.as_str())))]
    kind: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `job log`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: JobId,
    /// Only this task's attempts
    #[arg(long, value_name = "TASK")]
    task: Option<TaskId>,
}

/// Runs a command about jobs.
pub(crate) async fn run(context: &Context, command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::Submit(args) => submit::run(context, *args).await,
        JobCommand::Watch(args) => {
            let job = watch::watch(context, args.id).await?;
            if context.format == Format::Table { print(&report(&context.farm, &job)) } else { Ok(()) }
        }
        JobCommand::Status(args) => status(context, args).await,
        JobCommand::List(args) => list(context, args).await,
        JobCommand::Cancel(args) => cancel(context, args.id).await,
        JobCommand::Retry(args) => retry(context, args).await,
        JobCommand::Priority(args) => set_priority(context, args).await,
        JobCommand::Log(args) => log(context, args).await,
    }
}

/// Runs `job status`.
pub(crate) async fn status(context: &Context, args: JobArgs) -> Result<(), Failure> {
    let document = context.farm.get::<Job>(&["jobs", &args.id.to_string()]).await?;
    if context.format == Format::Json {
        return print(&document.text);
    }
    let job = document.view;
    let mut text = report(&context.farm, &job);
    if !job.tasks.is_empty() {
        text.push_str("\n\n");
        text.push_str(&tasks(&job.tasks));
    }
    print(&text)
}

/// A job without its tasks, for people.
pub(crate) fn report(farm: &Farm, job: &Job) -> String {
    let mut text = fields(&summary(farm, job));
    let probe = job.result.as_ref().filter(|_| job.kind == JobKind::Probe.as_str());
    if let Some(probe) = probe.and_then(|result| Probe::deserialize(&result["probe"]).ok()) {
        text.push_str("\n\n");
        text.push_str(&found(&probe));
    }
    text
}

fn found(probe: &Probe) -> String {
    let rate = |video: &VideoTrack| video.rate.num / video.rate.den.max(1.0);
    let video = |video: &VideoTrack| {
        let rate = short_number(rate(video));
        format!("{} {}x{} {rate} fps {}", video.codec, video.width, video.height, video.pixel_format)
    };
    let audio = |audio: &AudioTrack| {
        let language = audio.language.as_deref().unwrap_or_default();
        format!("{} {} Hz {} channels {language}", audio.codec, audio.sample_rate, audio.channels)
    };
    let mut pairs = vec![
        ("format", probe.format.clone()),
        ("length", span(probe.duration_seconds)),
        ("size", probe.size_bytes.map(size).unwrap_or_default()),
        ("bitrate", probe.bitrate.map(bitrate).unwrap_or_default()),
        ("video", probe.video.as_ref().map(video).unwrap_or_default()),
    ];
    pairs.extend(probe.audio.iter().map(|track| ("audio", audio(track).trim_end().to_owned())));
    pairs.extend(probe.warnings.iter().map(|warning| ("warning", warning.clone())));
    fields(&pairs)
}

/// What is most worth knowing of a job, for a table.
fn summary(farm: &Farm, job: &Job) -> Vec<(&'static str, String)> {
    let running = job.status == JobStatus::Running;
    let progress = [
        Some(percent(job.progress)),
        job.phase.clone(),
        job.fps.map(|fps| format!("{fps:.0} fps")),
        job.speed.map(times),
        job.eta_seconds.map(|eta| format!("{} left", span(eta))),
    ];
    let progress = progress.into_iter().flatten().collect::<Vec<_>>().join("  ");
    let absolute =
        |path: &Option<String>| path.as_deref().map(|path| farm.absolute(path)).unwrap_or_default();
    let recording = job.recording_id.map(|id| id.to_string()).unwrap_or_default();
    // The page also shows how far a recording is.
    let page = job.recording_id.filter(|_| job.kind == JobKind::Transcode.as_str());
    let told = |what: &str| job.result.as_ref().map_or(&Value::Null, |result| &result[what]);
    let warnings = told("plan")["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut rows = vec![
        ("job", job.id.to_string()),
        ("kind", job.kind.clone()),
        ("status", job.status.to_string()),
        ("progress", if running { progress } else { String::new() }),
        ("error", job.error.as_ref().map(fault).unwrap_or_default()),
        ("priority", if job.is_over() { String::new() } else { job.priority.to_string() }),
        ("created", ago(job.created_at, Utc::now())),
        ("queued for", job.timings.queued.map(span).unwrap_or_default()),
        ("playable after", job.timings.playable.map(span).unwrap_or_default()),
        ("took", job.timings.run.or(job.timings.total).map(span).unwrap_or_default()),
        ("recording", recording),
        ("hls", absolute(&job.outputs.hls)),
        ("dash", absolute(&job.outputs.dash)),
        ("mp4", absolute(&job.outputs.mp4.first().map(|file| file.url.clone()))),
        ("thumbnail", absolute(&job.outputs.thumbnail)),
        ("storyboard", absolute(&job.outputs.storyboard)),
        ("watch", page.map(|id| farm.absolute(&format!("watch/{id}"))).unwrap_or_default()),
        ("made before by", told("reused_from")["job_id"].as_str().unwrap_or_default().to_owned()),
    ];
    rows.extend(warnings.map(|warning| ("warning", plain(warning))));
    rows
}

fn fault(fault: &Fault) -> String {
    format!("{} ({})", fault.message, fault.reason)
}

fn tasks(tasks: &[Task]) -> String {
    let columns = [
        Column::Text("TASK"),
        Column::Text("KIND"),
        Column::Text("STATUS"),
        Column::Figure("DONE"),
        Column::Figure("TRY"),
        Column::Figure("TOOK"),
        Column::Text("WORKER"),
        Column::Text("MAKES"),
    ];
    let row = |task: &Task| {
        vec![
            task.id.to_string(),
            task.kind.clone(),
            task.status.to_string(),
            percent(task.progress),
            format!("{}/{}", task.attempt, task.max_attempts),
            took(task.started_at, task.finished_at),
            task.worker.clone().unwrap_or_default(),
            task.renditions.join(" "),
        ]
    };
    let mut text = table(&columns, tasks.iter().map(row));
    for task in tasks {
        if let Some(error) = &task.error {
            text.push_str(&format!("\n{} {}: {}", plain(&task.kind), task.status, plain(&fault(error))));
        }
    }
    text
}

fn took(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => span((to - from).as_seconds_f64()),
        _ => String::new(),
    }
}

async fn list(context: &Context, args: ListArgs) -> Result<(), Failure> {
    let filters = [("status", args.status), ("kind", args.kind)];
    let list = lists::read::<Job>(&context.farm, "jobs", &filters, &args.paging).await?;
    let columns = [
        Column::Text("JOB"),
        Column::Text("STATUS"),
        Column::Text("KIND"),
        Column::Figure("DONE"),
        Column::Figure("CREATED"),
        Column::Figure("TOOK"),
        Column::Text("RECORDING"),
    ];
    let now = Utc::now();
    list.show(context.format, &columns, |job| {
        vec![
            job.id.to_string(),
            job.status.to_string(),
            job.kind.clone(),
            percent(job.progress),
            ago(job.created_at, now),
            job.timings.run.map(span).unwrap_or_default(),
            job.recording_id.map(|id| id.to_string()).unwrap_or_default(),
        ]
    })
}

async fn cancel(context: &Context, id: JobId) -> Result<(), Failure> {
    let farm = &context.farm;
    let url = farm.url(&["jobs", &id.to_string(), "cancel"]);
    let document = farm.document::<Job>(farm.ask(farm.request(Method::POST, url)).await?).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => {
            print(&fields(&[("job", id.to_string()), ("status", document.view.status.to_string())]))
        }
    }
}

async fn retry(context: &Context, args: RetryArgs) -> Result<(), Failure> {
    let farm = &context.farm;
    let url = farm.url(&["jobs", &args.id.to_string(), "retry"]);
    let document = farm.document::<Job>(farm.ask(farm.request(Method::POST, url)).await?).await?;
    if args.watch {
        let job = watch::watch(context, document.view.id).await?;
        return if context.format == Format::Table { print(&report(farm, &job)) } else { Ok(()) };
    }
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => print(&fields(&[
            ("job", document.view.id.to_string()),
            ("retry of", args.id.to_string()),
            ("status", document.view.status.to_string()),
            ("tasks", document.view.tasks.len().to_string()),
        ])),
    }
}

async fn set_priority(context: &Context, args: PriorityArgs) -> Result<(), Failure> {
    let farm = &context.farm;
    let request = farm.request(Method::PATCH, farm.url(&["jobs", &args.id.to_string()]));
    let request = request.json(&serde_json::json!({ "priority": args.priority }));
    let document = farm.document::<Job>(farm.ask(request).await?).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => print(&fields(&[
            ("job", args.id.to_string()),
            ("status", document.view.status.to_string()),
            ("priority", args.priority.to_string()),
        ])),
    }
}

async fn log(context: &Context, args: LogArgs) -> Result<(), Failure> {
    let mut document = context.farm.get::<JobLog>(&["jobs", &args.id.to_string(), "log"]).await?;
    if let Some(wanted) = args.task {
        document.view.attempts.retain(|attempt| attempt.task_id == wanted);
        if document.view.attempts.is_empty() {
            return Err(Failure::NotFound(format!("the job {} has no attempt at a task {wanted}", args.id)));
        }
    }
    if context.format == Format::Json {
        let Some(wanted) = args.task else {
            return print(&document.text);
        };
        return print(&only(&document.text, wanted));
    }
    if document.view.attempts.is_empty() {
        note("nothing has been tried yet");
        return Ok(());
    }
    let blocks: Vec<String> = document.view.attempts.iter().map(attempt).collect();
    print(&blocks.join("\n\n"))
}

/// The document with this task's attempts alone, otherwise as it came.
fn only(text: &str, wanted: TaskId) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap_or_default();
    let wanted = wanted.to_string();
    if let Some(attempts) = value["attempts"].as_array_mut() {
        attempts.retain(|attempt| attempt["task_id"] == wanted.as_str());
    }
    value.to_string()
}

fn attempt(attempt: &Attempt) -> String {
    let took = took(Some(attempt.started_at), attempt.finished_at);
    let mut text = format!(
        "{} {}  {} try {} on {}: {}{}",
        attempt.started_at.format("%Y-%m-%d %H:%M:%S"),
        attempt.task_id,
        plain(&attempt.kind),
        attempt.attempt,
        plain(attempt.worker.as_deref().unwrap_or("no worker")),
        plain(&attempt.outcome),
        if took.is_empty() { String::new() } else { format!(" in {took}") },
    );
    if let Some(error) = &attempt.error {
        text.push_str(&format!("\n  {}", plain(&fault(error))));
    }
    if let Some(command) = &attempt.command {
        text.push_str(&format!("\n  $ {}", quote(command)));
    }
    for line in attempt.log.iter().flat_map(|log| lines(log)) {
        text.push_str(&format!("\n  | {line}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_read_well_and_are_harmless() {
        let log = r#"{"attempts":[{"task_id":"01a1f8b4-7152-7089-b7cc-ae5dad334ac5","kind":"encode","attempt":2,"epoch":2,
            "worker":"w-1","outcome":"failed","started_at":"2026-11-20T11:25:37.5Z","finished_at":"2026-11-20T11:25:49.5Z",
            "command":["ffmpeg","-i","file:/a b"],"error":{"reason":"ffmpeg","message":"it\u001b broke","retryable":true},
            "log":"one\rtwo\u001b[2J\n"}]}"#;
        let document: JobLog = serde_json::from_str(log).unwrap();
        let expected = "2026-11-20 11:25:37 01a1f8b4-7152-7089-b7cc-ae5dad334ac5  encode try 2 on w-1: failed in 12 s\n  \
            it? broke (ffmpeg)\n  $ ffmpeg -i 'file:/a b'\n  | one\n  | two?[2J";
        assert_eq!(attempt(&document.attempts[0]), expected);
        assert!(only(log, "01a1f8b4-7152-7089-b7cc-ae5dad334ac5".parse().unwrap()).contains("encode"));
        assert!(!only(log, TaskId::new()).contains("encode"));
    }
}
