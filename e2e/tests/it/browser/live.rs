//! Watching what is on air: it plays by parts, says how far behind it is, and tells the farm that somebody watches.

use reelmill_testkit::wait::until;
use serde_json::{Value, json};

use super::{PATIENCE, Tab};
use crate::live::{Publisher, becomes, farm, footage, livestream, watch};
use crate::support::text;

#[tokio::test]
async fn browser_a_livestream_is_watched_and_its_viewer_counted() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let token = master.split("/v/").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let publisher = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, id, "live").await;

    let mut tab = Tab::open(&farm).await;
    tab.goto(&format!("/watch/live/{id}?token={token}&autoplay=1")).await;
    // Nobody has touched the page yet, so it may play without sound only.
    tab.holds("it to be there", "document.querySelector('#video').readyState >= 2").await;
    tab.run("document.querySelector('#video').muted = true; document.querySelector('#video').play()").await;
    tab.becomes("playing", "document.documentElement.dataset.state").await;
    tab.holds(
        "the latency to be told",
        "/behind live/.test(document.querySelector('#meta-duration').textContent)",
    )
    .await;
    let viewer = until("the viewer to be counted", PATIENCE, || async {
        let stream = farm.client.get(&format!("/livestreams/{id}")).await;
        let viewers = farm.client.get(&format!("/livestreams/{id}/viewers?watching=true")).await;
        let told =
            viewers["viewers"].as_array()?.iter().find(|viewer| viewer["device_type"].is_string())?.clone();
        (stream["viewer_count"] == 1).then_some(told)
    })
    .await;
    assert_eq!((&viewer["device_type"], &viewer["ip_address"]), (&json!("desktop"), &json!("127.0.0.1")));
    let figures = until("its latency to be written down", PATIENCE, || async {
        let figures = farm.client.get(&format!("/livestreams/{id}/analytics")).await;
        figures["analytics"].as_array()?.iter().find(|row| row["average_latency"].is_number()).cloned()
    })
    .await;
    assert!((100.0..30_000.0).contains(&figures["average_latency"].as_f64().unwrap()), "{figures}");
    assert!(
        figures["buffer_health"].is_number() && figures["bandwidth_usage"].as_i64().unwrap() > 0,
        "{figures}"
    );

    // Who is at home on the page that runs it sees it there, and how many watch it. The viewer has left by that.
    tab.log_in(&farm).await;
    tab.goto("/").await;
    tab.becomes("live", "document.querySelector('#livestreams .chip').dataset.status").await;
    tab.holds("a plot", "document.querySelector('#livestreams .plot polyline').points.length > 1").await;
    assert!(
        tab.is(
            "document.querySelector('#livestreams .plot').getAttribute('aria-label').startsWith('Viewers')"
        )
        .await
    );
    until("it to be gone", PATIENCE, || async {
        let stream = farm.client.get(&format!("/livestreams/{id}")).await;
        (stream["viewer_count"] == 0 && stream["peak_viewer_count"] == 1).then_some(())
    })
    .await;
    let viewers = farm.client.get(&format!("/livestreams/{id}/viewers")).await;
    let all = viewers["viewers"].as_array().unwrap();
    assert!(all.iter().all(|viewer| viewer["left_at"] != Value::Null), "{viewers}");
    tab.close().await;
    publisher.kill().await;
    farm.stop().await;
}
