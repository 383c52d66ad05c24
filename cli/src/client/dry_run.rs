//! `job submit --dry-run`.

use reelmill_shared::ids::JobId;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::Context;
use super::failure::Failure;
use super::output::{Column, Format, fields, note, print, table};
use super::text::{bitrate, quote, size, span};
use super::watch::watch_quietly;

/// What a transcode would do.
#[derive(Debug, Deserialize)]
struct Plan {
    duration_seconds: f64,
    tasks: Vec<Task>,
    ladder: Ladder,
    estimate: Estimate,
    reused_from: Option<Reused>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Task {
    kind: String,
    pool: String,
    blocked_by: Vec<usize>,
    renditions: Vec<String>,
    command: Option<Vec<String>>,
    cpu_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Ladder {
    renditions: Vec<Rendition>,
    dropped: Vec<Dropped>,
}

#[derive(Debug, Deserialize)]
struct Rendition {
    name: String,
    width: Option<u32>,
    height: Option<u32>,
    encoder: String,
    max_bitrate: u64,
    bitrate: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Dropped {
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    cpu_seconds: Option<f64>,
    cpu_samples: usize,
    bytes: Option<u64>,
    bytes_samples: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Reused {
    recording_id: String,
}

/// Asks what `body` would do if it were posted, waits for a job that must find it out first, and prints it.
pub(crate) async fn run(context: &Context, collection: &str, body: &Value) -> Result<(), Failure> {
    let mut url = context.farm.url(&[collection]);
    url.query_pairs_mut().append_pair("dry_run", "true");
    let request = context.farm.request(Method::POST, url).json(body);
    let response = context.farm.ask(request).await?;
    let told = response.status() == reqwest::StatusCode::OK;
    let document = context.farm.document::<Value>(response).await?;
    let plan = if told { document.view } else { found_out(context, document.view).await? };
    match context.format {
        Format::Json => print(&plan.to_string()),
        Format::Table => print(&report(&Plan::deserialize(&plan).map_err(unreadable)?)),
    }
}

async fn found_out(context: &Context, job: Value) -> Result<Value, Failure> {
    let id: JobId = serde_json::from_value(job["id"].clone()).map_err(unreadable)?;
    note(&format!("job {id} looks into the source"));
    let found = watch_quietly(context, id).await?.result.map(|mut result| result["dry_run"].take());
    found.ok_or_else(|| Failure::Failed(format!("the job {id} has found nothing out")))
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::Failed(format!("the answer is not one this version knows: {error}"))
}

fn report(plan: &Plan) -> String {
    let estimated = |figure: Option<String>, samples: Option<usize>| match (figure, samples) {
        (Some(figure), None) => format!("{figure} (as the recipe says)"),
        (Some(figure), Some(1)) => format!("{figure} (by 1 earlier one)"),
        (Some(figure), Some(samples)) => format!("{figure} (by {samples} earlier ones)"),
        (None, _) => "not known: nothing comparable was made yet".to_owned(),
    };
    let estimate = &plan.estimate;
    let mut pairs = vec![
        ("duration", span(plan.duration_seconds)),
        ("CPU time", estimated(estimate.cpu_seconds.map(span), Some(estimate.cpu_samples))),
        ("media", estimated(estimate.bytes.map(size), estimate.bytes_samples)),
    ];
    if let Some(reused) = &plan.reused_from {
        pairs.push(("reuse", format!("nothing to encode: recording {} has it", reused.recording_id)));
    }
    pairs.extend(plan.warnings.iter().map(|warning| ("warning", warning.clone())));
    pairs.extend(
        plan.ladder.dropped.iter().map(|rung| ("left out", format!("{}: {}", rung.name, rung.reason))),
    );
    let columns = [
        Column::Text("RENDITION"),
        Column::Text("SIZE"),
        Column::Text("ENCODER"),
        Column::Figure("AT MOST"),
        Column::Figure("ABOUT"),
        Column::Figure("MEDIA"),
    ];
    let renditions = table(
        &columns,
        plan.ladder.renditions.iter().map(|made| {
            let pixels = made.width.zip(made.height).map(|(width, height)| format!("{width}x{height}"));
            vec![
                made.name.clone(),
                pixels.unwrap_or_default(),
                made.encoder.clone(),
                bitrate(made.max_bitrate),
                made.bitrate.map(bitrate).unwrap_or_default(),
                made.bytes.map(size).unwrap_or_default(),
            ]
        }),
    );
    let columns = [
        Column::Figure("TASK"),
        Column::Text("KIND"),
        Column::Text("POOL"),
        Column::Text("AFTER"),
        Column::Figure("CPU"),
        Column::Text("RENDITIONS"),
    ];
    let tasks = table(
        &columns,
        plan.tasks.iter().enumerate().map(|(place, task)| {
            let after: Vec<String> = task.blocked_by.iter().map(usize::to_string).collect();
            vec![
                place.to_string(),
                task.kind.clone(),
                task.pool.clone(),
                after.join(" "),
                task.cpu_seconds.map(span).unwrap_or_default(),
                task.renditions.join(" "),
            ]
        }),
    );
    let commands = plan
        .tasks
        .iter()
        .enumerate()
        .filter_map(|(place, task)| Some(format!("# task {place}\n{}", quote(task.command.as_ref()?))));
    let commands: Vec<String> = commands.collect();
    format!("{}\n\n{renditions}\n\n{tasks}\n\n{}", fields(&pairs), commands.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_told_in_plain_words() {
        let plan = json!({
            "dry_run": true, "duration_seconds": 10.0, "warnings": [],
            "tasks": [
                { "kind": "encode", "pool": "cpu", "class": "libx264", "blocked_by": [], "renditions": ["360p"],
                  "command": ["ffmpeg", "-i", "file:a b"], "cpu_seconds": 4.2 },
                { "kind": "finish", "pool": "cpu", "class": "base", "blocked_by": [0], "renditions": [],
                  "command": null, "cpu_seconds": null },
            ],
            "ladder": {
                "renditions": [{ "name": "360p", "width": 640, "height": 360, "frame_rate": 25.0, "encoder": "libx264",
                                 "max_bitrate": 900_000, "bitrate": 400_000, "bytes": 500_000 }],
                "dropped": [{ "name": "720p", "reason": "too large" }],
            },
            "estimate": { "cpu_seconds": null, "cpu_samples": 0, "bytes": 500_000, "bytes_samples": 3 },
            "reused_from": null,
        });
        let text = report(&Plan::deserialize(&plan).unwrap());
        for part in
            ["not known", "by 3 earlier ones", "720p: too large", "640x360", "# task 0\nffmpeg -i 'file:a b'"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("# task 1"), "{text}");
    }
}
