//! Files on their way in. What arrives in one request becomes one object, a piece (several where the store limits them); a
//! broken connection leaves a shorter piece, and nothing is ever copied together. Any api process can take the next one.

mod checksum;
mod incoming;

use std::fmt::Display;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::Stream;
use reelmill_shared::db::sources::Piece;
use reelmill_shared::db::uploads::{self, Appended, NewPiece, Upload};
use reelmill_shared::storage::{StorageError, Writer, keys};

pub(crate) use self::checksum::Checksum;
use self::checksum::Digests;
use self::incoming::{Ahead, Incoming};
use crate::auth::Caller;
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;

/// "Checksum mismatch", a status of tus' own.
const CHECKSUM_MISMATCH: u16 = 460;

/// What a request's bytes must be to be kept.
#[derive(Debug)]
pub(crate) enum Terms {
    /// Whatever arrives stays, also of a request that breaks off.
    Any,
    /// The whole request or nothing.
    Whole,
    /// The same, and its bytes must hash to this.
    Checked(Checksum),
}

/// Takes the bytes of one request in, at the end of an upload.
pub(crate) async fn receive<S, E>(app: &App, mut upload: Upload, body: S, terms: &Terms) -> Answer<Upload>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Display,
{
    let limit = upload.length.unwrap_or(app.config.upload_max_bytes);
    let mut incoming = Incoming::new(body);
    if let (Terms::Checked(checksum), Ahead::End) = (terms, incoming.ahead().await) {
        checksum_holds(checksum, &Digests::new(terms))?;
    }
    loop {
        match incoming.ahead().await {
            Ahead::Bytes if upload.received < limit => {}
            Ahead::Bytes => return Err(too_long(limit)),
            Ahead::Broken => return Err(broken_off(&upload)),
            // Where the length was told after the last byte, this is the end of it.
            Ahead::End => return Ok(uploads::complete(&app.db, upload).await?),
        }
        let most = match terms {
            Terms::Any => (limit - upload.received).min(app.storage.piece_limit()),
            Terms::Whole | Terms::Checked(_) => limit - upload.received,
        };
        let mut piece = Arriving::begin(app, &upload, terms).await?;
        let filled = piece.fill(&mut incoming, most).await;
        let after = incoming.ahead().await;
        let kept =
            filled.map_err(Problem::from).and_then(|()| acceptable(terms, &piece, after, &upload, limit));
        if let Err(problem) = kept {
            piece.abort().await;
            return Err(problem);
        }
        upload = append(app, &upload, piece.finish(upload.received).await?).await?;
    }
}

/// Stores a whole file of unknown length as an upload of its own: the file field of a form.
pub(crate) async fn store_whole<S, E>(app: &App, caller: &Caller, name: &str, body: S) -> Answer<Upload>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Display,
{
    let metadata = format!("filename {}", STANDARD.encode(name));
    let upload = uploads::insert(&app.db, caller.project_id, None, &metadata).await?;
    let id = upload.id;
    let mut upload = match receive(app, upload, body, &Terms::Whole).await {
        Ok(upload) => upload,
        Err(problem) => {
            // Nobody knows its id, so nobody can go on with it.
            uploads::delete(&app.db, caller.project_id, id).await?;
            return Err(problem);
        }
    };
    uploads::set_length(&app.db, id, upload.received).await?;
    upload.length = Some(upload.received);
    Ok(uploads::complete(&app.db, upload).await?)
}

/// A piece that is being written.
struct Arriving {
    key: String,
    writer: Writer,
    bytes: u64,
    digests: Digests,
}

impl Arriving {
    async fn begin(app: &App, upload: &Upload, terms: &Terms) -> Result<Self, StorageError> {
        let key = keys::upload_piece(upload.project_id, upload.id, upload.received);
        Ok(Self { writer: app.storage.writer(&key).await?, key, bytes: 0, digests: Digests::new(terms) })
    }

    /// Writes what comes until `most` bytes are there or no more comes.
    async fn fill<S, E>(&mut self, incoming: &mut Incoming<S>, most: u64) -> Result<(), StorageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Display,
    {
        while self.bytes < most
            && let Some(chunk) = incoming.take(most - self.bytes).await
        {
            self.bytes += chunk.len() as u64;
            self.digests.update(&chunk);
            self.writer.write(chunk).await?;
        }
        Ok(())
    }

    async fn finish(self, start: u64) -> Result<NewPiece, StorageError> {
        self.writer.finish().await?;
        Ok(NewPiece {
            start,
            piece: Piece { key: self.key, bytes: self.bytes },
            sha256: self.digests.sha256(),
        })
    }

    async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(%error, key = self.key, "a piece that is not kept could not be given up");
        }
    }
}

/// May a piece be kept, seen what comes after it?
fn acceptable(terms: &Terms, piece: &Arriving, after: Ahead, upload: &Upload, limit: u64) -> Answer<()> {
    match (terms, after) {
        (Terms::Any, _) | (Terms::Whole, Ahead::End) => Ok(()),
        (_, Ahead::Bytes) => Err(too_long(limit)),
        (_, Ahead::Broken) => Err(broken_off(upload)),
        (Terms::Checked(checksum), Ahead::End) => checksum_holds(checksum, &piece.digests),
    }
}

/// Puts a piece into the rows, unless somebody else's stands there already.
async fn append(app: &App, upload: &Upload, piece: NewPiece) -> Answer<Upload> {
    match uploads::append(&app.db, upload.id, &piece).await? {
        Appended::Accepted(now) => Ok(now),
        Appended::Conflict => {
            app.storage.delete(&piece.piece.key).await?;
            Err(Problem::new(Kind::Conflict, "somebody else is sending to this upload"))
        }
    }
}

fn checksum_holds(checksum: &Checksum, digests: &Digests) -> Answer<()> {
    if digests.are(checksum) {
        return Ok(());
    }
    Err(Problem::new(Kind::Malformed, "the checksum does not match").with_status(CHECKSUM_MISMATCH))
}

fn too_long(limit: u64) -> Problem {
    Problem::new(
        Kind::PayloadTooLarge,
        format!("the body is longer than the {limit} bytes announced or allowed"),
    )
}

fn broken_off(upload: &Upload) -> Problem {
    tracing::info!(upload_id = %upload.id, received = upload.received, "an upload broke off; it can go on");
    Problem::new(Kind::Malformed, "the connection broke off")
}
