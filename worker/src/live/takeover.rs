//! What passes between the worker that takes a livestream and the one that carried it.

use std::time::Duration;

use reelmill_shared::db::live::Taken;
use reelmill_shared::live::origin::{self, GiveWay, Given, PASS_HEADER};
use tokio::time::timeout;

use super::studio::Studio;

/// The one before has its last pictures encoded and stored within this, or its open segment is lost.
const PATIENCE: Duration = Duration::from_secs(6);

/// Waits until all that was published by another worker is in the index. The first number that it did not use; `None` where nobody
/// answers, and what it was given and did not store is lost.
pub(super) async fn ask_for_the_rest(studio: &Studio, taken: &Taken) -> Option<u64> {
    let before = taken.before.as_ref().filter(|before| before.address != studio.carrier.origin)?;
    taken.broadcast.as_ref()?;
    let url = format!("{}{}", before.address, origin::give_way(taken.hold.livestream));
    let asking = async {
        // Once in the life of a publisher, to one of ours: no proxy lies between.
        let http = reqwest::Client::builder().no_proxy().build()?;
        let asked =
            http.post(url).header(PASS_HEADER, &before.pass).json(&GiveWay { epoch: taken.hold.epoch });
        asked.send().await?.error_for_status()?.json::<Given>().await
    };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(given)) => Some(given.next_number),
        Ok(Err(error)) => {
            tracing::debug!(%error, livestream = %taken.hold.livestream, "who carried a stream does not answer");
            None
        }
        Err(_) => None,
    }
}
