//! The socket: HTTP/1.1 and HTTP/2 on the same port, in clear (a proxy may speak HTTP/2 without TLS) or by TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use reelmill_shared::config::TlsConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long open requests may go on after a signal.
const DRAIN: Duration = Duration::from_secs(10);
/// A connection on which nothing comes for so long after it was made is closed.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// So is one of HTTP/1.1 without a whole request head for so long, be it that none begins.
const NEXT_HEAD: Duration = Duration::from_secs(75);
/// HTTP/2 connections are asked whether anybody is there this often, and closed when nobody answers for as long.
const PING: Duration = Duration::from_secs(20);
/// Requests at once on one HTTP/2 connection. A player has few under way; a proxy opens more connections.
const STREAMS: u32 = 256;
/// How often it is looked whether there is a newer certificate.
const RENEWAL: Duration = Duration::from_secs(60);

/// Serves `router` until `shutdown`, then lets open requests end for ten seconds.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsConfig>,
    router: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let handle = Handle::new();
    let mut server = axum_server::Server::<SocketAddr>::from_listener(listener).handle(handle.clone());
    let http = server.http_builder();
    http.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let ending = shutdown.clone();
    tokio::spawn(async move {
        ending.cancelled().await;
        handle.graceful_shutdown(Some(DRAIN));
    });
    match tls {
        None => server.acceptor(Spoken).serve(service).await?,
        Some(tls) => {
            let config = RustlsConfig::from_pem_file(&tls.cert, &tls.key)
                .await
                .with_context(|| format!("reading {} and {}", tls.cert.display(), tls.key.display()))?;
            let renewing = tokio::spawn(renew(tls, config.clone(), shutdown));
            server.acceptor(RustlsAcceptor::new(config).acceptor(Spoken)).serve(service).await?;
            renewing.abort();
        }
    }
    Ok(())
}

/// Takes connections on which something comes soon: whoever opens many and says nothing should not hold them.
#[derive(Clone)]
struct Spoken;

impl<S: Send + 'static> Accept<TcpStream, S> for Spoken {
    type Stream = TcpStream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(TcpStream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        Box::pin(async move {
            // A part of a live stream is small, and late if it waits for more to fill a packet with.
            stream.set_nodelay(true)?;
            tokio::time::timeout(FIRST_BYTE, stream.peek(&mut [0])).await??;
            Ok((stream, service))
        })
    }
}

/// Reads the certificate again when its file has changed: those that are renewed by themselves live for weeks, an api for longer.
async fn renew(tls: TlsConfig, config: RustlsConfig, shutdown: CancellationToken) {
    let mut known = changed(&tls).await;
    while shutdown.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_some() {
        let now = changed(&tls).await;
        if now == known {
            continue;
        }
        match config.reload_from_pem_file(&tls.cert, &tls.key).await {
            Ok(()) => {
                tracing::info!(certificate = %tls.cert.display(), "a new certificate is in use");
                known = now;
            }
            // The key may not have been written yet; the old pair goes on.
            Err(error) => {
                tracing::warn!(%error, certificate = %tls.cert.display(), "a new certificate cannot be used")
            }
        }
    }
}

async fn changed(tls: &TlsConfig) -> [Option<SystemTime>; 2] {
    let at = async |path| tokio::fs::metadata(path).await.and_then(|file| file.modified()).ok();
    [at(&tls.cert).await, at(&tls.key).await]
}
