//! Live streams from outside: real publishers, real encoders, and what viewers get of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reelmill_testkit::farm::{Part, binary};
use reelmill_testkit::ffmpeg::ffmpeg_log;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, FarmBuilder, media};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::text;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A farm whose workers take live streams.
pub(crate) fn farm() -> FarmBuilder {
    Farm::builder().set("REELMILL_RTMP_LISTEN", "127.0.0.1:0").set("REELMILL_LIVE_LEASE_SECONDS", 3)
}

/// A livestream of small pictures in short segments.
pub(crate) async fn livestream(farm: &Farm, more: Value) -> Value {
    let mut body = json!({
        "title": "test", "low_latency": true,
        "settings": {
            "resolutions": ["360p", "240p"], "segment_duration": 2, "keyframe_interval": 1, "part_duration": 0.5,
            "overload": "keep",
        },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    farm.client.post("/livestreams", &body).await
}

/// Somebody who publishes real footage over and over.
pub(crate) struct Publisher(Child);

impl Publisher {
    /// To the `worker`-th worker.
    pub(crate) fn start(farm: &Farm, worker: usize, key: &str, footage: &Path) -> Self {
        let address = rtmp(farm, worker);
        let child = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"])
            .arg(footage)
            .args(["-c", "copy", "-f", "flv", &format!("rtmp://{address}/live/{key}")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until it is turned away, and gives what it was told.
    async fn refused(self) -> String {
        let output = tokio::time::timeout(PATIENCE, self.0.wait_with_output()).await.unwrap().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Whether it still publishes.
    pub fn is_there(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits until it has been turned away, or has nobody to publish to.
    pub async fn ended(mut self) {
        tokio::time::timeout(PATIENCE, self.0.wait()).await.unwrap().unwrap();
    }

    pub async fn kill(mut self) {
        self.0.kill().await.unwrap();
    }
}

pub(crate) fn rtmp(farm: &Farm, worker: usize) -> String {
    let worker = farm.processes.iter().filter(|process| process.part == Part::Worker).nth(worker).unwrap();
    worker.rtmp().unwrap()
}

/// Our checker, which knows nothing of how playlists are made here, watching a stream.
pub struct Checker {
    running: Child,
    seconds: u64,
}

impl Checker {
    /// Watches for so many seconds.
    pub fn start(master: &str, seconds: u64) -> Self {
        let running = Command::new(binary("reelmill"))
            .args(["check-hls", master, "--seconds", &seconds.to_string(), "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { running, seconds }
    }

    /// What it says in the end, and whether it was content.
    pub async fn report(self) -> (Value, bool) {
        let most = Duration::from_secs(self.seconds) + PATIENCE;
        let output = tokio::time::timeout(most, self.running.wait_with_output()).await.unwrap().unwrap();
        (serde_json::from_slice(&output.stdout).unwrap(), output.status.success())
    }

    /// The same, where nothing may be wrong.
    pub async fn finds_nothing(self) -> Value {
        let (report, is_content) = self.report().await;
        let rules = report["rules"].as_array().unwrap();
        let failed: Vec<&Value> = rules.iter().filter(|rule| rule["state"] == "failed").collect();
        assert!(failed.is_empty() && is_content, "{failed:#?}");
        report
    }
}

/// Real footage where it is there, else a test picture; both with 25 pictures a second and sound.
pub(crate) fn footage(farm: &Farm) -> PathBuf {
    media::footage()
        .map(|dir| dir.join("bbb-720p25-h264-aac.mp4"))
        .unwrap_or_else(|| media::clip(farm.dir.path(), 6, "640x360"))
}

/// Waits until a livestream has this status.
pub(crate) async fn becomes(farm: &Farm, id: &str, status: &str) -> Value {
    until(&format!("the stream to be {status}"), PATIENCE, || async {
        let stream = farm.client.get(&format!("/livestreams/{id}")).await;
        (stream["status"] == status).then_some(stream)
    })
    .await
}

/// The address of what a viewer plays.
pub async fn watch(farm: &Farm, id: &str) -> String {
    let token = farm.client.post(&format!("/livestreams/{id}/playback-token"), &json!({})).await;
    text(&token, "hls_url").to_owned()
}

/// A playlist beside the multivariant one, once it is there.
pub async fn playlist(master: &str, track: &str) -> String {
    let url = master.replace("master.m3u8", &format!("{track}.m3u8"));
    until(&format!("{track} to be listed"), PATIENCE, || async {
        let response = reqwest::get(&url).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        response.text().await.ok()
    })
    .await
}

/// The media sequence numbers of the whole segments that are listed, in their order.
pub fn numbers(playlist: &str) -> Vec<u64> {
    playlist
        .lines()
        .filter(|line| !line.starts_with('#') && line.ends_with(".m4s"))
        .map(|line| line.trim_end_matches(".m4s").rsplit_once('-').unwrap().1.parse().unwrap())
        .collect()
}

/// Waits until a playlist says what is looked for.
pub(crate) async fn listed<T>(master: &str, track: &str, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
    until(what, PATIENCE, || async { look(&playlist(master, track).await) }).await
}

#[tokio::test]
async fn live_what_is_published_is_played_by_parts_and_whole() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let early = reqwest::get(&master).await.unwrap();
    assert!(early.status().is_client_error(), "not on air yet: {}", early.status());

    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    let on_air = becomes(&farm, id, "live").await;
    let names: Vec<&str> =
        on_air["variants"].as_array().unwrap().iter().map(|it| text(it, "resolution")).collect();
    assert_eq!(names, ["360p", "240p"]);
    listed(&master, "360p", "some segments", |text| (numbers(text).len() >= 3).then_some(())).await;

    // Tracks are side by side: neither is ahead of what came in.
    let date = |text: &str| {
        let line = text.lines().rev().find_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"));
        chrono::DateTime::parse_from_rfc3339(line.unwrap()).unwrap().timestamp_millis()
    };
    let (video, audio) = (playlist(&master, "360p").await, playlist(&master, "audio").await);
    assert!((date(&video) - date(&audio)).abs() < 2500, "{video}\n{audio}");

    // Somebody else's player takes it.
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-live_start_index", "0", "-i", &master])
        .args(["-map", "0:v:0", "-map", "0:a:0", "-t", "4", "-f", "framecrc", "-"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let frames =
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("0,")).count();
    assert_eq!(frames, 100, "25 frames a second for four seconds");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "and nothing to complain about");

    publisher.kill().await;
    becomes(&farm, id, "reconnecting").await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    becomes(&farm, id, "idle").await;
    listed(&master, "360p", "its end", |text| text.contains("#EXT-X-ENDLIST").then_some(())).await;
    farm.stop().await;
}

#[tokio::test]
async fn live_a_wrong_key_is_refused_before_any_media() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({ "require_start": true })).await;
    let told = Publisher::start(&farm, 0, "live_wrong", &footage(&farm)).refused().await;
    assert!(told.contains("no stream with this key"), "{told}");
    let key = text(&stream, "stream_key");
    let told = Publisher::start(&farm, 0, key, &footage(&farm)).refused().await;
    assert!(told.contains("only after it was started"), "{told}");
    farm.client.post_empty(format!("/livestreams/{}/start", text(&stream, "id"))).await;
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, text(&stream, "id"), "live").await;
    publisher.kill().await;
    farm.stop().await;
}

#[tokio::test]
async fn live_a_publisher_that_returns_and_one_that_takes_over_go_on_with_the_same_broadcast() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({ "dvr_enabled": true })).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let first = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, id, "live").await;
    listed(&master, "240p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
    first.kill().await;
    becomes(&farm, id, "reconnecting").await;

    let second = Publisher::start(&farm, 0, key, &footage(&farm));
    let breaks = |text: &str| text.matches("#EXT-X-DISCONTINUITY\n").count();
    listed(&master, "240p", "a discontinuity", |text| (breaks(text) == 1).then_some(())).await;
    becomes(&farm, id, "live").await;
    // The one before is still there, and is sent away.
    let third = Publisher::start(&farm, 0, key, &footage(&farm));
    listed(&master, "240p", "another one", |text| (breaks(text) == 2).then_some(())).await;
    let sent_away = second.refused().await;
    assert!(!sent_away.is_empty());

    for track in ["360p", "240p", "audio"] {
        let text = listed(&master, track, "more segments", |text| {
            let all = numbers(text);
            (breaks(text) == 2 && all.len() >= 6).then(|| text.to_owned())
        })
        .await;
        let all = numbers(&text);
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{track}: {text}");
        assert!(!text.contains("#EXT-X-GAP"), "nothing was lost: {text}");
        assert!(!text.contains("#EXT-X-ENDLIST"));
    }
    third.kill().await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    let recordings = until("the books to be closed", PATIENCE, || async {
        let list = farm.client.get(&format!("/livestreams/{id}/recordings")).await;
        (list["recordings"][0]["status"] == "available").then_some(list)
    })
    .await;
    assert_eq!(recordings["recordings"].as_array().unwrap().len(), 1, "one broadcast: {recordings}");
    let recording = &recordings["recordings"][0];
    let seconds = recording["duration"].as_f64().unwrap();
    assert!(seconds > 8.0);
    // It plays from its beginning at once, whole, over both seams, in somebody else's player.
    let path = format!("recordings/{}/master.m3u8", text(recording, "id"));
    let whole = master.replace("master.m3u8", &path);
    let list = playlist(&whole, "360p").await;
    assert!(list.contains("#EXT-X-PLAYLIST-TYPE:VOD") && list.ends_with("#EXT-X-ENDLIST\n"), "{list}");
    let listed: f64 = list
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok())
        .sum();
    assert!(listed > 8.0 && listed <= seconds + 0.1, "{listed} of {seconds}");
    let log = ffmpeg_log(&[
        "-loglevel",
        "error",
        "-i",
        &whole,
        "-map",
        "0:v:0",
        "-map",
        "0:a:0",
        "-f",
        "null",
        "-",
    ]);
    assert_eq!(log, "");
    let key_needed = farm.client.anonymous(Method::GET, text(recording, "recording_url"));
    assert_eq!(key_needed.send().await.unwrap().status().as_u16(), 401);
    let with_key = farm.client.request(Method::GET, text(recording, "recording_url"));
    assert!(with_key.send().await.unwrap().status().is_success());
    farm.stop().await;
}

#[tokio::test]
async fn live_a_worker_that_is_killed_is_followed_by_another_and_what_was_lost_is_a_gap() {
    let mut farm = farm().processes(2, 2, 1).start().await;
    let stream = livestream(&farm, json!({ "dvr_enabled": true })).await;
    let (id, key) = (text(&stream, "id").to_owned(), text(&stream, "stream_key").to_owned());
    let master = watch(&farm, &id).await;
    let first = Publisher::start(&farm, 0, &key, &footage(&farm));
    becomes(&farm, &id, "live").await;
    let before: BTreeSet<u64> = listed(&master, "360p", "segments", |text| {
        let all = numbers(text);
        (all.len() >= 3).then(|| all.into_iter().collect())
    })
    .await;
    let carrier = farm.processes.iter().find(|process| process.part == Part::Worker).unwrap();
    carrier.signal(nix::sys::signal::Signal::SIGKILL);
    first.kill().await;
    let second = Publisher::start(&farm, 1, &key, &footage(&farm));
    let text = listed(&master, "360p", "it to go on", |text| {
        let behind = text.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
        (numbers(behind).len() >= 2).then(|| text.to_owned())
    })
    .await;
    let after = numbers(&text);
    assert!(after.windows(2).all(|pair| pair[1] == pair[0] + 1), "{text}");
    assert!(before.iter().all(|number| after.contains(number)), "{before:?} {text}");
    assert!(!text.contains("#EXT-X-ENDLIST"), "{text}");
    // What was stored by the one that died is served still, and every track lists the same numbers.
    let whole = numbers(text.split("#EXT-X-GAP").next().unwrap());
    let url = master.replace("master.m3u8", &format!("360p-{}.m4s", whole[0]));
    assert!(reqwest::get(&url).await.unwrap().status().is_success());
    let audio = playlist(&master, "audio").await;
    assert_eq!(numbers(&audio)[0], after[0]);
    // The other api sees the same.
    let elsewhere = master.replace(&farm.api(0).base, &farm.api(1).base);
    assert!(playlist(&elsewhere, "360p").await.contains("#EXT-X-DISCONTINUITY"));
    second.kill().await;
    let dead = farm.processes.iter().position(|process| process.part == Part::Worker).unwrap();
    let mut dead = farm.processes.remove(dead);
    dead.ended(PATIENCE).await;
    farm.stop().await;
}

#[tokio::test]
async fn live_edges_answer_as_players_expect() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, id, "live").await;
    listed(&master, "240p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
    let at = |name: &str| master.replace("master.m3u8", name);
    let status = async |name: &str| reqwest::get(at(name)).await.unwrap().status().as_u16();
    assert_eq!(status("240p.m3u8?_HLS_part=1").await, 400);
    assert_eq!(status("240p.m3u8?_HLS_msn=99999").await, 400);
    assert_eq!(status("240p.m3u8?_HLS_msn=1").await, 200);
    assert_eq!(status("999p.m3u8").await, 404);
    assert_eq!(status("240p-99999.m4s").await, 404);
    assert_eq!(status("../../../etc/passwd").await, 404);
    // A hinted part comes whole once it is there.
    let list = playlist(&master, "240p").await;
    let hint =
        list.lines().find_map(|line| line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"")).unwrap();
    let part = reqwest::get(at(hint.trim_end_matches('"'))).await.unwrap();
    assert!(part.status().is_success());
    assert!(part.bytes().await.unwrap().len() > 200);
    // Nobody without the token, nor with that of another stream.
    let other = livestream(&farm, json!({})).await;
    let stranger = master.replace(id, text(&other, "id"));
    assert_eq!(reqwest::get(&stranger).await.unwrap().status().as_u16(), 403);
    let plain = farm.client.anonymous(Method::GET, &format!("/v/nonsense/live/{id}/master.m3u8"));
    assert_eq!(plain.send().await.unwrap().status().as_u16(), 403);
    publisher.kill().await;
    farm.stop().await;
}

#[tokio::test]
async fn live_a_video_is_played_out_once_or_over_and_over() {
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 6, "640x360");
    let farm = farm().set("REELMILL_INPUT_LOCAL_ROOTS", dir.path().display()).start().await;
    let url = format!("file://{}", clip.display());
    let over = json!({ "source": { "type": "file", "url": url, "loop": true } });
    let looped = livestream(&farm, over).await;
    let once = json!({ "source": { "type": "file", "url": url }, "settings": { "record": true, "resolutions": ["240p"] } });
    let once = livestream(&farm, once).await;
    assert!(looped.get("rtmp_ingest_url").is_none_or(Value::is_null), "nobody sends it: {looped}");
    for stream in [&looped, &once] {
        farm.client.post_empty(format!("/livestreams/{}/start", text(stream, "id"))).await;
    }
    let master = watch(&farm, text(&looped, "id")).await;
    // More than there is in the video, without a seam that a player would see.
    let list =
        listed(&master, "240p", "two rounds", |list| (numbers(list).len() >= 7).then(|| list.to_owned()))
            .await;
    assert!(!list.contains("#EXT-X-DISCONTINUITY"), "{list}");
    let recording = until("the one that is played once to be over", PATIENCE, || async {
        let list = farm.client.get(&format!("/livestreams/{}/recordings", text(&once, "id"))).await;
        let recording = list["recordings"].get(0)?.clone();
        (recording["status"] == "available").then_some(recording)
    })
    .await;
    let seconds = recording["duration"].as_f64().unwrap();
    assert!((5.5..6.6).contains(&seconds), "{seconds}");
    becomes(&farm, text(&once, "id"), "idle").await;
    farm.client.post_empty(format!("/livestreams/{}/stop", text(&looped, "id"))).await;
    listed(&master, "240p", "its end", |text| text.contains("#EXT-X-ENDLIST").then_some(())).await;
    farm.stop().await;
}

#[tokio::test]
async fn live_a_source_that_cannot_be_fetched_says_why_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm().set("REELMILL_INPUT_LOCAL_ROOTS", dir.path().display()).start().await;
    let path = dir.path().join("later.mp4");
    let source =
        json!({ "source": { "type": "file", "url": format!("file://{}", path.display()), "loop": true } });
    let stream = livestream(&farm, source).await;
    let id = text(&stream, "id");
    farm.client.post_empty(format!("/livestreams/{id}/start")).await;
    becomes(&farm, id, "failed").await;
    let events = farm.client.get(&format!("/livestreams/{id}/events")).await;
    let told = events["events"].to_string();
    assert!(told.contains("there is no file"), "{told}");
    std::fs::rename(media::clip(dir.path(), 6, "320x180"), &path).unwrap();
    becomes(&farm, id, "live").await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    becomes(&farm, id, "idle").await;
    farm.stop().await;
}

/// Our checker, which knows nothing of how playlists are made here, watches a stream whose publisher returns and whose worker is lost.
#[tokio::test]
async fn live_a_checker_finds_nothing_through_a_reconnect_and_the_loss_of_a_worker() {
    let mut farm = farm().processes(1, 2, 1).start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id").to_owned(), text(&stream, "stream_key").to_owned());
    let master = watch(&farm, &id).await;
    let first = Publisher::start(&farm, 0, &key, &footage(&farm));
    becomes(&farm, &id, "live").await;
    listed(&master, "240p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
    let checker = Checker::start(&master, 40);

    let newest = |text: &str| numbers(text).last().copied().unwrap_or(0);
    let until_number = async |what: &str, number: u64| {
        listed(&master, "240p", what, |text| (newest(text) >= number).then(|| newest(text))).await
    };
    let at = until_number("some more", 5).await;
    first.kill().await;
    becomes(&farm, &id, "reconnecting").await;
    let second = Publisher::start(&farm, 0, &key, &footage(&farm));
    let at = until_number("more from the one that returned", at + 4).await;
    let carrier = farm.processes.iter().find(|process| process.part == Part::Worker).unwrap();
    carrier.signal(nix::sys::signal::Signal::SIGKILL);
    second.kill().await;
    let third = Publisher::start(&farm, 1, &key, &footage(&farm));
    until_number("more from the other worker", at + 5).await;

    let report = checker.finds_nothing().await;
    let rules = report["rules"].as_array().unwrap();
    let passed = rules.iter().filter(|rule| rule["state"] == "passed").count();
    assert!(passed >= 30, "{report:#}");
    third.kill().await;
    let dead = farm.processes.iter().position(|process| process.part == Part::Worker).unwrap();
    let mut dead = farm.processes.remove(dead);
    dead.ended(PATIENCE).await;
    farm.stop().await;
}
