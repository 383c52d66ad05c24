//! Session ids that are given to viewers: signed, so that nobody makes up viewers, each its own, and good for one thing.

use chrono::DateTime;
use reelmill_shared::auth::token::{Purpose, TokenError};
use reelmill_shared::db::viewers::Watched;

use crate::dto::viewing::WatchSessionDto;
use crate::problem::{Answer, Kind, Problem};
use crate::state::{App, now};

/// Whoever watches for longer asks for another.
const LIFETIME: u64 = 24 * 3600;

fn purpose(watched: Watched) -> Purpose {
    match watched {
        Watched::Livestream(_) => Purpose::WatchLivestream,
        Watched::Recording(_) => Purpose::WatchRecording,
    }
}

/// A new session of somebody who watches this.
pub(crate) fn give(app: &App, watched: Watched) -> WatchSessionDto {
    let expires = now() + LIFETIME;
    WatchSessionDto {
        session_id: app.signer().sign_unique(purpose(watched), watched.id(), expires),
        expires_at: DateTime::from_timestamp(expires as i64, 0).unwrap_or_default(),
    }
}

/// Refuses what was not given for this.
pub(crate) fn check(app: &App, watched: Watched, id: &str) -> Answer<()> {
    let refused = |detail: &str| Err(Problem::new(Kind::BadToken, detail));
    match app.signer().verify_unique(purpose(watched), id, now()) {
        Ok(given) if given.subject == watched.id() => Ok(()),
        Ok(_) => refused("the session_id is for something else"),
        Err(TokenError::Expired) => refused("the session has ended; ask for another"),
        Err(TokenError::Invalid) => refused("the session_id is not one that was given out for this"),
    }
}

/// The same, where players may choose names of their own: those are let through.
pub(crate) fn check_given(app: &App, watched: Watched, id: &str) -> Answer<()> {
    let given = |purpose| app.signer().verify_unique(purpose, id, now()) != Err(TokenError::Invalid);
    let is_ours = [Purpose::WatchLivestream, Purpose::WatchRecording].into_iter().any(given);
    if is_ours { check(app, watched, id) } else { Ok(()) }
}
