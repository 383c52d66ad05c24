//! A ladder of several codecs in a browser: what it says it knows, it plays.

use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use super::{Tab, each_rung_can_be_chosen};
use crate::support::text;

#[tokio::test]
async fn browser_plays_the_codecs_it_knows() {
    let farm = Farm::builder().set("REELMILL_LEASE_SECONDS", 60).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 12, "640x360");
    let rung = |name: &str, codec: &str, width: u32, height: u32| json!({ "name": name, "codec": codec, "width": width, "height": height, "crf": 30, "max_bitrate": 600_000 });
    let ladder = json!({ "preset": "ultrafast", "rungs": [
        rung("h264", "h264", 640, 360), rung("vp9", "vp9", 426, 240), rung("av1", "av1", 256, 144),
    ]});
    let job = farm.client.submit(&clip, &ladder).await;
    let recording = text(&job, "recording_id").to_owned();
    assert_eq!(farm.client.wait_for(text(&job, "id")).await["status"], "succeeded");
    let recording = farm.client.get(&format!("/recordings/{recording}")).await;

    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    for made in recording["renditions"].as_array().unwrap().iter().filter(|made| made["kind"] == "video") {
        let kind = json!(format!("video/mp4; codecs=\"{}\"", text(made, "codecs")));
        assert!(tab.is(&format!("MediaSource.isTypeSupported({kind})")).await, "{made}");
    }
    let wrong: Value = json!("video/mp4; codecs=\"av01.9.00M.08\"");
    assert!(
        !tab.is(&format!("MediaSource.isTypeSupported({wrong})")).await,
        "it does not say yes to anything"
    );

    tab.goto(&format!("/watch/{}?autoplay=1", text(&recording, "id"))).await;
    tab.becomes("playing", "document.documentElement.dataset.state").await;
    each_rung_can_be_chosen(&tab, &recording).await;
    tab.close().await;
    farm.stop().await;
}
