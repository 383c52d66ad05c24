//! The ways in for live media, each with a peer that others have written.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reelmill_testkit::ffmpeg::ffmpeg_log;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::live::{PATIENCE, becomes, farm, footage, listed, livestream, numbers, watch};
use crate::support::{client_with, text};

/// FFmpeg sending footage over and over as MPEG-TS.
fn send(footage: &Path, to: &str) -> Child {
    Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(footage)
        .args(["-c", "copy", "-f", "mpegts", to])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The command lines of all processes that name this word.
fn command_lines_with(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(word)).collect()
}

/// A UDP port that nobody has at the moment.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn live_srt_is_taken_with_the_passphrase_and_without_it_is_not() {
    let farm = farm().set("REELMILL_SRT_PORTS", free_port()).start().await;
    let passphrase = format!("it's-{}", uuid::Uuid::now_v7());
    let source = json!({ "source": { "type": "srt", "passphrase": passphrase } });
    let stream = livestream(&farm, source).await;
    let id = text(&stream, "id");
    let url = until("somebody to listen", PATIENCE, || async {
        let stream = farm.client.get(&format!("/livestreams/{id}")).await;
        assert_eq!(stream["status"], "idle", "to listen is not to be on air");
        Some(stream["srt_ingest_url"].as_str()?.to_owned())
    })
    .await;
    let reader = client_with(&farm.client, None, &["live:read"]).await;
    assert!(reader.get(&format!("/livestreams/{id}")).await["srt_ingest_url"].is_null());
    assert_eq!(command_lines_with(&passphrase), Vec::<String>::new(), "nobody reads it off a command line");

    let wrong = send(&footage(&farm), &format!("{url}?passphrase=wrong-{passphrase}"));
    let refused = tokio::time::timeout(PATIENCE, wrong.wait_with_output()).await.unwrap().unwrap();
    assert!(!refused.status.success());
    until("it to be told", PATIENCE, || async {
        let events = farm.client.get(&format!("/livestreams/{id}/events")).await;
        events.to_string().contains("another passphrase").then_some(())
    })
    .await;

    let master = watch(&farm, id).await;
    let mut first = send(&footage(&farm), &format!("{url}?passphrase={passphrase}&connect_timeout=20000"));
    becomes(&farm, id, "live").await;
    listed(&master, "240p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
    let log = ffmpeg_log(&["-loglevel", "error", "-i", &master, "-map", "0", "-t", "2", "-f", "null", "-"]);
    assert_eq!(log, "", "somebody else's player has nothing to complain about");

    // It goes, and comes back to the same port and the same broadcast.
    first.kill().await.unwrap();
    becomes(&farm, id, "reconnecting").await;
    let again = until("it to be listened again", PATIENCE, || async {
        farm.client.get(&format!("/livestreams/{id}")).await["srt_ingest_url"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(again, url);
    let _second = send(&footage(&farm), &format!("{url}?passphrase={passphrase}&connect_timeout=20000"));
    listed(&master, "240p", "a seam and more", |text| {
        let behind = text.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
        (!numbers(behind).is_empty()).then_some(())
    })
    .await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    listed(&master, "240p", "its end", |text| text.contains("#EXT-X-ENDLIST").then_some(())).await;
    farm.stop().await;
}

#[tokio::test]
async fn live_srt_is_fetched_from_an_address_that_is_allowed() {
    let farm = farm().set("REELMILL_NET_ALLOW", "127.0.0.0/8").start().await;
    let port = free_port();
    let passphrase = "0123456789-sesame";
    let url = format!("srt://127.0.0.1:{port}?streamid=cam/1");
    let source = json!({
        "source": { "type": "srt", "url": url, "passphrase": passphrase },
        "settings": { "enable_transcoding": false, "segment_duration": 2, "keyframe_interval": 1 },
    });
    let stream = livestream(&farm, source).await;
    let id = text(&stream, "id");
    farm.client.post_empty(format!("/livestreams/{id}/start")).await;
    becomes(&farm, id, "failed").await;
    let at = format!("srt://127.0.0.1:{port}?mode=listener&passphrase={passphrase}");
    let footage = footage(&farm);
    // FFmpeg serves one caller and ends; a server is there for whoever comes next, too.
    let server = tokio::spawn(async move {
        loop {
            let _ = send(&footage, &at).wait_with_output().await;
        }
    });
    let on_air = becomes(&farm, id, "live").await;
    let names: Vec<&str> =
        on_air["variants"].as_array().unwrap().iter().map(|it| text(it, "resolution")).collect();
    assert_eq!(names, ["source"], "one quality, of the source's own size");
    // Its keyframes may have to be seen before it is known to be off the grid.
    until("it to be told that it is encoded", PATIENCE, || async {
        let events = farm.client.get(&format!("/livestreams/{id}/events")).await;
        events.to_string().contains("at its own size").then_some(())
    })
    .await;
    let master = watch(&farm, id).await;
    listed(&master, "source", "segments", |text| (!numbers(text).is_empty()).then_some(())).await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    becomes(&farm, id, "idle").await;
    server.abort();
    farm.stop().await;
}

/// GStreamer's RTSP server, which plays footage once to each who comes.
struct Camera(Child);

impl Camera {
    /// Gives its port, too; with port 0 it chooses one.
    async fn start(footage: &Path, port: u16) -> (Self, u16) {
        let python = std::env::var_os("REELMILL_RTSP_PYTHON")
            .expect("REELMILL_RTSP_PYTHON: install GstRtspServer and run this by scripts/with-services");
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/rtsp.py"))
            .arg(footage)
            .args([port.to_string().as_str(), "admin", "it's-hunter2"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        (Self(child), port.parse().unwrap())
    }
}

/// Footage of a real camera where it is there, without sound and with ten pictures a second; else a picture made up like it.
fn cctv(farm: &Farm) -> PathBuf {
    let real = media::footage().map(|dir| dir.join("doorway-432p10-h264-cctv.mp4"));
    real.filter(|path| path.exists()).unwrap_or_else(|| {
        let path = farm.dir.path().join("cctv.mp4");
        let size = "testsrc2=size=320x180:rate=10:duration=60";
        let encoded = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "20", "-pix_fmt", "yuv420p", "-y"];
        ffmpeg_log(
            &[&["-loglevel", "error", "-f", "lavfi", "-i", size], &encoded[..], &[path.to_str().unwrap()]]
                .concat(),
        );
        path
    })
}

#[tokio::test]
async fn live_a_camera_is_fetched_and_fetched_again_when_it_returns() {
    let farm = farm().set("REELMILL_NET_ALLOW", "127.0.0.0/8").start().await;
    let footage = cctv(&farm);
    let (mut camera, port) = Camera::start(&footage, 0).await;
    let url = format!("rtsp://admin:it's-hunter2@127.0.0.1:{port}/cam");
    let stream = livestream(&farm, json!({ "source": { "type": "rtsp", "url": url } })).await;
    let id = text(&stream, "id");
    farm.client.post_empty(format!("/livestreams/{id}/start")).await;
    let on_air = becomes(&farm, id, "live").await;
    assert_eq!(on_air["variants"][0]["frame_rate"], 10.0, "{on_air}");
    let fetching = command_lines_with("pull-");
    assert!(fetching.iter().any(|line| line.contains(id)), "{fetching:?}");
    assert!(!fetching.iter().any(|line| line.contains("hunter2")), "{fetching:?}");
    let master = watch(&farm, id).await;
    listed(&master, "240p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
    let log = ffmpeg_log(&["-loglevel", "error", "-i", &master, "-map", "0", "-t", "2", "-f", "null", "-"]);
    assert_eq!(log, "", "somebody else's player has nothing to complain about");

    camera.0.kill().await.unwrap();
    becomes(&farm, id, "reconnecting").await;
    let (_camera, again) = Camera::start(&footage, port).await;
    assert_eq!(again, port);
    listed(&master, "240p", "a seam and more", |text| {
        let behind = text.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
        (!numbers(behind).is_empty()).then_some(())
    })
    .await;
    let after = becomes(&farm, id, "live").await;
    assert_eq!(after["broadcast_id"], on_air["broadcast_id"], "it never ended");
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    becomes(&farm, id, "idle").await;
    farm.stop().await;
}
