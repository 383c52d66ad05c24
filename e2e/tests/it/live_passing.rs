//! The picture as it comes, where it keeps to the grid; and where it does not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reelmill_testkit::ffmpeg::ffmpeg;
use reelmill_testkit::wait::until;
use serde_json::{Value, json};

use crate::live::{Publisher, becomes, farm, footage, livestream, numbers, playlist, watch};
use crate::support::text;

const PATIENCE: Duration = Duration::from_secs(60);

/// The footage with a keyframe every so many pictures.
fn with_gops(dir: &Path, source: &Path, pictures: u32) -> PathBuf {
    let path = dir.join(format!("gop-{pictures}.mp4"));
    let gop = pictures.to_string();
    ffmpeg(&[
        "-i",
        source.to_str().unwrap(),
        "-t",
        "5",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-pix_fmt",
        "yuv420p",
        "-g",
        &gop,
        "-keyint_min",
        &gop,
        "-sc_threshold",
        "0",
        "-c:a",
        "copy",
        path.to_str().unwrap(),
    ]);
    path
}

/// What identifies each coded picture of a file.
fn packets(file: &str) -> BTreeSet<String> {
    let listed = ffmpeg(&["-i", file, "-map", "0:v:0", "-c", "copy", "-f", "framemd5", "-"]);
    let listed = String::from_utf8(listed).unwrap();
    let lines = listed.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

fn as_it_comes() -> Value {
    json!({ "settings": {
        "enable_transcoding": false, "segment_duration": 2, "keyframe_interval": 1, "part_duration": 0.5,
    } })
}

#[tokio::test]
async fn live_a_picture_on_the_grid_is_passed_through_bit_by_bit() {
    let farm = farm().start().await;
    let source = with_gops(farm.dir.path(), &footage(&farm), 25);
    let stream = livestream(&farm, as_it_comes()).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let publisher = Publisher::start(&farm, 0, key, &source);
    let on_air = becomes(&farm, id, "live").await;
    assert_eq!(on_air["variants"].as_array().unwrap().len(), 1);
    let list = until("segments", PATIENCE, || async {
        let list = playlist(&master, "source").await;
        (numbers(&list).len() >= 3).then_some(list)
    })
    .await;
    let init = list.split("#EXT-X-MAP:URI=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut whole = vec![];
    for name in [init.to_owned(), format!("source-{}.m4s", numbers(&list)[1])] {
        let url = master.replace("master.m3u8", &name);
        whole.extend(reqwest::get(&url).await.unwrap().bytes().await.unwrap());
    }
    let segment = farm.dir.path().join("segment.mp4");
    std::fs::write(&segment, whole).unwrap();
    let (sent, got) = (packets(source.to_str().unwrap()), packets(segment.to_str().unwrap()));
    assert!(got.len() >= 40, "two seconds of 25 pictures: {}", got.len());
    let changed: Vec<_> = got.difference(&sent).collect();
    assert!(changed.is_empty(), "{} of {} pictures are not as they were sent", changed.len(), got.len());
    publisher.kill().await;
    farm.stop().await;
}

#[tokio::test]
async fn live_a_picture_off_the_grid_is_encoded_and_its_publisher_not_disturbed() {
    let farm = farm().start().await;
    let source = with_gops(farm.dir.path(), &footage(&farm), 37);
    let stream = livestream(&farm, as_it_comes()).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let mut publisher = Publisher::start(&farm, 0, key, &source);
    becomes(&farm, id, "live").await;
    let told = until("the event", PATIENCE, || async {
        let events = farm.client.get(&format!("/livestreams/{id}/events")).await.to_string();
        events.contains("not passed through").then_some(events)
    })
    .await;
    let at = numbers(&playlist(&master, "source").await).last().copied().unwrap_or(0);
    let list = until("it to go on", PATIENCE, || async {
        let list = playlist(&master, "source").await;
        (numbers(&list).last() >= Some(&(at + 3))).then_some(list)
    })
    .await;
    assert!(!list.contains("#EXT-X-ENDLIST"), "{list}");
    assert!(told.contains("should be a keyframe"), "it was found out while it was passed: {told}");
    assert!(publisher.is_there(), "the publisher was sent away");
    publisher.kill().await;
    farm.stop().await;
}
