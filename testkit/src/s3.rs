//! An S3 endpoint over a directory, which can be made to fail.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bucket that is there from the start.
pub const BUCKET: &str = "media";
const ACCESS_KEY: &str = "reelmill-test";
const SECRET_KEY: &str = "reelmill-test-secret";

/// What an endpoint does instead of its duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Answers 500.
    Error,
    /// Takes a second for each answer.
    Slow,
    /// Begins its answers well, and ends the connection in the middle of those that are not short.
    Reset,
}

/// Bytes that pass before [`Trouble::Reset`].
const PASSES: usize = 12_000;

/// A running endpoint; ends when dropped.
pub struct S3Server {
    pub endpoint: String,
    trouble: Arc<watch::Sender<Option<Trouble>>>,
    felt: Arc<AtomicU32>,
    serving: JoinHandle<()>,
}

impl S3Server {
    /// Serves `root` on a free port.
    pub async fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root.join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let trouble = Arc::new(watch::Sender::new(None));
        let felt = Arc::new(AtomicU32::new(0));
        let (has, counted) = (Arc::clone(&trouble), Arc::clone(&felt));
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, has, felt) = (service.clone(), Arc::clone(&has), Arc::clone(&counted));
                tokio::spawn(async move {
                    let socket =
                        Socket { socket, trouble: has.subscribe(), felt: Arc::clone(&felt), sent: 0 };
                    let answer = service_fn(move |request: Request<Incoming>| {
                        let (service, trouble) = (service.clone(), *has.borrow());
                        if matches!(trouble, Some(Trouble::Error | Trouble::Slow)) {
                            felt.fetch_add(1, Ordering::SeqCst);
                        }
                        async move {
                            match trouble {
                                Some(Trouble::Error) => {
                                    let mut response = Response::new(s3s::Body::empty());
                                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                                    return Ok(response);
                                }
                                Some(Trouble::Slow) => tokio::time::sleep(Duration::from_secs(1)).await,
                                Some(Trouble::Reset) | None => {}
                            }
                            service.call(request.map(s3s::Body::from)).await
                        }
                    });
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { endpoint, trouble, felt, serving }
    }

    /// From now on; `None` for no trouble.
    pub fn set(&self, trouble: Option<Trouble>) {
        self.trouble.send_replace(trouble);
    }

    /// How many requests or connections there was trouble with so far.
    pub fn felt(&self) -> u32 {
        self.felt.load(Ordering::SeqCst)
    }

    /// Variables that point a process at this endpoint.
    pub fn variables(&self) -> Vec<(String, String)> {
        [
            ("REELMILL_STORAGE_URL", format!("s3://{BUCKET}/farm")),
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A connection that breaks off while there is [`Trouble::Reset`].
struct Socket {
    socket: TcpStream,
    trouble: watch::Receiver<Option<Trouble>>,
    felt: Arc<AtomicU32>,
    /// Bytes sent since the trouble began.
    sent: usize,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut most = bytes.len();
        if *self.trouble.borrow() == Some(Trouble::Reset) {
            most = most.min(PASSES.saturating_sub(self.sent));
            if most == 0 {
                self.felt.fetch_add(1, Ordering::SeqCst);
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        } else {
            self.sent = 0;
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, &bytes[..most]);
        if let Poll::Ready(Ok(written)) = &written {
            self.sent += written;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
