//! The farm chooses the quality: the page follows a network that falls and rises, does not stand still, and says why.

use chromiumoxide::cdp::browser_protocol::network::{self, EnableParams};
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use super::{Tab, fits};
use crate::support::text;

/// What the panel says.
const NEXT: &str = "document.querySelector('#abr-rung').textContent.split(',')[0]";
const REASON: &str = "document.querySelector('#abr').dataset.reason";
const STATE: &str = "document.querySelector('#abr').dataset.state";

/// A network of so many bits per second, with 20 ms to the first byte.
#[expect(deprecated, reason = "browsers of some distributions do not know what takes its place")]
async fn carry(tab: &Tab, rate: f64) {
    let conditions = network::EmulateNetworkConditionsParams::builder()
        .offline(false)
        .latency(20.0)
        .download_throughput(rate / 8.0)
        .upload_throughput(rate / 8.0)
        .build()
        .unwrap();
    tab.page.execute(conditions).await.unwrap();
}

async fn choose(tab: &Tab, name: &str) {
    tab.run("document.querySelector('#quality').click()").await;
    tab.holds("the menu", "!document.querySelector('#quality-menu').hidden").await;
    let pick = format!(
        "(() => {{ const item = [...document.querySelectorAll('#quality-menu > *')]\
         .find((item) => item.querySelector('.item-name').textContent === {}); item?.focus(); return !!item; }})()",
        json!(name)
    );
    tab.holds(&format!("{name} in the menu"), &pick).await;
    tab.page.find_element("body").await.unwrap().press_key("Enter").await.unwrap();
}

fn ladder() -> Value {
    let rung = |name: &str, width: u32, height: u32, most: u32| json!({ "name": name, "width": width, "height": height, "crf": 18, "max_bitrate": most });
    let rungs =
        [rung("360p", 640, 360, 900_000), rung("240p", 426, 240, 400_000), rung("144p", 256, 144, 120_000)];
    json!({ "rungs": rungs, "preset": "ultrafast" })
}

#[tokio::test]
async fn browser_the_farm_chooses_the_quality() {
    let farm = Farm::builder().set("REELMILL_LEASE_SECONDS", 60).start().await;
    let clip = media::clip(farm.dir.path(), 150, "640x360");
    let recording = farm.client.transcode(&clip, &ladder()).await;
    let id = text(&recording, "id");
    let told = farm.client.get(&format!("/recordings/{id}/quality/recommended?bandwidth=90000000")).await;
    let (top, most) = (text(&told, "rendition"), told["bitrate"].as_f64().unwrap());
    let lowest = &told["alternatives"][0];
    let (low, least) = (text(lowest, "rendition"), lowest["bitrate"].as_f64().unwrap());
    assert!(most > 3.0 * least, "{told}");

    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    tab.page.execute(EnableParams::default()).await.unwrap();
    tab.goto(&format!("/watch/{id}?autoplay=1")).await;
    tab.becomes("playing", "document.documentElement.dataset.state").await;
    // A short buffer, so that what changes is seen within the video.
    tab.run(
        "reelmill.hls.config.maxBufferLength = 12; video.loop = false; window.stalls = 0; \
         video.addEventListener('waiting', () => { if (!video.seeking) window.stalls += 1; })",
    )
    .await;
    carry(&tab, 4.0 * most).await;
    choose(&tab, "Automatic (Reelmill)").await;
    tab.holds("the panel", "document.querySelector('#abr').checkVisibility()").await;
    tab.becomes("farm", STATE).await;
    let label = "document.querySelector('#quality').getAttribute('aria-label')";
    tab.holds("the button to say so", &format!("{label}.includes('Automatic (Reelmill)')")).await;
    // Of what is not in the buffer yet.
    tab.becomes(top, NEXT).await;
    let fetched = "performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => name.endsWith('.m4s') && !name.includes('/audio'))";
    let is_of = |rung: &str| format!("{fetched}.at(-1).includes('/{rung}-')");
    tab.holds("the highest to be fetched", &is_of(top)).await;

    carry(&tab, 1.6 * least).await;
    tab.becomes(low, NEXT).await;
    tab.holds("the lowest to be fetched", &is_of(low)).await;
    assert!(tab.is(&format!("{REASON}.length > 0")).await);
    let why: String = tab.get("document.querySelector('#abr-reason').textContent").await;
    assert!(why.len() > 20, "{why}");
    let said: String = tab.get("document.querySelector('#abr-said').textContent").await;
    assert!(said.contains(low), "said to who cannot see it: {said}");

    carry(&tab, 6.0 * most).await;
    tab.becomes(top, NEXT).await;
    tab.holds("the highest to be fetched again", &is_of(top)).await;
    assert_eq!(tab.get::<u32>("window.stalls").await, 0, "the picture stood still");
    let drawn: String = tab.get("document.querySelector('#abr-plot').getAttribute('aria-label')").await;
    assert!(drawn.contains(top) && drawn.contains(low), "{drawn}");
    let lines = "document.querySelectorAll('#abr-plot polyline, #abr-plot polygon').length";
    assert_eq!(tab.get::<u32>(lines).await, 3);

    // Without the farm hls.js goes on by itself, and the farm is back as soon as it answers.
    tab.run(
        "window.real = window.fetch; \
         window.fetch = (url, ...rest) => (String(url).includes('/abr/') ? Promise.reject(new Error('away')) : window.real(url, ...rest))",
    )
    .await;
    tab.becomes("alone", STATE).await;
    let at: f64 = tab.get("video.currentTime").await;
    tab.holds("it to play on", &format!("video.currentTime > {at} + 1 && !video.paused")).await;
    tab.run("window.fetch = window.real").await;
    tab.becomes("farm", STATE).await;

    for (width, height) in [(360, 740), (1280, 900)] {
        tab.resize(width, height).await;
        fits(&tab, &format!("the panel at {width}")).await;
    }
    choose(&tab, "Auto").await;
    tab.holds("the panel to go", "!document.querySelector('#abr').checkVisibility()").await;
    tab.close().await;
    farm.stop().await;
}
