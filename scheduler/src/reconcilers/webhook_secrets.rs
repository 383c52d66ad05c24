//! Seals the secrets of webhooks anew while `REELMILL_SECRET_KEY` is rotated: when the old key is taken away, none needs it.

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::webhooks;
use reelmill_shared::webhook::Secret;

use super::{Context, Duty, Failure};

pub(super) struct Secrets;

#[async_trait]
impl Duty for Secrets {
    // Unguarded: what two leaders seal opens alike.
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let mut resealed = 0;
        for (id, sealed) in webhooks::all_secrets(&context.db).await? {
            match Secret::reseal(&context.config.secret.sealer, id, &sealed) {
                Ok(None) => {}
                Ok(Some(anew)) => {
                    webhooks::replace_secret(&context.db, id, &sealed, &anew).await?;
                    resealed += 1;
                }
                Err(error) => {
                    tracing::error!(%error, webhook_id = %id, "a webhook's secret was sealed by another REELMILL_SECRET_KEY");
                }
            }
        }
        Ok(resealed)
    }
}
