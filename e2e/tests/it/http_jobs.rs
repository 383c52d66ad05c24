//! Jobs over HTTP: what is refused and how, what can be read of them, how they end.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Page, Paused, Site, answer, header, is_problem, pointers, text};

#[tokio::test]
async fn http_jobs() {
    let roots = tempfile::tempdir().unwrap();
    let farm = Farm::builder()
        .set("REELMILL_NET_ALLOW", "127.0.0.1/32")
        .set("REELMILL_INPUT_LOCAL_ROOTS", roots.path().display())
        .start()
        .await;
    let clip = media::clip(roots.path(), 3, "320x180");
    let api = &farm.client;
    fields_are_named(api).await;
    bodies_are_checked(api).await;
    addresses_are_checked(api).await;
    files_come_from_the_roots_only(api, &clip).await;
    downloads_are_guarded(api, &clip).await;
    probes_and_pictures_are_made(api, &clip).await;
    lists_go_on(api).await;
    unchanged_jobs_are_not_sent_again(&farm).await;
    later_jobs_wait_and_can_be_cancelled(api, &clip).await;
    farm.stop().await;
}

const INPUT: &str = "https://media.example/a.mp4";

async fn refused(api: &Client, body: &Value) -> Value {
    let request = api.request(Method::POST, "/api/v1/jobs").json(body);
    let answer = answer(request).await;
    is_problem(&answer, 422, "validation");
    answer.2
}

/// Every fault is named by a pointer into the body.
async fn fields_are_named(api: &Client) {
    let transcode = |field: &str, value: Value| {
        let mut body = json!({ "kind": "transcode", "input": { "url": INPUT } });
        body[field] = value;
        body
    };
    let rung = json!({ "name": "a", "width": 320, "height": 180, "crf": 99, "max_bitrate": 400_000 });
    for (body, pointer) in [
        (json!({ "input": { "url": INPUT } }), "/kind"),
        (json!({ "kind": "transcode" }), "/input"),
        (json!({ "kind": "melt", "input": { "url": INPUT } }), "/kind"),
        (transcode("profile", json!("no-such")), "/profile"),
        (transcode("profile", json!("nul\0inside")), "/profile"),
        (transcode("profile", json!(7)), "/profile"),
        (transcode("profile", json!({ "rungs": [rung] })), "/profile/rungs/0/crf"),
        (transcode("profile", json!({ "rungs": [], "x/y": 1 })), "/profile/x~1y"),
        (transcode("surprise", json!(1)), "/surprise"),
        (transcode("input", json!({ "url": INPUT, "more": 1 })), "/input/more"),
        (transcode("input", json!({})), "/input"),
        (transcode("input", json!({ "url": INPUT, "upload_id": uuid::Uuid::nil() })), "/input"),
        (transcode("input", json!({ "url": 7 })), "/input/url"),
        (transcode("input", json!({ "upload_id": "x" })), "/input/upload_id"),
        (transcode("input", json!({ "upload_id": uuid::Uuid::nil() })), "/input/upload_id"),
        (transcode("input", json!({ "recording_id": uuid::Uuid::nil() })), "/input/recording_id"),
        (transcode("priority", json!(101)), "/priority"),
        (transcode("priority", json!(-1)), "/priority"),
        (transcode("priority", json!("high")), "/priority"),
        (transcode("priority", json!(5.5)), "/priority"),
        (transcode("outputs", json!(["dash", "betamax"])), "/outputs/1"),
        (transcode("outputs", json!([])), "/outputs"),
        (transcode("outputs", json!(["thumbnail"])), "/outputs"),
        (transcode("outputs", json!("hls")), "/outputs"),
        (transcode("run_at", json!("tomorrow")), "/run_at"),
        (transcode("run_at", json!("-9000-01-01T00:00:00Z")), "/run_at"),
        (transcode("metadata", json!([1])), "/metadata"),
        (transcode("metadata", json!({ "a": { "b": "nul\0inside" } })), "/metadata"),
        (transcode("metadata", json!({ "nul\0inside": 1 })), "/metadata"),
        (transcode("metadata", json!({ "a": "x".repeat(17_000) })), "/metadata"),
        (transcode("picture", json!({ "width": 64 })), "/picture"),
        (transcode("thumbnail", json!({ "percent": 101 })), "/thumbnail/percent"),
        (transcode("thumbnail", json!({ "time": 1, "representative": true })), "/thumbnail"),
        (transcode("thumbnail", json!({ "representative": "yes" })), "/thumbnail/representative"),
        (transcode("thumbnail", json!({ "moment": 1 })), "/thumbnail/moment"),
        (transcode("thumbnails", json!({})), "/thumbnails/interval"),
        (transcode("thumbnails", json!({ "interval": 0.01 })), "/thumbnails/interval"),
        (transcode("thumbnails", json!({ "interval": 3601 })), "/thumbnails/interval"),
        (transcode("thumbnails", json!({ "interval": 5, "width": 4000 })), "/thumbnails/width"),
        (transcode("thumbnails", json!({ "interval": 5, "format": "gif" })), "/thumbnails/format"),
        (json!({ "kind": "probe", "input": { "url": INPUT }, "profile": "web" }), "/profile"),
        (
            json!({ "kind": "thumbnail", "input": { "url": INPUT }, "thumbnail": { "width": 1 } }),
            "/thumbnail/width",
        ),
        (
            json!({ "kind": "thumbnail", "input": { "url": INPUT }, "thumbnail": { "time": -1 } }),
            "/thumbnail/time",
        ),
    ] {
        let answer = refused(api, &body).await;
        assert_eq!(pointers(&answer), [pointer], "{body}: {answer}");
    }
    // All at once, not one a request.
    let all = transcode("profile", json!("no-such"));
    let all = json!({ "priority": 500, "outputs": ["x"], "metadata": 1, "kind": all["kind"], "profile": all["profile"],
        "input": { "url": "gopher://x/" } });
    let problem = refused(api, &all).await;
    let mut named = pointers(&problem);
    named.sort_unstable();
    assert_eq!(named, ["/input/url", "/metadata", "/outputs/0", "/priority", "/profile"]);
    let jobs = api.get("/jobs").await;
    assert_eq!(jobs["jobs"], json!([]), "what was refused left nothing");
}

/// Bodies that do not read, are not said to be JSON, or are too long.
async fn bodies_are_checked(api: &Client) {
    let post = || api.request(Method::POST, "/api/v1/jobs");
    let json = |body: &'static str| post().header("content-type", "application/json").body(body);
    for broken in
        ["", "{", "nonsense", "{\"kind\":\"probe\",\"input\":{}} trailing", "\u{0}", "[\"\\ud800\"]"]
    {
        let answer = answer(json(broken)).await;
        is_problem(&answer, 400, "malformed");
    }
    // Valid JSON of the wrong shape.
    is_problem(&answer(json("[]")).await, 422, "validation");
    is_problem(&answer(json("null")).await, 422, "validation");
    is_problem(&answer(post().body("{}")).await, 415, "unsupported-media-type");
    let plain = post().header("content-type", "text/plain").body("{}");
    is_problem(&answer(plain).await, 415, "unsupported-media-type");
    let long =
        json!({ "kind": "probe", "input": { "url": INPUT }, "metadata": { "a": "x".repeat(1 << 20) } });
    is_problem(&answer(post().json(&long)).await, 413, "payload-too-large");
    // Without a length announced, too.
    let parts = (0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(parts));
    let endless = post().header("content-type", "application/json").body(body);
    is_problem(&answer(endless).await, 413, "payload-too-large");
    // Wrong methods, ids and parameters.
    let wrong = answer(api.request(Method::PUT, "/api/v1/jobs")).await;
    is_problem(&wrong, 405, "method-not-allowed");
    let allowed = header(&wrong.1, "allow");
    assert!(allowed.contains("POST") && allowed.contains("GET"), "{allowed}");
    for path in ["/api/v1/jobs/x", "/api/v1/nowhere", &format!("/api/v1/jobs/{}", uuid::Uuid::nil())] {
        is_problem(&answer(api.request(Method::GET, path)).await, 404, "not-found");
    }
    for query in ["limit=0", "limit=201", "limit=x", "cursor=x", "status=odd", "nonsense=1"] {
        let request = api.request(Method::GET, &format!("/api/v1/jobs?{query}"));
        is_problem(&answer(request).await, 400, "malformed");
    }
    // NUL in names is no fault of the database's.
    is_problem(&answer(api.request(Method::GET, "/api/v1/profiles/%00")).await, 404, "not-found");
    let cursor = answer(api.request(Method::GET, "/api/v1/profiles?cursor=%00")).await;
    is_problem(&cursor, 400, "malformed");
}

/// Schemes that lead somewhere else than to a web server.
async fn addresses_are_checked(api: &Client) {
    for url in [
        "ftp://media.example/a.mp4",
        "data:video/mp4;base64,AAAA",
        "javascript:alert(1)",
        "concat:/etc/passwd|/etc/group",
        "rtmp://media.example/live",
        "",
        "/etc/passwd",
        "http://",
        "https://[::1",
        "http://media.example:99999/",
    ] {
        let problem = refused(api, &json!({ "kind": "probe", "input": { "url": url } })).await;
        assert_eq!(pointers(&problem), ["/input/url"], "{url}");
    }
}

async fn probe(api: &Client, url: &str) -> Value {
    let job = api.post("/jobs", &json!({ "kind": "probe", "input": { "url": url } })).await;
    api.wait_for(text(&job, "id")).await
}

/// The input is at fault: said in plain words, and tried once.
async fn fails(api: &Client, url: &str, says: &str) {
    let body = json!({ "kind": "transcode", "input": { "url": url }, "profile": "fast" });
    let job = api.post("/jobs", &body).await;
    let job = api.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "failed", "{url}");
    let error = &job["error"];
    assert_eq!(
        (text(error, "reason"), &error["retryable"]),
        ("unreachable", &json!(false)),
        "{url}: {error}"
    );
    assert!(text(error, "message").contains(says), "{url}: {error}");
    assert_eq!(job["attempts"], 1, "{url}: final faults are not tried again");
    let recording = api.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    assert_eq!(recording["status"], "failed", "{url}");
}

async fn files_come_from_the_roots_only(api: &Client, clip: &Path) {
    let inside = probe(api, &format!("file://{}", clip.display())).await;
    assert_eq!(inside["status"], "succeeded", "{}", inside["error"]);
    let secret = tempfile::NamedTempFile::new().unwrap();
    let link = clip.parent().unwrap().join("link.mp4");
    std::os::unix::fs::symlink(secret.path(), &link).unwrap();
    let root = clip.parent().unwrap().display();
    // What cannot be right is refused at once …
    for url in [
        "file:///etc/passwd".to_owned(),
        "file:///no/such/file".to_owned(),
        format!("file://{root}/../../etc/passwd"),
        format!("file://{root}/%2e%2e/%2e%2e/etc/passwd"),
        format!("file://elsewhere.example{root}/clip.mp4"),
    ] {
        let problem = refused(api, &json!({ "kind": "probe", "input": { "url": url } })).await;
        assert_eq!(pointers(&problem), ["/input/url"], "{url}");
    }
    // … and what only the disk can tell by the worker, who does not say what lies elsewhere.
    fails(api, &format!("file://{}", link.display()), "REELMILL_INPUT_LOCAL_ROOTS").await;
    fails(api, &format!("file://{root}"), "REELMILL_INPUT_LOCAL_ROOTS").await;
    let missing = format!("file://{root}/missing.mp4");
    fails(api, &missing, "there is no file").await;
    viewers_hear_no_path(api, &missing).await;
}

/// Whoever has a link hears that it failed and why; where the file lies is for those with a key.
async fn viewers_hear_no_path(api: &Client, missing: &str) {
    let body = json!({ "kind": "transcode", "input": { "url": missing } });
    let job = api.post("/jobs", &body).await;
    let job = api.wait_for(text(&job, "id")).await;
    assert!(text(&job["error"], "message").contains("missing.mp4"), "{job}");
    let master = api.play_url(text(&job, "recording_id")).await;
    let info = api.text(&master.replace("/stream/master.m3u8", "/info")).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["status"], &info["error"]["reason"]),
        (&json!("failed"), &json!("unreachable")),
        "{info}"
    );
    assert_eq!(info["error"]["message"], "The file could not be fetched from where it is.");
}

async fn downloads_are_guarded(api: &Client, clip: &Path) {
    let film = std::fs::read(clip).unwrap();
    let private = Site::start("127.0.0.2", vec![("/clip.mp4", Page::Bytes(film.clone()))]).await;
    let site = Site::start(
        "127.0.0.1",
        vec![
            ("/clip.mp4", Page::Bytes(film)),
            ("/moved", Page::Redirect("/clip.mp4".to_owned())),
            ("/inwards", Page::Redirect(format!("{}/clip.mp4", private.base))),
            ("/metadata", Page::Redirect("http://169.254.169.254/latest/meta-data".to_owned())),
            ("/to-file", Page::Redirect("file:///etc/passwd".to_owned())),
            ("/round", Page::Redirect("/round".to_owned())),
            ("/gone", Page::Status(410)),
        ],
    )
    .await;
    for open in ["clip.mp4", "moved"] {
        let job = probe(api, &format!("{}/{open}", site.base)).await;
        assert_eq!(job["status"], "succeeded", "{open}: {}", job["error"]);
    }
    // Only 127.0.0.1 is open: another address of the same machine is not, nor by a redirect.
    fails(api, &format!("{}/clip.mp4", private.base), "not at a public address").await;
    fails(api, &format!("{}/inwards", site.base), "not at a public address").await;
    fails(api, &format!("{}/metadata", site.base), "not at a public address").await;
    assert_eq!(private.hits.load(Ordering::SeqCst), 0, "no connection was made");
    fails(api, "http://[::1]:1/", "not at a public address").await;
    fails(api, "http://[::ffff:127.0.0.2]:1/", "not at a public address").await;
    fails(api, &format!("{}/to-file", site.base), "not supported").await;
    fails(api, &format!("{}/round", site.base), "redirected more than").await;
    fails(api, &format!("{}/nothing", site.base), "404").await;
    fails(api, &format!("{}/gone", site.base), "410").await;
    // A name that is not there, and credentials that are not repeated.
    let job = probe(api, &format!("{}/nothing?token=hush", site.base.replace("://", "://user:hush@"))).await;
    assert!(!job["error"].to_string().contains("hush"), "{}", job["error"]);
    let recording = api.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    assert!(!recording.to_string().contains("hush"), "{recording}");
    fails(api, "http://no-such-host.invalid/a.mp4", "could not be resolved").await;
}

async fn probes_and_pictures_are_made(api: &Client, clip: &Path) {
    let url = format!("file://{}", clip.display());
    let job = probe(api, &url).await;
    let result = &job["result"]["probe"];
    assert!((result["duration_seconds"].as_f64().unwrap() - 3.0).abs() < 0.2, "{result}");
    assert_eq!(result["video"]["codec"], "h264", "{result}");
    let log = api.get(&format!("/jobs/{}/log", text(&job, "id"))).await;
    let attempts = log["attempts"].as_array().unwrap();
    assert!(!attempts.is_empty());
    assert!(
        attempts.iter().all(|attempt| attempt["outcome"] == "succeeded" && attempt["worker"].is_string()),
        "{log}"
    );

    let body = json!({ "kind": "thumbnail", "input": { "recording_id": job["recording_id"] },
        "thumbnail": { "time": 1.5, "width": 160 } });
    let job = api.post("/jobs", &body).await;
    let job = api.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let path = text(&job["outputs"], "thumbnail");
    let picture = api.request(Method::GET, path).send().await.unwrap();
    assert_eq!(picture.status(), StatusCode::OK);
    assert!(picture.bytes().await.unwrap().starts_with(&[0xff, 0xd8]), "{path} is no JPEG");

    // What is no video fails once, with a reason and the log.
    let nonsense = clip.with_file_name("nonsense.mp4");
    std::fs::write(&nonsense, "no video at all").unwrap();
    let job = probe(api, &format!("file://{}", nonsense.display())).await;
    assert_eq!((text(&job, "status"), text(&job["error"], "reason")), ("failed", "not_media"));
    assert_eq!(job["attempts"], 1);
}

async fn lists_go_on(api: &Client) {
    let whole = api.get("/jobs?limit=200").await;
    let ids = |page: &Value| -> Vec<String> {
        let jobs = page["jobs"].as_array().unwrap();
        jobs.iter().map(|job| text(job, "id").to_owned()).collect()
    };
    let all = ids(&whole);
    assert!(all.len() > 6 && whole["next_cursor"].is_null());
    let (mut walked, mut cursor) = (vec![], String::new());
    loop {
        let page = api.get(&format!("/jobs?limit=3{cursor}")).await;
        let found = ids(&page);
        assert!(found.len() <= 3);
        walked.extend(found);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(walked, all, "page by page the same as at once");
    let failed = api.get("/jobs?status=failed&kind=probe&limit=200").await;
    let failed = failed["jobs"].as_array().unwrap().clone();
    assert!(
        !failed.is_empty() && failed.iter().all(|job| job["status"] == "failed" && job["kind"] == "probe")
    );
    let of_one = api.get(&format!("/jobs?recording_id={}", text(&failed[0], "recording_id"))).await;
    assert_eq!(ids(&of_one), [text(&failed[0], "id")]);
}

async fn unchanged_jobs_are_not_sent_again(farm: &Farm) {
    let api = &farm.client;
    let jobs = api.get("/jobs?status=succeeded&limit=1").await;
    let path = format!("/api/v1/jobs/{}", text(&jobs["jobs"][0], "id"));
    let first = answer(api.request(Method::GET, &path)).await;
    let etag = header(&first.1, "etag").to_owned();
    // Lists, `*` and the weak form, which proxies make, count too (RFC 9110, 13.1.2).
    for known in [etag.clone(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
        let again = answer(api.request(Method::GET, &path).header("if-none-match", &known)).await;
        assert_eq!(again.0, StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!((header(&again.1, "etag"), again.2), (etag.as_str(), json!("")));
    }
    let changed = answer(api.request(Method::GET, &path).header("if-none-match", "\"other\"")).await;
    assert_eq!((changed.0, &changed.2), (StatusCode::OK, &first.2));

    // A job that moves on gets another.
    let paused = Paused::workers(farm);
    let clip = media::clip(farm.dir.path(), 2, "160x90");
    let job = api.submit(&clip, &json!("fast")).await;
    let path = format!("/api/v1/jobs/{}", text(&job, "id"));
    let before = header(&answer(api.request(Method::GET, &path)).await.1, "etag").to_owned();
    drop(paused);
    api.wait_for(text(&job, "id")).await;
    let after = answer(api.request(Method::GET, &path).header("if-none-match", before)).await;
    assert_eq!((after.0, text(&after.2, "status")), (StatusCode::OK, "succeeded"));
}

async fn later_jobs_wait_and_can_be_cancelled(api: &Client, clip: &Path) {
    let upload = api.upload(clip).await;
    let at = (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339();
    let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast", "run_at": at,
        "priority": 100, "metadata": { "shot": "♥ 7" } });
    let later = api.post("/jobs", &body).await;
    let soon = chrono::Utc::now() + chrono::Duration::seconds(2);
    let body = json!({ "kind": "probe", "input": { "upload_id": upload }, "run_at": soon.to_rfc3339() });
    let soon_job = api.post("/jobs", &body).await;
    // The other one has come and gone while this one waits.
    let soon_job = api.wait_for(text(&soon_job, "id")).await;
    assert_eq!(soon_job["status"], "succeeded");
    let started: chrono::DateTime<chrono::Utc> = text(&soon_job, "started_at").parse().unwrap();
    assert!(started >= soon, "started {started}, wanted {soon}");
    let path = format!("/jobs/{}", text(&later, "id"));
    let now = api.get(&path).await;
    assert_eq!(
        (text(&now, "status"), &now["started_at"], &now["attempts"]),
        ("queued", &Value::Null, &json!(0))
    );
    assert_eq!((&now["metadata"]["shot"], &now["priority"]), (&json!("♥ 7"), &json!(100)));

    let cancelled = api.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(cancelled["status"], "cancelled");
    let recording = format!("/recordings/{}", text(&later, "recording_id"));
    until("the recording to be told", Duration::from_secs(5), || async {
        let recording = api.get(&recording).await;
        (recording["status"] == "failed").then_some(())
    })
    .await;
    let over = format!("/jobs/{}/cancel", text(&soon_job, "id"));
    let (status, problem) = api.try_post(&over, &json!({})).await;
    assert_eq!((status.as_u16(), text(&problem, "type")), (409, "/problems/conflict"));
}
