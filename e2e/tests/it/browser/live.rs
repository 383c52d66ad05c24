//! Watching what is on air: it plays by parts, says how far behind it is, and tells the farm that somebody watches.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reelmill_testkit::Farm;
use reelmill_testkit::ffmpeg::ffmpeg;
use reelmill_testkit::wait::until;
use serde_json::{Value, json};

use super::{PATIENCE, Tab};
use crate::faults::random::setting;
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

/// Until a player has found its place.
const SETTLES: Duration = Duration::from_secs(15);

/// For `REELMILL_SOAK_SECONDS` with each length of parts, on a machine that does nothing else: `scripts/soak viewer` does it.
#[tokio::test]
#[ignore = "takes minutes, and a quiet machine"]
async fn browser_a_viewer_stays_close_to_what_is_on_air() {
    for (part, most) in [(0.25, 1.3), (0.5, 2.2)] {
        stays_close(part, most, Duration::from_secs(setting("REELMILL_SOAK_SECONDS").unwrap_or(60))).await;
    }
}

/// Footage that lasts longer: an FFmpeg that begins a file anew while it publishes it pauses for as long as a part is.
fn without_end(farm: &Farm, lasts: Duration) -> PathBuf {
    let path = farm.dir.path().join("long.mp4");
    let (footage, seconds) = (footage(farm), lasts.as_secs().to_string());
    let args = ["-stream_loop", "-1", "-i", footage.to_str().unwrap(), "-t", &seconds, "-c", "copy"];
    ffmpeg(&[&args[..], &["-y", path.to_str().unwrap()]].concat());
    path
}

/// Has the player write down what it asked for and what became of it, for who has to find out why it stalled.
const FOLLOW: &str = "
  const log = window.log = [], video = document.querySelector('#video'), began = performance.now();
  const since = (time) => ((time - began) / 1000).toFixed(2), names = Object.fromEntries(Object.entries(Hls.Events).map(([name, event]) => [event, name]));
  const note = (what) => {
    const end = video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0, hls = window.hls;
    const states = hls ? `${hls.streamController.state}/${hls.audioStreamController?.state} behind ${hls.latency.toFixed(2)} of ${hls.targetLatency?.toFixed(2)}` : '';
    log.push(`${since(performance.now())} ahead ${(end - video.currentTime).toFixed(2)} x${video.playbackRate} ${states}: ${what}`);
    if (log.length > 1000) log.splice(0, 100);
  };
  window.stalls = 0;
  video.addEventListener('waiting', () => { window.stalls += 1; note('WAITS'); window.first ??= log.slice(-150); });
  video.addEventListener('playing', () => note('plays'));
  const trigger = Hls.prototype.trigger;
  Hls.prototype.trigger = function (event, data) {
    window.hls = this;
    const took = (s) => s ? `asked ${since(s.loading.start)} first ${since(s.loading.first)} end ${since(s.loading.end)}` : '';
    const { frag, part, details, type } = data ?? {};
    const media = frag ? `${frag.type} ${frag.sn}.${part?.index ?? 'whole'} ${took((part ?? frag).stats)}` : '';
    const list = details?.endSN ? `${details.endSN}.${details.lastPartIndex} ${took(data.stats)}` : '';
    const wrong = event === Hls.Events.ERROR ? `${data.details} ${data.response?.code ?? ''} ${data.reason ?? data.error?.message ?? ''}` : '';
    if (!/FPS|PTS|PLAYHEAD|PROGRESS/.test(names[event])) note(`${names[event]} ${media} ${list} ${wrong} ${typeof type === 'string' ? type : ''}`);
    return trigger.call(this, event, data);
  };";

/// With parts of so many seconds, at most so far behind by what hls.js says of itself.
async fn stays_close(part: f64, most: f64, lasts: Duration) {
    let farm = farm().start().await;
    let settings = json!({ "settings": {
        "resolutions": ["360p", "240p"], "segment_duration": 2, "keyframe_interval": 1, "part_duration": part,
    } });
    let stream = livestream(&farm, settings).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let token = master.split("/v/").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let publisher = Publisher::start(&farm, 0, key, &without_end(&farm, 2 * lasts));
    becomes(&farm, id, "live").await;
    let tab = Tab::open(&farm).await;
    tab.goto(&format!("/watch/live/{id}?token={token}&autoplay=1")).await;
    tab.holds("it to be there", "document.querySelector('#video').readyState >= 2").await;
    tab.run("const video = document.querySelector('#video'); video.muted = true; video.play();").await;
    tab.run(FOLLOW).await;
    tab.becomes("playing", "document.documentElement.dataset.state").await;
    let behind = "(parseFloat(document.querySelector('#meta-duration').textContent) || 0)";
    tab.holds("its latency", &format!("{behind} > 0")).await;
    tokio::time::sleep(SETTLES).await;
    tab.run("window.stalls = 0; window.first = undefined; window.from = document.querySelector('#video').currentTime").await;
    let began = Instant::now();
    let mut latencies = vec![];
    while began.elapsed() < lasts {
        tokio::time::sleep(Duration::from_secs(1)).await;
        latencies.push(tab.get::<f64>(behind).await);
    }
    let stalls: u32 = tab.get("window.stalls").await;
    let played: f64 = tab.get("document.querySelector('#video').currentTime - window.from").await;
    latencies.sort_by(f64::total_cmp);
    let (median, worst) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    println!(
        "parts of {part} s: {played:.1} s played in {:.1} s, {stalls} stalls, {median} s behind (worst {worst})",
        began.elapsed().as_secs_f64()
    );
    if stalls > 0 || worst > most {
        println!("{}", tab.get::<String>("(window.first ?? []).join('\\n') + '\\n-- and last --\\n' + window.log.slice(-80).join('\\n')").await);
    }
    tab.close().await;
    publisher.kill().await;
    farm.stop().await;
    assert_eq!(stalls, 0);
    assert!(worst <= most, "{worst} s behind, where {most} may be");
}
