//! Seals the keys and sources of livestreams anew while `REELMILL_SECRET_KEY` is rotated: when the old key is taken away, none needs it.

use async_trait::async_trait;
use reelmill_shared::auth::seal::{SealError, Sealer};
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::livestreams::{self, Sealed};
use reelmill_shared::live::key::{key_seal, source_seal};

use super::{Context, Duty, Failure};

/// Livestreams read at once.
const BATCH: i64 = 500;

pub(super) struct Secrets;

#[async_trait]
impl Duty for Secrets {
    // Unguarded: what two leaders seal opens alike.
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let (mut resealed, mut after) = (0, None);
        loop {
            let batch = livestreams::all_sealed(&context.db, after, BATCH).await?;
            let Some(last) = batch.last() else { return Ok(resealed) };
            after = Some(last.id);
            for old in &batch {
                match anew(&context.config.secret.sealer, old) {
                    Ok(new) if new == *old => {}
                    Ok(new) => {
                        livestreams::replace_sealed(&context.db, old, &new).await?;
                        resealed += 1;
                    }
                    Err(error) => {
                        tracing::error!(%error, livestream_id = %old.id, "a livestream's key was sealed by another REELMILL_SECRET_KEY");
                    }
                }
            }
        }
    }
}

/// The same, sealed by the newest key.
fn anew(sealer: &Sealer, old: &Sealed) -> Result<Sealed, SealError> {
    let mut new = old.clone();
    if let Some(key) = sealer.reseal(&key_seal(old.id), &old.key)? {
        new.key = key;
    }
    if let Some(source) = &old.source
        && let Some(source) = sealer.reseal(&source_seal(old.id), source)?
    {
        new.source = Some(source);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use reelmill_shared::ids::LivestreamId;

    use super::*;

    #[test]
    fn only_what_an_old_key_sealed_is_sealed_anew() {
        let (old, new) = ("a".repeat(32), "b".repeat(32));
        let id = LivestreamId::new();
        let sealed_by = |key: &str| {
            let sealer = Sealer::new(&[key]);
            Sealed {
                id,
                key: sealer.seal(&key_seal(id), b"key").unwrap(),
                source: Some(sealer.seal(&source_seal(id), b"source").unwrap()),
            }
        };
        let rotated = Sealer::new(&[&new, &old]);
        let current = sealed_by(&new);
        assert_eq!(anew(&rotated, &current), Ok(current));
        let resealed = anew(&rotated, &sealed_by(&old)).unwrap();
        let only_new = Sealer::new(&[&new]);
        assert_eq!(only_new.open(&key_seal(id), &resealed.key).unwrap(), b"key");
        assert_eq!(only_new.open(&source_seal(id), &resealed.source.unwrap()).unwrap(), b"source");
        assert_eq!(anew(&only_new, &sealed_by(&old)), Err(SealError));
    }
}
