//! The page tells how a recording is watched: what is played, where it jumps, and that it is left.

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use super::{PATIENCE, Tab};
use crate::support::text;

#[tokio::test]
async fn browser_a_viewer_of_a_recording_is_counted() {
    let farm = Farm::builder().set("REELMILL_LEASE_SECONDS", 60).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 20, "320x180");
    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    let ladder = json!({ "rungs": [{ "name": "180p", "width": 320, "height": 180, "crf": 30, "max_bitrate": 300_000 }] });
    let job = farm.client.submit(&clip, &ladder).await;
    farm.client.wait_for(text(&job, "id")).await;
    let id = text(&job, "recording_id").to_owned();

    // Two seconds from the beginning, then the last four.
    tab.goto(&format!("/watch/{id}")).await;
    tab.holds("it to be there", "document.querySelector('#video').readyState >= 2").await;
    tab.run("const video = document.querySelector('#video'); video.muted = true; video.play()").await;
    tab.holds("two seconds", "document.querySelector('#video').currentTime > 2").await;
    tab.run("document.querySelector('#video').currentTime = 16").await;
    tab.holds("the end", "document.querySelector('#video').ended").await;
    let path = format!("/recordings/{id}/analytics");
    let figures = until("what was played to be told", PATIENCE, || async {
        let figures = farm.client.get(&path).await;
        (figures["completion_rate"] == 1.0).then_some(figures)
    })
    .await;
    assert_eq!((&figures["total_sessions"], &figures["unique_viewers"]), (&json!(1), &json!(1)));
    let played = figures["total_playtime"].as_f64().unwrap();
    assert!((4.0..=10.0).contains(&played), "{figures}");
    let heat: Vec<i64> = serde_json::from_value(figures["heatmap"].clone()).unwrap();
    assert_eq!((heat[2], heat[50], heat[97]), (1, 0, 1), "{heat:?}");
    assert!(figures["startup_time"].is_number() && figures["rebuffer_ratio"].is_number(), "{figures}");
    assert!(figures["stalls"].is_number() && figures["switches"].is_number(), "{figures}");
    assert_eq!(
        (&figures["by_device"][0]["name"], &figures["by_rendition"][0]["name"]),
        (&json!("desktop"), &json!("180p"))
    );

    // Played once more and left in the middle: it is the next session, and says so.
    tab.goto(&format!("/watch/{id}")).await;
    tab.holds("it to be there", "document.querySelector('#video').readyState >= 2").await;
    tab.run("const video = document.querySelector('#video'); video.muted = true; video.play()").await;
    tab.holds("a second", "document.querySelector('#video').currentTime > 1").await;
    tab.goto("/").await;
    until("both to have left", PATIENCE, || async {
        let log = farm.client.get(&format!("/recordings/{id}/access-log")).await;
        let all = log["sessions"].as_array()?;
        (all.len() == 2 && all.iter().all(|row| row["left_at"] != Value::Null)).then_some(())
    })
    .await;
    tab.close().await;
    farm.stop().await;
}
