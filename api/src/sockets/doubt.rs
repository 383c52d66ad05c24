//! Whether somebody who watches over a socket still may, and what they are to play.

use std::time::Duration;

use reelmill_shared::db::viewers::Watched;
use reelmill_shared::db::{keys, livestreams, recordings, streams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::playing::{Ending, IDLE, Right, Terms};
use super::wishes::Wishes;
use crate::problem::Answer;
use crate::state::{App, now};

/// How often it is looked what a viewer of a stream is to play, and whether they still have their place.
const PLACE: Duration = Duration::from_secs(2);
/// How often it is looked whether what allows to watch still does.
const DOUBT: Duration = Duration::from_secs(15);

/// Looks now and then whether the viewer may still watch, and what they are to play.
pub(super) async fn doubt(
    app: &App,
    terms: &Terms,
    wishes: &watch::Sender<Wishes>,
    heard: &watch::Sender<Instant>,
) -> Ending {
    let refused = |reason: &str| Ending::Refused(reason.to_owned());
    let mut looked = Instant::now();
    loop {
        sleep(PLACE).await;
        if heard.borrow().elapsed() > IDLE {
            return refused("nothing was heard for a while");
        }
        // Who has paused, or takes long, still wants to see how it goes on.
        if let Watched::Livestream(id) = terms.watched {
            app.edges.touch(id);
        }
        if let Right::Token(token) = &terms.right {
            if now() >= token.expires {
                return refused("the playback token has ended");
            }
            if app.revoked.generation(token.subject) > token.generation {
                return refused("the playback token was taken back");
            }
        }
        match place(app, terms, wishes).await {
            Ok(true) => {}
            Ok(false) => return refused("this viewer has no place in the stream any more"),
            Err(problem) => tracing::debug!(detail = problem.detail(), "could not look for a viewer's place"),
        }
        if looked.elapsed() >= DOUBT {
            looked = Instant::now();
            match allowed(app, terms).await {
                Ok(None) => {}
                Ok(Some(reason)) => return refused(reason),
                Err(problem) => tracing::debug!(detail = problem.detail(), "could not look for a right"),
            }
        }
    }
}

/// Considers what was told of the buffer, and what is said elsewhere of a viewer of a stream; false where they have no place any more.
async fn place(app: &App, terms: &Terms, wishes: &watch::Sender<Wishes>) -> Answer<bool> {
    let (health, profile) = {
        let wishes = wishes.borrow();
        (wishes.health, wishes.profile)
    };
    let now = match (&terms.viewer, health) {
        (None, None) => return Ok(true),
        (None, Some(health)) => Some(profile.adapted(health.into())),
        (Some(viewer), Some(health)) => {
            let adapted = streams::adapt(&app.db, viewer.stream, &viewer.name, health).await?;
            adapted.map(|adapted| adapted.bitrate)
        }
        (Some(viewer), None) => {
            // They are there, also while nothing is sent.
            app.audience.gave(terms.watched, &viewer.session, 0, false);
            streams::place(&app.db, terms.watched, &viewer.session).await?
        }
    };
    let Some(now) = now else { return Ok(false) };
    wishes.send_if_modified(|wishes| {
        // What was told meanwhile is for the next time.
        if wishes.health == health {
            wishes.health = None;
        }
        let other = wishes.profile != now;
        wishes.profile = now;
        other
    });
    Ok(true)
}

/// Why the viewer may not watch any more; `None` where they may.
async fn allowed(app: &App, terms: &Terms) -> Answer<Option<&'static str>> {
    if let Right::Key(key) = terms.right
        && keys::get_valid(&app.db, key).await?.is_none()
    {
        return Ok(Some("the key is expired or revoked"));
    }
    Ok(match terms.watched {
        Watched::Recording(id) => {
            let there = recordings::find(&app.db, id).await?.is_some();
            (!there).then_some("the recording was deleted")
        }
        Watched::Livestream(id) => {
            let there = livestreams::find(&app.db, id).await?.is_some();
            (!there).then_some("the livestream was deleted")
        }
    })
}
