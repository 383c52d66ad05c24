//! The description of the API: valid, complete, and true.

use std::collections::BTreeMap;
use std::process::Command;

use reelmill_testkit::{Client, Farm};
use reqwest::Method;
use serde_json::Value;

use crate::python::python;
use crate::support::answer;

#[tokio::test]
async fn http_openapi() {
    let farm = Farm::builder().processes(1, 0, 1).start().await;
    let api = &farm.client;
    // Readable without a key: it is the manual.
    let (status, _, document) = answer(api.anonymous(Method::GET, "/openapi.json")).await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    is_valid(&document);
    says_enough(&document);
    every_operation_answers(api, &document).await;
    every_route_is_described(api, &document).await;
    farm.stop().await;
}

/// By a judge that is not ours.
fn is_valid(document: &Value) {
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), document.to_string()).unwrap();
    let script = "import sys, json; from openapi_spec_validator import OpenAPIV31SpecValidator as V\n\
                  errors = [f'{list(e.absolute_path)}: {e.message}' for e in V(json.load(open(sys.argv[1]))).iter_errors()]\n\
                  print('\\n'.join(errors)); sys.exit(bool(errors))";
    let output = Command::new(python()).args(["-c", script]).arg(file.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "the document is not valid OpenAPI 3.1:\n{}",
        String::from_utf8_lossy(&said)
    );
    // A judge that finds nothing wrong with anything would be none.
    let mut broken = document.clone();
    let responses = &mut broken["paths"]["/api/v1/jobs"]["get"]["responses"]["200"];
    assert!(responses.as_object_mut().unwrap().remove("description").is_some());
    std::fs::write(file.path(), broken.to_string()).unwrap();
    let output = Command::new(python()).args(["-c", script]).arg(file.path()).output().unwrap();
    assert!(!output.status.success(), "a response without a description is invalid");
}

/// Every operation of the document, with its path and method.
fn operations(document: &Value) -> Vec<(String, Method, Value)> {
    let mut all = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Ok(method) = method.to_uppercase().parse::<Method>()
                && METHODS.contains(&method.as_str())
            {
                all.push((path.clone(), method, operation.clone()));
            }
        }
    }
    all
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// What a person or a generator of clients needs.
fn says_enough(document: &Value) {
    let all = operations(document);
    assert!(all.len() > 25, "{} operations", all.len());
    let mut ids = BTreeMap::new();
    for (path, method, operation) in &all {
        let what = format!("{method} {path}");
        let text = |field: &str| operation[field].as_str().unwrap_or_default().to_owned();
        let summary = text("summary").chars().count();
        assert!((1..=60).contains(&summary), "{what}: a summary of {summary} characters");
        assert!(operation["tags"].as_array().is_some_and(|tags| !tags.is_empty()), "{what} has no tag");
        let id = text("operationId");
        assert!(!id.is_empty(), "{what} has no operationId");
        assert_eq!(ids.insert(id.clone(), what.clone()), None, "{id} is the id of two operations");
        let responses = operation["responses"].as_object().unwrap();
        assert!(!responses.is_empty(), "{what} has no responses");
        for (status, response) in responses {
            assert!(
                !response["description"].as_str().unwrap_or_default().is_empty(),
                "{what}: {status} has no description"
            );
        }
        // Each parameter of the path is declared.
        for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
            let declared = operation["parameters"].as_array().into_iter().flatten();
            let found = declared.filter(|parameter| parameter["in"] == "path" && parameter["name"] == name);
            assert_eq!(found.count(), 1, "{what}: {name}");
        }
    }
    assert!(document["components"]["securitySchemes"].as_object().is_some_and(|schemes| !schemes.is_empty()));
}

/// A path with its parameters filled in.
fn filled(path: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap();
        filled.push_str(before);
        filled.push_str(if name == "file" { "master.m3u8" } else { "01890000-0000-7000-8000-000000000000" });
        rest = after;
    }
    filled + rest
}

/// What is described exists: it refuses, or knows no such thing, but is not unheard of, and never breaks.
async fn every_operation_answers(api: &Client, document: &Value) {
    for (path, method, _) in operations(document) {
        let request = api.request(method.clone(), &filled(&path));
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        // A stream of events has no end to wait for.
        let body = if path.ends_with("/events") { String::new() } else { response.text().await.unwrap() };
        assert!(status != 405 && status < 500, "{method} {path}: {status} {body}");
        assert!(!body.contains("there is nothing at"), "{method} {path}: {body}");
        if path.contains('{') && !matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
            assert_eq!(status, 404, "{method} {path}: {body}");
        }
    }
}

/// The router's own list cannot be asked for, so every path that is described, its parents and what the API might have beside
/// them are tried with every method: what answers must be described.
async fn every_route_is_described(api: &Client, document: &Value) {
    let mut described: BTreeMap<String, Vec<Method>> = BTreeMap::new();
    for (path, method, _) in operations(document) {
        described.entry(filled(&path)).or_default().push(method);
    }
    let id = "01890000-0000-7000-8000-000000000000";
    let mut paths: Vec<String> = described.keys().cloned().collect();
    let words = "projects jobs recordings uploads profiles livestreams playback streams abr workers queues webhooks keys events deliveries";
    for resource in words.split(' ') {
        paths.push(format!("/api/v1/{resource}"));
        paths.push(format!("/api/v1/{resource}/{id}"));
        for action in "cancel retry log events info transcode thumbnail download progress analytics playback-token drain pause resume \
                       test start stop rotate-key rotate-secret stream"
            .split_whitespace()
        {
            paths.push(format!("/api/v1/{resource}/{id}/{action}"));
        }
    }
    paths.sort();
    paths.dedup();
    for path in paths {
        let known = described.get(&path).cloned().unwrap_or_default();
        for method in METHODS.map(|method| method.parse::<Method>().unwrap()) {
            // HEAD is answered wherever GET is.
            if known.contains(&method) || (method == Method::HEAD && known.contains(&Method::GET)) {
                continue;
            }
            let response = api.request(method.clone(), &path).send().await.unwrap();
            let status = response.status().as_u16();
            let text = if status == 200 { String::new() } else { response.text().await.unwrap() };
            let unknown = status == 405
                || (status == 404 && (method == Method::HEAD || text.contains("there is nothing at")));
            assert!(unknown, "{method} {path} answers {status} and is not described: {text}");
        }
    }
}
