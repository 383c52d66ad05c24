//! DASH in a real browser, by dash.js, the reference player of the DASH Industry Forum: from the api, from the store alone, and while
//! a recording grows.

use std::path::Path;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::browser::{PATIENCE, Tab};
use crate::live;
use crate::media_dash::Bucket;
use crate::media_tracks::many_tracks;
use crate::support::{Page, Paused, text};

const PAGE: &str = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><video muted></video>
<script src=/dash.js></script>
<script>
  const video = document.querySelector('video');
  const player = dashjs.MediaPlayer().create();
  const errors = [];
  player.on('error', (event) => errors.push(event.error?.message ?? String(event.error)));
  const log = [];
  player.on('log', (event) => { log.push(event.message); if (log.length > 300) log.shift(); });
  player.updateSettings({ debug: { logLevel: 4, dispatchEvent: true } });
  window.diagnosis = () => ({ dynamic: player.isDynamic(), log });
  // The best rung from the start, and no other unless it is asked for.
  player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: false }, initialBitrate: { video: 1e6 } } } });
  // Manifests are not asked for while they are held back.
  const ask = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (...body) {
    const go = () => (window.held && /mpd/.test(this.asked) ? setTimeout(go, 100) : ask.apply(this, body));
    go();
  };
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    this.asked = url;
    return open.call(this, method, url, ...rest);
  };
  const fetched = window.fetch;
  window.fetch = async (asked, ...rest) => {
    while (window.held && /mpd/.test(asked.url ?? asked)) await new Promise((resolve) => setTimeout(resolve, 100));
    return fetched(asked, ...rest);
  };
  player.initialize(video, new URLSearchParams(location.search).get('manifest'), true);
</script>";

/// The player's script, as `scripts/assets --tests` fetched it.
fn player() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("npm/node_modules/dashjs/dist/modern/umd/dash.all.min.js");
    std::fs::read(&path)
        .unwrap_or_else(|_| panic!("{} is missing: run scripts/assets --tests", path.display()))
}

fn pages() -> Vec<(&'static str, Page)> {
    vec![("/", Page::Bytes(PAGE.into())), ("/dash.js", Page::Bytes(player()))]
}

fn profile() -> Value {
    let rung = |name: &str, width: u32, height: u32| json!({ "name": name, "width": width, "height": height, "crf": 24, "max_bitrate": 600_000 });
    json!({ "segment_duration": 2, "preset": "veryfast",
            "rungs": [rung("360p", 640, 360), rung("240p", 426, 240), rung("144p", 256, 144)] })
}

#[tokio::test]
async fn browser_dash_plays_to_the_end_from_the_api_and_from_the_store() {
    let farm = Farm::builder().set("REELMILL_CHUNK_SECONDS", 4).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 11, "640x360");
    let recording = farm.client.transcode(&clip, &profile()).await;
    let token =
        farm.client.post(&format!("/recordings/{}/playback-token", text(&recording, "id")), &json!({})).await;
    let bucket = Bucket::with(&farm, pages()).await;
    let tab = Tab::open(&farm).await;
    for manifest in [text(&token, "dash_url"), &bucket.url("manifest.mpd")] {
        open(&tab, &bucket, manifest).await;
        all_frames_are_shown(&tab, 11 * 25).await;
        each_rung_can_be_chosen(&tab, &recording).await;
        no_errors(&tab).await;
    }
    tab.close().await;
    farm.stop().await;
}

#[tokio::test]
async fn browser_dash_follows_a_recording_that_grows() {
    follow(false).await;
}

/// A player may be away just when the rest is made, and find another manifest than it knew: rates are measured then.
#[tokio::test]
async fn browser_dash_goes_on_with_a_recording_that_is_whole_by_now() {
    follow(true).await;
}

/// Plays what there is of a recording that grows, and then the rest; `misses` what comes between.
async fn follow(misses: bool) {
    let farm = Farm::builder()
        .set("REELMILL_LEASE_SECONDS", 600)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 4)
        .start()
        .await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 16, "640x360");
    let job = farm.client.submit(&clip, &profile()).await;
    let path = format!("/recordings/{}", text(&job, "recording_id"));
    until("the recording to be playable", PATIENCE, || async {
        (farm.client.get(&path).await["status"] == "playable").then_some(())
    })
    .await;
    let paused = Paused::workers(&farm);
    let token = farm.client.post(&format!("{path}/playback-token"), &json!({})).await;
    let manifest = text(&token, "dash_url");
    let early = farm.client.text(manifest).await;
    assert!(early.contains("type=\"dynamic\"") && !early.contains("mediaPresentationDuration"), "{early}");

    let site = crate::support::Site::start("127.0.0.1", pages()).await;
    let tab = Tab::open(&farm).await;
    // From the start, as a player is told to begin anywhere (ISO/IEC 23009-1, C.4).
    let address = reqwest::Url::parse_with_params(
        &format!("{}/", site.base),
        [("manifest", format!("{manifest}#t=0"))],
    );
    tab.visit(address.unwrap().as_str()).await;
    tab.holds("it to play", "video.currentTime > 0.5").await;
    assert!(tab.get::<bool>("player.isDynamic()").await);
    tab.holds("it to wait for more", "video.currentTime > 3 && video.readyState < 3").await;
    tab.run(&format!("window.held = {misses}")).await;
    drop(paused);
    if !misses {
        tab.holds("it to play what was made since", "video.currentTime > 8").await;
    }
    farm.client.wait_for(text(&job, "id")).await;
    tab.run("window.held = false").await;
    tab.holds("the end", "video.ended").await;
    let duration: f64 = tab.get("video.duration").await;
    assert!((duration - 16.0).abs() < 0.1, "{duration} s");
    no_errors(&tab).await;
    tab.close().await;
    farm.stop().await;
}

async fn open(tab: &Tab, bucket: &Bucket, manifest: &str) {
    let address = reqwest::Url::parse_with_params(&bucket.page("/"), [("manifest", manifest)]).unwrap();
    tab.visit(address.as_str()).await;
}

async fn no_errors(tab: &Tab) {
    let errors: Vec<String> = tab.get("errors").await;
    assert!(errors.is_empty(), "{errors:?}");
}

/// Nothing is left out and nothing is before zero.
async fn all_frames_are_shown(tab: &Tab, frames: u64) {
    tab.holds("it to play", "!video.paused && video.currentTime > 0.2").await;
    assert_eq!(tab.get::<f64>("video.buffered.start(0)").await, 0.0, "the picture begins with the sound");
    tab.run("video.playbackRate = 2").await;
    tab.holds("the end", "video.ended").await;
    assert_eq!(tab.get::<u64>("video.getVideoPlaybackQuality().totalVideoFrames").await, frames);
    assert_eq!(tab.get::<u64>("video.videoHeight").await, 360);
}

async fn each_rung_can_be_chosen(tab: &Tab, recording: &Value) {
    let rungs: Vec<&Value> =
        recording["renditions"].as_array().unwrap().iter().filter(|rung| rung["kind"] == "video").collect();
    assert_eq!(rungs.len(), 3, "{recording}");
    for rung in rungs {
        let (name, height) = (text(rung, "name"), rung["height"].as_u64().unwrap());
        tab.run("video.playbackRate = 1; video.currentTime = 0.5; video.play()").await;
        tab.run(&format!("player.setRepresentationForTypeById('video', {}, true)", json!(name))).await;
        // Nothing is switched behind the end, which a slow machine may reach first.
        let shown = format!("(video.ended && video.play(), video.videoHeight === {height})");
        tab.holds(&format!("{name} to be shown"), &shown).await;
        tab.holds("it to play on", "!video.paused && video.currentTime > 1").await;
    }
}

/// Each track of the sound, and text that is one file, in German twice.
#[tokio::test]
async fn browser_dash_offers_every_track() {
    let farm = Farm::builder().start().await;
    let source = many_tracks(farm.dir.path(), 14);
    let recording = farm.client.transcode(&source, &profile()).await;
    let token =
        farm.client.post(&format!("/recordings/{}/playback-token", text(&recording, "id")), &json!({})).await;
    let bucket = Bucket::with(&farm, pages()).await;
    let tab = Tab::open(&farm).await;
    for manifest in [text(&token, "dash_url"), &bucket.url("manifest.mpd")] {
        open(&tab, &bucket, manifest).await;
        tab.holds("it to play", "!video.paused && video.currentTime > 0.2").await;
        let languages = |kind: &str| format!("player.getTracksFor('{kind}').map((track) => track.lang)");
        assert_eq!(tab.get::<Vec<String>>(&languages("audio")).await, ["en", "es", "en"]);
        assert_eq!(tab.get::<Vec<String>>(&languages("text")).await, ["de", "de"]);
        tab.run("player.setCurrentTrack(player.getTracksFor('audio')[1])").await;
        let asked =
            "performance.getEntriesByType('resource').some((entry) => /audio_2[-/].*m4s/.test(entry.name))";
        tab.holds("the other sound to be asked for", asked).await;
        tab.run("player.setTextTrack(0); video.pause(); video.currentTime = 5.6").await;
        let cues = "[...[...video.textTracks].find((track) => track.mode === 'showing')?.activeCues ?? []]\
                    .map((cue) => `${cue.startTime}-${cue.endTime} ${cue.text}`).join('|')";
        tab.becomes("5.5-6.5 Over the cut", cues).await;
        no_errors(&tab).await;
    }
    tab.close().await;
    farm.stop().await;
}

/// On air, through a publisher's return, and to the end.
#[tokio::test]
async fn browser_dash_plays_what_is_on_air() {
    let farm = live::farm().start().await;
    let stream = live::livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let publisher = live::Publisher::start(&farm, 0, key, &live::footage(&farm));
    live::becomes(&farm, id, "live").await;
    let token = farm.client.post(&format!("/livestreams/{id}/playback-token"), &json!({})).await;
    let manifest = text(&token, "dash_url");
    until("a whole segment", PATIENCE, || async {
        reqwest::get(manifest).await.is_ok_and(|answer| answer.status().is_success()).then_some(())
    })
    .await;
    let site = crate::support::Site::start("127.0.0.1", pages()).await;
    let tab = Tab::open(&farm).await;
    let address = reqwest::Url::parse_with_params(&format!("{}/", site.base), [("manifest", manifest)]);
    tab.visit(address.unwrap().as_str()).await;
    tab.holds("it to play", "video.currentTime > 0.5 && !video.paused").await;
    assert!(tab.get::<bool>("player.isDynamic()").await);
    let moving = "(window.from ??= video.currentTime, video.currentTime > window.from + 2)";
    tab.holds("it to go on", moving).await;

    publisher.kill().await;
    live::becomes(&farm, id, "reconnecting").await;
    let publisher = live::Publisher::start(&farm, 0, key, &live::footage(&farm));
    live::becomes(&farm, id, "live").await;
    let periods = "player.getActiveStream().getId()";
    let before: String = tab.get(periods).await;
    tab.holds("what came after", &format!("{periods} !== {}", json!(before))).await;
    tab.holds("it to go on after", &moving.replace("from", "after")).await;
    no_errors(&tab).await;
    drop(publisher);
    farm.client.post(&format!("/livestreams/{id}/stop"), &json!({})).await;
    tab.holds("the end", "video.ended").await;
    tab.close().await;
    farm.stop().await;
}
