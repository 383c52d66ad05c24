//! `reelmill webhook`: above all `listen`, which leaves nothing behind.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_testkit::farm::binary;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::python::python;
use crate::receiver::{Receiver, Reply};
use crate::webhooks::failing_job;

const WAIT: Duration = Duration::from_secs(60);

fn command(api: &Client, words: &[&str]) -> Command {
    let mut command = Command::new(binary("reelmill"));
    command
        .env_clear()
        .env("REELMILL_SERVER", &api.base)
        .env("REELMILL_KEY", &api.key)
        .arg("webhook")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(api: &Client, words: &[&str]) -> Output {
    command(api, words).output().await.unwrap()
}

async fn json_of(api: &Client, words: &[&str]) -> Value {
    let output = run(api, &[words, &["-o", "json"]].concat()).await;
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn webhooks_cli() {
    let farm = Farm::builder().set("REELMILL_NET_ALLOW", "127.0.0.1/32").start().await;
    let api = &farm.client;
    commands_do_what_the_api_does(api).await;
    a_listener_prints_what_is_signed(api).await;
    a_listener_that_is_ended_leaves_nothing(api).await;
    the_example_of_the_manual_works(api).await;
    farm.stop().await;
}

async fn commands_do_what_the_api_does(api: &Client) {
    let receiver = Receiver::start(|_, _| Reply::Status(200)).await;
    let made =
        json_of(api, &["add", &receiver.url("/cli"), "--event", "job.failed", "--description", "d"]).await;
    let id = made["id"].as_str().unwrap();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(json_of(api, &["list"]).await["webhooks"][0]["events"], json!(["job.failed"]));
    assert_eq!(json_of(api, &["test", id]).await["delivered"], true);
    assert_ne!(json_of(api, &["rotate", id, "--keep", "60"]).await["secret"], made["secret"]);
    failing_job(api).await;
    receiver.wait("/cli", 2).await;
    let delivery = until("the report", WAIT, || async {
        let all = json_of(api, &["deliveries", id, "--state", "delivered"]).await;
        all["deliveries"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(json_of(api, &["replay", &delivery]).await["replay"], true);
    receiver.wait("/cli", 3).await;
    let from = made["created_at"].as_str().unwrap();
    let again = until("the replay to be over", WAIT, || async {
        let again = json_of(api, &["replay", id, "--from", from]).await;
        (again["deliveries"] == 1).then_some(again)
    })
    .await;
    assert_eq!(again, json!({ "deliveries": 1 }));
    receiver.wait("/cli", 4).await;
    let listed = String::from_utf8(run(api, &["list"]).await.stdout).unwrap();
    assert!(listed.contains("enabled") && listed.contains("job.failed"), "{listed}");
    json_of(api, &["delete", id]).await;
    assert_eq!(run(api, &["deliveries", id]).await.status.code(), Some(5));
    assert_eq!(run(api, &["add", "http://10.0.0.1/"]).await.status.code(), Some(6));
}

async fn webhooks_there(api: &Client) -> usize {
    api.get("/webhooks").await["webhooks"].as_array().unwrap().len()
}

async fn a_listener_prints_what_is_signed(api: &Client) {
    let words = ["listen", "--count", "3", "--event", "job.queued", "--event", "job.failed", "-o", "json"];
    let listening = command(api, &words).spawn().unwrap();
    until("the webhook", WAIT, || async { (webhooks_there(api).await == 1).then_some(()) }).await;
    let url = api.get("/webhooks").await["webhooks"][0]["url"].as_str().unwrap().to_owned();
    // Not from us: refused, and not printed.
    let forged = reqwest::Client::new().post(&url).header("webhook-id", "x").body("{}").send().await.unwrap();
    assert_eq!(forged.status(), 401);
    let job = failing_job(api).await;
    failing_job(api).await;
    let output = tokio::time::timeout(WAIT, listening.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("refused a request: "), "{said}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let of_job: Vec<&str> = lines
        .iter()
        .filter(|line| line["data"]["job_id"] == job.as_str())
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert!(of_job.starts_with(&["job.queued"]), "{lines:?}");
    assert!(lines.iter().all(|line| line["id"].is_string()));
    assert_eq!(webhooks_there(api).await, 0);
}

async fn a_listener_that_is_ended_leaves_nothing(api: &Client) {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 0)] {
        let mut listening = command(api, &["listen"]).spawn().unwrap();
        until("the webhook", WAIT, || async { (webhooks_there(api).await == 1).then_some(()) }).await;
        let mut said = BufReader::new(listening.stderr.take().unwrap()).lines();
        assert!(said.next_line().await.unwrap().unwrap().starts_with("listening at http://127.0.0.1:"));
        failing_job(api).await;
        let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
        for kind in ["job.queued", "job.started", "job.failed"] {
            let line = tokio::time::timeout(WAIT, lines.next_line()).await.unwrap().unwrap().unwrap();
            assert!(line.contains(kind), "{line}");
        }
        kill(Pid::from_raw(listening.id().unwrap() as i32), signal).unwrap();
        let status = tokio::time::timeout(WAIT, listening.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(code));
        assert_eq!(webhooks_there(api).await, 0, "after {signal}");
    }
}

/// The receiver that docs/WEBHOOKS.md shows, run as it stands there.
async fn the_example_of_the_manual_works(api: &Client) {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/WEBHOOKS.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let (_, rest) = manual.split_once("```python\n").unwrap();
    let (code, _) = rest.split_once("```").unwrap();
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    let mut example = Command::new(python())
        .args(["-c", code])
        .env("WEBHOOK_SECRET", secret)
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(example.stdout.take().unwrap()).lines();
    let first = said.next_line().await.unwrap().unwrap();
    let url = format!("http://127.0.0.1:{}/", first.strip_prefix("listening on port ").unwrap());
    let made =
        api.post("/webhooks", &json!({ "url": url, "secret": secret, "events": ["job.cancelled"] })).await;
    let id = made["id"].as_str().unwrap();
    let test = api.post_empty(format!("/webhooks/{id}/test")).await;
    assert_eq!((&test["delivered"], &test["status"]), (&json!(true), &json!(204)), "{test}");
    let line = said.next_line().await.unwrap().unwrap();
    assert!(line.starts_with("webhook.test ") && line.contains(id), "{line}");
    let forged = reqwest::Client::new().post(&url).header("webhook-id", "x").body("{}").send().await.unwrap();
    assert_eq!(forged.status(), 401);
    json_of(api, &["delete", id]).await;
}
