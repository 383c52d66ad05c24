//! What a player would find wrong with a recording. The judges are not our code: the m3u8-rs crate reads playlists, FFmpeg's HLS
//! and DASH demuxers play them, ffprobe describes what is in them; what is right is worked out here from the RFC and the source.

mod codec;
pub mod content;
mod decoded;
mod failure;
mod playback;
mod rates;

use std::path::PathBuf;

use reelmill_testkit::ffmpeg::probe_file;
use reelmill_testkit::{Client, Farm};
use serde_json::Value;

pub use decoded::demuxed;
pub use failure::failed_for_good;
pub use playback::{Playback, Track};

/// What a source must become.
#[derive(Debug, Clone)]
pub struct Expected {
    /// From the best to the least.
    pub rungs: Vec<Rung>,
    /// Sample rate of each track, the default one first.
    pub audio: Vec<u32>,
    /// Tracks of text.
    pub texts: usize,
}

/// What a rung must be.
#[derive(Debug, Clone)]
pub struct Rung {
    pub name: String,
    pub size: (u64, u64),
    pub rate: (u64, u64),
    pub frames: usize,
    /// FFmpeg's name of it.
    pub codec: &'static str,
}

impl Expected {
    /// Rungs that all have the rate of the source.
    pub fn video(rate: (u64, u64), frames: usize, rungs: &[(&str, u64, u64)]) -> Self {
        let rung = |(name, width, height): &(&str, u64, u64)| Rung {
            name: (*name).to_owned(),
            size: (*width, *height),
            rate,
            frames,
            codec: "h264",
        };
        Self::nothing_to_see().rungs(rungs.iter().map(rung).collect())
    }

    /// In these codecs, in the order of the rungs.
    pub fn coded(mut self, codecs: &[&'static str]) -> Self {
        for (rung, codec) in self.rungs.iter_mut().zip(codecs) {
            rung.codec = codec;
        }
        self
    }

    /// No picture at all.
    pub fn nothing_to_see() -> Self {
        Self { rungs: vec![], audio: vec![], texts: 0 }
    }

    /// These rungs.
    pub fn rungs(self, rungs: Vec<Rung>) -> Self {
        Self { rungs, ..self }
    }

    /// With one more track of sound beside it.
    pub fn sound(mut self, sample_rate: u32) -> Self {
        self.audio.push(sample_rate);
        self
    }

    /// With so many tracks of text.
    pub fn texts(self, texts: usize) -> Self {
        Self { texts, ..self }
    }
}

/// Plays a recording from end to end as a viewer, and fails on anything that is not as expected and as the RFC wants it.
pub async fn watch(client: &Client, recording: &Value, expected: &Expected) -> Playback {
    let id = recording["id"].as_str().unwrap();
    let playback = Playback::fetch(client, id).await;
    let names: Vec<&str> = playback.video.iter().map(|track| track.name.as_str()).collect();
    let wanted: Vec<&str> = expected.rungs.iter().map(|rung| rung.name.as_str()).collect();
    assert_eq!(names, wanted, "the rungs");
    assert_eq!(playback.sounds().count(), expected.audio.len(), "sound");
    assert_eq!(playback.text.len(), expected.texts, "text");

    rates::check(&playback);
    let mut keyframes: Vec<Vec<f64>> = vec![];
    for (track, rung) in playback.video.iter().zip(&expected.rungs) {
        picture(track, rung);
        keyframes.push(starts_with_keyframes(track, rung));
    }
    same_boundaries(&playback, &keyframes);
    for (track, sample_rate) in playback.sounds().zip(&expected.audio) {
        sound(track, *sample_rate);
    }
    decoded::check(&playback, expected);
    demuxed(&playback.dash_url, expected);
    let told = recording["duration_seconds"].as_f64().unwrap();
    let longest = playback.tracks().map(Track::duration).fold(0.0, f64::max);
    assert!((told - longest).abs() < 0.045, "told {told} s, lasts {longest} s");
    playback
}

/// A source, how to transcode it, and what must become of it.
pub struct Case {
    pub file: PathBuf,
    pub profile: Value,
    pub expected: Expected,
}

/// A case with a profile of the farm's own, or an inline one.
pub fn case(file: impl Into<PathBuf>, profile: impl Into<Value>, expected: Expected) -> Case {
    Case { file: file.into(), profile: profile.into(), expected }
}

/// Transcodes all the files, as many at a time as the farm has slots, and watches what came of each.
pub async fn transcode<const N: usize>(farm: &Farm, cases: [Case; N]) -> [(Value, Playback); N] {
    let client = &farm.client;
    let mut jobs = vec![];
    for case in &cases {
        let job = client.submit(&case.file, &case.profile).await;
        jobs.push(job["id"].as_str().unwrap().to_owned());
    }
    let mut watched = vec![];
    for (case, job) in cases.iter().zip(jobs) {
        println!("watching {}", case.file.display());
        let job = client.wait_for(&job).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
        assert_eq!(job["attempts"], 1, "nothing had to be tried again");
        let path = format!("/recordings/{}", job["recording_id"].as_str().unwrap());
        let recording = client.get(&path).await;
        assert_eq!(recording["status"], "ready");
        let playback = watch(client, &recording, &case.expected).await;
        watched.push((recording, playback));
    }
    watched.try_into().ok().unwrap()
}

/// What ffprobe says of a rung against what was planned and what the master playlist promises.
fn picture(track: &Track, rung: &Rung) {
    let file = track.file.to_str().unwrap();
    let found = probe_file(&["-show_streams"], file);
    let streams = found["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 1, "{}: one track a rendition", rung.name);
    let stream = &streams[0];
    let (width, height) = (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap());
    assert_eq!((width, height), rung.size, "{}", rung.name);
    let ratio = format!("{}/{}", rung.rate.0, rung.rate.1);
    // VP9 and AV1 tell no rate themselves, and ffprobe guesses wildly from the times of two or three frames.
    let guessed = matches!(rung.codec, "vp9" | "av1") && rung.frames < 10;
    let field = if guessed { "avg_frame_rate" } else { "r_frame_rate" };
    assert_eq!(stream[field], ratio.as_str(), "{}", rung.name);
    assert_eq!(stream["pix_fmt"], "yuv420p", "8 bit, what every browser can play");
    assert!(
        matches!(stream["field_order"].as_str(), None | Some("progressive")),
        "{}",
        stream["field_order"]
    );
    assert!(
        matches!(stream["sample_aspect_ratio"].as_str(), None | Some("1:1")),
        "square pixels, not {}",
        stream["sample_aspect_ratio"]
    );
    assert!(stream["tags"]["rotate"].is_null(), "rotation is baked in");
    let turned = stream["side_data_list"].as_array().into_iter().flatten();
    assert!(turned.into_iter().all(|data| data["rotation"].is_null()));

    let variant = track.variant.as_ref().unwrap();
    let resolution = variant.resolution.unwrap();
    assert_eq!((resolution.width, resolution.height), rung.size, "RESOLUTION");
    let rate = rung.rate.0 as f64 / rung.rate.1 as f64;
    assert!((variant.frame_rate.unwrap() - rate).abs() <= 0.0005, "FRAME-RATE {:?}", variant.frame_rate);
    codec::check(track, stream, rung.codec);

    let total: f64 = track.lengths.iter().sum();
    assert!(
        (total - rung.frames as f64 / rate).abs() < 1e-5 * track.lengths.len() as f64,
        "{}: EXTINF sums up to {total}",
        rung.name
    );
}

/// Each segment alone, behind the init segment: its first frame is a keyframe at the time where the playlist says it begins.
/// Gives the times of all keyframes.
fn starts_with_keyframes(track: &Track, rung: &Rung) -> Vec<f64> {
    let mut frames = 0;
    let mut keyframes = vec![];
    for ((piece, start), length) in track.pieces.iter().zip(track.starts()).zip(&track.lengths) {
        let found = probe_file(
            &["-show_packets", "-show_entries", "packet=pts_time,dts_time,flags"],
            piece.to_str().unwrap(),
        );
        let packets = found["packets"].as_array().unwrap();
        let first = &packets[0];
        assert!(
            first["flags"].as_str().unwrap().starts_with('K'),
            "{} does not start with a keyframe",
            piece.display()
        );
        let times: Vec<f64> = packets.iter().map(|packet| number(&packet["pts_time"])).collect();
        let earliest = times.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            (earliest - start).abs() < 1e-4 && number(&first["pts_time"]) == earliest,
            "{}: starts at {earliest}, not {start}",
            piece.display()
        );
        let counted = (length * rung.rate.0 as f64 / rung.rate.1 as f64).round() as usize;
        assert_eq!(packets.len(), counted, "{}", piece.display());
        frames += packets.len();
        let is_key = |packet: &&Value| packet["flags"].as_str().unwrap().starts_with('K');
        keyframes.extend(packets.iter().filter(is_key).map(|packet| number(&packet["pts_time"])));
    }
    assert_eq!(frames, rung.frames, "{}", rung.name);
    keyframes
}

/// The rungs are cut at the same times; only the end of a capped rung may lie within a frame of the others' end.
fn same_boundaries(playback: &Playback, keyframes: &[Vec<f64>]) {
    let Some(first) = playback.video.first() else {
        return;
    };
    for (track, times) in playback.video.iter().zip(keyframes) {
        assert_eq!(times.len(), keyframes[0].len(), "keyframes of {}", track.name);
        for (here, there) in times.iter().zip(&keyframes[0]) {
            assert!((here - there).abs() < 2e-5, "{}: a GOP at {here}, not {there}", track.name);
        }
        let far = times.windows(2).find(|pair| pair[1] - pair[0] > 2.5);
        assert!(far.is_none(), "{}: keyframes at {far:?}", track.name);
    }
    for track in &playback.video {
        assert_eq!(track.lengths.len(), first.lengths.len(), "segments of {}", track.name);
        for (here, there) in track.starts().iter().zip(first.starts()) {
            assert!(
                (here - there).abs() < 2e-5,
                "{} is cut at {here}, {} at {there}",
                track.name,
                first.name
            );
        }
    }
    for audio in playback.sounds() {
        // To the nearest AAC frame.
        for (here, there) in audio.starts().iter().zip(first.starts()) {
            assert!((here - there).abs() <= 0.0117, "audio is cut at {here}, video at {there}");
        }
    }
}

fn sound(track: &Track, sample_rate: u32) {
    let found = probe_file(&["-show_streams"], track.file.to_str().unwrap());
    let stream = &found["streams"][0];
    assert_eq!(stream["codec_name"], "aac");
    assert_eq!(stream["profile"], "LC");
    assert_eq!(stream["channels"], 2);
    assert_eq!(stream["sample_rate"], sample_rate.to_string().as_str());
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}
