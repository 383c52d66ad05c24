//! Server-sent events: nothing missing, nothing twice, and an end.

use std::collections::HashSet;
use std::time::Duration;

use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{Paused, answer, client_with, header, is_problem, text};

#[tokio::test]
async fn http_events() {
    let farm = Farm::builder().processes(2, 1, 1).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 8, "1280x720");
    let (first, second) = (farm.api(0), farm.api(1));
    positions_are_checked(&first).await;
    let all = a_job_is_told_to_its_end(&farm, &clip).await;
    one_can_go_on_anywhere(&first, &second, &all).await;
    a_project_is_told(&first, &second).await;
    the_first_listener_misses_nothing(&farm).await;
    farm.stop().await;
}

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Frame {
    id: Option<String>,
    event: String,
    data: Value,
}

/// A stream that is being read.
struct Stream {
    response: Response,
    buffer: String,
}

/// More than the keep-alive's interval, so that a silent stream is found to be silent.
const PATIENCE: Duration = Duration::from_secs(60);

impl Stream {
    async fn open(api: &Client, path: &str, last: Option<&str>) -> Self {
        let mut request = api.request(Method::GET, &format!("/api/v1{path}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(header(headers, "content-type"), "text/event-stream");
        assert_eq!(
            (header(headers, "x-accel-buffering"), header(headers, "cache-control")),
            ("no", "no-store")
        );
        Self { response, buffer: String::new() }
    }

    /// The next frame; `None` where the stream has ended.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let lines: Vec<(String, String)> = block
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                self.buffer = rest.to_owned();
                let field = |name: &str| {
                    lines.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
                };
                // A comment keeps the connection alive and is no frame.
                if let (Some(event), Some(data)) = (field("event"), field("data")) {
                    return Some(Frame {
                        id: field("id"),
                        event,
                        data: serde_json::from_str(&data).unwrap(),
                    });
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("the stream says nothing");
            self.buffer.push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    /// Frames of the log until the stream ends.
    async fn rest(mut self) -> Vec<Frame> {
        let mut frames = vec![];
        while let Some(frame) = self.next().await {
            if frame.event != "progress" {
                frames.push(frame);
            }
        }
        frames
    }
}

fn kinds(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.event.as_str()).collect()
}

async fn positions_are_checked(api: &Client) {
    let body = json!({ "kind": "probe", "input": { "url": "https://media.invalid/a.mp4" } });
    let job = api.post("/jobs", &body).await;
    let path = format!("/api/v1/jobs/{}/events", text(&job, "id"));
    for path in ["/api/v1/events", path.as_str()] {
        for bad in
            ["x", "1", "1-", "-1", "1-2-3", "-1--1", "99999999999999999999-1", "1-99999999999999999999"]
        {
            let request = api.request(Method::GET, path).header("last-event-id", bad);
            is_problem(&answer(request).await, 400, "malformed");
        }
    }
    let nothing = api.request(Method::GET, &format!("/api/v1/jobs/{}/events", uuid::Uuid::nil()));
    is_problem(&answer(nothing).await, 404, "not-found");
    api.wait_for(text(&job, "id")).await;
}

/// Listens from the start to the end, with the progress in between.
async fn a_job_is_told_to_its_end(farm: &Farm, clip: &std::path::Path) -> (String, Vec<Frame>) {
    let paused = Paused::workers(farm);
    // Some seconds of work: progress is told twice a second.
    let rung = json!({ "name": "720p", "width": 1280, "height": 720, "crf": 23, "max_bitrate": 3_000_000 });
    let slow = json!({ "rungs": [rung], "preset": "medium" });
    let job = farm.client.submit(clip, &slow).await;
    let id = text(&job, "id").to_owned();
    let mut stream = Stream::open(&farm.api(1), &format!("/jobs/{id}/events"), None).await;
    let queued = stream.next().await.unwrap();
    assert_eq!(queued.event, "job.queued");
    drop(paused);
    let (mut log, mut progress) = (vec![queued], vec![]);
    while let Some(frame) = stream.next().await {
        match frame.event.as_str() {
            "progress" => progress.push(frame),
            _ => log.push(frame),
        }
    }
    assert_eq!(kinds(&log)[..2], ["job.queued", "job.started"]);
    assert_eq!(kinds(&log).last(), Some(&"job.succeeded"), "it ends with the job");
    assert!(
        kinds(&log).contains(&"recording.ready") || kinds(&log).contains(&"recording.playable"),
        "{:?}",
        kinds(&log)
    );
    let ids: HashSet<_> = log.iter().map(|frame| frame.id.clone().unwrap()).collect();
    assert_eq!(ids.len(), log.len(), "each has an id of its own");
    for frame in &log {
        assert_eq!(frame.data["type"], frame.event.as_str());
        assert_eq!(frame.data["data"]["job_id"], id.as_str(), "{}", frame.data);
        assert!(text(&frame.data, "timestamp").parse::<chrono::DateTime<chrono::Utc>>().is_ok());
    }
    assert!(progress.len() >= 2, "{} frames of progress", progress.len());
    for frame in &progress {
        assert_eq!(frame.id, None, "what is not in the log is no place to go on from");
        let progress = &frame.data["progress"];
        assert!((0.0..=1.0).contains(&progress["progress"].as_f64().unwrap()), "{}", frame.data);
        assert!(frame.data["task_id"].is_string() && progress["phase"].is_string(), "{}", frame.data);
    }
    (id, log)
}

/// From any event on, at any process, exactly the ones after it come.
async fn one_can_go_on_anywhere(first: &Client, second: &Client, (job, all): &(String, Vec<Frame>)) {
    let path = format!("/jobs/{job}/events");
    assert_eq!(&Stream::open(first, &path, None).await.rest().await, all);
    for (at, frame) in all.iter().enumerate().take(all.len() - 1) {
        let api = [first, second][at % 2];
        let rest = Stream::open(api, &path, frame.id.as_deref()).await.rest().await;
        assert_eq!(rest, all[at + 1..], "after {}", frame.event);
    }
    // Nothing comes after the last one. A browser that is told 204 does not ask again and again.
    let last = all.last().unwrap().id.clone().unwrap();
    let over = first.request(Method::GET, &format!("/api/v1{path}")).header("last-event-id", last);
    assert_eq!(answer(over).await.0, StatusCode::NO_CONTENT);
}

async fn submit_bad(api: &Client) -> String {
    let body = json!({ "kind": "probe", "input": { "url": "http://[::1]:1/" } });
    text(&api.post("/jobs", &body).await, "id").to_owned()
}

/// Events of the project from now on; of no other project.
async fn a_project_is_told(first: &Client, second: &Client) {
    let mut live = Stream::open(second, "/events", None).await;
    let other = client_with(first, Some("other"), &["write"]).await;
    submit_bad(&other).await;
    let mut wanted = HashSet::new();
    for _ in 0..5 {
        wanted.insert(submit_bad(first).await);
    }
    let mut frames: Vec<Frame> = vec![];
    let mut ended = HashSet::new();
    while ended != wanted {
        let frame = live.next().await.unwrap();
        let job = text(&frame.data["data"], "job_id").to_owned();
        assert!(wanted.contains(&job), "{} is not of this project or was before", frame.data);
        if frame.event == "job.failed" {
            ended.insert(job);
        }
        frames.push(frame);
    }
    let of = |kind: &str| frames.iter().filter(|frame| frame.event == kind).count();
    assert_eq!((of("job.queued"), of("job.started"), of("job.failed")), (5, 5, 5));
    // Broken off after the third: the others come, each once, and the stream goes on.
    let mut again = Stream::open(first, "/events", frames[2].id.as_deref()).await;
    for frame in &frames[3..] {
        assert_eq!(again.next().await.as_ref(), Some(frame));
    }
    let next = submit_bad(second).await;
    assert_eq!(again.next().await.unwrap().data["data"]["job_id"], next.as_str());
    // Only what was asked for, of what was and of what comes.
    let mut some =
        Stream::open(first, "/events?types=job.failed,job.cancelled", frames[0].id.as_deref()).await;
    let failed = frames[1..].iter().filter(|frame| frame.event == "job.failed");
    for frame in failed {
        assert_eq!(some.next().await.as_ref(), Some(frame));
    }
    let frame = some.next().await.unwrap();
    assert_eq!((frame.event.as_str(), &frame.data["data"]["job_id"]), ("job.failed", &json!(next)));
    let refused = answer(first.request(Method::GET, "/api/v1/events?types=job.failed,job.went")).await;
    is_problem(&refused, 422, "validation");
    let input = json!({ "url": "http://[::1]:1/" });
    let job = first.post("/jobs", &json!({ "kind": "transcode", "input": input, "profile": "fast" })).await;
    let recording = text(&job, "recording_id");
    let mut of_one =
        Stream::open(first, &format!("/events?recording_id={recording}"), frames[0].id.as_deref()).await;
    assert_eq!(of_one.next().await.unwrap().data["data"]["recording_id"], recording);
}

/// The tail of the log sleeps while nobody listens. What happens while it wakes up must not be lost.
async fn the_first_listener_misses_nothing(farm: &Farm) {
    let api = farm.client.clone();
    let other = client_with(&api, Some("waking"), &["write"]).await;
    for round in 0..12 {
        // The last listener has just gone, and the next one comes while jobs do.
        let mut stream = Stream::open(&other, "/events", None).await;
        let mut wanted = HashSet::new();
        for _ in 0..3 {
            wanted.insert(submit_bad(&other).await);
        }
        while !wanted.is_empty() {
            let frame = timeout(Duration::from_secs(20), stream.next()).await;
            let frame =
                frame.unwrap_or_else(|_| panic!("round {round}: {wanted:?} were never told")).unwrap();
            if frame.event == "job.failed" {
                wanted.remove(text(&frame.data["data"], "job_id"));
            }
            if frame.event == "job.queued" {
                assert!(wanted.contains(text(&frame.data["data"], "job_id")), "{}", frame.data);
            }
        }
    }
}
