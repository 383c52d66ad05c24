//! A real cache in front: nginx from Debian, as docs/OPERATIONS.md has it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reelmill_shared::auth::token::{Purpose, Signer};
use reelmill_testkit::farm::{Part, SECRET_KEY};
use reelmill_testkit::ffmpeg::frames;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::live::{self, PATIENCE, Publisher, becomes, footage, listed, livestream, numbers};
use crate::receiver::{Receiver, Reply};
use crate::support::{answer, header, is_problem, text};

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program under a name that the scripts found it by, else where Debian has it.
pub(crate) fn installed(variable: &str, usual: &str) -> std::ffi::OsString {
    std::env::var_os(variable).unwrap_or_else(|| usual.into())
}

/// nginx that keeps media of these apis, by what a token opens and the rest of the path.
async fn nginx(dir: &Path, port: u16, apis: &[String]) -> Child {
    let dir = dir.join("nginx");
    std::fs::create_dir_all(&dir).unwrap();
    let servers: String = apis.iter().map(|api| format!("server {api}; ")).collect();
    let here = dir.display();
    let config = format!(
        r#"daemon off; master_process off; pid {here}/pid; error_log {here}/log warn;
        events {{ worker_connections 256; }}
        http {{
            access_log off;
            client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;
            uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
            upstream apis {{ {servers} }}
            map $uri $media {{
                "~^/v/(?<what>[\w-]{{23}})[\w-]*(?<rest>/.+)$" $what$rest;
                default $uri;
            }}
            map $uri $check {{
                "~^(?<opened>/v/[\w-]+(/(live|playback)/[\w-]+)?)/" $opened/check;
            }}
            proxy_cache_path {here}/media keys_zone=media:8m;
            proxy_cache_path {here}/checks keys_zone=checks:1m;
            proxy_http_version 1.1;
            server {{
                listen 127.0.0.1:{port};
                location ~ ^/v/[^/]+/stream/ {{
                    set $asked $check;
                    auth_request /check;
                    slice 64k;
                    proxy_set_header Range $slice_range;
                    proxy_set_header CDN-Loop nginx;
                    proxy_cache media;
                    proxy_cache_key $media$is_args$args$slice_range;
                    proxy_cache_lock on;
                    add_header X-Cache-Status $upstream_cache_status;
                    proxy_pass http://apis;
                }}
                location ~ ^/v/[^/]+/(live|playback)/ {{
                    set $asked $check;
                    auth_request /check;
                    proxy_set_header CDN-Loop nginx;
                    proxy_cache media;
                    proxy_cache_key $media$is_args$args;
                    proxy_cache_lock on; proxy_cache_lock_age 30s; proxy_cache_lock_timeout 30s;
                    add_header X-Cache-Status $upstream_cache_status;
                    proxy_pass http://apis;
                }}
                location = /check {{
                    internal;
                    proxy_cache checks;
                    proxy_cache_key $asked;
                    proxy_pass_request_body off;
                    proxy_set_header Content-Length "";
                    proxy_pass http://apis$asked;
                }}
            }}
        }}"#
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let child = Command::new(installed("REELMILL_NGINX", "/usr/sbin/nginx"))
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(&dir)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nginx: apt-get install nginx-light, or name it in REELMILL_NGINX");
    until("nginx to listen", PATIENCE, || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    child
}

/// The first line of what is answered for a path as it stands here, which a URL could not keep.
async fn plainly(port: u16, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: cdn\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn cdn_in_front_keeps_media_and_forgets_it_when_told() {
    let port = free_port();
    let cdn = format!("http://127.0.0.1:{port}");
    // Refuses at first: what it was not told of waits.
    let hook = Receiver::start(|_, before| Reply::Status(if before == 0 { 503 } else { 204 })).await;
    let farm = Farm::builder()
        .processes(2, 1, 1)
        .set("REELMILL_CDN_URL", &cdn)
        .set("REELMILL_CDN_PURGE_URL", hook.url("/purge"))
        .set("REELMILL_CDN_TOKEN", "hook-secret")
        .start()
        .await;
    let apis: Vec<String> =
        farm.processes.iter().filter(|it| it.part == Part::Api).map(|it| it.address.clone()).collect();
    let _nginx = nginx(farm.dir.path(), port, &apis).await;
    let client = &farm.client;
    let clip = media::clip(farm.dir.path(), 5, "320x180");
    let profile = json!({ "segment_duration": 2, "preset": "ultrafast", "rungs": [
        { "name": "180p", "width": 320, "height": 180, "crf": 28, "max_bitrate": 600_000 } ] });
    let recording = client.transcode(&clip, &profile).await;
    let id = text(&recording, "id");

    // Viewers are sent to it; what it must not keep stays with us.
    let token = client.post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
    let url = text(&token, "hls_url");
    assert!(url.starts_with(&format!("{cdn}/v/")), "{token}");
    assert!(text(&token, "dash_url").starts_with(&cdn), "{token}");
    assert!(text(&token, "renew_url").starts_with(&format!("http://{}/v/", apis[0])), "{token}");
    let page = client.request(Method::GET, &format!("/watch/{id}")).send().await.unwrap();
    let policy = header(page.headers(), "content-security-policy").to_owned();
    assert!(policy.contains(&format!("connect-src 'self' {cdn};")), "{policy}");

    // Fetched ahead: by its first viewer it is there.
    let warmed = client.post("/distribution/cdn/warm", &json!({ "recording_id": id })).await;
    assert!(warmed["files"].as_u64().unwrap() >= 8, "{warmed}");
    let playlist = fetch(&url.replace("master", "180p")).await;
    assert_eq!(header(&playlist.1, "x-cache-status"), "HIT");
    let listed = String::from_utf8(playlist.2).unwrap();
    let segments: Vec<&str> = listed.lines().filter(|line| line.ends_with(".m4s")).collect();
    assert!(segments.len() >= 2, "{listed}");
    for name in &segments {
        let (status, headers, body) = fetch(&url.replace("master.m3u8", name)).await;
        assert_eq!((status, header(&headers, "x-cache-status")), (StatusCode::OK, "HIT"), "{name}");
        assert_eq!(header(&headers, "access-control-allow-origin"), "*");
        assert!(!headers.contains_key("vary"), "one copy for all sites: {headers:?}");
        let keys = header(&headers, "surrogate-key");
        assert!(keys.starts_with(&format!("recording-{id} set-")), "{keys}");
        assert_eq!(header(&headers, "cache-tag"), keys.replace(' ', ","));
        let direct = client
            .bytes(&url.replace(&cdn, &format!("http://{}", apis[1])).replace("master.m3u8", name))
            .await;
        assert!(body == direct, "{name} came whole");
    }
    // A player plays through it.
    let shown = frames(url, "v:0").len();
    assert_eq!(shown, 125);

    // Another token hits the same files; a forged one does not.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let old = text(&token, "token");
    let newer = Signer::new(&[SECRET_KEY]).sign(Purpose::PlayRecording, id.parse().unwrap(), now + 90_000);
    assert!(newer != old && newer[..23] == old[..23]);
    let segment = url.replace("master.m3u8", segments[0]);
    let (status, headers, _) = fetch(&segment.replace(old, &newer)).await;
    assert_eq!((status, header(&headers, "x-cache-status")), (StatusCode::OK, "HIT"));
    let forged = format!("{}{}", &newer[..40], "A".repeat(newer.len() - 40));
    assert_eq!(fetch(&segment.replace(old, &forged)).await.0, StatusCode::FORBIDDEN);
    // Nor does a good one in front of the first characters of another: what is checked is what is served.
    let detour = segment.replace(&format!("/v/{old}"), &format!("/v/{old}/../{}", &old[..23]));
    assert!(plainly(port, detour.strip_prefix(&cdn).unwrap()).await.starts_with("HTTP/1.1 403"));

    // Counted where it was asked for: nothing of such segments is in an edge's memory.
    let rate = until("figures", PATIENCE, || async {
        client.get("/distribution/metrics").await["cdn_cache_hit_rate"].as_f64()
    })
    .await;
    assert!((0.0..0.5).contains(&rate), "{rate}");
    let told = farm.api(0).text(&format!("http://{}/metrics", apis[0])).await
        + &farm.api(1).text(&format!("http://{}/metrics", apis[1])).await;
    assert!(told.contains(r#"by="cdn""#) && told.contains(r#"by="viewer""#), "{told}");

    // The switch: each api sees it.
    let turn = async |enabled: bool| {
        let body = json!({ "enabled": enabled });
        answer(client.request(Method::PUT, "/api/v1/distribution/cdn").json(&body)).await
    };
    let (status, _, off) = turn(false).await;
    assert_eq!((status, &off["enabled"], &off["configured"]), (StatusCode::OK, &json!(false), &json!(true)));
    until("the other api to see it", PATIENCE, || async {
        let (_, token) = farm.api(1).try_post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
        text(&token, "hls_url").starts_with(&format!("http://{}", apis[1])).then_some(())
    })
    .await;
    is_problem(
        &answer(
            client
                .request(Method::POST, "/api/v1/distribution/cdn/warm")
                .json(&json!({ "recording_id": id })),
        )
        .await,
        409,
        "conflict",
    );
    assert_eq!(turn(true).await.2["enabled"], true);

    // What changes is told, until it is taken: here at the second try, and once more.
    let patch = json!({ "access": "public" });
    let path = format!("/api/v1/recordings/{id}");
    assert_eq!(client.request(Method::PATCH, &path).json(&patch).send().await.unwrap().status(), 200);
    let of_recording = format!("recording-{id}");
    let named = |count: usize| {
        let hook = &hook;
        let of_recording = &of_recording;
        move || async move {
            let calls = hook.at("/purge");
            let all = calls.iter().map(|call| call.json()["surrogate_keys"].clone()).collect::<Vec<Value>>();
            let hits =
                all.iter().filter(|keys| keys.as_array().unwrap().contains(&json!(of_recording))).count();
            (hits >= count).then_some(calls)
        }
    };
    let calls = until("the purges", Duration::from_secs(60), named(2)).await;
    assert!(calls.iter().all(|call| call.header("authorization") == "Bearer hook-secret"));
    let replaced = json!(format!("listings-{id}"));
    let of_ready = |call: &&crate::receiver::Received| {
        call.json()["surrogate_keys"].as_array().unwrap().contains(&replaced)
    };
    assert!(calls.iter().any(|call| of_ready(&call)), "the first encoding was told of, too");

    // Deleted: told again, and within seconds nobody is given what the cache still has.
    assert_eq!(client.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    until("the purge of what was deleted", Duration::from_secs(60), named(3)).await;
    until("the token to be refused", PATIENCE, || async {
        (!fetch(&segment).await.0.is_success()).then_some(())
    })
    .await;
    until("nothing to wait", Duration::from_secs(60), || async {
        (client.get("/distribution/cdn").await["purges_waiting"] == 0).then_some(())
    })
    .await;
    farm.stop().await;
}

/// What is answered for a URL: its status, what the cache says of it, and the text or bytes.
async fn fetch(url: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = reqwest::get(url).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn cdn_in_front_shares_what_is_on_air_and_footage() {
    let port = free_port();
    let cdn = format!("http://127.0.0.1:{port}");
    let hook = Receiver::start(|_, _| Reply::Status(204)).await;
    let farm = live::farm()
        .processes(2, 1, 1)
        .set("REELMILL_CDN_URL", &cdn)
        .set("REELMILL_CDN_PURGE_URL", hook.url("/purge"))
        .set("REELMILL_CDN_WARM_URL", hook.url("/warm"))
        .set("REELMILL_CDN_WARM_RECORDINGS", true)
        .start()
        .await;
    let apis: Vec<String> =
        farm.processes.iter().filter(|it| it.part == Part::Api).map(|it| it.address.clone()).collect();
    let _nginx = nginx(farm.dir.path(), port, &apis).await;
    let client = &farm.client;
    let stream = livestream(&farm, json!({ "dvr_enabled": true })).await;
    let id = text(&stream, "id").to_owned();
    let master = live::watch(&farm, &id).await;
    assert!(master.starts_with(&format!("{cdn}/v/")), "{master}");
    let publisher = Publisher::start(&farm, 0, text(&stream, "stream_key"), &footage(&farm));
    becomes(&farm, &id, "live").await;
    // Through the cache, which must not hold on to what was there before.
    let early =
        listed(&master, "360p", "some segments", |text| (numbers(text).len() >= 3).then(|| text.to_owned()))
            .await;
    let newest = early.lines().rfind(|line| line.ends_with(".m4s") && !line.starts_with('#')).unwrap();
    let segment = master.replace("master.m3u8", newest);
    assert_eq!(fetch(&segment).await.0, StatusCode::OK);
    let (status, headers, body) = fetch(&segment).await;
    assert_eq!((status, header(&headers, "x-cache-status")), (StatusCode::OK, "HIT"));
    assert!(header(&headers, "surrogate-key").contains(&format!("livestream-{id}")), "{headers:?}");
    let direct = client.bytes(&segment.replace(&cdn, &format!("http://{}", apis[1]))).await;
    assert!(body == direct, "it came whole");
    // Who waits for what comes next waits in the cache.
    let next = numbers(&early).last().unwrap() + 2;
    let waited = master.replace("master.m3u8", &format!("360p.m3u8?_HLS_msn={next}"));
    let (first, second) = futures::future::join(fetch(&waited), fetch(&waited)).await;
    let mut cached = vec![];
    for (status, headers, text) in [&first, &second] {
        let text = String::from_utf8_lossy(text);
        assert_eq!(*status, StatusCode::OK, "{text}");
        assert!(numbers(&text).contains(&next), "{next}: {text}");
        cached.push(header(headers, "x-cache-status"));
    }
    cached.sort_unstable();
    assert_eq!(cached, ["HIT", "MISS"], "one of both was asked for upstream");
    let token = master.trim_start_matches(&format!("{cdn}/v/")).split('/').next().unwrap();
    let forged = format!("{}{}", &token[..40], "A".repeat(token.len() - 40));
    assert_eq!(fetch(&segment.replace(token, &forged)).await.0, StatusCode::FORBIDDEN);
    publisher.kill().await;
    client.post_empty(format!("/livestreams/{id}/stop")).await;

    // What was recorded, by its time.
    let broadcast = until("the recording to be whole", PATIENCE, || async {
        let list = client.get(&format!("/livestreams/{id}/recordings")).await;
        let first = list["recordings"].as_array()?.first()?.clone();
        (first["status"] == "available").then_some(first)
    })
    .await;
    let span =
        json!({ "camera_id": id, "start_time": broadcast["start_time"], "end_time": broadcast["end_time"] });
    let session = client.post("/playback/start", &span).await;
    let url = text(&session, "url");
    assert!(url.starts_with(&format!("{cdn}/v/")), "{session}");
    let piece = url.replace("playlist.m3u8", "segment/0.ts");
    for expected in ["MISS", "HIT"] {
        let (status, headers, body) = fetch(&piece).await;
        assert_eq!((status, header(&headers, "x-cache-status")), (StatusCode::OK, expected));
        assert_eq!((body[0], body.len() % 188), (0x47, 0));
    }
    let shown = frames(url, "v:0").len();
    assert!(shown > 100, "{shown} pictures of three segments of two seconds or more");
    let place = format!("/api/v1/playback/sessions/{}", text(&session, "session_id"));
    assert_eq!(client.request(Method::DELETE, &place).send().await.unwrap().status(), 204);
    until("nobody to be given what the cache has", PATIENCE, || async {
        (!fetch(&piece).await.0.is_success()).then_some(())
    })
    .await;
    let of_session = json!(format!("session-{}", text(&session, "session_id")));
    until("the purge of it", PATIENCE, || async {
        let calls = hook.at("/purge");
        let is_told =
            calls.iter().any(|call| call.json()["surrogate_keys"].as_array().unwrap().contains(&of_session));
        is_told.then_some(())
    })
    .await;

    // What is new is fetched ahead by the CDN's own hook, from the address that viewers use.
    let clip = media::clip(farm.dir.path(), 3, "320x180");
    let profile = json!({ "preset": "ultrafast", "rungs": [
        { "name": "180p", "width": 320, "height": 180, "crf": 28, "max_bitrate": 600_000 } ] });
    client.transcode(&clip, &profile).await;
    let told = until("the CDN to be asked", PATIENCE, || async { hook.at("/warm").into_iter().next() }).await;
    let told = told.json();
    let urls: Vec<&str> = told["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert!(urls.iter().any(|url| url.ends_with("180p-1-0.m4s")), "{urls:?}");
    for url in urls {
        assert!(url.starts_with(&format!("{cdn}/v/")), "{url}");
        assert_eq!(fetch(url).await.0, StatusCode::OK, "{url}");
    }
    farm.stop().await;
}
