//! Who watches recordings: counted exactly by several apis, also where one of them dies, and only who may be counted.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::Signal;
use reelmill_shared::auth::token::Purpose;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_auth::{now, recording_of, signer};
use crate::support::{answer, client_with, is_problem, pointers, text};

const WAIT: Duration = Duration::from_secs(60);
const VIEWERS: usize = 300;
/// A viewer plays twice as fast as time goes: what was played is right whenever a place is told.
const SPEED: f64 = 2.0;
const LENGTH: f64 = 3600.0;
/// Between two beats of a player: which came first is known to more than a tenth of a second, whichever apis they came to.
const PACE: Duration = Duration::from_millis(500);

/// A recording, and what opens it.
async fn watched(api: &Client) -> (String, String) {
    let id = text(&recording_of(api).await, "id").to_owned();
    let token = api.post(&format!("/recordings/{id}/playback-token"), &json!({})).await;
    (id, text(&token, "token").to_owned())
}

async fn session(api: &Client, token: &str) -> String {
    let (status, _, given) = answer(api.anonymous(Method::POST, &format!("/v/{token}/sessions"))).await;
    assert_eq!(status, StatusCode::CREATED, "{given}");
    assert!(given["expires_at"].is_string());
    text(&given, "session_id").to_owned()
}

fn beat(session: &str, event: &str, position: f64) -> Value {
    json!({ "session_id": session, "event": event, "position": position, "duration": LENGTH, "stalls": 1, "rendition": "720p" })
}

/// One player, with an address of its own.
struct Player {
    n: usize,
    session: String,
    began: Instant,
    told: f64,
    last: Instant,
}

impl Player {
    /// Tells where it is; where the api does not answer, by another, as behind a balancer. Gives whether it had to.
    async fn tell(&mut self, apis: &[Client], first: usize, token: &str, event: &str) -> bool {
        tokio::time::sleep_until((self.last + PACE).into()).await;
        self.last = Instant::now();
        self.told = self.began.elapsed().as_secs_f64() * SPEED;
        let body = beat(&self.session, event, self.told);
        for try_nth in 0..apis.len() {
            let api = &apis[(first + try_nth) % apis.len()];
            let request = api
                .anonymous(Method::POST, &format!("/v/{token}/progress"))
                .header("x-forwarded-for", format!("10.1.{}.{}", self.n / 250, self.n % 250));
            match request.json(&body).send().await {
                Ok(answer) => {
                    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
                    return try_nth > 0;
                }
                Err(_) => continue,
            }
        }
        panic!("no api answers");
    }
}

/// All tell where they are, each now by one api and now by another.
async fn round(players: &mut [Player], apis: &[Client], nth: usize, token: &str, event: &str) -> usize {
    let told = players.iter_mut().enumerate().map(|(n, player)| player.tell(apis, n + nth, token, event));
    join_all(told).await.into_iter().filter(|elsewhere| *elsewhere).count()
}

#[tokio::test]
async fn http_viewing_counts_exactly_while_an_api_dies() {
    let mut farm = Farm::builder().processes(2, 0, 1).set("REELMILL_PROXIES", 1).start().await;
    let apis = [farm.api(0), farm.api(1)];
    let (id, token) = watched(&apis[0]).await;
    let mut players = vec![];
    for n in 0..VIEWERS {
        let session = session(&apis[n % 2], &token).await;
        players.push(Player { n, session, began: Instant::now(), told: 0.0, last: Instant::now() });
    }
    for player in &mut players {
        player.began = Instant::now();
    }
    round(&mut players, &apis, 0, &token, "playback_start").await;
    let started: Vec<f64> = players.iter().map(|player| player.told).collect();
    let path = format!("/recordings/{id}/analytics");
    until("all to be known", WAIT, || async {
        (apis[0].get(&path).await["total_sessions"] == VIEWERS).then_some(())
    })
    .await;
    for nth in 1..4 {
        round(&mut players, &apis, nth, &token, "playback_progress").await;
    }
    let dying =
        farm.processes.iter().filter(|process| process.part == Part::Api).nth(1).unwrap().name.clone();
    farm.process(&dying).signal(Signal::SIGKILL);
    farm.process(&dying).ended(WAIT).await;
    assert_eq!(round(&mut players, &apis, 4, &token, "playback_progress").await, VIEWERS / 2);
    farm.add(Part::Api).await;
    farm.ready().await;
    let apis = [farm.api(0), farm.api(2)];
    round(&mut players, &apis, 5, &token, "playback_progress").await;
    assert_eq!(round(&mut players, &apis, 6, &token, "playback_end").await, 0);

    let expected: f64 = players.iter().zip(&started).map(|(player, started)| player.told - started).sum();
    let figures = until("all that was played to be written", WAIT, || async {
        let figures = apis[0].get(&path).await;
        ((figures["total_playtime"].as_f64()? - expected).abs() < 0.01).then_some(figures)
    })
    .await;
    assert_eq!((&figures["total_sessions"], &figures["unique_viewers"]), (&json!(VIEWERS), &json!(VIEWERS)));
    assert_eq!((&figures["stalls"], &figures["switches"]), (&json!(VIEWERS), &Value::Null));
    assert_eq!(figures["completion_rate"], 0.0);
    let average = figures["average_playtime"].as_f64().unwrap();
    assert!((average - expected / VIEWERS as f64).abs() < 0.01);
    assert_eq!(
        figures["by_rendition"],
        json!([{ "name": "720p", "sessions": VIEWERS, "playtime": figures["total_playtime"] }])
    );
    let in_series: i64 =
        figures["series"].as_array().unwrap().iter().map(|step| step["sessions"].as_i64().unwrap()).sum();
    assert_eq!(in_series, VIEWERS as i64);

    // Each of them, to the place where it was.
    let mut cursor = String::new();
    let mut seen = 0;
    loop {
        let page = apis[1].get(&format!("/recordings/{id}/access-log?limit=200{cursor}")).await;
        for row in page["sessions"].as_array().unwrap() {
            let player = players.iter().find(|player| player.session == text(row, "session_id")).unwrap();
            assert!((row["position"].as_f64().unwrap() - player.told).abs() < 1e-6, "{row}");
            assert!(row["left_at"].is_string() && row["joined_at"].is_string(), "{row}");
            assert_eq!(text(row, "ip_address"), format!("10.1.{}.{}", player.n / 250, player.n % 250));
            seen += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, VIEWERS);

    // What an api heard last before it was told to end is written down.
    let (id, token) = watched(&apis[0]).await;
    let name = session(&apis[1], &token).await;
    for (event, position) in [("playback_start", 0.0), ("playback_end", 0.5)] {
        let request = apis[1].anonymous(Method::POST, &format!("/v/{token}/progress"));
        assert_eq!(answer(request.json(&beat(&name, event, position))).await.0, StatusCode::NO_CONTENT);
    }
    let ending = farm.processes.iter().rfind(|process| process.part == Part::Api).unwrap().name.clone();
    farm.process(&ending).signal(Signal::SIGTERM);
    assert_eq!(farm.process(&ending).ended(WAIT).await, Some(0));
    assert_eq!(apis[0].get(&format!("/recordings/{id}/analytics")).await["total_sessions"], 1);
    farm.stop().await;
}

#[tokio::test]
async fn http_viewing_counts_who_may_be_counted() {
    let farm = Farm::builder().processes(1, 0, 1).start().await;
    let api = &farm.client;
    let ((id, token), (other, other_token)) = (watched(api).await, watched(api).await);
    forged_and_foreign_names_are_refused(api, &id, &token, &other_token).await;
    what_cannot_be_is_refused(api, &id, &token).await;
    repetition_counts_nothing(api, &other, &other_token).await;
    keys_may_name_as_they_like(api).await;
    names_for_livestreams_are_for_one(api).await;
    farm.stop().await;
}

async fn tell(api: &Client, token: &str, body: &Value) -> (StatusCode, reqwest::header::HeaderMap, Value) {
    answer(api.anonymous(Method::POST, &format!("/v/{token}/progress")).json(body)).await
}

async fn forged_and_foreign_names_are_refused(api: &Client, id: &str, token: &str, other_token: &str) {
    let subject: Uuid = id.parse().unwrap();
    let given = session(api, token).await;
    let mut mangled = given.clone().into_bytes();
    mangled[40] = if mangled[40] == b'A' { b'B' } else { b'A' };
    for bad in [
        "anybody".to_owned(),
        String::from_utf8(mangled).unwrap(),
        session(api, other_token).await,
        signer().sign(Purpose::WatchRecording, subject, now() + 60),
        signer().sign_unique(Purpose::WatchLivestream, subject, now() + 60),
        signer().sign_unique(Purpose::WatchRecording, subject, now() - 1),
        token.to_owned(),
    ] {
        is_problem(&tell(api, token, &beat(&bad, "playback_start", 0.0)).await, 403, "bad-token");
    }
    // It names a viewer and opens nothing.
    is_problem(&answer(api.anonymous(Method::GET, &format!("/v/{given}/info"))).await, 403, "bad-token");
    is_problem(&tell(api, &given, &beat(&given, "playback_start", 0.0)).await, 403, "bad-token");
    let bot = api
        .anonymous(Method::POST, &format!("/v/{token}/progress"))
        .header("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")
        .json(&beat(&given, "playback_start", 0.0));
    assert_eq!(answer(bot).await.0, StatusCode::NO_CONTENT);
    // A page that is left sends plain text.
    let mine = session(api, token).await;
    let beacon = api
        .anonymous(Method::POST, &format!("/v/{token}/progress"))
        .header("content-type", "text/plain;charset=UTF-8")
        .body(beat(&mine, "playback_start", 0.0).to_string());
    assert_eq!(answer(beacon).await.0, StatusCode::NO_CONTENT);
    let sessions = until("the viewer to be written down", WAIT, || async {
        let log = api.get(&format!("/recordings/{id}/access-log")).await;
        let sessions = log["sessions"].as_array().unwrap().clone();
        (!sessions.is_empty()).then_some(sessions)
    })
    .await;
    assert_eq!((sessions.len(), text(&sessions[0], "session_id")), (1, mine.as_str()));
}

async fn what_cannot_be_is_refused(api: &Client, id: &str, token: &str) {
    let name = session(api, token).await;
    let wrong = json!({
        "session_id": name, "event": "playback_progress", "position": -1, "duration": 1e9, "stalls": -1, "country": "nowhere",
        "startup_ms": 1_i64 << 40, "ip_address": "10.0.0.1",
    });
    let refused = tell(api, token, &wrong).await;
    is_problem(&refused, 422, "validation");
    assert_eq!(
        pointers(&refused.2),
        ["/country", "/ip_address", "/duration", "/position", "/stalls", "/startup_ms"]
    );
    let path = format!("/api/v1/recordings/{id}/progress");
    for (body, pointer) in [
        (r#"{"session_id": "a", "event": "playback_jump", "position": 0, "duration": 1}"#, "/event"),
        (r#"{"session_id": "a", "event": "playback_end", "position": 0}"#, "/duration"),
        (r#"{"session_id": "a b", "event": "playback_end", "position": 0, "duration": 1}"#, "/session_id"),
    ] {
        let request = api.request(Method::POST, &path).header("content-type", "application/json").body(body);
        let refused = answer(request).await;
        is_problem(&refused, 422, "validation");
        assert_eq!(pointers(&refused.2), [pointer]);
    }
    let nan = r#"{"session_id": "a", "event": "playback_end", "position": NaN, "duration": 1}"#;
    let request = api.request(Method::POST, &path).header("content-type", "application/json").body(nan);
    is_problem(&answer(request).await, 400, "malformed");
    for bad in ["from=yesterday", "step=minute", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"] {
        let request = api.request(Method::GET, &format!("/api/v1/recordings/{id}/analytics?{bad}"));
        is_problem(&answer(request).await, 400, "malformed");
    }
}

/// A thousand times the same, and places that nobody could have played up to.
async fn repetition_counts_nothing(api: &Client, id: &str, token: &str) {
    let name = session(api, token).await;
    let began = Instant::now();
    for n in 0..200 {
        tell(api, token, &beat(&name, "playback_progress", if n % 2 == 0 { 0.0 } else { 1000.0 })).await;
    }
    for _ in 0..200 {
        tell(api, token, &beat(&name, "playback_progress", 1.0)).await;
    }
    let figures = until("it to be written down", WAIT, || async {
        let log = api.get(&format!("/recordings/{id}/access-log")).await;
        let position = log["sessions"][0]["position"].as_f64()?;
        let figures = api.get(&format!("/recordings/{id}/analytics")).await;
        (position == 1.0).then_some(figures)
    })
    .await;
    assert_eq!(figures["total_sessions"], 1);
    let most = began.elapsed().as_secs_f64() * 4.0;
    assert!(figures["total_playtime"].as_f64().unwrap() <= most.min(2.0), "{figures}");
    assert_eq!((&figures["stalls"], &figures["completion_rate"]), (&json!(1), &json!(0.0)));
}

async fn keys_may_name_as_they_like(api: &Client) {
    let (id, _) = watched(api).await;
    let (other, _) = watched(api).await;
    let path = |id: &str| format!("/recordings/{id}/progress");
    let nothing = api.get(&format!("/recordings/{id}/analytics")).await;
    assert_eq!((&nothing["total_sessions"], &nothing["average_playtime"]), (&json!(0), &Value::Null));
    assert_eq!(nothing["heatmap"].as_array().unwrap().len(), 100);
    assert_eq!(api.get(&format!("/recordings/{id}/info")).await["analytics"], Value::Null);
    let told = json!({
        "session_id": "of-the-shop", "user_id": "ann", "event": "playback_start", "position": 0, "duration": 60, "device_type": "tv",
        "country": "CH", "startup_ms": 250, "stalls": 0, "stalled_seconds": 0, "switches": 2, "bytes": 1000, "segments": 2, "buffered": 12.5,
        "ip_address": "2001:db8::1", "user_agent": "tv/1",
    });
    let (status, _, _) =
        answer(api.request(Method::POST, &format!("/api/v1{}", path(&id))).json(&told)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let figures = until("the analytics", WAIT, || async {
        let info = api.get(&format!("/recordings/{id}/info")).await;
        info["analytics"].is_object().then(|| info["analytics"].clone())
    })
    .await;
    assert_eq!((&figures["startup_time"], &figures["switches"]), (&json!(0.25), &json!(2)), "{figures}");
    assert_eq!(figures["by_country"], json!([{ "name": "CH", "sessions": 1, "playtime": 0.0 }]));
    assert!(figures["last_accessed_at"].is_string());
    let log = api.get(&format!("/recordings/{id}/access-log")).await;
    let row = &log["sessions"][0];
    for (field, value) in [
        ("session_id", "of-the-shop"),
        ("user_id", "ann"),
        ("ip_address", "2001:db8::1"),
        ("user_agent", "tv/1"),
    ] {
        assert_eq!(row[field], value, "{log}");
    }
    // One name is one session of one thing, and another project sees none of it.
    until("the name to be refused elsewhere", WAIT, || async {
        let request = api.request(Method::POST, &format!("/api/v1{}", path(&other))).json(&told);
        (answer(request).await.0 == StatusCode::CONFLICT).then_some(())
    })
    .await;
    let stranger = client_with(api, Some("stranger"), &["admin"]).await;
    for (method, what) in
        [(Method::POST, "progress"), (Method::GET, "analytics"), (Method::GET, "access-log")]
    {
        let request = stranger.request(method, &format!("/api/v1/recordings/{id}/{what}")).json(&told);
        is_problem(&answer(request).await, 404, "not-found");
    }
    let reader = client_with(api, None, &["read"]).await;
    is_problem(
        &answer(reader.request(Method::POST, &format!("/api/v1{}", path(&id))).json(&told)).await,
        403,
        "forbidden",
    );
    answer(api.request(Method::DELETE, &format!("/api/v1/recordings/{id}"))).await;
    is_problem(
        &answer(api.request(Method::GET, &format!("/api/v1/recordings/{id}/access-log"))).await,
        404,
        "not-found",
    );
}

async fn names_for_livestreams_are_for_one(api: &Client) {
    let mut opened = vec![];
    for title in ["one", "other"] {
        let id = text(&api.post("/livestreams", &json!({ "title": title })).await, "id").to_owned();
        let token = api.post(&format!("/livestreams/{id}/playback-token"), &json!({})).await;
        opened.push(format!("/v/{}/live/{id}", text(&token, "token")));
    }
    let (status, _, given) = answer(api.anonymous(Method::POST, &format!("{}/sessions", opened[0]))).await;
    assert_eq!(status, StatusCode::CREATED, "{given}");
    let told = json!({ "session_id": text(&given, "session_id") });
    let tell = async |place: &str| {
        answer(api.anonymous(Method::POST, &format!("{place}/viewers/track")).json(&told)).await
    };
    assert_eq!(tell(&opened[0]).await.0, StatusCode::NO_CONTENT);
    is_problem(&tell(&opened[1]).await, 403, "bad-token");
}
