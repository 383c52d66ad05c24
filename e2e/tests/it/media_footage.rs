//! Real footage, all of it, played from end to end.

use reelmill_testkit::{Farm, media};
use serde_json::json;

use crate::judge::{Expected, case, content, transcode};

#[tokio::test]
async fn media_footage_with_sound() {
    let Some(dir) = media::footage() else { return };
    let farm = Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await;
    let bbb = dir.join("bbb-720p25-h264-aac.mp4");
    let [(_, played), ..] = transcode(
        &farm,
        [
            case(
                &bbb,
                "fast",
                Expected::video((25, 1), 132, &[("720p", 1280, 720), ("360p", 640, 360)]).sound(48_000),
            ),
            case(
                dir.join("cars-432p12.5-h264-aac.mp4"),
                "fast",
                Expected::video((25, 2), 377, &[("720p", 768, 432), ("360p", 640, 360)]).sound(48_000),
            ),
            case(
                dir.join("bbb-trailer-360p25-vp8-vorbis.webm"),
                "fast",
                Expected::video((25, 1), 812, &[("360p", 640, 360)]).sound(44_100),
            ),
        ],
    )
    .await;
    // The same pictures and the same sound at the same times.
    let source = content::pictures(&bbb);
    for track in &played.video {
        let (shift, off) = content::picture_shift(&source, &content::pictures(&track.file));
        assert!(shift == 0 && off < 3.0, "{}: {shift} {off}", track.name);
    }
    let heard = content::sound(&played.audio.unwrap().file);
    let (lag, alike) = content::sound_lag(&content::sound(&bbb), &heard);
    assert!(lag.abs() <= 0.001 && alike > 0.95, "{lag} {alike}");
    farm.stop().await;
}

#[tokio::test]
async fn media_footage_without_sound() {
    let Some(dir) = media::footage() else { return };
    // The footage is the point, not the encoder: the quickest there is.
    let quick = json!({"preset": "ultrafast", "rungs": [
        {"name": "720p", "width": 1280, "height": 720, "crf": 24, "max_bitrate": 3_500_000},
        {"name": "360p", "width": 640, "height": 360, "crf": 25, "max_bitrate": 900_000},
    ]});
    let farm = Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await;
    transcode(
        &farm,
        [
            case(
                dir.join("popeye-1074p24-hevc-pgs.mkv"),
                quick.clone(),
                Expected::video((24, 1), 1440, &[("720p", 966, 720), ("360p", 482, 360)]),
            ),
            case(
                dir.join("doorway-432p10-h264-cctv.mp4"),
                quick.clone(),
                Expected::video((10, 1), 1394, &[("720p", 768, 432), ("360p", 640, 360)]),
            ),
            case(
                dir.join("bottles-360p29.83-h264.mp4"),
                quick.clone(),
                Expected::video((179, 6), 1189, &[("360p", 640, 360)]),
            ),
        ],
    )
    .await;
    farm.stop().await;
}

/// One thread: the same source and recipe give the same bytes, whenever and wherever they are encoded.
#[tokio::test]
async fn media_footage_twice_gives_the_same_bytes() {
    let Some(dir) = media::footage() else { return };
    let farm = Farm::builder().processes(1, 2, 1).set("REELMILL_ENCODE_THREADS", 1).start().await;
    let bbb = dir.join("bbb-720p25-h264-aac.mp4");
    let profile = json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 24, "max_bitrate": 900_000},
        {"name": "small", "width": 320, "height": 180, "bitrate": 200_000},
    ]});
    let once = || {
        let expected = Expected::video((25, 1), 132, &[("large", 640, 360), ("small", 320, 180)]);
        case(&bbb, profile.clone(), expected.sound(48_000))
    };
    let [(first, one), (second, other)] = transcode(&farm, [once(), once()]).await;
    assert_ne!(first["id"], second["id"]);
    for (one, other) in one.tracks().zip(other.tracks()) {
        assert_eq!(one.segments().len(), 3);
        assert!(
            std::fs::read(&one.init).unwrap() == std::fs::read(&other.init).unwrap(),
            "the init segments of {} differ",
            one.name
        );
        for (n, (a, b)) in one.segments().iter().zip(other.segments()).enumerate() {
            assert!(*a == b, "segment {n} of {} differs", one.name);
        }
    }
    farm.stop().await;
}
