//! A dry run tells what the job then does, and does nothing of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reelmill_testkit::farm::binary;
use reelmill_testkit::ffmpeg::ffmpeg;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::Method;
use serde_json::{Value, json};

use crate::judge::Playback;
use crate::support::{Page, Site, answer, files_under, is_problem, objects_dir, pointers};

/// Names of files without where they are; the source has another one on every host.
fn portable(command: &Value) -> Vec<String> {
    let words: Vec<&str> = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let name = |(place, word): (usize, &&str)| match word.strip_prefix("file:") {
        Some(_) if place > 0 && words[place - 1] == "-i" => "source".to_owned(),
        Some(path) => path.rsplit('/').next().unwrap().to_owned(),
        None => (*word).to_owned(),
    };
    words.iter().enumerate().map(name).collect()
}

/// Kind and command of every task that runs FFmpeg for the media.
fn commands(tasks: &Value) -> Vec<(String, Vec<String>)> {
    let told = |task: &Value| {
        let kind = task["kind"].as_str().unwrap().to_owned();
        let runs_none = ["fetch", "probe", "report", "finish"].contains(&kind.as_str());
        (!runs_none).then(|| (kind, portable(&task["command"])))
    };
    tasks.as_array().unwrap().iter().filter_map(told).collect()
}

async fn dry_run(client: &Client, collection: &str, body: &Value) -> Value {
    let path = format!("/api/v1/{collection}?dry_run=true");
    let (status, _, told) = answer(client.request(Method::POST, &path).json(body)).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["dry_run"], true);
    told
}

fn within_a_factor_of_two(told: f64, was: f64, what: &str) {
    assert!(told < was * 2.0 && was < told * 2.0, "{what}: {told} was told, {was} it was");
}

#[tokio::test]
async fn reuse_a_dry_run_tells_the_plan_and_makes_nothing() {
    let farm =
        Farm::builder().set("REELMILL_WORKER_SLOTS", 2).set("REELMILL_ENCODE_THREADS", 1).start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    // Long enough for a lead and two chunks.
    let clip = media::clip(dir.path(), 40, "640x360");
    let upload = client.upload(&clip).await;
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast" });

    let stored = files_under(&objects_dir(&farm));
    let told = dry_run(client, "jobs", &body).await;
    assert_eq!(client.get("/recordings").await["recordings"], json!([]), "nothing is made");
    assert_eq!(files_under(&objects_dir(&farm)), stored);
    let db = farm.database.connect().await;
    let made = "select (select count(*) from sets) + (select count(*) from pictures)
                     + (select count(*) from tasks where kind <> 'probe')";
    assert_eq!(db.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0);
    let jobs = client.get("/jobs").await;
    let kinds: Vec<&str> =
        jobs["jobs"].as_array().unwrap().iter().map(|job| job["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["probe"], "but somebody has looked");
    // Who comes back for it reads the same; a list is spared it.
    let later = client.get(&format!("/jobs/{}", told["job_id"].as_str().unwrap())).await;
    assert_eq!(later["result"]["dry_run"], told);
    assert_eq!(jobs["jobs"][0]["result"]["dry_run"], Value::Null, "{jobs}");
    let ladder = &told["ladder"];
    assert_eq!(ladder["dropped"][0]["name"], "720p", "{ladder}");
    assert!(ladder["dropped"][0]["reason"].as_str().unwrap().contains("640x360"), "{ladder}");
    assert_eq!(ladder["renditions"][0]["name"], "360p");
    assert_eq!(ladder["renditions"][0]["max_bitrate"], 900_000);
    let unknown = json!({ "cpu_seconds": null, "cpu_samples": 0, "bytes": null, "bytes_samples": 0 });
    assert_eq!((&told["estimate"], &told["reused_from"]), (&unknown, &Value::Null));
    assert_eq!(
        (&ladder["renditions"][0]["bitrate"], &ladder["renditions"][0]["bytes"]),
        (&Value::Null, &Value::Null)
    );
    let tasks = told["tasks"].as_array().unwrap();
    let finish = tasks.last().unwrap();
    assert_eq!((&finish["kind"], &finish["command"]), (&json!("finish"), &Value::Null));
    let board = tasks.iter().position(|task| task["kind"] == "storyboard").unwrap();
    let others: Vec<usize> = (0..tasks.len() - 1).filter(|place| *place != board).collect();
    assert_eq!(finish["blocked_by"], json!(others), "it waits for all that is played");
    assert!(tasks.iter().filter(|task| task["kind"] == "encode").count() >= 3, "lead and chunks: {told}");

    let job = client.post("/jobs", &body).await;
    let job = client.wait_for(job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    assert_eq!(commands(&told["tasks"]), commands(&job["tasks"]), "to the letter");
    let listed = client.get("/jobs?kind=transcode").await;
    let listed = listed["jobs"][0]["tasks"].as_array().unwrap();
    assert!(listed.len() == job["tasks"].as_array().unwrap().len(), "{listed:?}");
    assert!(listed.iter().all(|task| task["command"].is_null()), "{listed:?}");

    // Learned from that one job.
    let again =
        dry_run(client, "recordings", &json!({ "input": { "upload_id": upload }, "profile": "fast" })).await;
    assert_eq!(again["reused_from"]["recording_id"], job["recording_id"]);
    let estimate = &again["estimate"];
    assert!(estimate["cpu_samples"].as_u64().unwrap() >= 1 && estimate["bytes_samples"] == 1, "{estimate}");
    let took = "select sum(a.cpu_seconds) from attempts a join tasks t on t.id = a.task_id
                where t.kind in ('encode', 'audio')";
    let took: f64 = db.query_one(took, &[]).await.unwrap().get(0);
    within_a_factor_of_two(estimate["cpu_seconds"].as_f64().unwrap(), took, "CPU seconds");
    let made: i64 = db.query_one("select sum(bytes)::bigint from segments", &[]).await.unwrap().get(0);
    within_a_factor_of_two(estimate["bytes"].as_f64().unwrap(), made as f64, "bytes");
    farm.stop().await;
}

/// A digest of every decoded frame.
fn frames(file: &Path) -> Vec<String> {
    let file = file.to_str().unwrap();
    let hashes = ffmpeg(&["-i", file, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framehash", "-"]);
    let text = String::from_utf8(hashes).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

#[tokio::test]
async fn reuse_a_dry_run_tells_commands_that_run_as_they_stand() {
    let farm = Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 7, "854x480");
    let upload = client.upload(&clip).await;
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast", "quality": true,
                       "outputs": ["hls", "mp4", "thumbnail", "storyboard"], "thumbnails": { "interval": 1 } });
    let told = dry_run(client, "jobs", &body).await;
    let encodes: Vec<&Value> =
        told["tasks"].as_array().unwrap().iter().filter(|task| task["kind"] == "encode").collect();
    assert_eq!(encodes.len(), 1, "{told}");

    std::fs::copy(&clip, dir.path().join("source")).unwrap();
    let words: Vec<&str> =
        encodes[0]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let output = Command::new(words[0]).args(&words[1..]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let job = client.post("/jobs", &body).await;
    let job = client.wait_for(job["id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let all = commands(&told["tasks"]);
    assert_eq!(all, commands(&job["tasks"]), "to the letter");
    for kind in ["mp4", "storyboard", "thumbnails", "quality"] {
        assert!(all.iter().any(|(told, _)| told == kind), "{kind} in {all:?}");
    }
    let played = Playback::fetch(client, job["recording_id"].as_str().unwrap()).await;
    assert_eq!(played.video.len(), 2);
    for (number, track) in played.video.iter().enumerate() {
        let by_hand = frames(&dir.path().join(format!("rung-{number}.mp4")));
        assert_eq!(by_hand.len(), 175);
        assert!(by_hand == frames(&track.file), "{}: other frames than the job's", track.name);
    }
    farm.stop().await;
}

#[tokio::test]
async fn reuse_a_dry_run_leaves_nothing_of_what_it_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let clip = std::fs::read(media::clip(dir.path(), 2, "320x180")).unwrap();
    let site = Site::start("127.0.0.1", vec![("/clip.mp4", Page::Bytes(clip))]).await;
    let farm = Farm::builder().set("REELMILL_NET_ALLOW", "127.0.0.1/32").start().await;
    let client = &farm.client;
    let body = |path: &str| json!({ "kind": "transcode", "input": { "url": format!("{}{path}", site.base) }, "profile": "fast" });
    let told = dry_run(client, "jobs", &body("/clip.mp4")).await;
    assert_eq!(told["ladder"]["renditions"][0]["name"], "360p", "{told}");
    let db = farm.database.connect().await;
    until("what was fetched to be handed to the sweeper", Duration::from_secs(30), || async {
        db.execute("update garbage set due_at = now()", &[]).await.unwrap();
        files_under(&objects_dir(&farm)).is_empty().then_some(())
    })
    .await;

    let path = "/api/v1/jobs?dry_run=true";
    let missing = answer(client.request(Method::POST, path).json(&body("/missing.mp4"))).await;
    is_problem(&missing, 422, "validation");
    assert_eq!(pointers(&missing.2), ["/input"]);
    assert!(missing.2["errors"][0]["detail"].as_str().unwrap().contains("404"), "{}", missing.2);
    farm.stop().await;
}

#[tokio::test]
async fn reuse_a_dry_run_finds_the_mistakes_of_the_job() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let ask = |body: Value| {
        let request = client.request(Method::POST, "/api/v1/jobs?dry_run=true").json(&body);
        async move { answer(request).await }
    };
    let wrong = json!({ "kind": "transcode", "input": { "url": "rtmp://h/x" }, "profile": "nosuch", "priority": 101 });
    let refused = ask(wrong).await;
    is_problem(&refused, 422, "validation");
    assert_eq!(pointers(&refused.2), ["/profile", "/priority", "/input/url"]);
    let upload = client.upload(&media::clip(dir.path(), 1, "320x180")).await;
    let nobody = "019a0000-0000-7000-8000-000000000000";
    for field in ["upload_id", "recording_id"] {
        let unknown = ask(json!({ "kind": "transcode", "input": { field: nobody } })).await;
        is_problem(&unknown, 422, "validation");
        assert_eq!(pointers(&unknown.2), [format!("/input/{field}")]);
    }
    let probe = ask(json!({ "kind": "probe", "input": { "upload_id": upload } })).await;
    assert_eq!(pointers(&probe.2), ["/kind"]);
    let text = dir.path().join("not-media.txt");
    std::fs::write(&text, "words").unwrap();
    let upload = client.upload(&text).await;
    let unusable = ask(json!({ "kind": "transcode", "input": { "upload_id": upload } })).await;
    is_problem(&unusable, 422, "validation");
    assert_eq!(pointers(&unusable.2), ["/input"]);
    assert_eq!(client.get("/recordings").await["recordings"], json!([]));
    farm.stop().await;
}

/// What the command line prints, and how it ends.
fn reelmill(client: &Client, args: &[&str]) -> (bool, String) {
    let output = Command::new(binary("reelmill"))
        .args(["--server", &client.base, "--key", &client.key])
        .args(args)
        .output()
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn reuse_the_command_line_tells_and_forces() {
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 3, "640x360");
    let submit = |more: &[&str]| {
        let args = ["job", "submit", "--profile", "fast", clip.to_str().unwrap()];
        reelmill(client, &[&args, more].concat())
    };
    let (done, told) = submit(&["--dry-run"]);
    assert!(done, "{told}");
    for part in
        ["not known: nothing comparable was made yet", "left out", "640x360", "libx264", "# task 0\nffmpeg "]
    {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    assert_eq!(client.get("/recordings").await["recordings"], json!([]));
    assert!(submit(&["--watch"]).0);
    let (done, told) = submit(&["--dry-run", "-o", "json"]);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert!(done && document["reused_from"]["recording_id"].is_string(), "{told}");
    assert!(submit(&["--watch"]).0 && submit(&["--watch", "--force"]).0);
    let jobs = client.get("/jobs?kind=transcode").await;
    let reused: Vec<bool> =
        jobs["jobs"].as_array().unwrap().iter().map(|job| job["result"]["reused_from"].is_object()).collect();
    assert_eq!(reused, [false, true, false], "newest first: forced, reused, made");
    let wish = dir.path().join("wish.json");
    std::fs::write(&wish, json!({ "edit": { "start": 0.5, "end": 3 }, "ladder": "auto" }).to_string())
        .unwrap();
    let (done, told) =
        submit(&["--dry-run", "-o", "json", "--body", wish.to_str().unwrap(), "--start", "1", "--end", "2"]);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert!(done && document["duration_seconds"] == 1.0, "{told}");
    assert!(document["warnings"].to_string().contains("samples"), "{told}");
    let recording = jobs["jobs"][0]["recording_id"].as_str().unwrap();
    let (done, told) = reelmill(client, &["recording", "qualities", recording, "360p"]);
    assert!(done && told.contains(recording) && told.contains("succeeded"), "{told}");
    let nosuch = ["job", "submit", "--dry-run", "--profile", "nosuch", clip.to_str().unwrap()];
    let (done, told) = reelmill(client, &nosuch);
    assert!(!done && told.contains("nosuch"), "{told}");
    farm.stop().await;
}
