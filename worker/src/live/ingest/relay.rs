//! A way to one address and no other: FFmpeg connects here, and what it says goes to an address that was checked. A server that sends
//! it elsewhere is not heard: a redirection would lead past the check.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const CONNECT: Duration = Duration::from_secs(10);
/// How an answer begins that sends its reader elsewhere (RFC 2326, section 11.3).
const ELSEWHERE: &[u8] = b"RTSP/1.0 3";

/// Listens on loopback until `stop`, and joins whoever comes with `target`. Gives the address.
pub(super) async fn open(target: SocketAddr, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let socket = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((socket, _)) = socket else { return };
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    result = join(socket, target) => if let Err(error) = result {
                        tracing::debug!(%error, "the way to a camera ended");
                    },
                    () = stop.cancelled() => {}
                }
            });
        }
    });
    Ok(address)
}

async fn join(near: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let far = timeout(CONNECT, TcpStream::connect(target)).await??;
    let (mut near_in, mut near_out) = near.into_split();
    let (far_in, mut far_out) = far.into_split();
    tokio::select! {
        asked = tokio::io::copy(&mut near_in, &mut far_out) => asked.map(|_| ()),
        answered = hear(far_in, &mut near_out) => answered,
    }
}

/// Hands on what a server says, up to a redirection.
async fn hear(mut from: impl AsyncRead + Unpin, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut said: Vec<u8> = vec![];
    loop {
        let count = from.read(&mut buffer).await?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return Ok(());
        }
        // The words may lie over two pieces.
        said.extend_from_slice(piece);
        if said.windows(ELSEWHERE.len()).any(|words| words == ELSEWHERE) {
            return Err(std::io::Error::other("it wants to be looked for elsewhere"));
        }
        said.drain(..said.len().saturating_sub(ELSEWHERE.len() - 1));
        to.write_all(piece).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_redirection_is_not_heard() {
        let heard = async |said: &[&[u8]]| {
            let (mut server, relay) = tokio::io::duplex(1024);
            let mut out = vec![];
            let speaking = async {
                for piece in said {
                    server.write_all(piece).await.unwrap();
                    server.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(server);
            };
            let (_, result) = tokio::join!(speaking, hear(relay, &mut out));
            (out, result.is_ok())
        };
        let fine: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n";
        assert_eq!(heard(&[fine]).await, (fine.to_vec(), true));
        let (out, ended_well) =
            heard(&[fine, b"RTSP/1", b".0 302 Found\r\nLocation: rtsp://10.0.0.1/\r\n\r\n"]).await;
        assert!(!ended_well && !out.windows(8).any(|words| words == b"Location"), "{out:?}");
    }

    #[tokio::test]
    async fn both_ways_lead_to_the_address_that_was_checked() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stop = CancellationToken::new();
        let address = open(server.local_addr().unwrap(), stop.clone()).await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"OPTIONS").await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        let mut asked = [0; 7];
        far.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"OPTIONS");
        far.write_all(b"fine").await.unwrap();
        let mut answered = [0; 4];
        client.read_exact(&mut answered).await.unwrap();
        assert_eq!(&answered, b"fine");
        stop.cancel();
        assert_eq!(client.read(&mut answered).await.unwrap_or(0), 0);
    }
}
