//! Who holds a socket here, to be handed what was asked for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reelmill_shared::ids::{SegmentDeliveryId, StreamId};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::segment_deliveries::Wanted;

/// Segments that wait for a socket which sends another one.
const WAITING: usize = 4;

/// A viewer of a stream, by name.
type Name = (StreamId, String);

/// A segment that a socket is to send besides what it plays.
pub(super) struct Push {
    pub(super) delivery: SegmentDeliveryId,
    pub(super) wanted: Wanted,
    /// Is told what came of it; closed where nobody waits for that any more.
    pub(super) done: oneshot::Sender<Result<(), PushError>>,
}

/// Why a segment was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    #[error("the viewer has no WebSocket open")]
    NoSocket,
    #[error("the viewer's WebSocket closed before it was sent")]
    Closed,
    #[error("there is no such segment in what the viewer watches")]
    NoSegment,
    #[error("the segment cannot be had now")]
    Trouble,
}

/// See above.
#[derive(Default)]
pub(super) struct Desk {
    sockets: Arc<Mutex<HashMap<Name, Vec<mpsc::Sender<Push>>>>>,
    pub(super) nudge: Notify,
}

/// A socket's place at the desk, until it is dropped.
pub(super) struct Seat {
    name: Name,
    sockets: Arc<Mutex<HashMap<Name, Vec<mpsc::Sender<Push>>>>>,
    pushes: mpsc::Receiver<Push>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// A viewer of a stream opened a socket.
    pub(super) fn seat(&self, stream: StreamId, viewer: &str) -> Seat {
        let name = (stream, viewer.to_owned());
        let (sender, pushes) = mpsc::channel(WAITING);
        lock(&self.sockets).entry(name.clone()).or_default().push(sender);
        self.nudge.notify_one();
        Seat { name, sockets: Arc::clone(&self.sockets), pushes }
    }

    /// Viewers who hold one.
    pub(super) fn viewers(&self) -> Vec<Name> {
        lock(&self.sockets).keys().cloned().collect()
    }

    /// Has the newest socket of a viewer send a segment, and waits until it did.
    pub(super) async fn push(
        &self,
        stream: StreamId,
        viewer: &str,
        delivery: SegmentDeliveryId,
        wanted: Wanted,
    ) -> Result<(), PushError> {
        let name = (stream, viewer.to_owned());
        let socket = lock(&self.sockets).get(&name).and_then(|all| all.last().cloned());
        let socket = socket.ok_or(PushError::NoSocket)?;
        let (done, outcome) = oneshot::channel();
        socket.send(Push { delivery, wanted, done }).await.map_err(|_| PushError::Closed)?;
        outcome.await.map_err(|_| PushError::Closed)?
    }
}

impl Seat {
    /// What is to be sent next; `None` is never given.
    pub(super) async fn next(&mut self) -> Option<Push> {
        self.pushes.recv().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pushes.close();
        let mut sockets = lock(&self.sockets);
        if let Some(all) = sockets.get_mut(&self.name) {
            all.retain(|sender| !sender.is_closed());
            if all.is_empty() {
                sockets.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted::OnAir { track: "720p".into(), number: 1 }
    }

    #[tokio::test]
    async fn the_newest_socket_gets_it_and_nobody_waits_for_one_that_is_gone() {
        let (desk, stream) = (Desk::default(), StreamId::new());
        let push = || desk.push(stream, "ann", SegmentDeliveryId::new(), wanted());
        assert_eq!(push().await, Err(PushError::NoSocket));
        let older = desk.seat(stream, "ann");
        let mut newer = desk.seat(stream, "ann");
        assert_eq!(desk.viewers(), [(stream, "ann".to_owned())]);
        let taking = async {
            let push = newer.next().await.unwrap();
            push.done.send(Ok(())).unwrap();
        };
        assert_eq!(tokio::join!(push(), taking).0, Ok(()));
        let leaving = async {
            drop(newer.next().await.unwrap());
            drop(newer);
        };
        assert_eq!(tokio::join!(push(), leaving).0, Err(PushError::Closed));
        drop(older);
        assert_eq!((desk.viewers().len(), push().await), (0, Err(PushError::NoSocket)));
    }
}
