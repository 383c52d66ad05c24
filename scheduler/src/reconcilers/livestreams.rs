//! Looks after live streams that nobody carries: none goes on claiming to be live.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reelmill_shared::db::broadcasts;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::live::{self, LiveHold};
use tokio::sync::Mutex;

use super::{Context, Duty, Failure};

/// What was seen until now.
#[derive(Default)]
pub(super) struct Livestreams(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    looked: Option<Instant>,
    /// Since when nobody carries a stream, as far as was looked.
    uncarried: HashMap<LiveHold, Instant>,
}

/// While nobody reached the database all leases ended, and those who carry streams need a moment to say that they still do.
const SECOND_LOOK: Duration = Duration::from_secs(4);
/// Looks that lie further apart are no two looks one after the other.
const APART: Duration = Duration::from_secs(10);
/// A worker that was told of the end stores its last segments in this time.
const LAST_SEGMENTS: Duration = Duration::from_secs(60);

#[async_trait]
impl Duty for Livestreams {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let uncarried = live::uncarried(&context.db).await?;
        let sure = self.0.lock().await.again(&uncarried, Instant::now());
        let abandoned = live::abandoned(&context.db, leadership, &sure, context.config.live_grace).await?;
        for (livestream, became) in &abandoned {
            tracing::info!(%livestream, ?became, "looked after a live stream that nobody carries");
        }
        let unfinished = live::unfinished(&context.db, LAST_SEGMENTS).await?;
        for broadcast in &unfinished {
            if let Err(error) = live::finalize(&context.db, *broadcast).await {
                // One bad row must not keep the others from being closed.
                tracing::error!(%error, %broadcast, "could not close the books of a broadcast");
            }
        }
        let converted = broadcasts::settle_conversions(&context.db).await?;
        Ok((abandoned.len() + unfinished.len()) as u64 + converted)
    }
}

impl Seen {
    /// Those that nobody has carried for a while, as was seen again and again.
    fn again(&mut self, uncarried: &[LiveHold], now: Instant) -> Vec<LiveHold> {
        let before = self.looked.replace(now).filter(|before| now - *before < APART);
        self.uncarried.retain(|hold, _| before.is_some() && uncarried.contains(hold));
        let mut sure = vec![];
        for hold in uncarried {
            let since = *self.uncarried.entry(*hold).or_insert(now);
            if now - since >= SECOND_LOOK {
                sure.push(*hold);
            }
        }
        sure
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::ids::LivestreamId;

    use super::*;

    #[test]
    fn a_stream_is_lost_when_it_was_seen_so_twice_without_a_break() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let hold = LiveHold { livestream: LivestreamId::new(), epoch: 1 };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(seen.again(&[hold], at(0)), []);
        assert_eq!(seen.again(&[hold], at(2)), []);
        assert_eq!(seen.again(&[hold], at(4)), [hold]);
        assert_eq!(seen.again(&[], at(6)), []);
        assert_eq!(seen.again(&[hold], at(8)), [], "it was carried in between");
        // The database was away; who carries it has not been heard yet.
        assert_eq!(seen.again(&[hold], at(60)), []);
        assert_eq!(seen.again(&[hold], at(64)), [hold]);
    }
}
