//! Refuses recipes that nobody in the farm could ever follow.

use reelmill_shared::db::{Db, DbError, workers};
use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::profile::{Hardware, Profile};

use crate::problem::Problem;

/// What is wrong with `profile`, where a codec of it needs an encoder that no worker there ever was has proven. A farm without any
/// worker yet takes everything: the first may come with all of them. So does who asks for hardware, who is told that he may wait.
pub(super) async fn unknown(db: &Db, profile: &Profile) -> Result<Option<Problem>, DbError> {
    let mut codecs: Vec<Codec> = vec![];
    for rung in &profile.rungs {
        if !codecs.contains(&rung.codec) {
            codecs.push(rung.codec);
        }
    }
    if codecs.is_empty() || codecs == [Codec::default()] || profile.hardware == Hardware::RequireGpu {
        return Ok(None);
    }
    let proven = workers::proven(db).await?;
    if proven.is_empty() {
        return Ok(None);
    }
    let makes = |encoder: &Encoder, codec: Codec| {
        encoder.codec() == codec && (!encoder.is_hardware() || profile.hardware == Hardware::PreferGpu)
    };
    let lacking = codecs.into_iter().find(|codec| !proven.iter().any(|encoder| makes(encoder, *codec)));
    Ok(lacking.map(|codec| {
        let encoder = Encoder::software(codec);
        Problem::field(
            "/profile",
            format!(
                "has a rung in {codec}, but no worker of this farm has an FFmpeg with {encoder}; \
                 GET /api/v1/workers tells what they have"
            ),
        )
    }))
}
