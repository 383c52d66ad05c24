//! Somebody else's WebSocket, which reads what ours sends.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reelmill_testkit::Client;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::live::PATIENCE;

/// Bytes that a connection holds for somebody who does not read.
const UNREAD: u32 = 32 << 10;

/// See above.
pub struct Peer(WebSocketStream<TcpStream>);

/// What came.
#[derive(Debug)]
pub enum Came {
    Frame(Frame),
    /// Code and reason.
    Closed(u16, String),
}

/// A message that carries media, or tells of some.
#[derive(Debug)]
pub struct Frame {
    pub header: Value,
    pub media: Vec<u8>,
}

impl Frame {
    pub fn is(&self, kind: &str) -> bool {
        self.header["type"] == kind
    }

    pub fn text(&self, field: &str) -> &str {
        self.header[field].as_str().unwrap_or_default()
    }

    pub fn sequence(&self) -> u64 {
        self.header["sequence"].as_u64().unwrap_or_else(|| panic!("no sequence in {}", self.header))
    }
}

impl Peer {
    /// With the client's key; the status where that is refused.
    pub async fn with_key(client: &Client, path: &str) -> Result<Self, u16> {
        let mut request = request(&format!("{}/api/v1{path}", client.base));
        let key = format!("Bearer {}", client.key).parse().unwrap();
        request.headers_mut().insert("authorization", key);
        Self::open(request).await
    }

    /// Without one, as a page of another site does it.
    pub async fn viewer(url: &str) -> Result<Self, u16> {
        let mut request = request(url);
        request.headers_mut().insert("origin", "https://elsewhere.test".parse().unwrap());
        Self::open(request).await
    }

    /// With a session of ours, from a page of the site `origin`.
    pub async fn with_session(url: &str, cookie: &str, origin: &str) -> Result<Self, u16> {
        let mut request = request(url);
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        Self::open(request).await
    }

    async fn open(request: Request) -> Result<Self, u16> {
        let authority = request.uri().authority().unwrap().to_string();
        let address = lookup_host(authority).await.unwrap().next().unwrap();
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.set_recv_buffer_size(UNREAD).unwrap();
        let stream = socket.connect(address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn say(&mut self, told: Value) {
        self.0.send(Message::text(told.to_string())).await.unwrap();
    }

    pub async fn next(&mut self) -> Came {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("something to come")
    }

    async fn read(&mut self) -> Came {
        loop {
            match self.0.next().await.expect("a goodbye").unwrap() {
                Message::Binary(bytes) => {
                    let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
                    let (header, media) = rest.split_at(u32::from_be_bytes(*length) as usize);
                    let header = serde_json::from_slice(header).unwrap();
                    return Came::Frame(Frame { header, media: media.to_vec() });
                }
                Message::Close(frame) => {
                    let frame = frame.expect("a code");
                    return Came::Closed(frame.code.into(), frame.reason.to_string());
                }
                _ => {}
            }
        }
    }

    /// The next message; it must not close.
    pub async fn frame(&mut self) -> Frame {
        match self.next().await {
            Came::Frame(frame) => frame,
            Came::Closed(code, reason) => panic!("closed with {code}: {reason}"),
        }
    }

    /// The next message that is looked for, and those before it.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> (Frame, Vec<Frame>) {
        let mut before = vec![];
        loop {
            let frame = self.frame().await;
            if wanted(&frame) {
                return (frame, before);
            }
            before.push(frame);
        }
    }

    /// All there is until it closes, and how it does.
    pub async fn rest(&mut self) -> (Vec<Frame>, u16) {
        let mut all = vec![];
        loop {
            match self.next().await {
                Came::Frame(frame) => all.push(frame),
                Came::Closed(code, _) => return (all, code),
            }
        }
    }

    /// Reads at most so many bytes a second, until something comes that is looked for.
    pub async fn slowly(&mut self, rate: usize, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.frame().await;
            if wanted(&frame) {
                return frame;
            }
            tokio::time::sleep(Duration::from_secs_f64(frame.media.len() as f64 / rate as f64)).await;
        }
    }
}

fn request(url: &str) -> Request {
    let url = if url.starts_with("http") { url.replacen("http", "ws", 1) } else { url.to_owned() };
    url.into_client_request().unwrap()
}
