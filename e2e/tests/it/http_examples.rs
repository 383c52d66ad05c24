//! The examples of the description are sent as they stand there, but for ids, and what is answered is what is described.

use std::collections::BTreeSet;
use std::process::Command;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::live::PATIENCE;
use crate::python::python;
use crate::support::{Page, Site, answer, text};

/// Stands for any id in the description.
const ID: &str = "01890000-0000-7000-8000-000000000000";
/// Groups all of whose operations are sent here.
const GROUPS: [&str; 3] = ["playback", "streams", "abr"];
/// The same, of recordings: what viewers need.
const VIEWERS: [&str; 7] =
    ["{id}/progress", "/analytics", "/access-log", "/quality/", "/playback-token", "/stream/", "/info"];

/// A judge of answers: reads the description, then a line of JSON for each answer.
const JUDGE: &str = r##"
import json, sys
from openapi_schema_validator import OAS31Validator
document = json.load(open(sys.argv[1]))
wrong = []
for line in open(sys.argv[2]):
    said = json.loads(line)
    what = f"{said['method'].upper()} {said['path']}: {said['status']}"
    responses = document["paths"][said["path"]][said["method"]]["responses"]
    response = responses.get(str(said["status"]))
    if response is None:
        wrong.append(f"{what} is not described")
        continue
    content = response.get("content", {}).get("application/json")
    if said["body"] is None or content is None:
        if said["body"] is not None: wrong.append(f"{what}: a body that is not described")
        continue
    schema = {**content["schema"], "components": document["components"]}
    wrong += [f"{what}: {list(e.absolute_path)}: {e.message}" for e in OAS31Validator(schema).iter_errors(said["body"])]
print("\n".join(wrong))
sys.exit(bool(wrong))
"##;

/// What is sent in place of an example's id, by the field it stands in.
struct Fixture {
    recording: String,
    camera: String,
    /// One of which there is nothing yet.
    empty: String,
}

impl Fixture {
    fn put_in(&self, value: &mut Value) {
        for (field, value) in value.as_object_mut().into_iter().flatten() {
            let own = match field.as_str() {
                "recording_id" => &self.recording,
                "camera_id" | "livestream_id" => &self.camera,
                _ => continue,
            };
            assert_eq!(value, ID, "ids in examples are all the same");
            *value = own.clone().into();
        }
    }
}

/// An operation and what to put into its path and query, where the description has no example of that.
struct Step<'s>(Method, &'s str, String, &'s str);

#[tokio::test]
async fn http_examples_of_what_viewers_need_are_true() {
    // A CDN that takes everything.
    let cdn = Site::answering("127.0.0.1", |_| Page::Status(200)).await;
    let farm = Farm::builder()
        .processes(1, 1, 1)
        .set("REELMILL_CDN_URL", &cdn.base)
        .set("REELMILL_CDN_WARM_URL", format!("{}/warm", cdn.base))
        .start()
        .await;
    let api = &farm.client;
    let document: Value =
        api.anonymous(Method::GET, "/openapi.json").send().await.unwrap().json().await.unwrap();
    let fixture = fixture(&farm, &document).await;
    let (recording, camera) = (&fixture.recording, &fixture.camera);
    let id = |id: &str| id.to_owned();

    let (mut session, mut delivery) = (String::new(), String::new());
    let mut said = vec![];
    let mut sent = BTreeSet::new();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let by_recording = format!("recording_id={recording}");
    let steps = [
        Step(post.clone(), "/recordings/{id}/playback-token", id(recording), ""),
        Step(get.clone(), "/recordings/{id}/info", id(recording), ""),
        Step(get.clone(), "/recordings/{id}/stream/{file}", format!("{recording}/master.m3u8"), ""),
        Step(post.clone(), "/recordings/{id}/progress", id(recording), ""),
        Step(get.clone(), "/recordings/{id}/analytics", id(recording), ""),
        Step(get.clone(), "/recordings/{id}/access-log", id(recording), ""),
        Step(get.clone(), "/recordings/{id}/quality/recommended", id(recording), ""),
        Step(put.clone(), "/recordings/{id}/quality/preference", id(recording), ""),
        Step(get.clone(), "/recordings/{id}/quality/preference", id(recording), ""),
        Step(delete.clone(), "/recordings/{id}/quality/preference", id(recording), ""),
        Step(post.clone(), "/recordings/{id}/stream/start-live", id(&fixture.empty), ""),
        Step(delete.clone(), "/recordings/{id}/stream/stop-live", id(&fixture.empty), ""),
        Step(post.clone(), "/livestreams/{id}/viewers/track", id(camera), ""),
        Step(get.clone(), "/livestreams/{id}/viewers", id(camera), ""),
        Step(post.clone(), "/abr/metrics", id(""), ""),
        Step(post.clone(), "/abr/select", id(""), ""),
        Step(get.clone(), "/abr/sessions/{id}", id("7f0c1c9e"), &by_recording),
        Step(post.clone(), "/streams/start", id(""), ""),
        Step(post.clone(), "/streams/{id}", id(recording), ""),
        Step(get.clone(), "/streams/{id}", id(recording), ""),
        Step(post.clone(), "/viewers/adapt-quality", id(""), ""),
        Step(get.clone(), "/distribution/metrics", id(""), ""),
        Step(post.clone(), "/segments/deliver", id(""), ""),
        Step(get.clone(), "/segments/deliveries/{id}", id("delivery"), ""),
        Step(get.clone(), "/distribution/health", id(""), ""),
        Step(get.clone(), "/distribution/cdn", id(""), ""),
        Step(post.clone(), "/distribution/cdn/warm", id(""), ""),
        Step(put.clone(), "/distribution/cdn", id(""), ""),
        Step(delete.clone(), "/streams/{id}", id(recording), "viewer_id=alice"),
        Step(post.clone(), "/playback/live", id(""), ""),
        Step(post.clone(), "/playback/start", id(""), ""),
        Step(get.clone(), "/playback/sessions/{id}", id("session"), ""),
        Step(get.clone(), "/playback/sessions/{id}/playlist.m3u8", id("session"), ""),
        Step(get.clone(), "/playback/sessions/{id}/segment/{file}", id("session/0.ts"), ""),
        Step(get.clone(), "/playback/sessions/{id}/export.mp4", id("session"), ""),
        Step(post.clone(), "/playback/sessions/{id}/extend", id("session"), ""),
        Step(delete.clone(), "/playback/sessions/{id}", id("session"), ""),
        Step(delete.clone(), "/recordings/{id}/playback-token", id(recording), ""),
    ];
    for Step(method, path, ids, query) in steps {
        let path = format!("/api/v1{path}");
        let operation = &document["paths"][&path][method.as_str().to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        sent.insert((path.clone(), method.clone()));
        let mut url = path.clone();
        for (name, value) in ["{id}", "{file}"].into_iter().zip(ids.split('/')) {
            let value = match value {
                "session" => &session,
                "delivery" => &delivery,
                value => value,
            };
            url = url.replace(name, value);
        }
        let mut request = api.request(method.clone(), &format!("{url}?{query}"));
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" && !parameter["example"].is_null() {
                let value = parameter["example"]
                    .as_str()
                    .map_or_else(|| parameter["example"].to_string(), str::to_owned);
                request = request.query(&[(text(parameter, "name"), value)]);
            }
        }
        if let Some(mut body) = example(&document, operation) {
            fixture.put_in(&mut body);
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        let bytes = response.bytes().await.unwrap();
        assert!(status.is_success(), "{method} {url}: {status} {}", String::from_utf8_lossy(&bytes));
        let body: Value = if is_json { serde_json::from_slice(&bytes).unwrap() } else { Value::Null };
        if path == "/api/v1/playback/start" {
            session = text(&body, "session_id").to_owned();
        }
        if path == "/api/v1/segments/deliver" {
            delivery = text(&body, "delivery_id").to_owned();
        }
        said.push(json!({ "method": method.as_str().to_lowercase(), "path": path, "status": status.as_u16(), "body": body }));
    }
    is_as_described(&document, &said);
    // A judge that finds nothing wrong with anything would be none.
    let mut wrong = said.clone();
    let first = wrong.iter_mut().find(|said| said["body"].is_object()).unwrap();
    first["body"] = json!({});
    assert!(!judged(&document, &wrong).is_empty());

    let is_sent_here = |path: &str, operation: &Value| {
        // Sockets speak something else: see `http_sockets`.
        if operation["responses"]["101"].is_object() {
            return false;
        }
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        GROUPS.contains(&tag) || tag == "recordings" && VIEWERS.iter().any(|part| path.contains(part))
    };
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let is_sent = sent.contains(&(path.clone(), method.clone()));
            assert!(is_sent || !is_sent_here(path, operation), "no example of {method} {path} is tried here");
        }
    }
}

/// A recording, a camera with footage of the span that the example of playback names, and a recording that is to come live.
async fn fixture(farm: &Farm, document: &Value) -> Fixture {
    let api = &farm.client;
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), 4, "320x180");
    let rung = json!({ "name": "720p", "width": 320, "height": 180, "crf": 30, "max_bitrate": 300_000 });
    let made = api.transcode(&clip, &json!({ "rungs": [rung] })).await;
    let recording = text(&made, "id").to_owned();
    let camera = text(&api.post("/livestreams", &json!({ "title": "Door" })).await, "id").to_owned();
    let span = &document["components"]["schemas"]["StartPlaybackDto"]["example"];
    let body = json!({ "input": { "recording_id": recording }, "start_time": span["start_time"] });
    api.post(&format!("/livestreams/{camera}/recordings/import"), &body).await;
    until("the footage to be there", PATIENCE, || async {
        let list = api.get(&format!("/livestreams/{camera}/recordings?status=converted")).await;
        (!list["recordings"].as_array()?.is_empty()).then_some(())
    })
    .await;
    let body = json!({ "title": "Later", "input": { "live": true } });
    let (status, _, empty) = answer(api.request(Method::POST, "/api/v1/recordings").json(&body)).await;
    assert_eq!(status, 201, "{empty}");
    Fixture { recording, camera, empty: text(&empty, "id").to_owned() }
}

/// The example of an operation's body; `None` where it has no body.
fn example(document: &Value, operation: &Value) -> Option<Value> {
    let content = operation["requestBody"]["content"].get("application/json")?;
    if let Some(example) = content.get("example") {
        return Some(example.clone());
    }
    let schema = &content["schema"];
    let named = |schema: &Value| Some(schema["$ref"].as_str()?.rsplit('/').next()?.to_owned());
    // Of a body that may be left out, one of both is null.
    let either = schema["oneOf"].as_array().into_iter().flatten().find_map(&named);
    let name = named(schema).or(either).unwrap();
    let example = &document["components"]["schemas"][&name]["example"];
    assert!(!example.is_null(), "{name} has no example");
    Some(example.clone())
}

fn is_as_described(document: &Value, said: &[Value]) {
    let wrong = judged(document, said);
    assert!(wrong.is_empty(), "{wrong}");
}

/// What somebody else finds wrong with answers.
fn judged(document: &Value, said: &[Value]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (described, answers) = (dir.path().join("document.json"), dir.path().join("answers.jsonl"));
    std::fs::write(&described, document.to_string()).unwrap();
    let lines: Vec<String> = said.iter().map(Value::to_string).collect();
    std::fs::write(&answers, lines.join("\n")).unwrap();
    let output = Command::new(python()).args(["-c", JUDGE]).args([described, answers]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
