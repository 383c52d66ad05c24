//! `reelmill live`.

use std::process::{Output, Stdio};

use reelmill_testkit::farm::binary;
use reelmill_testkit::{Client, Farm};
use serde_json::{Value, json};
use tokio::process::Command;

async fn run(api: &Client, words: &[&str]) -> Output {
    Command::new(binary("reelmill"))
        .env_clear()
        .env("REELMILL_SERVER", &api.base)
        .env("REELMILL_KEY", &api.key)
        .arg("live")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json_of(api: &Client, words: &[&str]) -> Value {
    let output = run(api, &[words, &["-o", "json"]].concat()).await;
    assert!(output.status.success(), "{words:?}: {}", said(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn live_cli() {
    let farm = Farm::builder()
        .processes(1, 0, 1)
        .set("REELMILL_PUBLIC_RTMP_URL", "rtmp://ingest.example:1936/live/")
        .start()
        .await;
    let api = &farm.client;

    let made = json_of(
        api,
        &[
            "create",
            "Main stage",
            "--low-latency",
            "--dvr",
            "3600",
            "--resolutions",
            "720p,360p",
            "--require-start",
        ],
    )
    .await;
    let (id, key) = (made["id"].as_str().unwrap(), made["stream_key"].as_str().unwrap());
    assert_eq!(made["settings"]["resolutions"], json!(["720p", "360p"]));
    assert_eq!((&made["low_latency"], &made["dvr_window"]), (&json!(true), &json!(3600)));
    assert_eq!(made["settings"]["record"], true);
    assert_eq!(made["watch_page"], format!("{}/watch/live/{id}", api.base));

    // For people: where to publish is data, how to is a hint.
    let output = run(api, &["create", "Other", "--dvr"]).await;
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(out.contains("rtmp://ingest.example:1936/live/live_"), "{out}");
    assert!(err.contains("-f flv rtmp://ingest.example:1936/live/live_"), "{err}");
    assert!(err.contains("server rtmp://ingest.example:1936/live, stream key live_"), "{err}");
    let source = ["create", "Film", "--source", "https://media.example/film.mp4", "--loop", "--record"];
    let film = json_of(api, &source).await;
    assert_eq!((&film["source"]["type"], &film["source"]["loop"]), (&json!("file"), &json!(true)));
    assert_eq!(film["settings"]["record"], true);
    let camera = json_of(api, &["create", "Camera", "--source", "rtsp://u:p@camera.example/1"]).await;
    assert_eq!(camera["source"]["url"], "rtsp://camera.example/1");

    let listed = said(&run(api, &["list", "--status", "idle"]).await.stdout);
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(listed.contains(id) && listed.contains("Main stage"), "{listed}");
    assert_eq!(json_of(api, &["list", "--all"]).await["streams"].as_array().unwrap().len(), 4);
    let shown = said(&run(api, &["show", id]).await.stdout);
    assert!(shown.contains("not started") && shown.contains(key), "{shown}");
    let play = said(&run(api, &["show", id, "--play-url"]).await.stdout);
    assert!(play.starts_with(&format!("{}/v/", api.base)) && play.trim().ends_with("master.m3u8"), "{play}");

    let started = run(api, &["start", id]).await;
    assert!(started.status.success() && said(&started.stderr).contains("waits for its publisher"));
    assert_eq!(api.get(&format!("/livestreams/{id}")).await["armed"], true);
    assert_eq!(json_of(api, &["stop", id]).await["message"], "the livestream was not running");
    let rotated = json_of(api, &["rotate-key", id]).await;
    assert_ne!(rotated["stream_key"], key);
    assert_eq!(json_of(api, &["events", id, "--severity", "error"]).await["events"], json!([]));

    assert_eq!(run(api, &["delete", id]).await.status.code(), Some(2), "nobody can be asked");
    assert_eq!(json_of(api, &["delete", id, "--yes"]).await["deleted"], true);
    assert_eq!(run(api, &["show", id]).await.status.code(), Some(5));
    assert_eq!(run(api, &["create", " "]).await.status.code(), Some(6));
    farm.stop().await;
}
