//! A small client of the API: for tests, so it panics on what should not happen.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::wait::until;

/// Speaks to one api process with one key.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    pub key: String,
    http: reqwest::Client,
}

/// Long enough for a slow machine with all tests at once.
pub const PATIENCE: Duration = Duration::from_secs(200);

impl Client {
    /// A client of the API at `base`, without a trailing slash.
    pub fn new(base: &str, key: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { base: base.to_owned(), key: key.to_owned(), http }
    }

    /// The same API with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A request to a path under the base, with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    /// A request without a key.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Status and body of a GET under `/api/v1`.
    pub async fn try_get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, &format!("/api/v1{path}")).send().await.unwrap()).await
    }

    /// Status and body of a POST of JSON under `/api/v1`.
    pub async fn try_post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, &format!("/api/v1{path}")).json(body).send().await.unwrap()).await
    }

    /// The body of a GET that must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.try_get(path).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// The body of a POST that must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(path, body).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// The body of a POST without one that must succeed.
    pub async fn post_empty(&self, path: String) -> Value {
        let request = self.request(Method::POST, &format!("/api/v1{path}"));
        let (status, body) = answer(request.send().await.unwrap()).await;
        assert!(status.is_success(), "POST {path}: {status} {body}");
        body
    }

    /// Uploads a file by tus in one request; gives the upload's id.
    pub async fn upload(&self, path: &Path) -> String {
        let bytes = std::fs::read(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let response = self
            .request(Method::POST, "/api/v1/uploads")
            .header("tus-resumable", "1.0.0")
            .header("upload-length", bytes.len())
            .header("upload-metadata", format!("filename {}", STANDARD.encode(name.as_bytes())))
            .header("content-type", "application/offset+octet-stream")
            .body(bytes)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::CREATED, "upload of {}", path.display());
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        location.rsplit('/').next().unwrap().to_owned()
    }

    /// Uploads a file and submits a transcode of it, which is done even if the same was done before; gives the job.
    pub async fn submit(&self, path: &Path, profile: &Value) -> Value {
        let upload = self.upload(path).await;
        self.post(
            "/jobs",
            &json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": profile, "force": true }),
        )
        .await
    }

    /// Waits until a job is over, however it ends.
    pub async fn wait_for(&self, job: &str) -> Value {
        let path = format!("/jobs/{job}");
        until(&format!("job {job}"), PATIENCE, || async {
            let job = self.get(&path).await;
            matches!(job["status"].as_str().unwrap(), "succeeded" | "failed" | "cancelled").then_some(job)
        })
        .await
    }

    /// Transcodes a file and gives the recording, which must become ready.
    pub async fn transcode(&self, path: &Path, profile: &Value) -> Value {
        let job = self.submit(path, profile).await;
        let job = self.wait_for(job["id"].as_str().unwrap()).await;
        assert_eq!(job["status"], "succeeded", "{}: {}", path.display(), job["error"]);
        let recording = self.get(&format!("/recordings/{}", job["recording_id"].as_str().unwrap())).await;
        assert_eq!(recording["status"], "ready");
        recording
    }

    /// Absolute URL of a recording's master playlist for viewers.
    pub async fn play_url(&self, recording: &str) -> String {
        let token = self.post(&format!("/recordings/{recording}/playback-token"), &json!({})).await;
        token["hls_url"].as_str().unwrap().to_owned()
    }

    /// The text behind an absolute URL, without a key.
    pub async fn text(&self, url: &str) -> String {
        String::from_utf8(self.bytes(url).await).unwrap()
    }

    /// The bytes behind an absolute URL, without a key.
    pub async fn bytes(&self, url: &str) -> Vec<u8> {
        let response = self.http.get(url).send().await.unwrap();
        assert!(response.status().is_success(), "{url}: {}", response.status());
        response.bytes().await.unwrap().to_vec()
    }
}

async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
