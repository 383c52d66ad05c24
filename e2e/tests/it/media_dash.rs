//! What is played besides the playlists of segments: DASH manifests, by the api and from the store alone, and single I-frames.

use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::Method;
use serde_json::json;

use crate::judge::{Expected, Playback, Rung, case, demuxed, transcode};
use crate::support::{Page, Site, files_under, objects_dir, text};

/// Chunks of two segments, and a rung at half the rate.
#[tokio::test(flavor = "multi_thread")]
async fn media_dash_manifests_and_i_frames_hold_what_the_playlists_hold() {
    let farm =
        Farm::builder().set("REELMILL_ENCODE_THREADS", 1).set("REELMILL_CHUNK_SECONDS", 4).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 9, "640x360");
    let profile = json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 24, "max_bitrate": 1_200_000},
        {"name": "small", "width": 320, "height": 180, "crf": 24, "max_bitrate": 400_000, "max_frame_rate": 13},
    ]});
    let mut expected = Expected::video((25, 1), 225, &[("large", 640, 360)]).sound(48_000);
    expected.rungs.push(Rung {
        name: "small".into(),
        size: (320, 180),
        rate: (13, 1),
        frames: 117,
        codec: "h264",
    });
    // The api's manifest is read with everything else.
    let [(recording, played)] = transcode(&farm, [case(clip, profile, expected.clone())]).await;

    let bucket = Bucket::of(&farm).await;
    demuxed(&bucket.url("manifest.mpd"), &expected);
    for (name, playlist) in [("large", "large-iframes.m3u8"), ("small", "small-iframes.m3u8")] {
        let text = farm.client.text(&bucket.url(playlist)).await;
        let track = played.video.iter().find(|track| track.name == name).unwrap();
        assert_eq!(text.matches("#EXT-X-BYTERANGE:").count(), track.starts().len(), "a GOP a segment");
    }
    each_i_frame_is_one(&farm, &played).await;
    dash_alone_may_be_asked_for(&farm, text(&recording, "id")).await;
    farm.stop().await;
}

async fn dash_alone_may_be_asked_for(farm: &Farm, recording: &str) {
    let body = json!({ "kind": "transcode", "input": { "recording_id": recording }, "outputs": ["dash"],
        "profile": { "rungs": [{ "name": "only", "width": 320, "height": 180, "crf": 30, "max_bitrate": 300_000 }] } });
    let job = farm.client.post("/jobs", &body).await;
    let job = farm.client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let outputs = &job["outputs"];
    let path = format!("/api/v1/recordings/{}/stream/manifest.mpd", text(&job, "recording_id"));
    assert_eq!(
        (text(outputs, "dash"), &outputs["hls"], &outputs["thumbnail"]),
        (path.as_str(), &json!(null), &json!(null))
    );
    // The api keeps for a moment which set a recording plays.
    until("the manifest of the new set", Duration::from_secs(10), || async {
        let answer = farm.client.request(Method::GET, &path).send().await.unwrap();
        answer.text().await.unwrap().contains("<Representation id=\"only\"").then_some(())
    })
    .await;
}

/// The store, served as a bucket would be.
pub struct Bucket {
    site: Site,
    /// Of the static playlists.
    folder: String,
}

impl Bucket {
    /// The store of a farm that made one recording.
    pub async fn of(farm: &Farm) -> Self {
        Self::with(farm, vec![]).await
    }

    /// The same with `pages` beside it.
    pub async fn with(farm: &Farm, pages: Vec<(&'static str, Page)>) -> Self {
        let root = objects_dir(farm);
        let manifests: Vec<_> =
            files_under(&root).into_iter().filter(|file| file.ends_with("manifest.mpd")).collect();
        let [manifest] = &manifests[..] else { panic!("one manifest, not {manifests:?}") };
        let folder = manifest.parent().unwrap().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let site = Site::answering("127.0.0.1", move |path| {
            if let Some((_, page)) = pages.iter().find(|(name, _)| *name == path) {
                return page.clone();
            }
            std::fs::read(root.join(path.trim_start_matches('/'))).map_or(Page::Status(404), Page::Bytes)
        });
        Self { site: site.await, folder }
    }

    /// Where a static playlist is.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.site.base, self.folder)
    }

    /// Where one of the pages is.
    pub fn page(&self, path: &str) -> String {
        format!("{}{path}", self.site.base)
    }
}

/// Each range behind the init segment is one picture, at the time where the playlist has it.
async fn each_i_frame_is_one(farm: &Farm, played: &Playback) {
    let file = farm.dir.path().join("i-frame.mp4");
    for (track, iframes) in played.video.iter().zip(&played.iframes) {
        let init = std::fs::read(&track.init).unwrap();
        let mut at = 0.0;
        for ((name, offset, bytes), length) in iframes.ranges.iter().zip(&iframes.lengths) {
            let range = format!("bytes={offset}-{}", offset + bytes - 1);
            let url = format!("{}/{name}", iframes.base);
            let answer = reqwest::Client::new().get(url).header("range", range).send().await.unwrap();
            assert_eq!(answer.status(), 206);
            let frame = answer.bytes().await.unwrap();
            assert_eq!(frame.len() as u64, *bytes);
            std::fs::write(&file, [&init[..], &frame].concat()).unwrap();
            let shown = shown(file.to_str().unwrap());
            let [time] = shown[..] else { panic!("{name} at {offset} shows {} frames", shown.len()) };
            assert!((time - at).abs() < 1e-4, "{name} at {offset} shows {time}, not {at}");
            at += length;
        }
        assert!((at - track.duration()).abs() < 1e-4, "they last {at} s of {}", track.duration());
    }
}

/// When each frame that FFmpeg decodes is shown. The `moof` tells of samples that are not there, of which FFmpeg warns.
fn shown(file: &str) -> Vec<f64> {
    let args = ["-nostdin", "-v", "quiet", "-copyts", "-i", file, "-fps_mode", "passthrough"];
    let output = std::process::Command::new("ffmpeg")
        .args(args)
        .args(["-enc_time_base", "1:1000000", "-f", "framecrc", "-"])
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let pts = |line: &str| line.split(',').nth(2).unwrap().trim().parse::<f64>().unwrap() / 1e6;
    lines.lines().filter(|line| !line.starts_with('#')).map(pts).collect()
}
