//! What FFmpeg reads must be what was put in. Skipped where FFmpeg or an encoder is not installed.

use std::path::PathBuf;

use super::*;
use crate::media::cmaf::tests::ffmpeg::{H264, VIDEO, run_silently};

const HEVC: &str = "-c:v libx265 -preset ultrafast -tag:v hvc1 -pix_fmt yuv420p -x265-params \
    log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=0:bframes=3";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, parts: &[&[u8]]) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, parts.concat()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Decode and presentation times of a stream (`v` or `a`), as ffprobe tells them without a warning.
fn packets(path: &str, stream: &str) -> Vec<(i64, i64)> {
    let args =
        ["-v", "warning", "-select_streams", stream, "-show_entries", "packet=dts,pts", "-of", "json", path];
    let told: serde_json::Value = serde_json::from_str(&run_silently("ffprobe", &args)).unwrap();
    let packet =
        |packet: &serde_json::Value| (packet["dts"].as_i64().unwrap(), packet["pts"].as_i64().unwrap());
    told["packets"].as_array().unwrap().iter().map(packet).collect()
}

/// A hash of each decoded frame of a stream.
fn hashes(path: &str, stream: &str) -> Vec<String> {
    let args = [
        "-v",
        "warning",
        "-xerror",
        "-nostdin",
        "-i",
        path,
        "-map",
        stream,
        "-fps_mode",
        "passthrough",
        "-f",
        "framemd5",
        "-",
    ];
    let text = run_silently("ffmpeg", &args);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// Within a tick, which FFmpeg's own counting of frames that share a PES packet may add.
fn assert_near(told: &[(i64, i64)], expected: &[(i64, i64)]) {
    assert_eq!(told.len(), expected.len());
    // FFmpeg tells times as it found them, or beyond the wrap.
    let off = |a: i64, b: i64| {
        let off = (a - b).rem_euclid(1 << 33);
        off.min((1 << 33) - off)
    };
    for (n, (told, expected)) in told.iter().zip(expected).enumerate() {
        assert!(off(told.0, expected.0) <= 1 && off(told.1, expected.1) <= 1, "{n}: {told:?}, {expected:?}");
    }
}

fn check(recording: &Recording, codec: &str) {
    let folder = Folder::new();
    let segments = recording.segments();
    let (video, audio) = (recording.video.times(), recording.audio.times());
    let all = folder.file("all.ts", &segments.iter().map(|segment| &segment[..]).collect::<Vec<_>>());
    assert_near(&packets(&all, "v"), &video);
    assert_near(&packets(&all, "a"), &audio);
    let names = ["-v", "warning", "-show_entries", "stream=codec_name", "-of", "csv=p=0", &all];
    assert_eq!(
        run_silently("ffprobe", &names).split_whitespace().collect::<Vec<_>>(),
        [codec, "aac", codec, "aac"]
    );

    // The same pictures and sounds come out of the decoder as from what went in.
    let parts = |rendition: &Rendition| {
        let mut parts = vec![rendition.init.clone()];
        parts.extend(rendition.segments.iter().cloned());
        parts.concat()
    };
    let pictures = folder.file("video.mp4", &[&parts(&recording.video)]);
    let sounds = folder.file("audio.mp4", &[&parts(&recording.audio)]);
    assert_eq!(hashes(&all, "0:v"), hashes(&pictures, "0:v"));
    assert_eq!(hashes(&all, "0:a"), hashes(&sounds, "0:a"));

    // Each alone.
    let (mut video, mut audio) = (&video[..], &audio[..]);
    for (number, segment) in segments.iter().enumerate() {
        let count = |rendition: &Rendition| {
            demux(&[&rendition.init[..], &rendition.segments[number]].concat())
                .1
                .iter()
                .map(|fragment| fragment.samples.len())
                .sum::<usize>()
        };
        let path = folder.file("one.ts", &[segment]);
        let (now, later) = video.split_at(count(&recording.video));
        assert_near(&packets(&path, "v"), now);
        assert_eq!(hashes(&path, "0:v").len(), now.len());
        video = later;
        let (now, later) = audio.split_at(count(&recording.audio));
        assert_near(&packets(&path, "a"), now);
        audio = later;
    }
    assert!(video.is_empty() && audio.is_empty());
}

#[test]
fn h264_with_b_frames_and_aac() {
    let Some(recording) = Recording::new(VIDEO, H264, 0) else { return };
    assert!(recording.video.delay > 0, "there is a delay to take away");
    check(&recording, "h264");
}

#[test]
fn hevc_and_aac() {
    let Some(recording) = Recording::new(VIDEO, HEVC, 0) else { return };
    check(&recording, "hevc");
}

#[test]
fn pictures_further_apart_than_the_clock_may_be() {
    let video = "testsrc2=size=192x108:rate=179/60:duration=4";
    let Some(recording) = Recording::new(video, "-c:v libx264 -g 3 -bf 1 -pix_fmt yuv420p", 0) else {
        return;
    };
    check(&recording, "h264");
}

#[test]
fn times_wrap() {
    // 33 bits at 90 kHz end 26 h 30 min 43.7 s after zero; the recording starts ten seconds after it.
    let Some(recording) = Recording::new(VIDEO, H264, (1 << 33) / 90_000 - 12) else { return };
    let times = recording.video.times();
    assert!(times.first().unwrap().0 < 1 << 33 && times.last().unwrap().0 > 1 << 33);
    check(&recording, "h264");
}

#[test]
fn sound_alone_at_a_rate_that_does_not_divide() {
    let source = "sine=frequency=440:sample_rate=44100:duration=4";
    let Some(file) = encode(source, AAC) else { return };
    let sound = Rendition::sound(&file, 2.0, 0);
    let segments: Vec<Bytes> =
        (0..sound.segments.len()).map(|n| remux(n as u32, None, Some(sound.media(n))).unwrap()).collect();
    let folder = Folder::new();
    let all = folder.file("all.ts", &segments.iter().map(|segment| &segment[..]).collect::<Vec<_>>());
    assert_near(&packets(&all, "a"), &sound.times());
}

#[test]
fn the_picture_flashes_with_the_beep() {
    // White and a tone for the first frame of every second, and between them black and silence.
    let video = "color=black:size=192x108:rate=25:duration=4,geq=lum='255*lt(mod(N,25),1)':cb=128:cr=128";
    let Some(pictures) = encode(video, "-c:v libx264 -g 50 -bf 3 -pix_fmt yuv420p") else { return };
    let beep = "aevalsrc='sin(2000*PI*t)*lt(mod(t,1),0.04)':sample_rate=48000:duration=4";
    let Some(sound) = encode(beep, AAC) else { return };
    let (pictures, sound) = (Rendition::pictures(&pictures, 2, 0), Rendition::sound(&sound, 4.0, 0));
    let segment = remux(0, Some(pictures.media(0)), Some(sound.media(0))).unwrap();
    let folder = Folder::new();
    let path = folder.file("flash.ts", &[&segment]);
    let told = |graph: &str, entries: &str| {
        let args = ["-v", "error", "-f", "lavfi", "-i", graph, "-show_entries", entries, "-of", "csv=p=0"];
        run_silently("ffprobe", &args)
    };
    let flash = format!("movie={path},signalstats");
    let text = told(&flash, "frame=pts_time:frame_tags=lavfi.signalstats.YAVG");
    let seconds = |field: &str| field.parse::<f64>().unwrap();
    let frames = text.lines().filter_map(|line| line.split_once(','));
    let bright: Vec<f64> =
        frames.filter(|(_, light)| seconds(light) > 128.0).map(|(time, _)| seconds(time)).collect();
    assert_eq!(bright.len(), 4, "{text}");
    let silence = format!("amovie={path},silencedetect=noise=-30dB:duration=0.2");
    let text = told(&silence, "frame_tags=lavfi.silence_end");
    let beeps: Vec<f64> = text.lines().filter(|line| !line.is_empty()).map(seconds).collect();
    // A silence ends with every beep but the first.
    assert_eq!(beeps.len(), 3, "{text}");
    for (seen, heard) in bright.iter().skip(1).zip(beeps) {
        assert!((heard - seen).abs() < 0.04, "seen at {seen}, heard at {heard}");
    }
}
