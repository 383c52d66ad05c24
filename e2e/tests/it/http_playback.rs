//! Footage of a camera by its time: found across broadcasts, joined, remuxed and exported, checked by ffprobe and FFmpeg.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::ffmpeg::{ffmpeg_log, frames, probe_file};
use reelmill_testkit::wait::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::live::{self, PATIENCE, Publisher, becomes};
use crate::support::{answer, client_with, is_problem, pointers, text};

/// A camera that was on air twice, a while apart: when that was by its recordings, oldest first.
pub(crate) async fn twice_on_air(farm: &Farm, camera: &Value, footage: &Path, seconds: f64) -> Vec<Value> {
    let (id, key) = (text(camera, "id"), text(camera, "stream_key"));
    for count in 1..=2 {
        let publisher = Publisher::start(farm, 0, key, footage);
        becomes(farm, id, "live").await;
        until("some footage", PATIENCE, || async {
            let list = farm.client.get(&format!("/livestreams/{id}/recordings?limit=1")).await;
            (list["recordings"][0]["duration"].as_f64()? >= seconds).then_some(())
        })
        .await;
        publisher.kill().await;
        farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
        until("it to be recorded", PATIENCE, || async {
            let list = farm.client.get(&format!("/livestreams/{id}/recordings?status=available")).await;
            (list["recordings"].as_array()?.len() == count).then_some(())
        })
        .await;
    }
    let list = farm.client.get(&format!("/livestreams/{id}/recordings")).await;
    let mut all = list["recordings"].as_array().unwrap().clone();
    all.reverse();
    all
}

pub(crate) fn moment(value: &Value, field: &str) -> DateTime<Utc> {
    text(value, field).parse().unwrap()
}

/// Of a playlist what goes on without a break: its date, and the names and lengths of its segments.
type Listed = (DateTime<Utc>, Vec<(String, f64)>);

fn stretches(playlist: &str) -> Vec<Listed> {
    let (mut all, mut length): (Vec<Listed>, f64) = (vec![], 0.0);
    for line in playlist.lines() {
        if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            all.push((date.parse().unwrap(), vec![]));
        } else if let Some(seconds) = line.strip_prefix("#EXTINF:") {
            length = seconds.trim_end_matches(',').parse().unwrap();
        } else if !line.starts_with('#') {
            all.last_mut().unwrap().1.push((line.to_owned(), length));
        }
    }
    all
}

/// Fetches the segments of a stretch and puts them behind each other.
async fn fetched(playlist: &str, names: &[(String, f64)], to: PathBuf) -> String {
    let mut bytes = vec![];
    for (name, _) in names {
        let response = reqwest::get(playlist.replace("playlist.m3u8", name)).await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        assert_eq!(response.headers()["content-type"], "video/mp2t");
        bytes.extend_from_slice(&response.bytes().await.unwrap());
    }
    std::fs::write(&to, bytes).unwrap();
    to.to_str().unwrap().to_owned()
}

/// Frames that FFmpeg decodes of an address, and what it complains about.
fn decoded(url: &str) -> (u64, String) {
    let log = ffmpeg_log(&["-loglevel", "info", "-i", url, "-map", "0:v:0", "-f", "null", "-"]);
    let count = log.rsplit("frame=").next().unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let complaints = log.lines().filter(|line| line.contains("rror") || line.contains("nvalid"));
    (count, complaints.collect::<Vec<_>>().join("\n"))
}

#[tokio::test]
async fn live_footage_is_played_by_its_time_over_a_gap() {
    let mut farm = live::farm().processes(2, 1, 1).start().await;
    let camera = live::livestream(&farm, json!({ "dvr_enabled": true })).await;
    let id = text(&camera, "id");
    let both = twice_on_air(&farm, &camera, &live::footage(&farm), 6.0).await;
    let (from, to) = (moment(&both[0], "start_time"), moment(&both[1], "end_time"));
    let lasted = TimeDelta::milliseconds((both[0]["duration"].as_f64().unwrap() * 1000.0) as i64);

    let body = json!({ "camera_id": id, "start_time": from, "end_time": to });
    let (status, headers, session) =
        answer(farm.client.request(Method::POST, "/api/v1/playback/start").json(&body)).await;
    assert_eq!(status, StatusCode::CREATED, "{session}");
    let sid = text(&session, "session_id");
    let own = format!("/api/v1/playback/sessions/{sid}");
    assert_eq!(headers["location"], own);
    assert_eq!((text(&session, "camera_id"), text(&session, "format")), (id, "hls"));
    assert_eq!((moment(&session, "start_time"), moment(&session, "end_time")), (from, to));
    let lasts = moment(&session, "expires_at") - Utc::now();
    assert!((55..=60).contains(&lasts.num_minutes()), "{lasts}");
    assert_eq!(session["qualities"], json!(["360p", "240p"]));
    let gaps = session["gaps"].as_array().unwrap();
    let close = |a: DateTime<Utc>, b: DateTime<Utc>| (a - b).abs() < TimeDelta::milliseconds(100);
    assert!(close(moment(&gaps[0], "start_time"), from + lasted), "{gaps:?}: {lasted} from {from}");
    assert!(close(moment(&gaps[0], "end_time"), moment(&both[1], "start_time")), "{gaps:?}");

    // One playlist, with a date for each stretch, that says what is missing.
    let url = text(&session, "url");
    let list = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(list.contains("#EXT-X-PLAYLIST-TYPE:VOD\n") && list.ends_with("#EXT-X-ENDLIST\n"), "{list}");
    assert!(list.contains("CLASS=\"reelmill.gap\""), "{list}");
    let found = stretches(&list);
    assert_eq!((found.len(), list.matches("#EXT-X-DISCONTINUITY\n").count()), (2, 1), "{list}");
    for (stretch, broadcast) in found.iter().zip(&both) {
        let off = stretch.0 - moment(broadcast, "start_time");
        assert!(off.abs() < TimeDelta::milliseconds(100), "{} of {broadcast}", stretch.0);
    }
    let count: usize = found.iter().map(|(_, names)| names.len()).sum();
    assert_eq!(session["segment_count"], count);
    assert_eq!(session["segment_ids"].as_array().unwrap().len(), count);
    assert_eq!(
        session["segment_ids"][0].as_str().unwrap().split_once('/').map(|(rid, _)| rid),
        Some(text(&both[0], "id"))
    );

    // Every segment is MPEG-TS, and within a stretch times go on without a break.
    let mut pictures = 0;
    for (n, (_, names)) in found.iter().enumerate() {
        let file = fetched(url, names, farm.dir.path().join(format!("{n}.ts"))).await;
        let times = frames(&file, "v:0");
        let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.clone().all(|step| (step - 0.04).abs() < 0.002), "{:?}", steps.collect::<Vec<_>>());
        let length: f64 = names.iter().map(|(_, length)| length).sum();
        assert!((times.len() as f64 / 25.0 - length).abs() < 0.05, "{} frames of {length} s", times.len());
        pictures += times.len() as u64;
        let sound = frames(&file, "a:0");
        assert!(
            sound.windows(2).all(|pair| (pair[1] - pair[0] - 1024.0 / 48_000.0).abs() < 0.01),
            "the sound has holes"
        );
    }
    let total: f64 = found.iter().flat_map(|(_, names)| names).map(|(_, length)| length).sum();
    assert!((session["duration"].as_f64().unwrap() - total).abs() < 0.01);
    for url in [url.to_owned(), format!("{url}?container=fmp4"), format!("{url}?container=fmp4&quality=240p")]
    {
        assert_eq!(decoded(&url), (pictures, String::new()), "{url}");
    }

    // All of it as a file, without the gap; and exact to a frame at both ends.
    let file = farm.dir.path().join("export.mp4");
    save(text(&session, "export_url"), &file).await;
    assert_eq!(frames(file.to_str().unwrap(), "v:0").len() as u64, pictures);
    let format = probe_file(&["-show_format"], file.to_str().unwrap());
    let seconds: f64 = text(&format["format"], "duration").parse().unwrap();
    assert!((seconds - total).abs() < 0.1, "{seconds} of {total}");
    assert_eq!(decoded(file.to_str().unwrap()), (pictures, String::new()));
    let within = |millis| from + TimeDelta::milliseconds(millis);
    let body = json!({ "camera_id": id, "start_time": within(1400), "end_time": within(4600), "precision": "frame" });
    let exact = farm.client.post("/playback/start", &body).await;
    let list = reqwest::get(text(&exact, "url")).await.unwrap().text().await.unwrap();
    assert!(
        list.contains("#EXT-X-START:TIME-OFFSET=1.4") || list.contains("#EXT-X-START:TIME-OFFSET=1.3"),
        "{list}"
    );
    // Played, it ends with the last picture that was asked for, and says so.
    let length: f64 = found_lengths(&list).iter().sum();
    for url in [text(&exact, "url").to_owned(), format!("{}?container=fmp4", text(&exact, "url"))] {
        let (shown, log) = decoded(&url);
        assert_eq!(log, "", "{url}");
        assert!((shown as f64 / 25.0 - length).abs() < 0.05, "{shown} pictures of {length} s: {url}");
        assert!((length - 4.6).abs() < 0.1, "from the beginning of a segment to 4.6 s: {list}");
    }
    save(text(&exact, "export_url"), &file).await;
    // What is before zero is there to be decoded, and not to be shown.
    let times = frames(file.to_str().unwrap(), "v:0");
    let shown: Vec<f64> = times.iter().copied().filter(|time| *time > -0.001).collect();
    assert!((79..=81).contains(&shown.len()), "3.2 s are 80 frames: {times:?}");
    assert!(shown[0] < 0.04 && *shown.last().unwrap() < 3.2, "{times:?}");

    // Any api process knows it, also one that was not there when it began.
    let other = farm.api(1);
    let again = other.get(&own.replace("/api/v1", "")).await;
    assert_eq!(again["segment_ids"], session["segment_ids"]);
    farm.add(Part::Api).await;
    farm.ready().await;
    let path = reqwest::Url::parse(url).unwrap().path().to_owned();
    assert_eq!(answer(farm.api(2).anonymous(Method::GET, &path)).await.0, StatusCode::OK);
    bad_requests_are_told_why(&farm, id, from, to).await;
    sessions_end(&farm, &session).await;
    farm.stop().await;
}

/// How long each segment of a playlist is said to be, in seconds.
fn found_lengths(playlist: &str) -> Vec<f64> {
    let lengths = playlist.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    lengths.map(|length| length.trim_end_matches(',').parse().unwrap()).collect()
}

async fn save(url: &str, to: &Path) {
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    assert!(response.headers()["content-disposition"].to_str().unwrap().starts_with("attachment; filename="));
    std::fs::write(to, response.bytes().await.unwrap()).unwrap();
}

async fn bad_requests_are_told_why(farm: &Farm, id: &str, from: DateTime<Utc>, to: DateTime<Utc>) {
    let start = async |body: Value| {
        answer(farm.client.request(Method::POST, "/api/v1/playback/start").json(&body)).await
    };
    let hours = TimeDelta::hours;
    for (start_time, end_time, field) in [
        (to, from, "/end_time"),
        (from, from, "/end_time"),
        (from, Utc::now() + hours(1), "/end_time"),
        (Utc::now() + hours(1), Utc::now() + hours(2), "/start_time"),
        (from - hours(24 * 40), to, "/end_time"),
    ] {
        let refused = start(json!({ "camera_id": id, "start_time": start_time, "end_time": end_time })).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [field], "{}", refused.2);
    }
    let body = json!({ "camera_id": id, "start_time": from, "end_time": to, "format": "rtsp" });
    assert_eq!(pointers(&start(body).await.2), ["/format"]);
    let before =
        start(json!({ "camera_id": id, "start_time": from - hours(2), "end_time": from - hours(1) })).await;
    is_problem(&before, 404, "not-found");
    assert!(text(&before.2, "detail").contains("what comes next begins at"), "{}", before.2);
    let nobody = "01890000-0000-7000-8000-000000000000";
    let unknown = start(json!({ "camera_id": nobody, "start_time": from, "end_time": to })).await;
    is_problem(&unknown, 404, "not-found");
    assert!(text(&unknown.2, "detail").contains("camera"));
}

async fn sessions_end(farm: &Farm, session: &Value) {
    let (sid, url) = (text(session, "session_id"), text(session, "url"));
    let client = &farm.client;
    let own = format!("/api/v1/playback/sessions/{sid}");
    let get = async |url: String| answer(client.anonymous(Method::GET, &url)).await;
    let path = |name: &str| {
        let path = reqwest::Url::parse(url).unwrap().path().to_owned();
        path.replace("playlist.m3u8", name)
    };
    for name in ["segment/9999.ts", "segment/x.ts", "segment/0.mp4", "playlist.m3u8?quality=1080p"] {
        is_problem(&get(path(name)).await, 404, "not-found");
    }
    let stranger = client_with(client, Some("elsewhere"), &["live:read"]).await;
    is_problem(&answer(stranger.request(Method::GET, &own)).await, 404, "not-found");
    let token = url.split("/v/").nth(1).unwrap().split('/').next().unwrap();
    let forged = path("playlist.m3u8").replace(token, &token.replace('A', "B"));
    is_problem(&get(forged).await, 403, "bad-token");

    let extended =
        client.post(&format!("/playback/sessions/{sid}/extend"), &json!({ "duration_seconds": 7200 })).await;
    assert!(moment(&extended, "expires_at") > moment(session, "expires_at"));
    let shorter =
        client.post(&format!("/playback/sessions/{sid}/extend"), &json!({ "duration_seconds": 60 })).await;
    assert_eq!(shorter["expires_at"], extended["expires_at"], "never earlier");
    let extend = client.request(Method::POST, &format!("{own}/extend"));
    is_problem(&answer(extend.json(&json!({ "duration_seconds": 5 }))).await, 422, "validation");

    let database = farm.database.connect().await;
    database
        .execute("update playback_sessions set expires_at = now() - interval '1 second'", &[])
        .await
        .unwrap();
    until("it to be over", PATIENCE, || async {
        (get(path("playlist.m3u8")).await.0 == StatusCode::GONE).then_some(())
    })
    .await;
    is_problem(&answer(client.request(Method::GET, &own)).await, 410, "gone");
    database
        .execute("update playback_sessions set expires_at = now() + interval '1 hour'", &[])
        .await
        .unwrap();
    until("it to be there", PATIENCE, || async {
        (get(path("playlist.m3u8")).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(client.request(Method::DELETE, &own).send().await.unwrap().status(), 204);
    is_problem(&answer(client.request(Method::GET, &own)).await, 404, "not-found");
    until("it to be gone", PATIENCE, || async {
        (get(path("segment/0.ts")).await.0 == StatusCode::NOT_FOUND).then_some(())
    })
    .await;

    // Without the camera nobody plays what it saw.
    let body = json!({ "camera_id": session["camera_id"], "start_time": session["start_time"], "end_time": session["end_time"] });
    let last = client.post("/playback/start", &body).await;
    let url = reqwest::Url::parse(text(&last, "url")).unwrap().path().to_owned();
    assert_eq!(get(url.clone()).await.0, StatusCode::OK);
    let camera = format!("/api/v1/livestreams/{}", text(session, "camera_id"));
    assert!(client.request(Method::DELETE, &camera).send().await.unwrap().status().is_success());
    until("it to be over with its camera", PATIENCE, || async {
        (get(url.clone()).await.0 == StatusCode::GONE).then_some(())
    })
    .await;
}
