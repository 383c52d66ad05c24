//! Takes what is over back from the media server, and forgets sessions that were over long ago.

use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::playback;
use reelmill_shared::net::{Mediamtx, MediamtxError};

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
        if let Some(mediamtx) = &context.mediamtx {
            done += withdraw(context, mediamtx).await?;
        }
        for session in playback::over(&context.db, SAID, BATCH).await? {
            done += u64::from(playback::end(&context.db, session.id).await?.is_some());
        }
        Ok(done)
    }
}

/// Viewers with the address of a session that is over get nothing there any more.
async fn withdraw(context: &Context, mediamtx: &Mediamtx) -> Result<u64, Failure> {
    let mut done = 0;
    for (session, path) in playback::served_on(&context.db, BATCH).await? {
        match mediamtx.remove(&path).await {
            Ok(()) => {
                playback::withdrawn(&context.db, session).await?;
                done += 1;
            }
            Err(error) => {
                tracing::warn!(%session, %error, "could not tell the media server that a session is over");
                // The others would wait as long, and in vain.
                if matches!(error, MediamtxError::Unreachable(_)) {
                    break;
                }
            }
        }
    }
    Ok(done)
}
