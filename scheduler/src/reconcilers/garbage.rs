//! Deletes objects that no row refers to any more.

use async_trait::async_trait;
use reelmill_shared::db::garbage;
use reelmill_shared::db::leader::Leadership;

use super::{Context, Duty, Failure};

pub(super) struct Garbage;

const BATCH: i64 = 100;

#[async_trait]
impl Duty for Garbage {
    async fn run(&self, context: &Context, leadership: &Leadership) -> Result<u64, Failure> {
        let due = garbage::due(&context.db, BATCH).await?;
        let mut objects = 0;
        for garbage in &due {
            objects += context.storage.delete_prefix(&garbage.prefix).await?;
            garbage::swept(&context.db, leadership, garbage).await?;
        }
        Ok(objects)
    }
}
