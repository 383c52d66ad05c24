//! Streams as MPEG-TS: the same pictures and sounds at the same times, in segments that any api makes alike, once.

use std::path::Path;
use std::process::Command;

use m3u8_rs::{MediaPlaylist, VariantStream};
use reelmill_testkit::ffmpeg::ffmpeg;
use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::judge::Playback;
use crate::support::{answer, header, is_problem, text};

/// Ten seconds, at which a transport stream of ours begins, in its ticks.
const START: i64 = 900_000;

fn profile() -> Value {
    json!({"preset": "veryfast", "segment_duration": 4, "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 24, "max_bitrate": 900_000},
        {"name": "small", "width": 320, "height": 180, "crf": 26, "max_bitrate": 300_000, "max_frame_rate": 15},
        {"name": "other", "width": 160, "height": 90, "codec": "vp9", "crf": 40, "max_bitrate": 100_000},
    ]})
}

/// How much more than was measured a playlist may say: it is rendered before the segments are made, and these rungs are small.
const SLACK: f64 = 1.25;

/// A rung as MPEG-TS.
struct Stream {
    variant: VariantStream,
    playlist: MediaPlaylist,
    segments: Vec<Vec<u8>>,
}

#[tokio::test]
async fn media_transport_streams_are_the_recording() {
    let farm = Farm::builder().processes(2, 1, 1).start().await;
    let clip = media::clip(farm.dir.path(), 18, "640x360");
    let recording = farm.client.transcode(&clip, &profile()).await;
    let id = text(&recording, "id");
    let played = Playback::fetch(&farm.client, id).await;
    let base = played.url.rsplit_once('/').unwrap().0.to_owned();

    let text = farm.client.text(&format!("{base}/master-ts.m3u8")).await;
    for name in ["playlist.m3u8?container=ts", "master.m3u8?container=ts"] {
        assert_eq!(farm.client.text(&format!("{base}/{name}")).await, text);
    }
    let (_, master) = m3u8_rs::parse_master_playlist(text.as_bytes()).unwrap();
    assert!(master.independent_segments && master.alternatives.is_empty(), "{text}");
    let mut streams = vec![];
    for variant in master.variants {
        streams.push(fetch(&farm.client, &base, variant).await);
    }
    let names: Vec<&str> = played.video.iter().map(|track| track.name.as_str()).collect();
    assert_eq!((names.as_slice(), streams.len()), (&["large", "small", "other"][..], 2), "none of VP9");
    for (stream, track) in streams.iter().zip(&played.video) {
        bandwidth_holds(stream);
        let beside = track.variant.as_ref().unwrap();
        assert_eq!(stream.variant.codecs, beside.codecs, "picture and sound");
        assert_eq!((stream.variant.resolution, stream.variant.audio.as_deref()), (beside.resolution, None));
        let lengths: Vec<f64> =
            stream.playlist.segments.iter().map(|segment| segment.duration.into()).collect();
        assert!(lengths.iter().zip(&track.lengths).all(|(a, b)| (a - b).abs() < 1e-4), "cut alike");
        let whole = farm.dir.path().join(format!("{}.ts", track.name));
        std::fs::write(&whole, stream.segments.concat()).unwrap();
        assert_eq!(times(&whole, "v"), on_our_clock(&times(&track.file, "v"), &track.file));
        let sound = &played.audio.as_ref().unwrap().file;
        let (heard, expected) = (times(&whole, "a"), on_our_clock(&times(sound, "a"), sound));
        assert_eq!(heard.len(), expected.len());
        assert!(heard.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1), "{heard:?} {expected:?}");
    }
    // A player of today's, from the master to the end.
    for (n, track) in played.video.iter().take(2).enumerate() {
        let map = format!("0:p:{n}:v:0");
        let args = ["-i", &format!("{base}/master-ts.m3u8"), "-map", &map, "-fps_mode", "passthrough"];
        let frames = ffmpeg(&[&args[..], &["-f", "framecrc", "-"]].concat());
        let lines = String::from_utf8(frames).unwrap();
        let frames = lines.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(frames, times(&track.file, "v").len());
    }
    segments_are_files_like_others(&farm, id, &base, &streams[0]).await;
    made_once_however_many_ask(&farm, &base).await;
    nonsense_is_refused(&farm.client, id).await;
    farm.stop().await;
}

async fn fetch(client: &Client, base: &str, variant: VariantStream) -> Stream {
    let text = client.text(&format!("{base}/{}", variant.uri)).await;
    let (_, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
    assert!(playlist.end_list && playlist.independent_segments && playlist.version == Some(3), "{text}");
    assert!(playlist.segments.iter().all(|segment| segment.map.is_none() && segment.uri.ends_with(".ts")));
    let name = variant.uri.strip_suffix("-ts.m3u8").unwrap();
    let same = client.text(&format!("{base}/playlist.m3u8?quality={name}&container=ts")).await;
    assert_eq!(text, same);
    let mut segments = vec![];
    for segment in &playlist.segments {
        segments.push(client.bytes(&format!("{base}/{}", segment.uri)).await);
    }
    Stream { variant, playlist, segments }
}

/// No segment goes beyond what the master says, and it does not say much more.
fn bandwidth_holds(stream: &Stream) {
    let rate = |segment: (&Vec<u8>, &m3u8_rs::MediaSegment)| {
        segment.0.len() as f64 * 8.0 / f64::from(segment.1.duration)
    };
    // The last one is short and counts with the one before it.
    let whole = stream.segments.iter().zip(&stream.playlist.segments).take(stream.segments.len() - 1);
    let peak = whole.map(rate).fold(0.0, f64::max);
    let said = stream.variant.bandwidth as f64;
    assert!(
        peak <= said && said <= peak * SLACK,
        "{}: BANDWIDTH={said}, measured {peak}",
        stream.variant.uri
    );
    let seconds: f64 = stream.playlist.segments.iter().map(|segment| f64::from(segment.duration)).sum();
    let average = stream.segments.iter().map(Vec::len).sum::<usize>() as f64 * 8.0 / seconds;
    let said = stream.variant.average_bandwidth.unwrap() as f64;
    assert!(average <= said && said <= average * SLACK, "AVERAGE-BANDWIDTH={said}, measured {average}");
}

/// Presentation time of every packet in ticks of the file, in the order they are stored, as ffprobe tells them without a word else.
fn times(file: &Path, stream: &str) -> Vec<i64> {
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-select_streams", stream, "-show_entries", "packet=pts", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["packets"].as_array().unwrap().iter().map(|packet| packet["pts"].as_i64().unwrap()).collect()
}

/// Times of a rendition as they must stand in a transport stream.
fn on_our_clock(times: &[i64], file: &Path) -> Vec<i64> {
    let told = reelmill_testkit::ffmpeg::probe_file(&["-show_streams"], file.to_str().unwrap());
    let base = text(&told["streams"][0], "time_base").strip_prefix("1/").unwrap();
    let scale: f64 = base.parse().unwrap();
    times.iter().map(|time| START + (*time as f64 * 90_000.0 / scale).round() as i64).collect()
}

async fn segments_are_files_like_others(farm: &Farm, id: &str, base: &str, stream: &Stream) {
    let name = &stream.playlist.segments[1].uri;
    let whole = &stream.segments[1];
    let get = |api: &Client| api.request(Method::GET, &format!("/api/v1/recordings/{id}/stream/{name}"));
    let mut etags = vec![];
    for api in [farm.api(0), farm.api(1)] {
        let response = get(&api).send().await.unwrap();
        let headers = response.headers().clone();
        assert_eq!(header(&headers, "content-type"), "video/mp2t");
        assert_eq!(header(&headers, "cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(header(&headers, "content-length"), whole.len().to_string());
        etags.push(header(&headers, "etag").to_owned());
        assert!(response.bytes().await.unwrap() == whole, "every api makes the same");
        let part = get(&api).header("range", "bytes=188-375").send().await.unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(part.headers(), "content-range"), format!("bytes 188-375/{}", whole.len()));
        assert!(part.bytes().await.unwrap() == whole[188..376]);
        let known = get(&api).header("if-none-match", &etags[0]).send().await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        let beyond = answer(get(&api).header("range", format!("bytes={}-", whole.len()))).await;
        is_problem(&beyond, 416, "range-not-satisfiable");
    }
    assert_eq!(etags[0], etags[1]);
    let path = format!("{}/{name}", base.strip_prefix(&farm.client.base).unwrap());
    let head = farm.client.anonymous(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(header(head.headers(), "content-length"), whole.len().to_string());
    assert_eq!(header(head.headers(), "cache-control"), "public, max-age=31536000, immutable");
}

/// How many segments an api has made.
async fn made(api: &Client) -> u64 {
    let text = api.anonymous(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("reelmill_ts_segments_made_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

async fn made_once_however_many_ask(farm: &Farm, base: &str) {
    // The sound alone: no other part of this test asks for it.
    let api = farm.api(1);
    let before = made(&api).await;
    let path = format!("{}/audio-1-0.ts", base.strip_prefix(&farm.client.base).unwrap());
    let ask = || async { api.anonymous(Method::GET, &path).send().await.unwrap().bytes().await.unwrap() };
    let answers = futures::future::join_all((0..20).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer[0] == 0x47));
    assert_eq!(made(&api).await, before + 1);
}

async fn nonsense_is_refused(api: &Client, id: &str) {
    let get = |name: &str| api.request(Method::GET, &format!("/api/v1/recordings/{id}/stream/{name}"));
    is_problem(&answer(get("playlist.m3u8?container=avi")).await, 400, "malformed");
    for name in ["large-1-99.ts", "large-2-0.ts", "huge-1-0.ts", "huge-ts.m3u8", "large-1-init.ts"] {
        is_problem(&answer(get(name)).await, 404, "not-found");
    }
    for name in ["other-ts.m3u8", "playlist.m3u8?quality=other&container=ts", "other-1-0.ts"] {
        let refused = answer(get(name)).await;
        is_problem(&refused, 404, "not-found");
        assert!(text(&refused.2, "detail").starts_with("MPEG-TS cannot carry other (vp09."), "{}", refused.2);
    }
}

/// Sound alone is a stream of its own.
#[tokio::test]
async fn media_transport_carries_sound_alone() {
    let farm = Farm::builder().start().await;
    let clip = media::clip(farm.dir.path(), 8, "320x180");
    let recording = farm.client.transcode(&clip, &json!("audio")).await;
    let played = Playback::fetch(&farm.client, text(&recording, "id")).await;
    let base = played.url.rsplit_once('/').unwrap().0.to_owned();
    let master = farm.client.text(&format!("{base}/master-ts.m3u8")).await;
    let (_, master) = m3u8_rs::parse_master_playlist(master.as_bytes()).unwrap();
    let [variant] = <[VariantStream; 1]>::try_from(master.variants).unwrap();
    assert_eq!((variant.codecs.as_deref(), variant.resolution), (Some("mp4a.40.2"), None));
    let stream = fetch(&farm.client, &base, variant).await;
    bandwidth_holds(&stream);
    let whole = farm.dir.path().join("sound.ts");
    std::fs::write(&whole, stream.segments.concat()).unwrap();
    let sound = &played.audio.as_ref().unwrap().file;
    assert_eq!(times(&whole, "a"), on_our_clock(&times(sound, "a"), sound));
    farm.stop().await;
}
