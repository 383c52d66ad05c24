//! Pictures around the video: storyboards, posters, series of thumbnails. Each must show the frame of the source it says it shows;
//! FFmpeg decodes both.

use std::path::Path;
use std::process::Command;

use reelmill_testkit::ffmpeg::{ffmpeg, probe_file};
use reelmill_testkit::{Client, Farm, media};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::judge::failed_for_good;
use crate::support::{answer, files_under, header, is_problem, objects_dir, text};

/// Segments are three GOPs each: a storyboard of a short recording wants them all, a series some.
fn ladder(rungs: &[(&str, u32, u32)]) -> Value {
    let rungs: Vec<Value> = rungs
        .iter()
        .map(|(name, width, height)| {
            json!({ "name": name, "width": width, "height": height, "crf": 10, "max_bitrate": 4_000_000 })
        })
        .collect();
    json!({ "segment_duration": 6, "preset": "veryfast", "rungs": rungs })
}

const TWO: [(&str, u32, u32); 2] = [("large", 320, 180), ("small", 240, 134)];

/// Submits, waits, and gives the job and its recording.
async fn made(client: &Client, file: &Path, more: Value) -> (Value, Value) {
    let mut body = json!({ "kind": "transcode", "input": { "upload_id": client.upload(file).await } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let job = client.post("/jobs", &body).await;
    let job = client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let recording = client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    (job, recording)
}

async fn bytes(client: &Client, path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = client.request(Method::GET, path).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

/// A JPEG as FFmpeg decodes it: width, height, RGB.
fn decoded(jpeg: &[u8]) -> (usize, usize, Vec<u8>) {
    let file = tempfile::Builder::new().suffix(".jpg").tempfile().unwrap();
    std::fs::write(file.path(), jpeg).unwrap();
    let path = file.path().to_str().unwrap();
    let stream = &probe_file(&["-show_streams"], path)["streams"][0];
    assert_eq!(stream["codec_name"], "mjpeg");
    let side = |name: &str| stream[name].as_u64().unwrap() as usize;
    let pixels = ffmpeg(&["-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    (side("width"), side("height"), pixels)
}

/// Frames of a source that `select` keeps, scaled, as RGB.
fn frames(file: &Path, select: &str, (width, height): (usize, usize)) -> Vec<Vec<u8>> {
    let filter = format!("select='{select}',scale={width}:{height}:flags=bicubic");
    let file = file.to_str().unwrap();
    let args = ["-i", file, "-vf", &filter, "-fps_mode", "passthrough", "-f", "rawvideo"];
    let all = ffmpeg(&[&args[..], &["-pix_fmt", "rgb24", "-"]].concat());
    all.chunks_exact(width * height * 3).map(<[u8]>::to_vec).collect()
}

/// Peak signal-to-noise ratio in dB.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0_f64.powi(2) / (squares as f64 / a.len() as f64).max(0.01)).log10()
}

/// A picture shows this frame, not one of the others, which differ a little.
fn is_nearest<'f>(picture: &[u8], frame: &[u8], others: impl IntoIterator<Item = &'f Vec<u8>>, what: &str) {
    // Coarse colours of a JPEG at the sharp edges of a test card cost most of what is missing to 40 dB.
    let here = psnr(picture, frame);
    assert!(here > 22.0, "{what}: {here:.1} dB");
    for other in others {
        let there = psnr(picture, other);
        assert!(here > there, "{what}: {here:.2} dB, another frame {there:.2} dB");
    }
}

/// A picture shows the frame of this time of a source at 25 frames a second, not one of its neighbours.
fn shows(picture: &(usize, usize, Vec<u8>), source: &Path, time: f64, what: &str) {
    let frame = (time * 25.0).round() as u64;
    let select = format!("between(n,{},{})", frame.max(1) - 1, frame + 1);
    let near = frames(source, &select, (picture.0, picture.1));
    let place = usize::from(frame > 0);
    let others = near.iter().enumerate().filter(|(index, _)| *index != place).map(|(_, other)| other);
    is_nearest(&picture.2, &near[place], others, what);
}

/// A part of a picture.
fn crop((width, _, pixels): &(usize, usize, Vec<u8>), [x, y, w, h]: [usize; 4]) -> Vec<u8> {
    (y..y + h).flat_map(|row| &pixels[(row * width + x) * 3..(row * width + x + w) * 3]).copied().collect()
}

/// A cue of a storyboard.
struct Cue {
    from: f64,
    to: f64,
    sheet: String,
    place: [usize; 4],
}

/// Cues as FFmpeg's WebVTT demuxer reads them.
fn cues(vtt: &[u8]) -> Vec<Cue> {
    let file = tempfile::Builder::new().suffix(".vtt").tempfile().unwrap();
    std::fs::write(file.path(), vtt).unwrap();
    let path = file.path().to_str().unwrap();
    let found = probe_file(&["-show_packets", "-show_entries", "packet=pts_time,duration_time"], path);
    let lines: Vec<String> = String::from_utf8(vtt.to_vec())
        .unwrap()
        .lines()
        .filter(|line| line.contains("#xywh="))
        .map(str::to_owned)
        .collect();
    let packets = found["packets"].as_array().unwrap();
    assert_eq!(packets.len(), lines.len());
    packets
        .iter()
        .zip(lines)
        .map(|(packet, line)| {
            let number = |name: &str| packet[name].as_str().unwrap().parse::<f64>().unwrap();
            let (sheet, place) = line.split_once("#xywh=").unwrap();
            let place: Vec<usize> = place.split(',').map(|n| n.parse().unwrap()).collect();
            let from = number("pts_time");
            Cue {
                from,
                to: from + number("duration_time"),
                sheet: sheet.to_owned(),
                place: place.try_into().unwrap(),
            }
        })
        .collect()
}

#[tokio::test]
async fn media_pictures_every_tile_is_the_frame_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 53, "320x180");
    let farm = Farm::builder()
        .processes(1, 2, 1)
        .s3()
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 20)
        .start()
        .await;
    let client = &farm.client;
    let (job, recording) = made(client, &clip, json!({ "profile": ladder(&TWO[..1]) })).await;
    let id = text(&recording, "id");
    let path = format!("/api/v1/recordings/{id}/storyboard.vtt");
    assert_eq!(job["outputs"]["storyboard"], path, "a default where it is long enough");
    assert_eq!(recording["storyboard_url"], path);

    let (status, headers, vtt) = bytes(client, &path).await;
    assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, "text/vtt; charset=utf-8"));
    assert_eq!(header(&headers, "cache-control"), "private, max-age=86400");
    let cues = cues(&vtt);
    assert_eq!(cues.len(), 27);
    assert!(cues.windows(2).all(|pair| (pair[0].to - pair[1].from).abs() < 0.0015), "no gap");
    assert!(
        cues[0].from == 0.0 && (cues[26].to - recording["duration_seconds"].as_f64().unwrap()).abs() < 0.002
    );

    // Sheets are there for viewers, who find them beside, for ever.
    let master = client.play_url(id).await;
    let base = master.strip_suffix("/stream/master.m3u8").unwrap().strip_prefix(&client.base).unwrap();
    let seen = client.anonymous(Method::GET, &format!("{base}/storyboard.vtt")).send().await.unwrap();
    assert_eq!(header(seen.headers(), "cache-control"), "public, max-age=86400");
    assert_eq!(seen.bytes().await.unwrap(), vtt, "one text for all");
    let mut sheets = vec![];
    for number in 0..2 {
        let name = format!("stream/storyboard-1-{number}.jpg");
        assert!(cues[number * 25].sheet == name);
        let (status, headers, ours) = bytes(client, &format!("/api/v1/recordings/{id}/{name}")).await;
        assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, "image/jpeg"));
        assert_eq!(header(&headers, "cache-control"), "private, max-age=31536000, immutable");
        let seen = client.anonymous(Method::GET, &format!("{base}/{name}")).send().await.unwrap();
        assert_eq!(header(seen.headers(), "cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(seen.bytes().await.unwrap(), ours);
        let sheet = decoded(&ours);
        assert_eq!((sheet.0, sheet.1), (800, 450));
        sheets.push(sheet);
    }
    for nothing in ["storyboard-1-2.jpg", "storyboard-2-0.jpg", "storyboard-1-x.jpg", "thumbnail-1-0.jpg"] {
        let path = format!("{base}/stream/{nothing}");
        is_problem(&answer(client.anonymous(Method::GET, &path)).await, 404, "not-found");
    }

    // Of the frame it should be and its neighbours each tile is nearest to the one it should be.
    let near = frames(&clip, "eq(mod(n,50),49)+lt(mod(n,50),2)", (160, 90));
    for (number, cue) in cues.iter().enumerate() {
        let others = [(number * 3).checked_sub(1), Some(number * 3 + 1)];
        let others = others.into_iter().flatten().filter_map(|other| near.get(other));
        let tile = crop(&sheets[number / 25], cue.place);
        is_nearest(&tile, &near[number * 3], others, &format!("tile {number} at {} s", cue.from));
    }
    farm.stop().await;
}

#[tokio::test]
async fn media_pictures_storyboards_of_odd_shapes() {
    let Some(variants) = media::variants() else { return };
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let wanted = json!({ "profile": ladder(&TWO[..1]), "outputs": ["hls", "storyboard"] });
    for (name, size, tiles) in [
        ("rotated-90.mp4", [90, 160], 3),
        ("portrait.mp4", [90, 160], 3),
        ("interlaced-anamorphic.ts", [160, 90], 3),
        ("odd-size-444.mkv", [160, 90], 3),
        ("one-blink.mp4", [64, 64], 1),
    ] {
        let (_, recording) = made(client, &variants.file(name), wanted.clone()).await;
        assert!(recording["thumbnail_url"].is_null(), "{name}: nobody asked for a poster");
        let (_, _, vtt) = bytes(client, text(&recording, "storyboard_url")).await;
        let cues = cues(&vtt);
        assert_eq!(cues.len(), tiles, "{name}");
        let sheet = format!("/api/v1/recordings/{}/{}", text(&recording, "id"), cues[0].sheet);
        let sheet = decoded(&bytes(client, &sheet).await.2);
        assert_eq!([sheet.0, sheet.1], [size[0] * tiles, size[1]], "{name}");
        assert!(cues.iter().all(|cue| cue.place[2..] == size), "{name}");
        assert!(sheet.2.iter().any(|level| *level > 40), "{name} is not black");
    }
    // The default leaves short ones without; so does sound alone, whoever asks.
    let (job, short) =
        made(client, &variants.file("silent.mp4"), json!({ "profile": ladder(&TWO[1..]) })).await;
    assert!(job["outputs"]["storyboard"].is_null() && short["storyboard_url"].is_null());
    let (job, heard) = made(client, &variants.file("audio-only.m4a"), wanted).await;
    assert!(job["outputs"]["storyboard"].is_null() && heard["storyboard_url"].is_null());
    for recording in [short, heard] {
        let path = format!("/api/v1/recordings/{}/storyboard.vtt", text(&recording, "id"));
        let missing = answer(client.request(Method::GET, &path)).await;
        is_problem(&missing, 404, "not-found");
        assert!(text(&missing.2, "detail").contains("no storyboard"), "{}", missing.2);
    }
    farm.stop().await;
}

#[tokio::test]
async fn media_pictures_a_bucket_alone_serves_the_storyboard() {
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 12, "640x360");
    let farm = Farm::builder().start().await;
    let (_, recording) = made(&farm.client, &clip, json!({ "profile": ladder(&TWO[1..]) })).await;
    let id = text(&recording, "id");
    let (_, _, served) = bytes(&farm.client, text(&recording, "storyboard_url")).await;
    let stored = || files_under(&objects_dir(&farm));
    let file = stored().into_iter().find(|file| file.ends_with("storyboard.vtt")).unwrap();
    let beside = cues(&std::fs::read(&file).unwrap());
    assert_eq!(beside.len(), 6);
    for (here, there) in beside.iter().zip(cues(&served)) {
        assert!(here.from == there.from && here.to == there.to && here.place == there.place);
        let sheet = std::fs::read(file.with_file_name(&here.sheet)).unwrap();
        let (_, _, same) = bytes(&farm.client, &format!("/api/v1/recordings/{id}/{}", there.sheet)).await;
        assert_eq!(sheet, same);
    }
    let gone = farm.client.request(Method::DELETE, &format!("/api/v1/recordings/{id}")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    is_problem(
        &answer(farm.client.request(Method::GET, &format!("/api/v1/recordings/{id}/storyboard.vtt"))).await,
        404,
        "not-found",
    );
    reelmill_testkit::wait::until("the store to be empty", std::time::Duration::from_secs(20), || async {
        stored().is_empty().then_some(())
    })
    .await;
    farm.stop().await;
}

#[tokio::test]
async fn media_pictures_series_show_the_frames_of_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 23, "320x180");
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    // Half a GOP of the interval is allowed from four seconds on, nothing below.
    for (interval, width, size, allowed) in
        [(5.0, None, (320, 180), 1.0), (1.5, Some(300), (300, 168), 0.021), (23.0, Some(64), (64, 36), 0.0)]
    {
        let thumbnails = match width {
            Some(width) => json!({ "interval": interval, "width": width, "format": "jpeg" }),
            None => json!({ "interval": interval }),
        };
        let wanted = json!({ "profile": ladder(&TWO), "outputs": ["hls"], "thumbnails": thumbnails });
        let (job, _) = made(client, &clip, wanted).await;
        assert!(job["outputs"]["storyboard"].is_null());
        let series = job["outputs"]["thumbnails"].as_array().unwrap();
        assert_eq!(series.len(), (23.0_f64 / interval).ceil() as usize, "every {interval} s");
        for (number, entry) in series.iter().enumerate() {
            let time = entry["time"].as_f64().unwrap();
            assert_eq!(entry["number"], number);
            let off = (time - number as f64 * interval).abs();
            // The interval is rounded to whole frames, so the last is off by the sum of that.
            let most = if allowed < 0.5 { allowed * number as f64 } else { allowed };
            assert!(off <= most + 1e-9, "every {interval} s: picture {number} is of {time} s");
            let (status, headers, jpeg) = bytes(client, text(entry, "url")).await;
            assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, "image/jpeg"));
            assert_eq!(header(&headers, "cache-control"), "private, max-age=31536000, immutable");
            let picture = decoded(&jpeg);
            assert_eq!((picture.0, picture.1), size);
            shows(&picture, &clip, time, &format!("every {interval} s: picture {number} of {time} s"));
        }
    }
    // Only where a single job is read: a page of jobs stays short.
    let page = client.get("/jobs").await;
    assert!(page["jobs"].as_array().unwrap().iter().all(|job| job["outputs"]["thumbnails"] == json!([])));
    // More than anybody may have is refused before anything is encoded.
    let body = json!({ "kind": "transcode", "input": { "upload_id": client.upload(&long(dir.path())).await },
        "profile": ladder(&TWO[1..]), "thumbnails": { "interval": 0.1 } });
    let job = client.post("/jobs", &body).await;
    let job = client.wait_for(text(&job, "id")).await;
    failed_for_good(client, &job, &["limit_exceeded"]).await;
    assert_eq!(job["tasks"].as_array().unwrap().len(), 1, "nothing but the probe");
    farm.stop().await;
}

/// A few minutes that take no time to make.
fn long(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("long.mp4");
    let picture = "color=teal:s=64x36:r=10:d=130";
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", picture, "-preset", "ultrafast"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

/// Six seconds of black, six of something to see, four of plain grey; a keyframe each second.
fn dull(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("dull.mp4");
    let graph = "color=black:s=640x360:r=25:d=6[a];testsrc2=s=640x360:r=25:d=6[b];\
                 color=gray:s=640x360:r=25:d=4[c];[a][b][c]concat=n=3,format=yuv420p[v]";
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-filter_complex", graph, "-map", "[v]"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

#[tokio::test]
async fn media_pictures_the_poster_is_the_moment_that_was_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let source = dull(dir.path());
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let profile = ladder(&TWO[1..]);
    let (_, usual) = made(client, &source, json!({ "profile": profile })).await;
    let (_, _, usual) = bytes(client, text(&usual, "thumbnail_url")).await;
    let black = decoded(&usual);
    assert_eq!((black.0, black.1), (320, 180));
    assert!(black.2.iter().all(|level| *level < 24), "at five seconds it is black");

    let wish = json!({ "representative": true, "width": 640 });
    let (job, recording) = made(client, &source, json!({ "profile": profile, "thumbnail": wish })).await;
    let time = job["result"]["thumbnail"]["time"].as_f64().unwrap();
    assert!((6.0..12.0).contains(&time), "neither black nor plain: {time}");
    let path = text(&recording, "thumbnail_url").to_owned();
    let poster = async |query: &str| decoded(&bytes(client, &format!("{path}{query}")).await.2);
    let shows = |picture: &_, time: f64| shows(picture, &source, time, &format!("the poster of {time} s"));
    let seen = poster("").await;
    assert_eq!((seen.0, seen.1), (640, 360), "in its own size");
    shows(&seen, time);
    // In another size it is the same moment, and by a time it is another picture.
    let small = poster("?width=160").await;
    assert_eq!((small.0, small.1), (160, 90));
    shows(&small, time);
    assert!(poster("?t=1&width=160").await.2.iter().all(|level| *level < 24));

    // Encoded again without a wish it keeps its poster; a job of its own changes it, and with it every size.
    let id = text(&recording, "id");
    let again = json!({ "kind": "transcode", "input": { "recording_id": id }, "profile": profile });
    let job = client.post("/jobs", &again).await;
    assert_eq!(client.wait_for(text(&job, "id")).await["status"], "succeeded");
    shows(&poster("").await, time);
    let input = json!({ "recording_id": id });
    for (wish, time) in [(json!({ "percent": 62.5 }), 10.0), (json!({ "time": 11.0 }), 11.0)] {
        let job =
            client.post("/jobs", &json!({ "kind": "thumbnail", "input": input, "thumbnail": wish })).await;
        let job = client.wait_for(text(&job, "id")).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
        assert_eq!(job["result"]["thumbnail"]["time"], time, "{wish}");
        let seen = poster("").await;
        assert_eq!((seen.0, seen.1), (320, 180));
        shows(&seen, time);
        shows(&decoded(&bytes(client, text(&job["outputs"], "thumbnail")).await.2), time);
        shows(&poster("?width=160").await, time);
    }
    // Of a part of the source the times are the part's.
    let edit = json!({ "start": 8.0, "end": 11.0 });
    let (_, part) = made(client, &source, json!({ "profile": profile, "edit": edit })).await;
    let path = text(&part, "thumbnail_url");
    for (query, time) in [("", 9.5), ("?t=0.5", 8.5), ("?t=2", 10.0), ("?t=20", 10.96)] {
        let seen = decoded(&bytes(client, &format!("{path}{query}")).await.2);
        shows(&seen, time);
    }
    let wish =
        json!({ "kind": "thumbnail", "input": { "recording_id": part["id"] }, "thumbnail": { "time": 1 } });
    let job = client.post("/jobs", &wish).await;
    let job = client.wait_for(text(&job, "id")).await;
    assert_eq!(job["result"]["thumbnail"]["time"], 1.0, "{}", job["error"]);
    shows(&decoded(&bytes(client, path).await.2), 9.0);
    // Nothing to choose from but plain pictures: the usual one.
    let wish = json!({ "kind": "thumbnail", "input": { "upload_id": client.upload(&long(dir.path())).await },
        "thumbnail": { "representative": true } });
    let job = client.post("/jobs", &wish).await;
    let job = client.wait_for(text(&job, "id")).await;
    assert_eq!(
        (job["status"].as_str(), &job["result"]["thumbnail"]["time"]),
        (Some("succeeded"), &json!(5.0))
    );
    farm.stop().await;
}
