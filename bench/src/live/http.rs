//! A client of HTTP/1.1 that costs little: thousands of them share the machine with what is measured.

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once.
const PIECE: usize = 64 << 10;
/// The longest head of an answer.
const HEAD: usize = 8 << 10;

/// A connection that is kept, with one request under way at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
}

impl Connection {
    /// To `host`, an address with a port.
    pub(crate) async fn open(host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: host.to_owned() })
    }

    /// Asks for `path`. What is in the answer's body goes to `take`, piece by piece; gives its length in bytes.
    /// Any other status than 200 is an error.
    pub(crate) async fn get(&mut self, path: &str, mut take: impl FnMut(&[u8])) -> anyhow::Result<u64> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        // While nothing comes there is no buffer: most viewers wait most of the time.
        self.stream.readable().await?;
        let mut buffer = vec![0; PIECE];
        let (mut held, mut end) = (0, None);
        while end.is_none() {
            let read = self.stream.read(&mut buffer[held..]).await?;
            if read == 0 || held + read > HEAD && find_end(&buffer[..HEAD]).is_none() {
                bail!("no answer to {path}");
            }
            held += read;
            end = find_end(&buffer[..held]);
        }
        let head_end = end.context("no end of the head")?;
        let length = length(&buffer[..head_end], path)?;
        take(&buffer[head_end..held]);
        let mut left = length.checked_sub((held - head_end) as u64).context("more than was announced")?;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let read = self.stream.read(&mut buffer[..most]).await?;
            if read == 0 {
                bail!("{path} broke off");
            }
            take(&buffer[..read]);
            left -= read as u64;
        }
        Ok(length)
    }

    /// Asks for `path`, and gives its body as text.
    pub(crate) async fn text(&mut self, path: &str) -> anyhow::Result<String> {
        let mut body = vec![];
        self.get(path, |piece| body.extend_from_slice(piece)).await?;
        Ok(String::from_utf8(body)?)
    }
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The length of the body, of an answer of status 200.
fn length(head: &[u8], path: &str) -> anyhow::Result<u64> {
    let head = std::str::from_utf8(head)?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{path}: {}", head.lines().next().unwrap_or_default());
    }
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().with_context(|| format!("{path} has no length"))?;
    Ok(length.trim().parse()?)
}
