//! Named pipes between this worker and FFmpeg.

use std::path::Path;

use bytes::Bytes;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use reelmill_shared::media::cmaf::{CmafError, Demuxer, Event};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A fragment of one frame at the highest rate we allow fits.
const MAX_BOX: usize = 64 << 20;

/// What one output of FFmpeg gave, with its place among the outputs.
pub(crate) type Heard = (usize, Result<Event, CmafError>);

/// Makes a named pipe.
pub(crate) fn make(path: &Path) -> std::io::Result<()> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(std::io::Error::from)
}

/// Opens a pipe that FFmpeg will write to. Opened to be written to as well: it does not end before somebody has begun.
pub(crate) fn receiver(path: &Path) -> std::io::Result<Receiver> {
    OpenOptions::new().read_write(true).open_receiver(path)
}

/// Opens a pipe that FFmpeg will read from; it need not be there yet.
pub(crate) fn sender(path: &Path) -> std::io::Result<Sender> {
    OpenOptions::new().read_write(true).open_sender(path)
}

/// Hands on what FFmpeg writes, as it is, until `ended` and nothing is left.
pub(crate) async fn pour(pipe: Receiver, pieces: mpsc::Sender<Bytes>, ended: CancellationToken) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let over = tokio::select! {
            biased;
            ready = pipe.readable() => ready.is_err(),
            () = ended.cancelled() => true,
        };
        while let Ok(count) = pipe.try_read(&mut buffer) {
            let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if count == 0 || pieces.send(piece).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
    }
}

/// Takes apart what FFmpeg writes, until `ended` and nothing is left.
pub(crate) async fn follow(
    place: usize,
    pipe: Receiver,
    heard: mpsc::Sender<Heard>,
    ended: CancellationToken,
) {
    let mut demuxer = Demuxer::new(MAX_BOX);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let over = tokio::select! {
            // What was written before the end is still there, and is read first.
            biased;
            ready = pipe.readable() => ready.is_err(),
            () = ended.cancelled() => true,
        };
        while let Ok(count) = pipe.try_read(&mut buffer) {
            if count == 0 {
                return;
            }
            demuxer.push(buffer.get(..count).unwrap_or_default());
            loop {
                let event = match demuxer.next() {
                    Ok(Some(event)) => Ok(event),
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                let failed = event.is_err();
                if heard.send((place, event)).await.is_err() || failed {
                    return;
                }
            }
        }
        if over {
            return;
        }
    }
}
