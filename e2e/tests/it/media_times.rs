//! When things are seen and heard: the inputs of `make-variants` that try the clock, and rungs of capped rates.

use std::path::Path;
use std::process::Command;

use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::judge::{Case, Expected, Rung, case, content, transcode};

/// Rows with a test here.
pub const TIMES: [&str; 7] = [
    "vfr.mkv",
    "late-start.ts",
    "audio-leads.mp4",
    "fps-59.94.mp4",
    "one-keyframe.mp4",
    "flash-beep.mp4",
    "ten-minutes.mp4",
];
/// Two small rungs, cheap but with B-frames, cut every two seconds.
pub fn small() -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 26, "max_bitrate": 900_000},
        {"name": "small", "width": 320, "height": 180, "crf": 26, "max_bitrate": 300_000},
    ]})
}

/// What [`small`] makes of a picture of 16:9.
pub const WIDE: [(&str, u64, u64); 2] = [("large", 640, 360), ("small", 320, 180)];

/// In chunks of four seconds: every seam must be as exact as the rest.
async fn farm() -> Farm {
    Farm::builder().set("REELMILL_ENCODE_THREADS", 1).set("REELMILL_CHUNK_SECONDS", 4).start().await
}

/// Pictures and sound come when the source has them.
#[tokio::test]
async fn media_times_of_picture_and_sound() {
    let Some(variants) = media::variants() else { return };
    let footage = media::footage().unwrap();
    let bbb = footage.join("bbb-720p25-h264-aac.mp4");
    let late = tempfile::tempdir().unwrap();
    let audio_late = late.path().join("audio-late.mp4");
    audio_starts_late(&bbb, &audio_late);
    let farm = farm().await;
    let wide = |rate, frames| Expected::video(rate, frames, &WIDE).sound(48_000);
    let of = |name: &str, expected| case(variants.file(name), small(), expected);
    let cases: [Case; 6] = [
        // From the start of the sound to the end of the last picture: 0.021 s and 5.28 s.
        of("vfr.mkv", wide((25, 1), 133)),
        of("late-start.ts", wide((25, 1), 132)),
        // The picture comes 0.4 s late, ten frames.
        of("audio-leads.mp4", wide((25, 1), 142)),
        of("fps-59.94.mp4", wide((60_000, 1001), 316)),
        of("one-keyframe.mp4", wide((25, 1), 530)),
        case(&audio_late, small(), wide((25, 1), 132)),
    ];
    let sources: Vec<_> = cases.iter().map(|case| case.file.clone()).collect();
    let watched = transcode(&farm, cases).await;
    let original = (content::pictures(&bbb), content::sound(&bbb));
    // Frames by which the picture, seconds by which the sound comes later than in the footage.
    let later = [(1, 0.021), (0, 0.0), (10, 0.0), (0, 0.0), (0, 0.0), (0, 0.4)];
    for ((source, (_, played)), (frames, seconds)) in sources.iter().zip(&watched).zip(later) {
        let name = source.file_name().unwrap().to_string_lossy();
        for track in &played.video {
            let seen = content::pictures(&track.file);
            // At 59.94 frames per second only the file itself has the same frames.
            let (shift, off) = match &*name {
                "fps-59.94.mp4" => content::picture_shift(&content::pictures(source), &seen),
                _ => content::picture_shift(&original.0, &seen),
            };
            assert!(shift == frames && off < 4.0, "{name} {}: {shift} {off}", track.name);
            for still in &seen[..frames] {
                let off = content::difference(still, &seen[frames]);
                assert!(off < 1.0, "{name}: the first picture is held until the next comes: {off}");
            }
        }
        let heard = content::sound(&played.audio.as_ref().unwrap().file);
        let (lag, alike) = content::sound_lag(&original.1, &heard);
        assert!((lag - seconds).abs() <= 0.003 && alike > 0.9, "{name}: sound {lag} s late, {alike} alike");
        // And still so at the end.
        let tail = |sound: &[f32]| sound[8_000..].to_vec();
        let (lag, _) = content::sound_lag(&tail(&original.1), &tail(&heard));
        assert!((lag - seconds).abs() <= 0.003, "{name}: sound {lag} s late at the end");
    }
    farm.stop().await;
}

fn audio_starts_late(bbb: &Path, output: &Path) {
    let bbb = bbb.to_str().unwrap();
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", bbb, "-itsoffset", "0.4", "-i", bbb])
        .args(["-map", "0:v", "-map", "1:a", "-c", "copy", "-t", "5.28"])
        .arg(output)
        .status()
        .unwrap();
    assert!(done.success());
}

/// A flash and a beep each second stay together in every rung, also where a rung's rate is capped.
#[tokio::test]
async fn media_times_flash_and_beep_together() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    let file = variants.file("flash-beep.mp4");
    let capped = |name: &str| Rung {
        name: name.to_owned(),
        size: (640, 360),
        rate: (24, 1),
        frames: 480,
        codec: "h264",
    };
    let classic = Expected::nothing_to_see().rungs(vec![capped("normal"), capped("low")]).sound(48_000);
    let cases = [
        case(&file, small(), Expected::video((30, 1), 600, &WIDE).sound(48_000)),
        case(&file, "classic", classic),
    ];
    for ((_, played), fps) in transcode(&farm, cases).await.iter().zip([30.0, 24.0]) {
        let beeps = content::beeps(&content::fine_sound(&played.audio.as_ref().unwrap().file));
        assert_eq!(beeps.len(), 20, "{beeps:?}");
        for track in &played.video {
            // The judge has seen that frame n is shown at n / fps.
            let flashes = content::flashes(&content::pictures(&track.file));
            assert_eq!(flashes.len(), 20, "{}: {flashes:?}", track.name);
            for (flash, beep) in flashes.iter().zip(&beeps) {
                let apart = *flash as f64 / fps - beep;
                assert!(apart.abs() < 0.04, "{}: {apart} s apart at {beep} s", track.name);
            }
        }
    }
    farm.stop().await;
}

/// Rungs of a lower rate keep the GOP times of the others.
#[tokio::test]
async fn media_times_capped_rates_share_the_grid() {
    let Some(footage) = media::footage() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at_50 = dir.path().join("at-50.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=1440x810:r=50:d=12"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
        .arg(&at_50)
        .status()
        .unwrap();
    assert!(made.success());
    let rung =
        |name: &str, size, rate, frames| Rung { name: name.to_owned(), size, rate, frames, codec: "h264" };
    let classic = Expected::nothing_to_see().rungs(vec![
        rung("very_high", (1440, 810), (30, 1), 360),
        rung("high", (1440, 810), (30, 1), 360),
        rung("normal", (1280, 720), (24, 1), 288),
        rung("low", (1280, 720), (24, 1), 288),
    ]);
    let odd_profile = json!({"preset": "ultrafast", "rungs": [
        {"name": "all", "width": 640, "height": 360, "crf": 28, "max_bitrate": 900_000},
        {"name": "some", "width": 320, "height": 180, "crf": 28, "max_bitrate": 300_000, "max_frame_rate": 24},
    ]});
    let odd = Expected::nothing_to_see().rungs(vec![
        rung("all", (640, 360), (179, 6), 1189),
        // 48 frames where the source has 60, and a last one that is begun.
        rung("some", (320, 180), (358, 15), 952),
    ]);
    let farm = farm().await;
    let bottles = footage.join("bottles-360p29.83-h264.mp4");
    let [(_, steady), _] =
        transcode(&farm, [case(&at_50, "classic", classic), case(&bottles, odd_profile, odd)]).await;
    assert_eq!(steady.video[0].lengths, [10.0, 2.0], "segments of 10 s");
    farm.stop().await;
}

/// Long enough for many segments: not a frame is lost, and the sound is in step at the end.
#[tokio::test]
async fn media_times_ten_minutes_have_every_frame() {
    let Some(variants) = media::variants() else { return };
    let farm = farm().await;
    // FFmpeg's AAC encoder takes many times as long for a pure tone at a high rate as for anything else.
    let profile = json!({"preset": "ultrafast", "audio": {"bitrate": 64_000}, "rungs": [
        {"name": "only", "width": 320, "height": 180, "crf": 34, "max_bitrate": 300_000},
    ]});
    let expected = Expected::video((25, 1), 15_000, &[("only", 320, 180)]).sound(44_100);
    let [(_, played)] = transcode(&farm, [case(variants.file("ten-minutes.mp4"), profile, expected)]).await;
    assert_eq!(played.video[0].pieces.len(), 100);
    farm.stop().await;
}
