//! Who may do what: keys and scopes, projects, sessions, host names, viewer tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reelmill_shared::auth::token::{Purpose, Signer};
use reelmill_testkit::farm::SECRET_KEY;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{answer, client_with, header, is_problem, text};

#[tokio::test]
async fn http_auth() {
    // Nobody works: jobs and recordings stay as they were made.
    let farm = Farm::builder()
        .processes(2, 0, 1)
        .set("REELMILL_ALLOWED_HOSTS", "127.0.0.1,farm.example")
        .set("REELMILL_PLAYBACK_TOKEN_SECONDS", 60)
        .start()
        .await;
    let api = &farm.client;
    a_key_is_needed(api).await;
    scopes_are_kept(api).await;
    keys_come_and_go(&farm).await;
    projects_see_only_their_own(api).await;
    sessions_open_and_end(api).await;
    sessions_are_no_tool_of_other_sites(api).await;
    logins_lead_nowhere_else(api).await;
    other_hosts_are_turned_away(api).await;
    crate::http_auth_viewers::tokens_open_one_thing(api).await;
    farm.stop().await;
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn signer() -> Signer {
    Signer::new(&[SECRET_KEY])
}

async fn a_key_is_needed(api: &Client) {
    let jobs = "/api/v1/jobs";
    for (name, value) in [
        ("x-nothing", "x".to_owned()),
        ("authorization", "Bearer rm_live_wrong".to_owned()),
        ("authorization", "Basic dXNlcjpwYXNz".to_owned()),
        ("authorization", "Bearer".to_owned()),
        ("authorization", api.key.clone()),
        ("x-api-key", "rm_live_wrong".to_owned()),
        ("x-api-key", String::new()),
        ("cookie", "reelmill_session=nonsense".to_owned()),
    ] {
        let answer = answer(api.anonymous(Method::GET, jobs).header(name, &value)).await;
        is_problem(&answer, 401, "unauthorized");
        assert_eq!(header(&answer.1, "www-authenticate"), "Bearer", "{name}: {value}");
    }
    for (name, value) in [("x-api-key", api.key.clone()), ("authorization", format!("bearer {}", api.key))] {
        let answer = answer(api.anonymous(Method::GET, jobs).header(name, value)).await;
        assert_eq!(answer.0, StatusCode::OK, "{}", answer.2);
    }
    // Addresses end up in logs; a key there counts for nothing.
    let query = api.anonymous(Method::GET, &format!("{jobs}?api_key={}", api.key));
    is_problem(&answer(query).await, 401, "unauthorized");
    // Every route asks first, even for what does not read.
    for (method, path) in [
        (Method::POST, "/api/v1/jobs"),
        (Method::POST, "/api/v1/recordings"),
        (Method::POST, "/api/v1/uploads"),
        (Method::POST, "/api/v1/keys"),
        (Method::GET, "/api/v1/events"),
        (Method::GET, "/api/v1/workers"),
        (Method::GET, "/api/v1/profiles"),
    ] {
        is_problem(&answer(api.anonymous(method, path)).await, 401, "unauthorized");
    }
}

async fn scopes_are_kept(api: &Client) {
    let body = json!({ "kind": "probe", "input": { "url": "https://media.example/a.mp4" } });
    for (scopes, may_read, may_write, may_see_fleet) in [
        (["read"], true, false, false),
        (["write"], true, true, false),
        (["fleet:read"], false, false, true),
        (["live:write"], false, false, false),
        (["admin"], true, true, true),
    ] {
        let caller = client_with(api, None, &scopes).await;
        let word = |may: bool, good: u16| if may { good } else { 403 };
        let (read, _) = caller.try_get("/jobs").await;
        let (write, _) = caller.try_post("/jobs", &body).await;
        let (fleet, _) = caller.try_get("/workers").await;
        let (keys, _) = caller.try_get("/keys").await;
        let found = [read.as_u16(), write.as_u16(), fleet.as_u16(), keys.as_u16()];
        let wanted = [
            word(may_read, 200),
            word(may_write, 201),
            word(may_see_fleet, 200),
            word(scopes == ["admin"], 200),
        ];
        assert_eq!(found, wanted, "{scopes:?}");
    }
    let reader = client_with(api, None, &["read"]).await;
    let (_, problem) = reader.try_post("/jobs", &body).await;
    assert!(text(&problem, "detail").contains("write"), "it says which scope is missing: {problem}");
    // A lesser key makes no greater one.
    let writer = client_with(api, None, &["write"]).await;
    let refused = writer.try_post("/keys", &json!({ "name": "more", "scopes": ["admin"] })).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
}

async fn keys_come_and_go(farm: &Farm) {
    let api = &farm.client;
    let made = api.post("/keys", &json!({ "name": "camera", "scopes": ["read"] })).await;
    let (id, secret) = (text(&made, "id"), text(&made, "secret"));
    assert!(secret.starts_with("rm_live_") && secret.len() >= 40);
    let listed = api.get("/keys?limit=200").await;
    let listed = listed["keys"].as_array().unwrap().clone();
    let camera = listed.iter().find(|key| key["id"] == id).unwrap();
    assert_eq!((text(camera, "name"), &camera["scopes"]), ("camera", &json!(["read"])));
    assert!(secret.starts_with(text(camera, "prefix")) && text(camera, "prefix").len() < 16);
    assert!(!json!(listed).to_string().contains(secret), "a secret is shown once");
    for (body, pointer) in [
        (json!({ "name": "", "scopes": ["read"] }), "/name"),
        (json!({ "name": "x", "scopes": [] }), "/scopes"),
        (json!({ "name": "x", "scopes": ["everything"] }), "/scopes/0"),
        (json!({ "name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z" }), "/expires_at"),
        (json!({ "name": "x", "scopes": ["read"], "project": "No Such" }), "/project"),
    ] {
        let (status, problem) = api.try_post("/keys", &body).await;
        assert_eq!((status.as_u16(), crate::support::pointers(&problem)), (422, vec![pointer]), "{body}");
    }

    // Revoked in one process, it stops within seconds in the other as well.
    let (here, there) = (farm.api(0).with_key(secret), farm.api(1).with_key(secret));
    here.get("/jobs").await;
    there.get("/jobs").await;
    let path = format!("/api/v1/keys/{id}");
    let gone = answer(farm.api(0).request(Method::DELETE, &path)).await;
    assert_eq!(gone.0, StatusCode::NO_CONTENT);
    assert_eq!(here.try_get("/jobs").await.0, StatusCode::UNAUTHORIZED, "at once where it was revoked");
    until("the other process to notice", Duration::from_secs(6), || async {
        (there.try_get("/jobs").await.0 == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    let again = answer(api.request(Method::DELETE, &path)).await;
    assert_eq!(again.0, StatusCode::NO_CONTENT, "twice is no mistake");
    let listed_now = api.get("/keys?limit=200").await;
    let listed_now = listed_now["keys"].as_array().unwrap();
    assert!(listed_now.iter().any(|key| key["id"] == id && key["revoked_at"].is_string()));
    let unknown = format!("/api/v1/keys/{}", Uuid::nil());
    is_problem(&answer(api.request(Method::DELETE, &unknown)).await, 404, "not-found");
    // One that ends by itself.
    let soon = chrono::Utc::now() + chrono::Duration::seconds(2);
    let body = json!({ "name": "brief", "scopes": ["read"], "expires_at": soon.to_rfc3339() });
    let brief = api.with_key(text(&api.post("/keys", &body).await, "secret"));
    brief.get("/jobs").await;
    until("the key to end", Duration::from_secs(9), || async {
        (brief.try_get("/jobs").await.0 == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    // The last key is not sawn off by its holder.
    let own = listed.iter().find(|key| text(key, "name").contains("settings")).unwrap();
    let own = api.request(Method::DELETE, &format!("/api/v1/keys/{}", text(own, "id")));
    is_problem(&answer(own).await, 409, "conflict");
}

pub async fn recording_of(api: &Client) -> Value {
    let body = json!({ "title": "Ours", "input": { "url": "https://media.example/a.mp4" } });
    api.post("/recordings", &body).await
}

async fn projects_see_only_their_own(api: &Client) {
    let recording = recording_of(api).await;
    let (recording, job) = (text(&recording, "id"), text(&recording, "job_id"));
    let upload = api
        .request(Method::POST, "/api/v1/uploads")
        .header("tus-resumable", "1.0.0")
        .header("upload-length", 10);
    let upload = answer(upload).await;
    let upload = header(&upload.1, "location").to_owned();
    let profile = json!({ "name": "mine", "rungs": [], "audio": { "bitrate": 64_000 } });
    api.post("/profiles", &profile).await;

    let other = client_with(api, Some("neighbour"), &["admin"]).await;
    for (method, path) in [
        (Method::GET, format!("/api/v1/jobs/{job}")),
        (Method::GET, format!("/api/v1/jobs/{job}/log")),
        (Method::GET, format!("/api/v1/jobs/{job}/events")),
        (Method::POST, format!("/api/v1/jobs/{job}/cancel")),
        (Method::GET, format!("/api/v1/recordings/{recording}")),
        (Method::GET, format!("/api/v1/recordings/{recording}/info")),
        (Method::GET, format!("/api/v1/recordings/{recording}/stream/master.m3u8")),
        (Method::GET, format!("/api/v1/recordings/{recording}/thumbnail")),
        (Method::POST, format!("/api/v1/recordings/{recording}/playback-token")),
        (Method::DELETE, format!("/api/v1/recordings/{recording}")),
        (Method::GET, "/api/v1/profiles/mine".to_owned()),
        (Method::DELETE, "/api/v1/profiles/mine".to_owned()),
        (Method::DELETE, upload.clone()),
    ] {
        let refused = answer(other.request(method.clone(), &path)).await;
        is_problem(&refused, 404, "not-found");
    }
    let renamed = other
        .request(Method::PATCH, &format!("/api/v1/recordings/{recording}"))
        .json(&json!({ "title": "Theirs" }));
    is_problem(&answer(renamed).await, 404, "not-found");
    assert_eq!(answer(other.request(Method::HEAD, &upload)).await.0, StatusCode::NOT_FOUND);
    let patch = other.request(Method::PATCH, &upload);
    let patch = patch.header("tus-resumable", "1.0.0").header("upload-offset", 0);
    let patch = patch.header("content-type", "application/offset+octet-stream").body("x");
    is_problem(&answer(patch).await, 404, "not-found");
    let upload_id = upload.rsplit('/').next().unwrap();
    for input in [json!({ "recording_id": recording }), json!({ "upload_id": upload_id })] {
        let (status, _) = other.try_post("/jobs", &json!({ "kind": "probe", "input": input })).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let (status, _) = other
        .try_post(
            "/jobs",
            &json!({ "kind": "transcode", "input": { "url": "https://media.example/a" }, "profile": "mine" }),
        )
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    for list in ["jobs", "recordings"] {
        assert_eq!(other.get(&format!("/{list}")).await[list], json!([]));
    }
    assert_eq!(other.get("/keys").await["keys"].as_array().unwrap().len(), 1);
    // Nothing of all that did anything.
    let mine = api.get(&format!("/recordings/{recording}")).await;
    assert_eq!((text(&mine, "title"), text(&mine, "status")), ("Ours", "pending"));
}

/// Logs in and gives the cookie, without its attributes.
pub(crate) async fn log_in(api: &Client, key: &str) -> String {
    let form = format!("key={key}&next=%2F");
    let request = api.anonymous(Method::POST, "/login").body(form);
    let (status, headers, _) =
        answer(request.header("content-type", "application/x-www-form-urlencoded")).await;
    assert_eq!((status, header(&headers, "location")), (StatusCode::SEE_OTHER, "/"));
    let cookie = header(&headers, "set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"),
        "{cookie}"
    );
    cookie.split(';').next().unwrap().to_owned()
}

async fn sessions_open_and_end(api: &Client) {
    let (status, headers, _) = answer(api.anonymous(Method::GET, "/")).await;
    assert_eq!((status, header(&headers, "location")), (StatusCode::SEE_OTHER, "/login?next=%2F"));
    let key = api.post("/keys", &json!({ "name": "browser", "scopes": ["write"] })).await;
    let cookie = log_in(api, text(&key, "secret")).await;
    let home = api.anonymous(Method::GET, "/").header("cookie", &cookie);
    let (status, headers, page) = answer(home).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        header(&headers, "content-type").starts_with("text/html") && page.as_str().unwrap().contains("Ours")
    );
    assert!(header(&headers, "content-security-policy").contains("script-src 'self'"));
    let jobs = answer(api.anonymous(Method::GET, "/api/v1/jobs").header("cookie", &cookie)).await;
    assert_eq!(jobs.0, StatusCode::OK, "the pages read the API with it");

    // By a link, which names the key and ends.
    let id: Uuid = text(&key, "id").parse().unwrap();
    let link = |purpose, ends| format!("/login?token={}", signer().sign(purpose, id, ends));
    let (status, headers, _) = answer(api.anonymous(Method::GET, &link(Purpose::Login, now() + 60))).await;
    assert_eq!((status, header(&headers, "location")), (StatusCode::SEE_OTHER, "/"));
    assert!(header(&headers, "set-cookie").starts_with("reelmill_session="));
    for bad in
        [link(Purpose::Login, now() - 1), link(Purpose::Session, now() + 60), "/login?token=x".to_owned()]
    {
        let (status, headers, page) = answer(api.anonymous(Method::GET, &bad)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{bad}");
        assert!(headers.get("set-cookie").is_none() && page.as_str().unwrap().contains("not valid any more"));
    }
    let wrong = api.anonymous(Method::POST, "/login").body("key=rm_live_wrong");
    let wrong = answer(wrong.header("content-type", "application/x-www-form-urlencoded")).await;
    assert_eq!(wrong.0, StatusCode::FORBIDDEN);
    assert!(wrong.1.get("set-cookie").is_none() && !wrong.2.to_string().contains("rm_live_wrong"));
    // With the key ends the session.
    answer(api.request(Method::DELETE, &format!("/api/v1/keys/{id}"))).await;
    let jobs = answer(api.anonymous(Method::GET, "/api/v1/jobs").header("cookie", &cookie)).await;
    is_problem(&jobs, 401, "unauthorized");
}

async fn sessions_are_no_tool_of_other_sites(api: &Client) {
    let cookie = log_in(api, &api.key).await;
    let post = || {
        let body = json!({ "kind": "probe", "input": { "url": "https://media.example/a.mp4" } });
        api.anonymous(Method::POST, "/api/v1/jobs").header("cookie", &cookie).json(&body)
    };
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("x-nothing", "neither says where it comes from"),
    ] {
        is_problem(&answer(post().header(name, value)).await, 403, "forbidden");
        let once = post().header("idempotency-key", "cross").header(name, value);
        is_problem(&answer(once).await, 403, "forbidden");
    }
    let both = post().header("origin", &api.base).header("sec-fetch-site", "cross-site");
    is_problem(&answer(both).await, 403, "forbidden");
    assert_eq!(answer(post().header("origin", &api.base)).await.0, StatusCode::CREATED);
    assert_eq!(answer(post().header("sec-fetch-site", "same-origin")).await.0, StatusCode::CREATED);
    let login = || api.anonymous(Method::POST, "/login").body(format!("key={}", api.key));
    for (name, value, status) in [
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("origin", api.base.as_str(), StatusCode::SEE_OTHER),
    ] {
        let form = login().header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(answer(form.header(name, value)).await.0, status, "{name}: {value}");
    }
}

async fn logins_lead_nowhere_else(api: &Client) {
    let id = api.get("/keys?limit=200").await["keys"].as_array().unwrap().clone();
    let id = id.iter().find(|key| text(key, "name").contains("settings")).unwrap();
    let token = signer().sign(Purpose::Login, text(id, "id").parse().unwrap(), now() + 60);
    for (next, leads_to) in [
        ("%2Fwatch%2F1%3Ft%3D5", "/watch/1?t=5"),
        ("https%3A%2F%2Fevil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("%2F%5Cevil.example", "/"),
        ("%2F%09%2Fevil.example", "/"),
        ("%2F%0d%0aSet-Cookie%3Aa%3Db", "/"),
        ("javascript%3Aalert(1)", "/"),
    ] {
        let link = api.anonymous(Method::GET, &format!("/login?token={token}&next={next}"));
        let form = api
            .anonymous(Method::POST, "/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("key={}&next={next}", api.key));
        for request in [link, form] {
            let (status, headers, _) = answer(request).await;
            assert_eq!((status, header(&headers, "location")), (StatusCode::SEE_OTHER, leads_to), "{next}");
        }
    }
}

async fn other_hosts_are_turned_away(api: &Client) {
    for path in
        ["/", "/api/v1/jobs", "/login", "/openapi.json", "/nowhere", "/v/x/info", "/metrics", "/health"]
    {
        for host in ["evil.example", "127.0.0.1.evil.example", "evil.example:80", ""] {
            let answer = answer(api.request(Method::GET, path).header("host", host)).await;
            is_problem(&answer, 421, "wrong-host");
        }
    }
    for host in ["farm.example", "FARM.example:8443", "127.0.0.1:1"] {
        let answer = answer(api.request(Method::GET, "/api/v1/jobs").header("host", host)).await;
        assert_eq!(answer.0, StatusCode::OK, "{host}");
    }
    // Probes come by address.
    let probe = answer(api.anonymous(Method::GET, "/livez").header("host", "10.1.2.3:8080")).await;
    assert_eq!(probe.0, StatusCode::OK);
}
