//! The tokens that all viewers of something share: given out, looked at, taken back.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reelmill_shared::auth::token::{Purpose, TokenError, Verified};
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::{DbError, revocations};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::problem::{Answer, Kind, Problem};
use crate::state::{App, now};

/// How often it is asked what other apis have taken back.
const EVERY: Duration = Duration::from_secs(1);
/// What is asked for is that old: longer than anybody's transaction takes.
const RECENT: Duration = Duration::from_secs(60);

/// How often tokens were taken back, by what they open: in memory, so that no request waits and viewers go on while the database is away.
#[derive(Debug, Default)]
pub(crate) struct Revoked(RwLock<HashMap<Uuid, u32>>);

impl Revoked {
    /// The generation of tokens of something, as far as it is known here.
    pub(crate) fn generation(&self, subject: Uuid) -> u32 {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&subject).copied().unwrap_or_default()
    }

    fn learn(&self, revoked: impl IntoIterator<Item = (Uuid, u32)>) {
        let mut revoked = revoked.into_iter().peekable();
        if revoked.peek().is_none() {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (subject, generation) in revoked {
            let known = known.entry(subject).or_default();
            *known = generation.max(*known);
        }
    }
}

/// Learns all that is taken back; before anybody is let in.
pub(crate) async fn learn(app: &App) -> Result<(), DbError> {
    app.revoked.learn(revocations::recent(&app.db, None).await?);
    Ok(())
}

/// Goes on learning what other apis take back, until `shutdown`.
pub(crate) async fn follow(app: App, shutdown: CancellationToken) {
    let mut whole = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        // After a while without the database, all of it.
        match revocations::recent(&app.db, (!whole).then_some(RECENT)).await {
            Ok(revoked) => {
                app.revoked.learn(revoked);
                whole = false;
            }
            Err(error) => {
                tracing::debug!(%error, "could not read which tokens were taken back");
                whole = true;
            }
        }
    }
}

/// The token that viewers of something share at the moment, and when it ends.
pub(crate) async fn give(app: &App, purpose: Purpose, subject: Uuid) -> (String, DateTime<Utc>) {
    give_for(app, purpose, subject, app.config.token_lifetime).await
}

/// The same, lasting so long at least, and at most twice as long.
pub(crate) async fn give_for(
    app: &App,
    purpose: Purpose,
    subject: Uuid,
    lifetime: Duration,
) -> (String, DateTime<Utc>) {
    // What another api took back a moment ago is not given out again.
    let generation = match revocations::of(&app.db, subject).await {
        Ok(generation) => generation,
        Err(error) => {
            tracing::debug!(%error, "could not read whether tokens were taken back");
            app.revoked.generation(subject)
        }
    };
    let (token, expires) = app.signer().sign_bucketed(purpose, subject, now(), lifetime, generation);
    (token, DateTime::from_timestamp(expires as i64, 0).unwrap_or_default())
}

/// What a token opens.
///
/// # Errors
/// It is forged, mangled, for something else, over, or was taken back.
pub(crate) fn look(app: &App, purpose: Purpose, token: &str) -> Answer<Verified> {
    let refused = |detail: &str| Problem::new(Kind::BadToken, detail);
    // The next generation, too: another api may have given it out a moment ago, and nobody else can.
    let good = |subject| {
        let known = app.revoked.generation(subject);
        known..=known.saturating_add(1)
    };
    app.signer().verify_generation(purpose, token, now(), good).map_err(|error| match error {
        TokenError::Invalid => refused("the playback token is not valid, or was taken back"),
        TokenError::Expired => refused("the playback token has ended"),
    })
}

/// The same where it has to open `subject`.
pub(crate) fn look_for(app: &App, purpose: Purpose, token: &str, subject: Uuid) -> Answer<Verified> {
    let verified = look(app, purpose, token)?;
    if verified.subject != subject {
        return Err(Problem::new(Kind::BadToken, "the playback token is for something else"));
    }
    Ok(verified)
}

/// When a token ends.
pub(crate) fn end(verified: &Verified) -> DateTime<Utc> {
    DateTime::from_timestamp(verified.expires as i64, 0).unwrap_or_default()
}

/// Takes back all tokens of something that were given out so far. Other apis know within seconds.
pub(crate) async fn revoke(app: &App, subject: Uuid, key: SurrogateKey) -> Answer<()> {
    let generation = revocations::revoke(&app.db, subject, key).await?;
    app.revoked.learn([(subject, generation)]);
    Ok(())
}
