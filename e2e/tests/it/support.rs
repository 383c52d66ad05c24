//! What the tests of the front door share.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use reelmill_testkit::farm::binary;
use reelmill_testkit::{Client, Farm};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The text of a field that must be there.
pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is no text in {value}"))
}

/// Status, headers and JSON (or text) of an answer.
pub async fn answer(request: RequestBuilder) -> (StatusCode, HeaderMap, Value) {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> (StatusCode, HeaderMap, Value) {
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, headers, body)
}

/// A header that must be there, as text.
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).unwrap_or_else(|| panic!("no header {name} in {headers:?}")).to_str().unwrap()
}

/// Checks that an answer is a problem document of this status and kind, with nothing internal in it.
pub fn is_problem(answer: &(StatusCode, HeaderMap, Value), status: u16, kind: &str) {
    let (found, headers, body) = answer;
    assert_eq!(found.as_u16(), status, "{body}");
    assert_eq!(header(headers, "content-type"), "application/problem+json", "{body}");
    assert_eq!(text(body, "type"), format!("/problems/{kind}"), "{body}");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(text(body, "request_id"), header(headers, "x-request-id"));
    assert!(!text(body, "detail").is_empty() && !text(body, "title").is_empty(), "{body}");
}

/// The JSON pointers a validation problem names, in order.
pub fn pointers(body: &Value) -> Vec<&str> {
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors[] in {body}"));
    errors
        .iter()
        .map(|error| {
            assert!(!text(error, "detail").is_empty(), "{body}");
            text(error, "pointer")
        })
        .collect()
}

/// A client with a new key.
pub async fn client_with(client: &Client, project: Option<&str>, scopes: &[&str]) -> Client {
    let body = json!({ "name": "test", "scopes": scopes, "project": project });
    let key = client.post("/keys", &body).await;
    client.with_key(text(&key, "secret"))
}

/// A POST of JSON under `/api/v1` with an `Idempotency-Key`.
pub fn post_once(client: &Client, path: &str, key: &str, body: &Value) -> RequestBuilder {
    client.request(Method::POST, &format!("/api/v1{path}")).header("idempotency-key", key).json(body)
}

/// The directory a farm keeps its objects in.
pub fn objects_dir(farm: &Farm) -> PathBuf {
    farm.dir.path().join("objects")
}

/// All files under a directory.
pub fn files_under(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => dirs.push(path),
                path => found.push(path),
            }
        }
    }
    found
}

/// Holds a farm's workers still while something is looked at that they would finish.
pub struct Paused<'f>(&'f Farm);

impl<'f> Paused<'f> {
    pub fn workers(farm: &'f Farm) -> Self {
        Self::signal(farm, Signal::SIGSTOP);
        Self(farm)
    }

    fn signal(farm: &Farm, signal: Signal) {
        let workers =
            farm.processes.iter().filter(|process| process.part == reelmill_testkit::farm::Part::Worker);
        workers.for_each(|worker| worker.signal(signal));
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        Self::signal(self.0, Signal::SIGCONT);
    }
}

/// A small web server that answers each path in its own way, and counts.
pub struct Site {
    pub base: String,
    pub hits: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

/// What a [`Site`] answers.
#[derive(Clone)]
pub enum Page {
    Bytes(Vec<u8>),
    Status(u16),
    Redirect(String),
}

impl Site {
    /// Serves `pages` on this address of the machine.
    pub async fn start(address: &str, pages: Vec<(&'static str, Page)>) -> Self {
        Self::answering(address, move |path| {
            pages.iter().find(|(name, _)| *name == path).map_or(Page::Status(404), |(_, page)| page.clone())
        })
        .await
    }

    /// Serves what `answer` gives for a path; the query is cut off.
    pub async fn answering(address: &str, answer: impl Fn(&str) -> Page + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let hits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&hits);
        let serving = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut head = vec![];
                    while !head.ends_with(b"\r\n\r\n") {
                        match socket.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head);
                    // What is left unread is taken for a mishap by whoever sent it.
                    let length = head.to_lowercase().split("content-length: ").nth(1).map_or(0, |rest| {
                        rest.split_whitespace().next().and_then(|length| length.parse().ok()).unwrap_or(0)
                    });
                    let mut body = vec![0; length];
                    let _ = socket.read_exact(&mut body).await;
                    let path = head.split([' ', '?']).nth(1).unwrap_or_default();
                    let (line, body) = match answer(path) {
                        Page::Bytes(bytes) => ("200 OK".to_owned(), bytes),
                        Page::Status(status) => (format!("{status} Status"), vec![]),
                        Page::Redirect(to) => (format!("302 Found\r\nLocation: {to}"), vec![]),
                    };
                    let head = format!(
                        "HTTP/1.1 {line}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    // Whoever asked may have heard enough.
                    let _ = socket.write_all(head.as_bytes()).await;
                    let _ = socket.write_all(&body).await;
                });
            }
        });
        Self { base, hits, serving }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A client command's output.
pub(crate) async fn reelmill(farm: &Farm, args: &[&str]) -> String {
    let output = tokio::process::Command::new(binary("reelmill"))
        .env("REELMILL_SERVER", &farm.client.base)
        .env("REELMILL_KEY", &farm.client.key)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
