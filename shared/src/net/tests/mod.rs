//! The guarded client against a server that misbehaves on purpose: plain TCP, so that it can say anything.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::*;

mod addresses;
mod exchanges;

/// What the server does once it has read a request.
#[derive(Clone)]
enum Does {
    /// Says this, then closes.
    Says(String),
    /// Says this, then waits for ever without closing.
    Hangs(String),
    /// Says this, then this piece again and again, with a pause in between.
    Repeats(String, Vec<u8>, Duration),
}

struct Server {
    addr: SocketAddr,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(paths: impl FnOnce(SocketAddr) -> Vec<(&'static str, Does)>) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, paths).await
    }

    async fn start_on(ip: Ipv4Addr, paths: impl FnOnce(SocketAddr) -> Vec<(&'static str, Does)>) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let paths: Arc<HashMap<_, _>> = Arc::new(paths(addr).into_iter().collect());
        let (requests, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let server = Self { addr, requests: Arc::clone(&requests), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&paths), Arc::clone(&requests)));
            }
        });
        server
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.addr).parse().unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    paths: Arc<HashMap<&'static str, Does>>,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !complete(&request) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(request);
    match paths.get(path.as_str()).cloned().unwrap_or(Does::Says(answer(
        "404 Not Found",
        "",
        "no such path\n",
    ))) {
        Does::Says(text) => stream.write_all(text.as_bytes()).await?,
        Does::Hangs(text) => {
            stream.write_all(text.as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Does::Repeats(text, piece, pause) => {
            stream.write_all(text.as_bytes()).await?;
            loop {
                stream.write_all(&piece).await?;
                tokio::time::sleep(pause).await;
            }
        }
    }
    stream.shutdown().await
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn redirect(to: &str) -> Does {
    Does::Says(answer("302 Found", &format!("Location: {to}\r\n"), ""))
}

const OPEN_ENDED: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        total: Duration::from_secs(20),
        max_bytes: 100_000,
        max_redirects: 5,
    }
}

/// A client for which this machine's first loopback address, and only that, is open.
fn local(limits: Limits) -> GuardedClient {
    GuardedClient::new("127.0.0.1".parse().unwrap(), limits).unwrap()
}

fn guarded() -> GuardedClient {
    GuardedClient::new(NetPolicy::default(), limits()).unwrap()
}

async fn fetch(client: &GuardedClient, url: &Url) -> Result<Bytes, NetError> {
    client.get(url, HeaderMap::new()).await?.bytes().await
}

fn headers<const N: usize>(pairs: [(&'static str, &'static str); N]) -> HeaderMap {
    let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.into_iter().map(pair).collect()
}
