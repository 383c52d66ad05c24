//! What is left of a broadcast when it is over: its recording, and the video that is made of it.

use std::collections::BTreeSet;

use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::ffmpeg::{ffmpeg_log, probe_file};
use reelmill_testkit::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::Tab;
use crate::live::{
    PATIENCE, Publisher, becomes, farm, footage, listed, livestream, numbers, playlist, watch,
};
use crate::support::{objects_dir, text};

/// Segments of a track that are in the index, by number.
const PUBLISHED: &str = "select number, key from segments where rung = $1 and not gap
    and set_id in (select set_id from broadcasts) order by number";

/// Waits until the one broadcast of a livestream that is recorded has this status.
async fn recorded(farm: &Farm, id: &str, status: &str) -> Value {
    until(&format!("the recording to be {status}"), PATIENCE, || async {
        let list = farm.client.get(&format!("/livestreams/{id}/recordings")).await;
        let found = list["recordings"].get(0)?.clone();
        (found["status"] == status).then_some(found)
    })
    .await
}

/// Seconds that a playlist lists, and of those the ones that are gaps.
fn seconds(playlist: &str) -> (f64, f64) {
    let (mut all, mut lost, mut gap) = (0.0, 0.0, false);
    for line in playlist.lines() {
        gap |= line == "#EXT-X-GAP";
        if let Some(length) = line.strip_prefix("#EXTINF:") {
            let length: f64 = length.trim_end_matches(',').parse().unwrap();
            all += length;
            lost += if std::mem::take(&mut gap) { length } else { 0.0 };
        }
    }
    (all, lost)
}

/// Of each segment, in seconds.
fn lengths(playlist: &str) -> impl Iterator<Item = f64> {
    let lengths = playlist.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    lengths.map(|length| length.trim_end_matches(',').parse().unwrap())
}

/// Seconds of picture that FFmpeg decodes of an address, and what it complains about.
fn decoded(url: &str) -> (f64, String) {
    let log =
        ffmpeg_log(&["-loglevel", "info", "-i", url, "-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-"]);
    let frames = log.rsplit("frame=").next().unwrap().split_whitespace().next().unwrap();
    let complaints = log.lines().filter(|line| line.contains("rror") || line.contains("nvalid"));
    (frames.parse::<f64>().unwrap() / 25.0, complaints.collect::<Vec<_>>().join("\n"))
}

/// The worker is killed on air, then a publisher returns; all that was published is in the recording, and in the video made of it.
#[tokio::test]
async fn live_a_broken_broadcast_is_recorded_whole_and_becomes_a_video_without_encoding_it_again() {
    let mut farm = farm().processes(1, 2, 1).start().await;
    let stream = livestream(&farm, json!({ "dvr_enabled": true })).await;
    let (id, key) = (text(&stream, "id").to_owned(), text(&stream, "stream_key").to_owned());
    let master = watch(&farm, &id).await;
    let first = Publisher::start(&farm, 0, &key, &footage(&farm));
    becomes(&farm, &id, "live").await;
    listed(&master, "360p", "segments", |text| (numbers(text).len() >= 3).then_some(())).await;
    let carrier = farm.processes.iter().find(|process| process.part == Part::Worker).unwrap();
    carrier.signal(nix::sys::signal::Signal::SIGKILL);
    first.kill().await;
    let second = Publisher::start(&farm, 1, &key, &footage(&farm));
    let breaks = |text: &str| text.matches("#EXT-X-DISCONTINUITY\n").count();
    let behind = |text: &str| numbers(text.rsplit("#EXT-X-DISCONTINUITY\n").next().unwrap()).len();
    let more = |seams: usize| move |text: &str| (breaks(text) == seams && behind(text) >= 3).then_some(());
    listed(&master, "360p", "it to go on", more(1)).await;
    second.kill().await;
    becomes(&farm, &id, "reconnecting").await;
    let third = Publisher::start(&farm, 1, &key, &footage(&farm));
    listed(&master, "360p", "it to go on again", more(2)).await;
    is_pictured(&master.replace("master.m3u8", "thumbnail.jpg")).await;
    third.kill().await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    let recording = recorded(&farm, &id, "available").await;
    let rid = text(&recording, "id").to_owned();

    is_pictured(&master.replace("master.m3u8", &format!("recordings/{rid}/thumbnail.jpg"))).await;
    assert_eq!(
        text(&recording, "thumbnail_url"),
        format!("/api/v1/livestreams/{id}/recordings/{rid}/thumbnail")
    );

    // All that was published is listed, and nothing else but what is marked as lost.
    let database = farm.database.connect().await;
    let whole = master.replace("master.m3u8", &format!("recordings/{rid}/master.m3u8"));
    let mut longest: f64 = 0.0;
    let mut lists = vec![];
    let mut lost_of_any = BTreeSet::new();
    for track in ["360p", "240p", "audio"] {
        let list = playlist(&whole, track).await;
        let rows = database.query(PUBLISHED, &[&track]).await.unwrap();
        let published: BTreeSet<u64> = rows.iter().map(|row| row.get::<_, i32>(0) as u64).collect();
        let is_stored = |key: &str| objects_dir(&farm).join(key).is_file();
        assert!(rows.iter().all(|row| is_stored(row.get(1))));
        let mut lost = BTreeSet::new();
        for (before, after) in list.lines().zip(list.lines().skip(2)) {
            if before == "#EXT-X-GAP" {
                lost.extend(numbers(after));
            }
        }
        let all: BTreeSet<u64> = numbers(&list).into_iter().collect();
        let there: BTreeSet<u64> = all.difference(&lost).copied().collect();
        assert_eq!(there, published, "{track}: {list}");
        assert_eq!(all.len() as u64, all.last().unwrap() - all.first().unwrap() + 1, "{list}");
        lost_of_any.extend(lost);
        longest = longest.max(seconds(&list).0);
        lists.push(list);
    }
    let duration = recording["duration"].as_f64().unwrap();
    assert!((duration - longest).abs() < 0.01, "{duration} and {longest}");
    // Dates go on as the clock does.
    let date = |line: &str| {
        let date = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")?;
        Some(chrono::DateTime::parse_from_rfc3339(date).unwrap().timestamp_millis())
    };
    let dates: Vec<i64> = lists[0].lines().filter_map(date).collect();
    assert!(dates.is_sorted(), "{dates:?}");
    let start = chrono::DateTime::parse_from_rfc3339(text(&recording, "start_time")).unwrap();
    let end = chrono::DateTime::parse_from_rfc3339(text(&recording, "end_time")).unwrap();
    assert!((dates[0] - start.timestamp_millis()).abs() < 50, "{dates:?} {start}");
    assert!(*dates.last().unwrap() < end.timestamp_millis(), "{dates:?} {end}");
    // It plays to its end: a player that knows nothing of gaps asks for them, is told that they are not there, and goes on.
    let (listed, lost) = seconds(&lists[0]);
    let (played, _) = decoded(&whole);
    assert!((played - (listed - lost)).abs() < 0.3, "{played} of {listed}, {lost} lost");

    plays_in_a_browser(&farm, &id, &whole, listed).await;

    let video = convert(&farm, &id, &rid).await;
    // A worker that dies may have stored a segment of some tracks only: a video has what all of them have.
    let of_all = |(number, _): &(u64, f64)| !lost_of_any.contains(number);
    let there =
        numbers(&lists[0]).into_iter().zip(lengths(&lists[0])).filter(of_all).map(|(_, length)| length).sum();
    is_the_broadcast(&farm, &video, there).await;
    let dead = farm.processes.iter().position(|process| process.part == Part::Worker).unwrap();
    let mut dead = farm.processes.remove(dead);
    dead.ended(PATIENCE).await;
    farm.stop().await;
}

/// hls.js plays it from its beginning to its end, gaps and all.
async fn plays_in_a_browser(farm: &Farm, id: &str, url: &str, seconds: f64) {
    let tab = Tab::open(farm).await;
    let token = url.split("/v/").nth(1).unwrap().split('/').next().unwrap();
    tab.visit(&format!("{}/watch/live/{id}?token={token}", farm.client.base)).await;
    // The page loads it when something is on air.
    tab.run(
        "document.head.append(Object.assign(document.createElement('script'), { src: '/assets/vendor/hls.min.js' }))",
    )
    .await;
    tab.holds("hls.js", "window.Hls").await;
    tab.run(&format!(
        "const hls = new Hls({{ autoStartLoad: true }});
         window.fatal = [];
         hls.on(Hls.Events.ERROR, (_, data) => data.fatal && window.fatal.push(data.details));
         window.tested = Object.assign(document.createElement('video'), {{ muted: true }});
         hls.attachMedia(window.tested);
         hls.loadSource({url});
         window.tested.playbackRate = 4;
         hls.on(Hls.Events.MANIFEST_PARSED, () => window.tested.play());",
        url = json!(url)
    ))
    .await;
    tab.holds("its end", "window.tested.ended || window.fatal.length > 0").await;
    assert_eq!(tab.get::<Vec<String>>("window.fatal").await, Vec::<String>::new());
    let duration: f64 = tab.get("window.tested.duration").await;
    assert!((duration - seconds).abs() < 0.5, "{duration} of {seconds}");
    let frames: f64 = tab.get("window.tested.getVideoPlaybackQuality().totalVideoFrames").await;
    assert!(frames > 50.0, "{frames}");
}

/// There is a JPEG that fits into 320x180.
async fn is_pictured(url: &str) {
    let picture = until("a picture", PATIENCE, || async {
        let response = reqwest::get(url).await.ok()?.error_for_status().ok()?;
        assert_eq!(response.headers()["content-type"], "image/jpeg");
        assert!(response.headers()["cache-control"].to_str().unwrap().starts_with("public, max-age="));
        response.bytes().await.ok()
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.jpg");
    std::fs::write(&path, picture).unwrap();
    let probed = probe_file(&["-show_streams"], path.to_str().unwrap());
    let stream = &probed["streams"][0];
    assert_eq!(
        (&stream["codec_name"], &stream["width"], &stream["height"]),
        (&json!("mjpeg"), &json!(320), &json!(180))
    );
}

/// Converts a broadcast with one rung more, and sees that only that is encoded; gives the recording it becomes.
async fn convert(farm: &Farm, id: &str, rid: &str) -> Value {
    let rung = json!({ "name": "144p", "width": 256, "height": 144, "crf": 28, "max_bitrate": 200_000 });
    let body = json!({ "profile": { "preset": "veryfast", "rungs": [rung] } });
    let path = format!("/livestreams/{id}/recordings/{rid}/convert");
    let job = farm.client.post(&path, &body).await;
    let again = farm.client.post_empty(path).await;
    assert_eq!(job["id"], again["id"], "{again}");
    let job = farm.client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let of = |kind: &str| -> Vec<Value> {
        let tasks = job["tasks"].as_array().unwrap().iter();
        tasks.filter(|task| task["kind"] == kind).cloned().collect()
    };
    assert_eq!((of("take_over").len(), of("audio").len()), (3, 0), "{job}");
    for task in of("encode") {
        let command = task["command"].to_string();
        assert!(command.matches("libx264").count() == 1 && command.contains("256"), "{command}");
    }
    let codecs = |task: &Value| task["command"].to_string().contains("libx264");
    let encoding = job["tasks"].as_array().unwrap().iter().filter(|task| codecs(task)).count();
    assert_eq!(encoding, of("encode").len());
    let broadcast = recorded(farm, id, "converted").await;
    assert_eq!(broadcast["video_id"], job["recording_id"]);
    farm.client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await
}

/// The video is as long as what was on air and there, in every form, and each rung shows the same.
async fn is_the_broadcast(farm: &Farm, video: &Value, there: f64) {
    let id = text(video, "id");
    assert_eq!(video["status"], "ready");
    let names: Vec<&str> =
        video["renditions"].as_array().unwrap().iter().map(|it| text(it, "name")).collect();
    assert_eq!(names, ["360p", "240p", "144p", "audio"]);
    // At a seam the picture is held until the next GOP would have begun: a second at most, at each of three.
    let duration = video["duration_seconds"].as_f64().unwrap();
    assert!(duration > there - 0.2 && duration < there + 3.0, "{duration} of {there}");
    let played = crate::judge::Playback::fetch(&farm.client, id).await;
    for track in played.video.iter().chain(&played.audio) {
        assert!((track.duration() - duration).abs() < 0.1, "{} lasts {}", track.name, track.duration());
        let log = ffmpeg_log(&["-loglevel", "error", "-i", track.file.to_str().unwrap(), "-f", "null", "-"]);
        assert_eq!(log, "", "{}", track.name);
    }
    let (decoded, complaints) = decoded(&played.url);
    assert!(decoded > duration - 3.2 && decoded <= duration + 0.1, "{decoded} of {duration}");
    assert_eq!(complaints, "");
    let dir = tempfile::tempdir().unwrap();
    for name in ["360p", "240p", "144p"] {
        let request =
            farm.client.request(Method::GET, &format!("/api/v1/recordings/{id}/download?quality={name}"));
        let bytes = request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let probed = probe_file(&["-show_format"], path.to_str().unwrap());
        let length: f64 = text(&probed["format"], "duration").parse().unwrap();
        assert!((length - duration).abs() < 0.1, "{name}: {length} of {duration}");
        let log = ffmpeg_log(&["-loglevel", "error", "-i", path.to_str().unwrap(), "-f", "null", "-"]);
        assert_eq!(log, "", "{name}");
    }
    for picture in ["thumbnail", "storyboard.vtt"] {
        let request = farm.client.request(Method::GET, &format!("/api/v1/recordings/{id}/{picture}"));
        let status = request.send().await.unwrap().status();
        assert!(status.is_success(), "{picture}: {status}");
    }
}
