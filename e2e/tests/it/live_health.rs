//! What is measured of live streams, and what is done where encoding cannot keep up.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::live::{
    Checker, PATIENCE, Publisher, becomes, farm, footage, listed, livestream, numbers, playlist, watch,
};
use crate::support::text;

/// The FFmpegs that the workers of a farm have started and that run.
fn encoders(farm: &Farm) -> Vec<Pid> {
    let workers =
        farm.processes.iter().filter(|process| process.part == Part::Worker).map(|worker| worker.pid());
    let children = |pid: i32| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
    };
    let pids = workers.flat_map(children).collect::<Vec<_>>().join(" ");
    let encodes = |pid: &i32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.contains("frag_every_frame")
    };
    pids.split_whitespace().map(|pid| pid.parse().unwrap()).filter(encodes).map(Pid::from_raw).collect()
}

/// A process that runs for a small part of the time, until this is dropped.
struct Slowed(Pid, JoinHandle<()>);

impl Slowed {
    fn down(pid: Pid) -> Self {
        let beating = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(10));
            for turn in 0_u64.. {
                beat.tick().await;
                let signal = if turn % 20 == 0 { Signal::SIGCONT } else { Signal::SIGSTOP };
                if kill(pid, signal).is_err() {
                    return;
                }
            }
        });
        Self(pid, beating)
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        self.1.abort();
        // It may have ended.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// The entries of a kind, oldest first.
async fn told(farm: &Farm, id: &str, kind: &str) -> Vec<Value> {
    let events = farm.client.get(&format!("/livestreams/{id}/events?event_type={kind}")).await;
    events["events"].as_array().unwrap().iter().rev().cloned().collect()
}

#[tokio::test]
async fn live_an_encoder_that_is_too_slow_is_told_of_and_gets_less_to_do() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let settings = json!({ "settings": { "overload": "drop_rung" } });
    let changing = farm.client.request(Method::PATCH, &format!("/api/v1/livestreams/{id}")).json(&settings);
    assert!(changing.send().await.unwrap().status().is_success());
    let master = watch(&farm, id).await;
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, id, "live").await;
    listed(&master, "360p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
    let checker = Checker::start(&master, 32);

    let encoder = encoders(&farm);
    assert_eq!(encoder.len(), 1);
    let slowed = Slowed::down(encoder[0]);
    until("it to be told", PATIENCE, || async {
        let told = told(&farm, id, "high_latency").await;
        (told.first()?["severity"] == "error").then_some(())
    })
    .await;
    let dropped = until("a rung to be dropped", PATIENCE, || async {
        told(&farm, id, "quality_changed").await.first().cloned()
    })
    .await;
    drop(slowed);
    assert_eq!((&dropped["severity"], &dropped["details"]["dropped"]), (&json!("warning"), &json!("360p")));

    // Newcomers are shown what is left; whoever has the other open finds gaps, and the same numbers.
    let shown = until("the other to be left out", PATIENCE, || async {
        let text = reqwest::get(&master).await.ok()?.text().await.ok()?;
        (!text.contains("360p.m3u8")).then_some(text)
    })
    .await;
    assert!(shown.contains("240p.m3u8") && shown.contains("audio.m3u8"), "{shown}");
    let now = farm.client.get(&format!("/livestreams/{id}")).await;
    let names: Vec<&str> =
        now["variants"].as_array().unwrap().iter().map(|variant| text(variant, "resolution")).collect();
    assert_eq!(names, ["240p"]);
    let info: Value =
        reqwest::get(&master.replace("master.m3u8", "info")).await.unwrap().json().await.unwrap();
    let names: Vec<&str> =
        info["renditions"].as_array().unwrap().iter().map(|rendition| text(rendition, "name")).collect();
    assert_eq!(names, ["240p", "audio"]);
    let left = listed(&master, "240p", "it to go on", |text| {
        let behind = text.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
        (numbers(behind).len() >= 3).then(|| text.to_owned())
    })
    .await;
    assert!(!left.contains("#EXT-X-GAP"), "nothing of it is lost: {left}");
    let gone = playlist(&master, "360p").await;
    let (before, behind) = gone.split_once("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(!before.contains("#EXT-X-GAP") && behind.matches("#EXT-X-GAP\n").count() >= 3, "{gone}");
    assert_eq!(numbers(&gone)[..4], numbers(&left)[..4]);

    let (report, _) = checker.report().await;
    let rules = report["rules"].as_array().unwrap();
    // That parts came late, and then so fast that they left early and tracks were apart, is what it is all about (9a, 20a, 24b, 24c). The checker holds
    // reports to the rung that is gone as well (21b), and asks for parts that it has not.
    let of_the_rest = |rule: &&Value| {
        let mut faults = rule["faults"].as_array().into_iter().flatten();
        let of_it = |fault: &Value| fault["rendition"] == "360p" || fault["saw"].to_string().contains("360p");
        let expected = ["9a", "20a", "21b", "24b", "24c"].contains(&text(rule, "rule"));
        rule["state"] == "failed" && !expected && !faults.all(of_it)
    };
    let failed: Vec<&Value> = rules.iter().filter(of_the_rest).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    // With less to do it is fast enough, and stays so: one rung, one event, one publisher all the time.
    until("it to be fast enough", PATIENCE, || async {
        let figures = farm.client.get(&format!("/livestreams/{id}/analytics")).await;
        let last = figures["analytics"].as_array().unwrap().last()?.clone();
        (last["speed"].as_f64()? > 0.98).then_some(())
    })
    .await;
    assert_eq!(told(&farm, id, "quality_changed").await.len(), 1);
    assert_eq!(told(&farm, id, "connection_lost").await.len(), 0);
    becomes(&farm, id, "live").await;
    publisher.kill().await;
    farm.stop().await;
}

#[tokio::test]
async fn live_figures_are_measured_at_the_ingest() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, id, "live").await;
    let figures = until("two spans to be measured", PATIENCE, || async {
        let figures = farm.client.get(&format!("/livestreams/{id}/analytics?step=10")).await;
        let rows = figures["analytics"].as_array().unwrap().clone();
        (rows.len() >= 2).then_some(rows)
    })
    .await;
    let last = figures.last().unwrap();
    let figure = |name: &str| last[name].as_f64().unwrap_or_else(|| panic!("{name}: {last}"));
    assert!((100_000.0..20_000_000.0).contains(&figure("ingest_bitrate")), "{last}");
    assert!((0.9..1.2).contains(&figure("speed")), "{last}");
    assert!(figure("dropped_frames") < 10.0 && figure("keyframe_interval") > 0.1, "{last}");
    assert!(figure("audio_video_sync").abs() < 1000.0, "{last}");
    assert_eq!(figure("viewer_count"), 0.0);
    // Nobody watches, so nobody tells of that.
    for name in [
        "average_latency",
        "p95_latency",
        "buffer_health",
        "quality_score",
        "cdn_hit_ratio",
        "bandwidth_usage",
    ] {
        assert_eq!(last[name], Value::Null, "{name}");
    }
    publisher.kill().await;
    farm.stop().await;
}

/// A player that says nothing of itself: it asks an api for a playlist again and again until it is dropped.
struct Player(JoinHandle<()>);

impl Player {
    fn start(agent: &str, url: String) -> Self {
        let client = reqwest::Client::builder().user_agent(agent).build().unwrap();
        Self(tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(400));
            loop {
                beat.tick().await;
                // What it gets does not matter here.
                let _ = client.get(&url).send().await;
            }
        }))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn live_viewers_are_counted_once_whichever_apis_they_ask() {
    let farm = farm().processes(2, 1, 1).start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id").to_owned(), text(&stream, "stream_key"));
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, &id, "live").await;
    let master = watch(&farm, &id).await;
    listed(&master, "240p", "segments", |text| (!numbers(text).is_empty()).then_some(())).await;
    let list = master.replace("master.m3u8", "240p.m3u8");
    let elsewhere = list.replace(&farm.api(0).base, &farm.api(1).base);
    // One asks both apis, one the second, and one tells the first of itself and asks the second.
    let _players = [
        Player::start("vlc", list.clone()),
        Player::start("vlc", elsewhere.clone()),
        Player::start("ffplay", elsewhere.clone()),
        Player::start("browser", elsewhere.clone()),
    ];
    let track = list.replace("240p.m3u8", "viewers/track");
    let tell = async |body: Value| {
        let client = reqwest::Client::builder().user_agent("browser").build().unwrap();
        client.post(&track).body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(tell(json!({ "session_id": "one", "latency": 1500 })).await, 204);
    assert_eq!(tell(json!({ "session_id": "a b" })).await, 422);
    assert_eq!(tell(json!({ "nonsense": 1 })).await, 422);
    let count = async |api: usize, wanted: u64| {
        until(&format!("{wanted} viewers at api {api}"), PATIENCE, || async {
            let stream = farm.api(api).get(&format!("/livestreams/{id}")).await;
            (stream["viewer_count"] == wanted && stream["peak_viewer_count"].as_u64()? >= wanted)
                .then_some(())
        })
        .await;
    };
    count(0, 3).await;
    count(1, 3).await;
    // Whoever tells that it leaves is gone at once; those who only stop asking, after a while.
    assert_eq!(tell(json!({ "session_id": "one", "left": true })).await, 204);
    let sum = until("both edges to have measured", PATIENCE, || async {
        let figures = farm.client.get(&format!("/livestreams/{id}/analytics")).await;
        let row = figures["analytics"]
            .as_array()?
            .iter()
            .rev()
            .find(|row| row["bandwidth_usage"].is_i64())?
            .clone();
        (row["bandwidth_usage"].as_i64()? > 0).then_some(row)
    })
    .await;
    assert_eq!(sum["error_count"], 0);
    publisher.kill().await;
    farm.stop().await;
}
