//! A request's body, read with a look ahead.

use std::fmt::Display;

use bytes::Bytes;
use futures::{Stream, StreamExt};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Bytes,
    /// The body ended as it should.
    End,
    /// The connection broke.
    Broken,
}

/// A body of which some bytes may have been read but not taken.
pub(super) struct Incoming<S> {
    body: S,
    /// Never empty while more is to come.
    next: Bytes,
    over: Option<Ahead>,
}

impl<S, E> Incoming<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Display,
{
    pub(super) fn new(body: S) -> Self {
        Self { body, next: Bytes::new(), over: None }
    }

    /// Waits until it is known what comes next.
    pub(super) async fn ahead(&mut self) -> Ahead {
        loop {
            if !self.next.is_empty() {
                return Ahead::Bytes;
            }
            if let Some(over) = self.over {
                return over;
            }
            match self.body.next().await {
                Some(Ok(chunk)) => self.next = chunk,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a body broke off");
                    self.over = Some(Ahead::Broken);
                }
                None => self.over = Some(Ahead::End),
            }
        }
    }

    /// The next bytes, `most` at most; `None` where no more come.
    pub(super) async fn take(&mut self, most: u64) -> Option<Bytes> {
        if self.ahead().await != Ahead::Bytes {
            return None;
        }
        let length = usize::try_from(most).map_or(self.next.len(), |most| most.min(self.next.len()));
        Some(self.next.split_to(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(
        chunks: Vec<Result<&'static str, &'static str>>,
    ) -> impl Stream<Item = Result<Bytes, &'static str>> + Unpin {
        futures::stream::iter(chunks.into_iter().map(|chunk| chunk.map(Bytes::from)))
    }

    #[tokio::test]
    async fn bytes_are_taken_as_there_is_room() {
        let mut incoming = Incoming::new(body(vec![Ok("abc"), Ok(""), Ok("de")]));
        assert_eq!(incoming.take(2).await.unwrap(), "ab");
        assert_eq!(incoming.ahead().await, Ahead::Bytes);
        assert_eq!(incoming.take(9).await.unwrap(), "c");
        assert_eq!(incoming.take(9).await.unwrap(), "de");
        assert_eq!((incoming.take(9).await, incoming.ahead().await), (None, Ahead::End));
    }

    #[tokio::test]
    async fn a_break_is_no_end() {
        let mut incoming = Incoming::new(body(vec![Ok("a"), Err("reset"), Ok("b")]));
        assert_eq!(incoming.take(9).await.unwrap(), "a");
        assert_eq!((incoming.take(9).await, incoming.ahead().await), (None, Ahead::Broken));
    }
}
