//! Forgets playback sessions that are over, and what a media server was told for them.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::playback;

use super::{Context, Duty, Failure};

pub(super) struct Over;

/// For so long it is said of a session that it is over, and not that there is none.
const SAID: Duration = Duration::from_secs(24 * 3600);
/// Sessions at a time.
const BATCH: i64 = 500;

#[async_trait]
impl Duty for Over {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let mut done = 0;
        for session in playback::over(&context.db, SAID, BATCH).await? {
            if let (Some(mediamtx), Some(path)) = (&context.mediamtx, &session.path)
                && let Err(error) = mediamtx.remove(path).await
            {
                // Its path fetches nothing while nobody watches; it is tried again.
                tracing::warn!(session = %session.id, %error, "could not tell the media server that a session is over");
                continue;
            }
            done += u64::from(playback::end(&context.db, session.id).await?.is_some());
        }
        Ok(done)
    }
}
