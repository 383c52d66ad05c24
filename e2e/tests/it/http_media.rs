//! What players get: ranges, validators, types, caching, pictures; and that deleted means gone.

use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::{answer, client_with, files_under, header, is_problem, objects_dir, pointers, text};

#[tokio::test]
async fn http_media() {
    let farm = Farm::builder().processes(2, 1, 1).start().await;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 8, "640x360");
    let api = &farm.client;
    let rung = |name: &str, width: u32, height: u32, most: u32| json!({ "name": name, "width": width, "height": height, "crf": 28, "max_bitrate": most });
    let rungs = [rung("360p", 640, 360, 800_000), rung("180p", 320, 180, 200_000)];
    let recording = api.transcode(&clip, &json!({ "preset": "ultrafast", "rungs": rungs })).await;
    let recording = &recording;
    let viewer = Viewer::of(api, recording).await;
    types_and_caching_are_right(api, recording, &viewer).await;
    ranges_are_the_bytes(&viewer).await;
    validators_are_kept(&viewer).await;
    other_sites_may_play(&viewer).await;
    names_lead_nowhere_else(api, recording, &viewer).await;
    pictures_are_made_as_asked(api, recording, &viewer).await;
    the_source_is_described(api, recording).await;
    a_quality_is_recommended(api, recording, &viewer).await;
    titles_and_access_change(api, recording).await;
    deleted_is_gone(&farm, recording, &viewer).await;
    farm.stop().await;
}

/// Somebody with a token and no key.
struct Viewer {
    api: Client,
    /// `/v/{token}`.
    base: String,
    /// Names of a playlist's files, as the playlist has them.
    init: String,
    segment: String,
}

impl Viewer {
    async fn of(api: &Client, recording: &Value) -> Self {
        let master = api.play_url(text(recording, "id")).await;
        let base = master.strip_suffix("/stream/master.m3u8").unwrap();
        let rung =
            recording["renditions"].as_array().unwrap().iter().find(|rendition| rendition["kind"] == "video");
        let playlist = api.text(&format!("{base}/stream/{}.m3u8", text(rung.unwrap(), "name"))).await;
        let init = playlist.split("#EXT-X-MAP:URI=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let segment = playlist.lines().find(|line| line.ends_with(".m4s")).unwrap().to_owned();
        let base = base.strip_prefix(&api.base).unwrap().to_owned();
        Self { api: api.clone(), base, init, segment }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.api.anonymous(method, &format!("{}/{path}", self.base))
    }

    fn segment(&self, method: Method) -> RequestBuilder {
        self.request(method, &format!("stream/{}", self.segment))
    }
}

async fn bytes(request: RequestBuilder) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

async fn types_and_caching_are_right(api: &Client, recording: &Value, viewer: &Viewer) {
    let id = text(recording, "id");
    let (playlist, manifest) = ("application/vnd.apple.mpegurl", "application/dash+xml");
    let rung = viewer.segment.split('-').next().unwrap();
    let (settled, for_ever, day) = ("max-age=10", "max-age=31536000, immutable", "max-age=86400");
    let audio = viewer.segment.replace(viewer.segment.split('-').next().unwrap(), "audio");
    for (file, kind, caching) in [
        ("stream/master.m3u8", playlist, settled),
        ("stream/playlist.m3u8", playlist, settled),
        ("stream/audio.m3u8", playlist, settled),
        (&format!("stream/{rung}-iframes.m3u8"), playlist, settled),
        ("stream/manifest.mpd", manifest, settled),
        (&format!("stream/{}", viewer.init), "video/mp4", for_ever),
        (&format!("stream/{}", viewer.segment), "video/mp4", for_ever),
        (&format!("stream/{audio}"), "audio/mp4", for_ever),
        ("thumbnail", "image/jpeg", day),
    ] {
        let ours = api.request(Method::GET, &format!("/api/v1/recordings/{id}/{file}"));
        for (request, who) in [(ours, "private"), (viewer.request(Method::GET, file), "public")] {
            let (status, headers, body) = bytes(request).await;
            assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, kind), "{file}");
            let shared = if who == "public" && caching == settled {
                ", s-maxage=60, stale-while-revalidate=60"
            } else {
                ""
            };
            assert_eq!(header(&headers, "cache-control"), format!("{who}, {caching}{shared}"), "{file}");
            assert_eq!(header(&headers, "content-length"), body.len().to_string(), "{file}");
            assert_eq!(header(&headers, "x-content-type-options"), "nosniff", "{file}");
            // HEAD says the same and sends nothing.
            let (status, head, nothing) = bytes(viewer.request(Method::HEAD, file)).await;
            assert_eq!((status, nothing.len()), (StatusCode::OK, 0), "{file}");
            for name in ["content-type", "content-length", "etag"] {
                assert_eq!(header(&head, name), header(&headers, name), "{file}: {name}");
            }
        }
    }
    // `playlist.m3u8` is the master; with a quality that rung's.
    let fetch = async |path: &str| bytes(viewer.request(Method::GET, path)).await.2;
    assert_eq!(fetch("stream/playlist.m3u8").await, fetch("stream/master.m3u8").await);
    assert_eq!(fetch("stream/playlist.m3u8?quality=audio").await, fetch("stream/audio.m3u8").await);
    let info = bytes(viewer.request(Method::GET, "info")).await;
    assert_eq!(header(&info.1, "cache-control"), "no-store");
}

async fn ranges_are_the_bytes(viewer: &Viewer) {
    let (_, headers, whole) = bytes(viewer.segment(Method::GET)).await;
    assert_eq!(header(&headers, "accept-ranges"), "bytes");
    let size = whole.len();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-199", 100, 200),
        (&format!("bytes={}-", size - 7), size - 7, size),
        ("bytes=-5", size - 5, size),
        (&format!("bytes=-{}", size + 5), 0, size),
        (&format!("bytes=10-{}", size + 1000), 10, size),
    ] {
        let (status, headers, part) = bytes(viewer.segment(Method::GET).header("range", range)).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(header(&headers, "content-range"), format!("bytes {start}-{}/{size}", end - 1), "{range}");
        assert!(part == whole[start..end], "{range} brought other bytes");
        assert_eq!(header(&headers, "content-length"), part.len().to_string());
    }
    for range in [format!("bytes={size}-"), format!("bytes={}-{}", size + 1, size + 9), "bytes=-0".to_owned()]
    {
        let refused = answer(viewer.segment(Method::GET).header("range", &range)).await;
        is_problem(&refused, 416, "range-not-satisfiable");
        assert_eq!(header(&refused.1, "content-range"), format!("bytes */{size}"), "{range}");
    }
    // A range means something to GET alone.
    for range in ["bytes=0-9".to_owned(), format!("bytes={size}-")] {
        let (status, headers, _) = bytes(viewer.segment(Method::HEAD).header("range", &range)).await;
        assert_eq!(status, StatusCode::OK, "{range}");
        assert_eq!(header(&headers, "content-length"), size.to_string());
        assert!(headers.get("content-range").is_none());
    }
    // What is no single range of bytes is passed over.
    for range in ["bytes=5-2", "bytes=0-1,5-6", "pages=1-2", "bytes=x-y", "bytes=-", "bytes"] {
        let (status, _, body) = bytes(viewer.segment(Method::GET).header("range", range)).await;
        assert_eq!((status, body.len()), (StatusCode::OK, size), "{range}");
    }
}

async fn validators_are_kept(viewer: &Viewer) {
    let (_, headers, whole) = bytes(viewer.segment(Method::GET)).await;
    let etag = header(&headers, "etag").to_owned();
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    for path in
        [&format!("stream/{}", viewer.segment), "stream/master.m3u8", "stream/manifest.mpd", "thumbnail"]
    {
        let (_, headers, _) = bytes(viewer.request(Method::GET, path)).await;
        let etag = header(&headers, "etag").to_owned();
        let (status, again, body) =
            bytes(viewer.request(Method::GET, path).header("if-none-match", &etag)).await;
        assert_eq!(
            (status, body.len(), header(&again, "etag")),
            (StatusCode::NOT_MODIFIED, 0, etag.as_str()),
            "{path}"
        );
        assert_eq!(header(&again, "cache-control"), header(&headers, "cache-control"), "{path}");
        let (status, _, _) = bytes(viewer.request(Method::GET, path).header("if-none-match", "\"x\"")).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    for (known, status, length) in [
        (etag.clone(), 206, 10),
        ("\"x\"".to_owned(), 200, whole.len()),
        (format!("W/{etag}"), 200, whole.len()),
        ("Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), 200, whole.len()),
    ] {
        let request = viewer.segment(Method::GET).header("range", "bytes=0-9").header("if-range", &known);
        let (found, _, body) = bytes(request).await;
        assert_eq!((found.as_u16(), body.len()), (status, length), "{known}");
    }
}

async fn other_sites_may_play(viewer: &Viewer) {
    let origin = ("origin", "https://player.example");
    for path in ["stream/master.m3u8", "thumbnail", "info", "stream/nothing.m4s"] {
        let (_, headers, _) = bytes(viewer.request(Method::GET, path).header(origin.0, origin.1)).await;
        assert_eq!(header(&headers, "access-control-allow-origin"), "*", "{path}");
        assert!(headers.get("access-control-allow-credentials").is_none());
    }
    let preflight = viewer.request(Method::OPTIONS, "stream/master.m3u8").header(origin.0, origin.1);
    let preflight = preflight
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "range");
    let (status, headers, _) = bytes(preflight).await;
    assert!(
        status.is_success() && header(&headers, "access-control-allow-headers").contains("range"),
        "{headers:?}"
    );
    // The API itself is not for them: there keys and cookies count.
    let ours = viewer.api.request(Method::GET, "/api/v1/jobs").header(origin.0, origin.1);
    assert!(bytes(ours).await.1.get("access-control-allow-origin").is_none());
}

async fn names_lead_nowhere_else(api: &Client, recording: &Value, viewer: &Viewer) {
    let rung = viewer.segment.split('-').next().unwrap();
    for name in [
        &format!("{rung}-1-9999.m4s"),
        &format!("{rung}-9-0.m4s"),
        &format!("{rung}-1-99999999999999.m4s"),
        "nothing.m3u8",
        "..%2f..%2fetc%2fpasswd",
        "%00.m4s",
        "playlist.m3u8?quality=..%2fx",
        "playlist.m3u8?quality=master",
        "playlist.m3u8?quality=%00",
        "playlist.m3u8?quality=audio-iframes",
        "audio-iframes.m3u8",
        "nothing-iframes.m3u8",
        "other.mpd",
    ] {
        is_problem(&answer(viewer.request(Method::GET, &format!("stream/{name}"))).await, 404, "not-found");
        let path = format!("/api/v1/recordings/{}/stream/{name}", text(recording, "id"));
        is_problem(&answer(api.request(Method::GET, &path)).await, 404, "not-found");
    }
    // A token and a key of others open none of it.
    let other = client_with(api, Some("other"), &["admin"]).await;
    let path = format!("/api/v1/recordings/{}/stream/{}", text(recording, "id"), viewer.segment);
    is_problem(&answer(other.request(Method::GET, &path)).await, 404, "not-found");
    is_problem(&answer(api.anonymous(Method::GET, &path)).await, 401, "unauthorized");
}

/// Width and height of a JPEG, by ffprobe.
fn size(jpeg: &[u8]) -> (u64, u64) {
    assert!(jpeg.starts_with(&[0xff, 0xd8]), "no JPEG");
    let file = tempfile::Builder::new().suffix(".jpg").tempfile().unwrap();
    std::fs::write(file.path(), jpeg).unwrap();
    let probe = reelmill_testkit::ffmpeg::probe_file(&["-show_streams"], file.path().to_str().unwrap());
    let stream = &probe["streams"][0];
    (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap())
}

async fn pictures_are_made_as_asked(api: &Client, recording: &Value, viewer: &Viewer) {
    let path = format!("/api/v1/recordings/{}/thumbnail", text(recording, "id"));
    let picture = async |query: &str| bytes(api.request(Method::GET, &format!("{path}{query}"))).await;
    let (status, _, default) = picture("").await;
    assert_eq!((status, size(&default)), (StatusCode::OK, (320, 180)));
    let (status, _, early) = picture("?t=1&width=200").await;
    assert_eq!((status, size(&early)), (StatusCode::OK, (200, 112)));
    let (_, _, late) = picture("?t=7&width=200").await;
    assert!(early != late, "another time, another picture");
    let before = api.get("/jobs?kind=thumbnail&limit=200").await["jobs"].as_array().unwrap().len();
    let (_, _, again) = picture("?t=1&width=200").await;
    assert!(again == early);
    let after = api.get("/jobs?kind=thumbnail&limit=200").await["jobs"].as_array().unwrap().len();
    assert_eq!(before, after, "made once");
    for query in ["?t=-1", "?t=NaN", "?t=x", "?width=15", "?width=3841", "?height=0", "?width=1.5"] {
        is_problem(&answer(api.request(Method::GET, &format!("{path}{query}"))).await, 400, "malformed");
    }
    // Viewers see what is there; they make the farm work for nothing.
    let (status, _, seen) = bytes(viewer.request(Method::GET, "thumbnail?t=1&width=200")).await;
    assert!(status == StatusCode::OK && seen == early);
    is_problem(&answer(viewer.request(Method::GET, "thumbnail?t=3&width=222")).await, 404, "not-ready");
    // There is an end to the sizes and times that are made.
    let (_, _, larger) = picture("?t=3&width=222").await;
    assert_eq!(size(&larger).0, 240);
    for again in ["?t=3&width=240", "?t=3&width=201"] {
        assert!(picture(again).await.2 == larger, "{again}");
    }
    // A key that may only read does as viewers do.
    let reader = client_with(api, None, &["read"]).await;
    let before = api.get("/jobs?kind=thumbnail&limit=200").await["jobs"].as_array().unwrap().len();
    let (status, _, seen) = bytes(reader.request(Method::GET, &format!("{path}?t=1&width=200"))).await;
    assert!(status == StatusCode::OK && seen == early);
    let refused = answer(reader.request(Method::GET, &format!("{path}?t=4&width=200"))).await;
    is_problem(&refused, 403, "forbidden");
    let after = api.get("/jobs?kind=thumbnail&limit=200").await["jobs"].as_array().unwrap().len();
    assert_eq!(before, after, "nothing is made for it");
    // Beyond the end is no server's fault.
    let beyond = answer(api.request(Method::GET, &format!("{path}?t=5000"))).await;
    assert!(matches!(beyond.0.as_u16(), 200 | 404), "{} {}", beyond.0, beyond.2);
}

async fn the_source_is_described(api: &Client, recording: &Value) {
    let info = api.get(&format!("/recordings/{}/info", text(recording, "id"))).await;
    assert_eq!(
        (&info["width"], &info["height"], &info["fps"]),
        (&json!(640), &json!(360), &json!(25.0)),
        "{info}"
    );
    assert_eq!(info["codecs"], json!(["h264", "aac"]));
    assert!((info["duration_seconds"].as_f64().unwrap() - 8.0).abs() < 0.2);
    assert!(info["size_bytes"].as_u64().unwrap() > 1000 && info["bitrate"].as_u64().unwrap() > 1000);
    let kinds: Vec<&str> =
        info["streams"].as_array().unwrap().iter().map(|stream| text(stream, "type")).collect();
    assert_eq!(kinds, ["video", "audio"]);
    let streaming = &info["streaming"];
    assert_eq!(streaming["formats"], json!(["hls", "dash"]));
    assert_eq!(streaming["renditions"], recording["renditions"]);
    for (url, name) in [("hls_url", "master.m3u8"), ("dash_url", "manifest.mpd")] {
        assert_eq!(streaming[url], recording[url]);
        let path = format!("/api/v1/recordings/{}/stream/{name}", text(recording, "id"));
        assert_eq!(text(recording, url), path);
    }
    // Each URL it names answers.
    for rendition in recording["renditions"].as_array().unwrap() {
        let playlist = bytes(api.request(Method::GET, text(rendition, "playlist_url"))).await;
        assert_eq!(playlist.0, StatusCode::OK, "{rendition}");
    }
}

async fn a_quality_is_recommended(api: &Client, recording: &Value, viewer: &Viewer) {
    let path = format!("/recordings/{}/quality/recommended", text(recording, "id"));
    let unknown = api.get(&path).await;
    assert_eq!((&unknown["reason"], &unknown["predicted_bandwidth"]), (&json!("start"), &Value::Null));
    let alternatives = unknown["alternatives"].as_array().unwrap();
    let all: Vec<(&str, u64)> = std::iter::once(&unknown)
        .chain(alternatives)
        .map(|rung| (text(rung, "rendition"), rung["bitrate"].as_u64().unwrap()))
        .collect();
    assert!(all.len() > 1 && all.is_sorted_by_key(|(_, bitrate)| *bitrate), "{unknown}");
    let pictures = recording["renditions"].as_array().unwrap().iter().filter(|rung| rung["kind"] == "video");
    assert_eq!(pictures.count(), all.len());
    let ((lowest, _), (highest, most)) = (all[0], all[all.len() - 1]);

    let asked = async |query: &str| api.get(&format!("{path}?{query}")).await;
    for (query, rendition, reason) in [
        ("bandwidth=50000000", highest, "throughput"),
        ("bandwidth=50000000&buffer=20", highest, "throughput"),
        ("bandwidth=50000000&buffer=20&width=60", lowest, "capped"),
        ("bandwidth=50000000&buffer=5", lowest, "buffer_critical"),
        ("bandwidth=50000000&buffer=5&buffer_target=6", highest, "throughput"),
        ("bandwidth=1000&buffer=20", lowest, "throughput"),
    ] {
        let answer = asked(query).await;
        assert_eq!((text(&answer, "rendition"), text(&answer, "reason")), (rendition, reason), "{query}");
    }
    // So little less is not worth a change.
    let slightly = format!("bandwidth={}&buffer=12.5&current={highest}", most - most / 20);
    assert_eq!(asked(&slightly).await["reason"], "steady");
    let undecodable = asked("codecs=av01&bandwidth=50000000").await;
    assert_eq!(undecodable["rendition"], lowest, "something is always there: {undecodable}");
    assert!(undecodable["alternatives"].as_array().unwrap().iter().all(|rung| rung["ruled_out"] == "codec"));

    for (query, field) in
        [("buffer=-1", "/buffer"), ("buffer_target=0", "/buffer_target"), ("current=8k", "/current")]
    {
        let refused = answer(api.request(Method::GET, &format!("/api/v1{path}?{query}"))).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [field]);
    }
    let (status, headers, body) =
        bytes(viewer.request(Method::GET, "quality/recommended?bandwidth=50000000&buffer=20")).await;
    assert_eq!((status, header(&headers, "cache-control")), (StatusCode::OK, "no-store"));
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["rendition"], highest);
}

async fn titles_and_access_change(api: &Client, recording: &Value) {
    let id = text(recording, "id");
    let change = async |body: Value| {
        answer(api.request(Method::PATCH, &format!("/api/v1/recordings/{id}")).json(&body)).await
    };
    for (body, pointer) in [
        (json!({ "title": " " }), "/title"),
        (json!({ "title": "x".repeat(501) }), "/title"),
        (json!({ "title": "nul\0" }), "/title"),
        (json!({ "access": "nobody" }), "/access"),
        (json!({ "status": "ready" }), "/status"),
    ] {
        let refused = change(body).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(crate::support::pointers(&refused.2), [pointer]);
    }
    // A private recording's page asks who is there, a public one's plays.
    let page = format!("/watch/{id}");
    assert_eq!(bytes(api.anonymous(Method::GET, &page)).await.0, StatusCode::SEE_OTHER);
    let changed = change(json!({ "title": "<b>Ä & co", "access": "public" })).await;
    assert_eq!((changed.0, text(&changed.2, "title")), (StatusCode::OK, "<b>Ä & co"));
    let (status, _, html) = bytes(api.anonymous(Method::GET, &page)).await;
    let html = String::from_utf8(html).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(!html.contains("<b>Ä") && html.contains("Ä &#38; co"), "escaped");
}

async fn deleted_is_gone(farm: &Farm, recording: &Value, viewer: &Viewer) {
    let api = &farm.client;
    let id = text(recording, "id");
    assert!(!files_under(&objects_dir(farm)).is_empty());
    let (status, _, _) = bytes(api.request(Method::DELETE, &format!("/api/v1/recordings/{id}"))).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for path in ["", "/info", "/stream/master.m3u8", &format!("/stream/{}", viewer.segment), "/thumbnail"] {
        for api in [farm.api(0), farm.api(1)] {
            let gone = answer(api.request(Method::GET, &format!("/api/v1/recordings/{id}{path}"))).await;
            is_problem(&gone, 404, "not-found");
        }
    }
    is_problem(&answer(viewer.segment(Method::GET)).await, 404, "not-found");
    is_problem(
        &answer(api.request(Method::DELETE, &format!("/api/v1/recordings/{id}"))).await,
        404,
        "not-found",
    );
    assert_eq!(api.get("/recordings").await["recordings"], json!([]));
    until("the store to be empty", Duration::from_secs(20), || async {
        files_under(&objects_dir(farm)).is_empty().then_some(())
    })
    .await;
}
