//! A PES packet's body as the places where its bytes lie, so that they are copied once: into the packets.

use super::elementary::ADTS_HEADER;

/// Bytes that follow each other.
#[derive(Debug, Default)]
pub(super) struct Pieces<'a> {
    all: Vec<Piece<'a>>,
    len: usize,
}

#[derive(Debug)]
enum Piece<'a> {
    Lent(&'a [u8]),
    Adts([u8; ADTS_HEADER]),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Adts(bytes) => bytes,
        }
    }
}

impl<'a> Pieces<'a> {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.len = 0;
    }

    pub(super) fn push(&mut self, bytes: &'a [u8]) {
        self.len += bytes.len();
        self.all.push(Piece::Lent(bytes));
    }

    pub(super) fn push_adts(&mut self, header: [u8; ADTS_HEADER]) {
        self.len += header.len();
        self.all.push(Piece::Adts(header));
    }

    /// Bytes of all of them.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What stands there, from the beginning.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(Piece::bytes)
    }
}

/// Copies `count` bytes of slices that follow each other; where one ends within them, the next call goes on in it.
pub(super) struct Copying<'a, I> {
    now: &'a [u8],
    later: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Copying<'a, I> {
    pub(super) fn new(first: &'a [u8], later: I) -> Self {
        Self { now: first, later }
    }

    /// Appends the next `count` bytes, or fewer where there are no more.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, count: usize) {
        let mut left = count;
        while left > 0 {
            if self.now.is_empty() {
                let Some(next) = self.later.next() else { return };
                self.now = next;
            }
            let (now, rest) = self.now.split_at(left.min(self.now.len()));
            out.extend_from_slice(now);
            (self.now, left) = (rest, left - now.len());
        }
    }
}
