//! A receiver of webhooks that answers as it is told to, and its judge: the `standardwebhooks` library for Python.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reelmill_testkit::wait::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::python::python;

const WAIT: Duration = Duration::from_secs(90);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no {name} in {:?}", self.headers), |(_, value)| value)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }
}

/// What a receiver does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// With these seconds as its `Retry-After`.
    RetryAfter(u16, u64),
    Redirect(String),
    /// Says nothing, ever.
    Hang,
    /// Says 200 and begins a body of 10 GB.
    Endless,
}

/// The receiver.
pub struct Receiver {
    pub base: String,
    received: Arc<Mutex<Vec<Received>>>,
    /// Bytes of endless bodies that were taken.
    pub poured: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

type Answer = dyn Fn(&Received, usize) -> Reply + Send + Sync;

impl Receiver {
    /// Answers each request by `answer`, which is also told how many came to the same path before.
    pub async fn start(answer: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (received, poured) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let (kept, counted, answer) = (Arc::clone(&received), Arc::clone(&poured), Arc::new(answer));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let answer: Arc<Answer> = answer.clone();
                tokio::spawn(serve(socket, answer, Arc::clone(&kept), Arc::clone(&counted)));
            }
        });
        Self { base, received, poured, serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What came to this path so far.
    pub fn at(&self, path: &str) -> Vec<Received> {
        self.received.lock().unwrap().iter().filter(|received| received.path == path).cloned().collect()
    }

    /// Waits until so many came to this path.
    pub async fn wait(&self, path: &str, count: usize) -> Vec<Received> {
        until(&format!("{count} requests at {path}"), WAIT, || async {
            Some(self.at(path)).filter(|received| received.len() >= count)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut socket: TcpStream,
    answer: Arc<Answer>,
    kept: Arc<Mutex<Vec<Received>>>,
    poured: Arc<AtomicU64>,
) {
    let Some(received) = read(&mut socket).await else { return };
    let reply = {
        let mut kept = kept.lock().unwrap();
        let before = kept.iter().filter(|other| other.path == received.path).count();
        let reply = answer(&received, before);
        kept.push(received);
        reply
    };
    let end = "Content-Length: 2\r\nConnection: close\r\n\r\nok";
    let text = match reply {
        Reply::Status(204) => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned(),
        Reply::Status(status) => format!("HTTP/1.1 {status} Status\r\n{end}"),
        Reply::RetryAfter(status, seconds) => {
            format!("HTTP/1.1 {status} Status\r\nRetry-After: {seconds}\r\n{end}")
        }
        Reply::Redirect(to) => format!("HTTP/1.1 307 Moved\r\nLocation: {to}\r\n{end}"),
        Reply::Hang => {
            // Until whoever asked gives up.
            let _ = socket.read(&mut [0]).await;
            return;
        }
        Reply::Endless => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 10_u64 << 30);
            let _ = socket.write_all(head.as_bytes()).await;
            let piece = vec![b'x'; 64 << 10];
            while socket.write_all(&piece).await.is_ok() {
                poured.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
            return;
        }
    };
    // Whoever asked may be gone.
    let _ = socket.write_all(text.as_bytes()).await;
}

async fn read(socket: &mut TcpStream) -> Option<Received> {
    let mut bytes = vec![];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[end..].to_vec()).unwrap();
    Some(Received { path, headers, body, at: Instant::now() })
}

/// Which of these requests the library takes for signed with `secret`.
pub fn judged(secret: &str, requests: &[Received]) -> Vec<bool> {
    let script = "import json, sys\n\
                  from standardwebhooks.webhooks import Webhook, WebhookVerificationError\n\
                  given = json.load(sys.stdin)\n\
                  def good(request):\n\
                  \x20   try:\n\
                  \x20       return Webhook(given['secret']).verify(request['body'], dict(request['headers'])) == json.loads(request['body'])\n\
                  \x20   except WebhookVerificationError:\n\
                  \x20       return False\n\
                  print(json.dumps([good(request) for request in given['requests']]))";
    let requests: Vec<Value> =
        requests.iter().map(|request| json!({ "body": request.body, "headers": request.headers })).collect();
    let given = json!({ "secret": secret, "requests": requests }).to_string();
    let mut child = Command::new(python())
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks that the library takes all of these for signed with `secret`.
pub fn is_signed(secret: &str, requests: &[Received]) {
    assert!(!requests.is_empty());
    assert!(judged(secret, requests).into_iter().all(|good| good), "{requests:?}");
}
