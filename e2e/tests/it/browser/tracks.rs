//! Tracks of sound and text, chosen in a browser.

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::json;

use super::{PATIENCE, Tab, ladder};
use crate::media_tracks::many_tracks;
use crate::support::{Paused, text};

#[tokio::test]
async fn browser_tracks_are_chosen_by_hand_and_by_key() {
    let farm = Farm::builder().set("REELMILL_LEASE_SECONDS", 60).start().await;
    let source = many_tracks(farm.dir.path(), 14);
    let job = farm.client.submit(&source, &ladder()).await;
    let job = farm.client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    tab.goto(&format!("/watch/{}?autoplay=1", text(&job, "recording_id"))).await;
    tab.becomes("playing", "document.documentElement.dataset.state").await;

    // The commentary is there, but the first track is heard.
    tab.becomes("English", "document.querySelector('#sound-label').textContent").await;
    tab.click("#sound").await;
    let names = |menu: &str| {
        format!(
            "[...document.querySelectorAll('#{menu} .item-name')].map((name) => name.textContent).join('|')"
        )
    };
    tab.becomes("English|Spanish|The makers talk", &names("sound-menu")).await;
    assert!(
        tab.is("document.activeElement.getAttribute('aria-checked') === 'true'").await,
        "the menu has the focus"
    );
    for key in ["ArrowDown", "Enter"] {
        tab.page.find_element("body").await.unwrap().press_key(key).await.unwrap();
    }
    tab.becomes("Spanish", "document.querySelector('#sound-label').textContent").await;
    tab.holds("the other sound to be fetched", "reelmill.hls.audioTrack === 1").await;
    tab.run("video.currentTime = 8; video.play()").await;
    let asked = "performance.getEntriesByType('resource').some((entry) => entry.name.includes('audio_2-1-'))";
    tab.holds("its segments to be asked for", asked).await;
    tab.holds("it to play on", "!video.paused && video.currentTime > 8.5").await;

    // No text unasked.
    let showing = "[...video.textTracks].filter((track) => track.mode === 'showing').length";
    assert_eq!(tab.get::<u32>(showing).await, 0);
    tab.click("#captions").await;
    tab.becomes("Off|German|German (2)", &names("captions-menu")).await;
    tab.run("document.querySelectorAll('#captions-menu .item')[1].click()").await;
    tab.run("video.pause(); video.currentTime = 5.4").await;
    let cues = "[...[...video.textTracks].find((track) => track.mode === 'showing')?.activeCues ?? []]\
                .map((cue) => `${cue.startTime}-${cue.endTime} ${cue.text}`).join('|')";
    tab.becomes("", cues).await;
    tab.run("video.currentTime = 5.6").await;
    tab.becomes("5.5-6.5 Over the cut", cues).await;
    // It stands in two segments, and is shown once in the second too.
    tab.run("video.currentTime = 6.4").await;
    tab.becomes("5.5-6.5 Over the cut", cues).await;
    tab.run("video.currentTime = 2").await;
    tab.becomes("1-3.5 <b>Bold <i>both</i></b> alert(1)\n1 &lt; 2 &amp; c --&gt; d", cues).await;
    tab.run("document.activeElement.blur()").await;
    tab.page.find_element("body").await.unwrap().press_key("c").await.unwrap();
    tab.becomes("Subtitles: off", "document.querySelector('#captions').getAttribute('aria-label')").await;
    tab.holds("no text to be shown", &format!("{showing} === 0")).await;

    // All that was chosen outlives a break after which everything is read again.
    pick(&tab, "captions", "German").await;
    pick(&tab, "speed", "1.5×").await;
    pick(&tab, "quality", "240p").await;
    tab.run("reelmill.hls.trigger('hlsError', { type: 'otherError', details: 'none', fatal: true, error: new Error() })").await;
    tab.becomes("failed", "document.documentElement.dataset.state").await;
    tab.run("document.querySelector('#cover-action').click()").await;
    tab.holds("it to be read again", "video.readyState >= 2 && reelmill.hls.subtitleTrack >= 0").await;
    tab.run("video.currentTime = 5.6").await;
    tab.becomes("5.5-6.5 Over the cut", cues).await;
    tab.becomes("Subtitles: German", "document.querySelector('#captions').getAttribute('aria-label')").await;
    tab.becomes("Spanish", "document.querySelector('#sound-label').textContent").await;
    assert_eq!(tab.get::<u32>("reelmill.hls.audioTrack").await, 1);
    the_picture_is_as_chosen(&tab, "240p", 240).await;
    tab.close().await;
    farm.stop().await;
}

/// Chooses from one of the player's menus.
async fn pick(tab: &Tab, menu: &str, name: &str) {
    tab.holds(&format!("{name} to be chosen"), &format!(
        "(() => {{ const menu = document.querySelector('#{menu}-menu'); if (menu.hidden) document.querySelector('#{menu}').click(); \
         const item = [...menu.children].find((item) => item.querySelector('.item-name').textContent === {}); \
         item?.click(); return !!item; }})()",
        json!(name)
    ))
    .await;
}

async fn the_picture_is_as_chosen(tab: &Tab, name: &str, height: u32) {
    assert_eq!(tab.get::<f64>("video.playbackRate").await, 1.5);
    assert!(!tab.is("reelmill.hls.autoLevelEnabled").await, "nobody chose for the viewer");
    tab.becomes(name, "document.querySelector('#quality-label').textContent").await;
    tab.holds(&format!("{height} lines"), &format!("video.videoHeight === {height}")).await;
}

/// A viewer who came early keeps speed and quality when there is more to choose from.
#[tokio::test]
async fn browser_choices_outlive_new_renditions() {
    let farm = Farm::builder()
        .set("REELMILL_LEASE_SECONDS", 60)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 30)
        .start()
        .await;
    let clip = media::clip(farm.dir.path(), 45, "640x360");
    let job = farm.client.submit(&clip, &ladder()).await;
    let recording = text(&job, "recording_id").to_owned();
    until("the recording to be playable", PATIENCE, || async {
        let recording = farm.client.get(&format!("/recordings/{recording}")).await;
        (recording["status"] == "playable").then_some(())
    })
    .await;
    let held = Paused::workers(&farm);
    let mut tab = Tab::open(&farm).await;
    tab.log_in(&farm).await;
    tab.goto(&format!("/watch/{recording}?autoplay=1")).await;
    tab.becomes("playing", "document.documentElement.dataset.state").await;
    assert_eq!(tab.get::<usize>("reelmill.hls.levels.length").await, 1, "one is there so far");
    pick(&tab, "quality", "144p").await;
    pick(&tab, "speed", "1.5×").await;
    drop(held);
    tab.holds("more renditions", "reelmill.hls.levels.length === 3").await;
    tab.holds("it to play on", "!video.paused && video.currentTime > 1").await;
    the_picture_is_as_chosen(&tab, "144p", 144).await;
    assert_eq!(farm.client.wait_for(text(&job, "id")).await["status"], "succeeded");
    the_picture_is_as_chosen(&tab, "144p", 144).await;
    tab.close().await;
    farm.stop().await;
}
