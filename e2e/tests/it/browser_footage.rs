//! Footage of a camera in a real browser: over the gap between two broadcasts, with the time it was taken at.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use reelmill_testkit::{Farm, media};
use serde_json::json;

use crate::browser::Tab;
use crate::http_playback::{moment, twice_on_air};
use crate::live;
use crate::support::text;

/// What the page says it is, and where the player is.
async fn shown(tab: &Tab) -> (DateTime<Utc>, f64) {
    let both: (String, f64) = tab.get("[clock.dateTime, video.currentTime]").await;
    (both.0.parse().unwrap(), both.1)
}

fn is_close(a: DateTime<Utc>, b: DateTime<Utc>) {
    assert!((a - b).abs() < TimeDelta::milliseconds(250), "{a} is not {b}");
}

fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds((seconds * 1000.0) as i64)
}

#[tokio::test]
async fn browser_footage_is_played_over_a_gap_with_its_clock() {
    let farm: Farm = live::farm().start().await;
    let camera = live::livestream(&farm, json!({ "title": "Front door", "dvr_enabled": true })).await;
    // Without sound, ten pictures a second.
    let door = media::footage().map(|dir| dir.join("doorway-432p10-h264-cctv.mp4"));
    let door = door.unwrap_or_else(|| media::clip(farm.dir.path(), 6, "640x360"));
    let both = twice_on_air(&farm, &camera, &door, 5.0).await;
    let (from, to) = (moment(&both[0], "start_time"), moment(&both[1], "end_time"));
    let body = json!({ "camera_id": camera["id"], "start_time": from, "end_time": to });
    let session = farm.client.post("/playback/start", &body).await;

    let tab = Tab::open(&farm).await;
    tab.visit(text(&session, "watch_url")).await;
    tab.holds("it to play", "!video.paused && video.currentTime > 1").await;
    // Stood still, so that both are of one picture.
    tab.run("video.pause()").await;
    let (clock, at) = shown(&tab).await;
    is_close(clock, from + seconds(at));
    assert_eq!(tab.get::<usize>("document.querySelectorAll('#strip-plot rect').length").await, 2);
    let gaps = session["gaps"].as_array().unwrap();
    assert_eq!(tab.get::<usize>("document.querySelectorAll('#gap-rows tr').length").await, gaps.len());

    let second = moment(&both[1], "start_time");
    tab.run("video.play()").await;
    let behind = format!("Date.parse(clock.dateTime) > {}", (second + seconds(1.0)).timestamp_millis());
    tab.holds("it to play behind the gap", &behind).await;
    tab.run("video.pause()").await;
    let (clock, at) = shown(&tab).await;
    let first_lasted: f64 =
        tab.get("footage.hls.levels[0].details.fragments.findLast((one) => one.cc === 0).end").await;
    is_close(clock, second + seconds(at - first_lasted));

    // A moment is found by its time, too.
    tab.run(&format!(
        "const strip = document.getElementById('strip-input'); strip.value = {}; strip.dispatchEvent(new Event('input'))",
        (from + seconds(2.0)).timestamp_millis()
    ))
    .await;
    tab.holds("it to be there", "!video.seeking && Math.abs(video.currentTime - 2) < 0.2").await;
    is_close(shown(&tab).await.0, from + seconds(2.0));
    tab.run("video.playbackRate = 4; video.play()").await;
    tab.holds("the end", "video.ended").await;

    // Its own address is MPEG-TS: the same player fetches every segment of it.
    let url = text(&session, "url");
    tab.run(&format!(
        "window.over = false; performance.clearResourceTimings(); footage.hls.loadSource({}); \
         video.addEventListener('ended', () => {{ window.over = true; }}, {{ once: true }}); video.play()",
        json!(url)
    ))
    .await;
    tab.holds("it to play MPEG-TS", "!video.ended && video.currentTime > 0.5").await;
    tab.run("video.playbackRate = 4").await;
    tab.holds("the end of it", "window.over").await;
    let fetched: Vec<String> = tab
        .get("[...new Set(performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => name.endsWith('.ts')))].map((name) => name.split('/').pop())")
        .await;
    let list = reqwest::get(url).await.unwrap().text().await.unwrap();
    let listed: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("segment/")).collect();
    assert!(listed.len() >= 4 && listed.iter().all(|name| name.ends_with(".ts")), "{list}");
    assert_eq!(fetched.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed.into_iter().collect());
    tab.close().await;
    farm.stop().await;
}
