//! The pages in a real browser: logging in, waiting for a recording, watching it.

mod abr;
mod codecs;
mod live;
mod tracks;
mod viewing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::emulation::{MediaFeature, SetDeviceMetricsOverrideParams};
use chromiumoxide::cdp::browser_protocol::log::{EventEntryAdded, LogEntryLevel};
use chromiumoxide::cdp::js_protocol::runtime::{
    ConsoleApiCalledType, EventConsoleApiCalled, EventExceptionThrown,
};
use chromiumoxide::layout::Point;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures::StreamExt;
use reelmill_shared::auth::token::{Purpose, Signer};
use reelmill_testkit::farm::SECRET_KEY;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::{Paused, text};

/// How long anything on a page may take.
pub const PATIENCE: Duration = Duration::from_secs(100);

#[tokio::test]
async fn browser_a_recording_is_milled_and_watched() {
    let farm = Farm::builder().set("REELMILL_LEASE_SECONDS", 60).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 16, "640x360");
    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    let paused = Paused::workers(&farm);
    let job = farm.client.submit(&clip, &ladder()).await;
    let recording = text(&job, "recording_id").to_owned();

    tab.goto(&format!("/watch/{recording}")).await;
    tab.becomes("processing", "document.documentElement.dataset.state").await;
    assert!(
        tab.is("document.querySelector('#cover').innerText.length > 0").await,
        "the page says what it waits for"
    );
    // Held again in mid-encode: the page tells how far it is, and turns into the player by itself.
    drop(paused);
    let path = format!("/jobs/{}", text(&job, "id"));
    until("the encode to get going", PATIENCE, || async {
        (farm.client.get(&path).await["progress"].as_f64().unwrap() > 0.2).then_some(())
    })
    .await;
    let paused = Paused::workers(&farm);
    tab.holds(
        "the progress",
        "!document.querySelector('#cover-bar').hidden && document.querySelector('#cover-bar').value > 0.2",
    )
    .await;
    drop(paused);
    tab.becomes("playing", "document.documentElement.dataset.state").await;
    farm.client.wait_for(text(&job, "id")).await;
    tab.holds(
        "the recording to be ready",
        "document.querySelector('#status-chip').dataset.status === 'ready'",
    )
    .await;

    the_picture_moves(&tab).await;
    each_rung_can_be_chosen(&tab, &farm.client.get(&format!("/recordings/{recording}")).await).await;
    the_seek_bar_shows_what_is_there(&tab, &farm, &recording).await;
    seeking_and_the_end_work(&tab).await;
    the_theme_changes(&tab).await;
    pages_fit(&tab, &recording).await;
    tab.close().await;
    farm.stop().await;
}

/// Small, and encoded with so much care that there is time to look at the progress, also on a quick machine.
fn ladder() -> Value {
    let rung = |name: &str, width: u32, height: u32| json!({ "name": name, "width": width, "height": height, "crf": 24, "max_bitrate": 600_000 });
    json!({ "rungs": [rung("360p", 640, 360), rung("240p", 426, 240), rung("144p", 256, 144)], "preset": "slow" })
}

/// How the videos of a page fare, and what the page itself knows of it, for who has to find out why one stands still.
const MEDIA: &str = "JSON.stringify([[...document.querySelectorAll('video')].map((video) => ({
    at: video.currentTime, ready: video.readyState, paused: video.paused, seeking: video.seeking, ended: video.ended,
    error: video.error?.message, buffered: [...Array(video.buffered.length).keys()].map((i) => [video.buffered.start(i), video.buffered.end(i)]),
})), window.diagnosis?.()])";

/// A browser with one page, and what it complained about.
pub struct Tab {
    browser: Browser,
    page: Page,
    base: String,
    complaints: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
    _profile: TempDir,
}

impl Tab {
    pub async fn open(farm: &Farm) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let program = std::env::var_os("REELMILL_CHROMIUM")
            .map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
        let config = BrowserConfig::builder()
            .chrome_executable(program)
            .user_data_dir(profile.path())
            .no_sandbox()
            .window_size(1280, 900)
            .viewport(None)
            .launch_timeout(PATIENCE)
            .args([
                "disable-gpu",
                "disable-quic",
                "no-first-run",
                "disable-background-networking",
                "disable-component-update",
                "disable-sync",
            ])
            .build()
            .unwrap();
        let (browser, mut handler) = Browser::launch(config).await.unwrap();
        // Messages the library does not know yet are errors here, and nothing to end for.
        let mut tasks = vec![tokio::spawn(async move { while handler.next().await.is_some() {} })];
        let page = browser.new_page("about:blank").await.unwrap();
        page.enable_log().await.unwrap();
        let complaints = Arc::new(Mutex::new(vec![]));
        let noted = Arc::clone(&complaints);
        let mut entries = page.event_listener::<EventEntryAdded>().await.unwrap();
        tasks.push(tokio::spawn(async move {
            while let Some(event) = entries.next().await {
                // Violations of the content security policy come here, and answers that are errors.
                if matches!(event.entry.level, LogEntryLevel::Error | LogEntryLevel::Warning) {
                    noted.lock().unwrap().push(format!("{} {:?}", event.entry.text, event.entry.url));
                }
            }
        }));
        let noted = Arc::clone(&complaints);
        let mut thrown = page.event_listener::<EventExceptionThrown>().await.unwrap();
        tasks.push(tokio::spawn(async move {
            while let Some(event) = thrown.next().await {
                noted.lock().unwrap().push(format!("{:?}", event.exception_details));
            }
        }));
        let noted = Arc::clone(&complaints);
        let mut said = page.event_listener::<EventConsoleApiCalled>().await.unwrap();
        tasks.push(tokio::spawn(async move {
            while let Some(event) = said.next().await {
                if matches!(event.r#type, ConsoleApiCalledType::Error | ConsoleApiCalledType::Assert) {
                    noted.lock().unwrap().push(format!("{:?}", event.args));
                }
            }
        }));
        let base = farm.client.base.clone();
        Self { browser, page, base, complaints, tasks, _profile: profile }
    }

    /// By a link, as `reelmill dev` prints it.
    async fn log_in(&mut self, farm: &Farm) {
        let keys = farm.client.get("/keys").await;
        let key = text(&keys["keys"][0], "id").parse().unwrap();
        let ends = chrono::Utc::now().timestamp() as u64 + 60;
        let token = Signer::new(&[SECRET_KEY]).sign(Purpose::Login, key, ends);
        self.goto(&format!("/login?token={token}")).await;
        assert_eq!(self.get::<String>("location.pathname").await, "/", "logged in and sent home");
    }

    async fn goto(&self, path: &str) {
        self.visit(&format!("{}{path}", self.base)).await;
    }

    /// A page anywhere.
    pub async fn visit(&self, url: &str) {
        self.page.goto(url).await.unwrap();
        self.holds("the page to load", "document.readyState === 'complete'").await;
    }

    /// Taking a picture of a whole page undoes this, so it is said before each.
    async fn resize(&self, width: i64, height: i64) {
        let size = SetDeviceMetricsOverrideParams::new(width, height, 1.0, width < 500);
        self.page.execute(size).await.unwrap();
    }

    pub async fn get<T: DeserializeOwned>(&self, script: &str) -> T {
        let found = self.page.evaluate(script).await;
        found.unwrap_or_else(|error| panic!("{script}: {error}")).into_value().unwrap()
    }

    pub async fn run(&self, script: &str) {
        let done = self.page.evaluate(format!("(() => {{ {script} }})()")).await;
        done.unwrap_or_else(|error| panic!("{script}: {error}"));
    }

    async fn is(&self, script: &str) -> bool {
        self.get(script).await
    }

    pub async fn holds(&self, what: &str, script: &str) {
        let asked = format!("Boolean({script})");
        let held = until(what, 2 * PATIENCE, || async { self.is(&asked).await.then_some(()) });
        if tokio::time::timeout(PATIENCE, held).await.is_err() {
            panic!("waited {PATIENCE:?} in vain for {what}: {}", self.get::<String>(MEDIA).await);
        }
    }

    pub async fn becomes(&self, wanted: &str, script: &str) {
        self.holds(&format!("{script} to be {wanted}"), &format!("{script} === {}", json!(wanted))).await;
    }

    async fn click(&self, selector: &str) {
        self.page.find_element(selector).await.unwrap().click().await.unwrap();
    }

    fn nothing_was_wrong(&self) {
        let complaints = self.complaints.lock().unwrap();
        assert!(complaints.is_empty(), "the browser complains: {complaints:#?}");
    }

    /// Ends the browser and checks that it had nothing to complain about.
    pub async fn close(mut self) {
        self.nothing_was_wrong();
        self.browser.close().await.unwrap();
        self.browser.wait().await.unwrap();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A small copy of the frame that is shown, as text; all of one colour is no picture.
const FRAME: &str = "(() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 32, height: 18 });
  const context = canvas.getContext('2d');
  context.drawImage(document.querySelector('video'), 0, 0, 32, 18);
  return Array.from(context.getImageData(0, 0, 32, 18).data.filter((_, at) => at % 4 !== 3)).join();
})()";

async fn the_picture_moves(tab: &Tab) {
    // It plays a moment before there is a frame to be seen.
    tab.holds("a picture of many colours", &format!("new Set({FRAME}.split(',')).size > 20")).await;
    let at: f64 = tab.get("video.currentTime").await;
    let frame: String = tab.get(FRAME).await;
    tab.holds("the time to go on", &format!("video.currentTime > {at} + 1 || video.ended")).await;
    let later: String = tab.get(FRAME).await;
    assert_ne!(frame, later, "a second later the picture is another");
    assert!(tab.is("video.getVideoPlaybackQuality().totalVideoFrames > 10").await);
}

async fn each_rung_can_be_chosen(tab: &Tab, recording: &Value) {
    let rungs: Vec<&Value> =
        recording["renditions"].as_array().unwrap().iter().filter(|rung| rung["kind"] == "video").collect();
    assert!(rungs.len() >= 3, "{recording}");
    for rung in rungs {
        let (name, height) = (text(rung, "name"), rung["height"].as_u64().unwrap());
        tab.run("video.currentTime = 1; video.play()").await;
        tab.run("document.querySelector('#quality').click()").await;
        tab.holds("the menu", "!document.querySelector('#quality-menu').hidden").await;
        let pick = format!(
            "(() => {{ const name = (item) => item.querySelector('.item-name').textContent; \
             const item = [...document.querySelectorAll('#quality-menu > *')].find((item) => name(item) === {}); \
             item?.click(); return !!item; }})()",
            json!(name)
        );
        // The menu fills as the player learns of its levels.
        tab.holds(&format!("{name} to be in the menu"), &pick).await;
        // Nothing is switched behind the end, which a slow machine may reach first.
        let shown = format!("(video.ended && video.play(), video.videoHeight === {height})");
        tab.holds(&format!("{name} to be shown"), &shown).await;
        tab.holds("it to play on", "!video.paused && video.currentTime > 1.2").await;
        assert!(
            tab.get::<String>("document.querySelector('#quality-label').textContent").await.contains(name)
        );
    }
}

/// The picture over the bar, as `x y` of the tile on its sheet; nothing where none is shown.
const SHOWN: &str = "(() => { const shot = document.querySelector('#seek-shot'); \
                     return shot.checkVisibility() ? shot.style.backgroundPosition : ''; })()";

/// Pointer and keyboard bring the tile of the time that they are at, on a wide screen and a telephone.
async fn the_seek_bar_shows_what_is_there(tab: &Tab, farm: &Farm, recording: &str) {
    until("the storyboard", PATIENCE, || async {
        let recording = farm.client.get(&format!("/recordings/{recording}")).await;
        recording["storyboard_url"].is_string().then_some(())
    })
    .await;
    for (width, height) in [(1280, 900), (360, 740)] {
        tab.resize(width, height).await;
        tab.goto(&format!("/watch/{recording}?autoplay=1")).await;
        tab.becomes("playing", "document.documentElement.dataset.state").await;
        tab.run("video.pause(); document.querySelector('#player').scrollIntoView()").await;
        // Eight tiles in rows of five, 160 by 90 where there is room.
        for (time, column, row) in [(0.5, 0.0, 0.0), (5.0, 2.0, 0.0), (13.0, 1.0, 1.0), (15.9, 2.0, 1.0)] {
            let at: (f64, f64, f64) = tab
                .get(&format!(
                    "(() => {{ const r = document.querySelector('#seek').getBoundingClientRect(); \
                     return [r.left + r.width * {time} / video.duration, r.top + r.height / 2, \
                     Math.min(1, r.width / 3 / 160)]; }})()"
                ))
                .await;
            tab.page.move_mouse(Point { x: at.0, y: at.1 }).await.unwrap();
            let place = format!(
                "(() => {{ const [x, y] = {SHOWN}.split(' ').map(parseFloat); \
                 return Math.abs(x + {}) < 1 && Math.abs(y + {}) < 1; }})()",
                column * 160.0 * at.2,
                row * 90.0 * at.2
            );
            tab.holds(&format!("the tile of {time} s at {width} pixels"), &place).await;
        }
        fits(tab, &format!("the preview at {width}")).await;
        tab.page.move_mouse(Point { x: 5.0, y: 5.0 }).await.unwrap();
        tab.holds("the preview to go", &format!("{SHOWN} === ''")).await;
        // It stays a moment after a key.
        tab.run("video.currentTime = 0; document.querySelector('#seek-input').focus()").await;
        tab.run(
            "window.seen = ''; new MutationObserver(() => { window.seen ||= document.querySelector('#seek-shot').style.backgroundPosition; }) \
             .observe(document.querySelector('#seek-tip'), { attributes: true })",
        )
        .await;
        tab.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true, cancelable: true }))").await;
        tab.holds("five seconds on", "Math.abs(video.currentTime - 5) < 0.1").await;
        tab.holds("the third tile", "Math.abs(parseFloat(window.seen)) > 1").await;
        tab.holds("the preview to go again", &format!("{SHOWN} === ''")).await;
    }
    tab.resize(1280, 900).await;
}

async fn seeking_and_the_end_work(tab: &Tab) {
    tab.run("video.currentTime = video.duration - 1.5; video.play()").await;
    tab.becomes("ended", "document.documentElement.dataset.state").await;
    let duration: f64 = tab.get("video.duration").await;
    assert!((duration - 16.0).abs() < 0.2, "{duration} s");
}

async fn the_theme_changes(tab: &Tab) {
    let colour = "getComputedStyle(document.body).backgroundColor";
    let before: String = tab.get(colour).await;
    tab.click("#theme-toggle").await;
    tab.holds("another colour", &format!("{colour} !== {}", json!(before))).await;
    let after: String = tab.get(colour).await;
    // It stays, on other pages too.
    tab.goto("/docs").await;
    tab.becomes(&after, colour).await;
    tab.click("#theme-toggle").await;
    tab.becomes(&before, colour).await;
}

/// On a wide screen and a telephone, light and dark: nothing sticks out. `REELMILL_TEST_SHOTS` names a directory for pictures.
async fn pages_fit(tab: &Tab, recording: &str) {
    let shots = std::env::var_os("REELMILL_TEST_SHOTS").map(PathBuf::from);
    for look in ["light", "dark"] {
        let feature = MediaFeature { name: "prefers-color-scheme".to_owned(), value: look.to_owned() };
        tab.page.emulate_media_features(vec![feature]).await.unwrap();
        for (width, height) in [(1280, 900), (360, 740)] {
            for (name, path) in [
                ("home", "/"),
                ("watch", &format!("/watch/{recording}")),
                ("login", "/login"),
                ("docs", "/docs"),
                ("problem", "/problems/validation"),
            ] {
                tab.resize(width, height).await;
                tab.goto(path).await;
                let painted = "document.documentElement.dataset.state !== 'loading' && \
                               [...document.images].every((image) => image.complete) && \
                               (location.pathname !== '/docs' || document.querySelectorAll('.op').length > 25)";
                tab.holds("the page to be painted", painted).await;
                fits(tab, &format!("{name} {look} {width}")).await;
                shoot(tab, shots.as_deref(), &format!("{name}-{look}-{width}")).await;
            }
            tab.nothing_was_wrong();
            // Its own answer, 404, is what the browser complains about here.
            tab.resize(width, height).await;
            tab.goto("/nowhere").await;
            fits(tab, &format!("nowhere {look} {width}")).await;
            shoot(tab, shots.as_deref(), &format!("nowhere-{look}-{width}")).await;
            until("the complaint", PATIENCE, || async {
                let mut complaints = tab.complaints.lock().unwrap();
                let about = complaints.iter().position(|text| text.contains("/nowhere"))?;
                complaints.remove(about);
                Some(())
            })
            .await;
        }
    }
}

async fn fits(tab: &Tab, what: &str) {
    // All of a row's parts have room: a path one letter wide is none.
    let narrow: i64 = tab
        .get("[...document.querySelectorAll('h1, h2, .op-path, .btn')].filter((e) => e.offsetWidth > 0 && e.offsetWidth < 40).length")
        .await;
    assert_eq!(narrow, 0, "{what}: parts that are squeezed together");
    let over: i64 = tab.get("document.documentElement.scrollWidth - innerWidth").await;
    assert!(over <= 0, "{what}: {over} pixels stick out to the right");
    let title: String = tab.get("document.querySelector('h1')?.innerText ?? ''").await;
    assert!(!title.trim().is_empty(), "{what} has no heading");
}

async fn shoot(tab: &Tab, shots: Option<&Path>, name: &str) {
    let Some(shots) = shots else { return };
    std::fs::create_dir_all(shots).unwrap();
    let params = ScreenshotParams::builder().full_page(true).build();
    tab.page.save_screenshot(params, shots.join(format!("{name}.png"))).await.unwrap();
}

/// The home page's buttons do what they say, after a question where something would be lost.
#[tokio::test]
async fn browser_jobs_are_cancelled_and_tried_again_and_recordings_deleted() {
    let farm = Farm::builder().start().await;
    farm.client.post("/queues/cpu/pause", &json!({})).await;
    let job = farm.client.submit(&media::clip(farm.dir.path(), 2, "320x180"), &json!("fast")).await;
    let (id, recording) = (text(&job, "id"), text(&job, "recording_id"));
    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    let row = format!("#jobs [data-key=\"{id}\"]");
    let status = format!("document.querySelector('{row} .chip')?.dataset.status");
    tab.becomes("queued", &status).await;

    // Who thinks better of it changes nothing.
    tab.run("window.asked = []; window.confirm = (what) => { window.asked.push(what); return false; }").await;
    tab.click(&format!("{row} [data-act=cancel]")).await;
    tab.holds("the question", "window.asked.length === 1").await;
    assert_eq!(farm.client.get(&format!("/jobs/{id}")).await["status"], "queued");
    tab.run("window.confirm = () => true").await;
    tab.click(&format!("{row} [data-act=cancel]")).await;
    tab.becomes("cancelled", &status).await;
    let card = format!("#recordings [data-key=\"{recording}\"]");
    tab.becomes("cancelled", &format!("document.querySelector('{card} .chip')?.dataset.status")).await;

    tab.click(&format!("{row} [data-act=retry]")).await;
    tab.holds("the new job", "document.querySelectorAll('#jobs [data-act=cancel]').length === 1").await;
    tab.holds("the old one to be done with", &format!("!document.querySelector('{row} [data-act]')")).await;
    let jobs = farm.client.get(&format!("/jobs?recording_id={recording}")).await;
    assert_eq!(jobs["jobs"][0]["retry_of"], id, "{jobs}");

    tab.run(&format!("document.querySelector('{card} [data-act=delete]').click()")).await;
    tab.holds("the recording to be gone", &format!("!document.querySelector('{card}')")).await;
    let gone = farm.client.try_get(&format!("/recordings/{recording}")).await;
    assert_eq!(gone.0, reqwest::StatusCode::NOT_FOUND);
    tab.close().await;
    farm.stop().await;
}

/// What is downloaded is a file that a browser plays by itself.
#[tokio::test]
async fn browser_a_download_plays_to_its_end() {
    let farm = Farm::builder().start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 6, "640x360");
    let upload = farm.client.upload(&clip).await;
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": ladder(), "outputs": ["hls", "mp4"] });
    let job = farm.client.post("/jobs", &body).await;
    let job = farm.client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let master = farm.client.play_url(text(&job, "recording_id")).await;
    let url = master.replace("/stream/master.m3u8", "/download");

    let tab = Tab::open(&farm).await;
    tab.goto("/login").await;
    let play = "const video = Object.assign(document.createElement('video'), { muted: true, src: URL }); \
                window.video = video; document.body.append(video); video.play()";
    tab.run(&play.replace("URL", &json!(url).to_string())).await;
    tab.holds("it to end", "video.ended || video.error").await;
    assert!(tab.is("video.error === null && video.videoHeight === 360").await);
    let (from, to): (f64, f64) = tab.get("[video.played.start(0), video.duration]").await;
    assert!(from == 0.0 && (to - 6.0).abs() < 0.05, "from {from} to {to}");
    let frames: f64 = tab.get("video.getVideoPlaybackQuality().totalVideoFrames").await;
    assert!(frames > 140.0, "{frames} of 150 frames");
    tab.close().await;
    farm.stop().await;
}
