//! Broadcasts whose tracks change in mid-stream.

use std::path::{Path, PathBuf};
use std::process::Command;

use reelmill_testkit::Farm;
use serde_json::json;

use crate::judge::{Expected, failed_for_good};
use crate::media_hostile::plays;

/// A transport stream of pieces of two seconds.
fn broadcast(dir: &Path, pieces: &[&[&str]]) -> PathBuf {
    let mut whole = vec![];
    for (n, args) in pieces.iter().enumerate() {
        let piece = dir.join("piece.ts");
        let done = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"])
            .args(*args)
            .args(["-output_ts_offset", &(2 * n).to_string(), "-muxdelay", "0"])
            .arg(&piece)
            .status()
            .unwrap();
        assert!(done.success());
        whole.extend(std::fs::read(&piece).unwrap());
    }
    let file = dir.join("changing.ts");
    std::fs::write(&file, whole).unwrap();
    file
}

/// Every frame is there, at one size.
#[tokio::test]
async fn media_changing_size_in_mid_stream_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"];
    let of = |source| [&[source], &encoder[..]].concat();
    let file = broadcast(
        dir.path(),
        &[
            &of("testsrc2=s=320x180:r=25:d=2"),
            &of("testsrc2=s=640x360:r=25:d=2"),
            &of("testsrc2=s=180x320:r=25:d=2"),
        ],
    );
    let farm = Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await;
    let job = farm.client.submit(&file, &json!("fast")).await;
    let job = farm.client.wait_for(job["id"].as_str().unwrap()).await;
    let expected = Expected::video((25, 1), 150, &[("360p", 320, 180)]);
    plays(&farm.client, &job, "changing.ts", &expected).await;
    farm.stop().await;
}

/// Never half a success: FFmpeg's filters lose the place, so it is refused, and says why.
#[tokio::test]
async fn media_changing_sound_in_mid_stream_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = broadcast(
        dir.path(),
        &[
            &["sine=440:r=48000:d=2", "-ac", "2", "-c:a", "aac"],
            &["sine=880:r=44100:d=2", "-ac", "1", "-c:a", "aac"],
        ],
    );
    let farm = Farm::builder().start().await;
    let job = farm.client.submit(&file, &json!("audio")).await;
    let job = farm.client.wait_for(job["id"].as_str().unwrap()).await;
    failed_for_good(&farm.client, &job, &["unsuitable"]).await;
    farm.stop().await;
}
