//! What the viewers of a stream take together, and whether there is room for more of it.

use super::holding;
use crate::db::{DbError, GenericClient};
use crate::ids::StreamId;
use crate::media::abr::BitrateProfile;

/// How much a stream gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Who may be there at once.
    pub viewers: u32,
    /// Bits per second that they may take together. Beyond it nobody new is let in and nobody gets a better profile; who is there keeps theirs.
    pub bandwidth: u64,
    /// Bits per second of its lowest rung: nobody takes less. Zero where that is not known.
    pub least_bitrate: u64,
}

impl StreamLimits {
    /// How many viewers fit if all have this profile.
    pub fn fit(self, profile: BitrateProfile) -> u32 {
        let fit = self.bandwidth / profile.bitrate().max(self.least_bitrate).max(1);
        u32::try_from(fit).map_or(self.viewers, |fit| fit.min(self.viewers))
    }
}

/// Seconds of media that a player may be ahead of what it plays: so much of what it was given says nothing of its rate.
const AHEAD: u32 = 60;
/// Bits per second that one viewer counts with at most: who asks for more than can be played takes no places of others.
const MOST: u64 = 16_000_000;

/// SQL: bits per second that the viewers `v` of a stream `s` take together. Each counts with the profile they have, with the lowest rung there is, or
/// with what our edges gave them on average since they joined, whichever is the most: a player may choose by itself.
pub(super) fn sum() -> String {
    let profiles: String = BitrateProfile::ALL
        .iter()
        .map(|profile| format!(" when '{}' then {}", profile.as_str(), profile.bitrate()))
        .collect();
    format!(
        "coalesce(sum(greatest(case v.bitrate{profiles} else 0 end, s.least_bitrate, least({MOST},
             v.served_bytes * 8 / (extract(epoch from now() - v.joined_at) + {AHEAD})))), 0)::bigint"
    )
}

/// How many viewers a stream has, all but one of them, and the bits per second they take.
pub(super) async fn taken(
    client: &impl GenericClient,
    stream: StreamId,
    but: Option<&str>,
) -> Result<(i32, u64), DbError> {
    let sums = format!(
        "select count(*)::int, {} from viewer_sessions v join streams s on s.id = v.stream_id
         where v.stream_id = $1 and v.user_id is distinct from $2::text and {}",
        sum(),
        holding()
    );
    let row = client.query_one(&sums, &[&stream.0, &but]).await?;
    Ok((row.get(0), row.get::<_, i64>(1).unsigned_abs()))
}

/// Whether a viewer may have this profile beside what the others take. The answer holds until the end of the transaction.
pub(super) async fn may_rise(
    client: &impl GenericClient,
    stream: StreamId,
    viewer: &str,
    to: BitrateProfile,
) -> Result<bool, DbError> {
    // Without waiting for others first: on a stream that is full, all who ask are told no at once.
    for lock in ["", "for no key update"] {
        let limits = format!("select bandwidth_limit, least_bitrate from streams where id = $1 {lock}");
        let Some(row) = client.query_opt(&limits, &[&stream.0]).await? else { return Ok(false) };
        let (limit, least) = (row.get::<_, i64>(0).unsigned_abs(), row.get::<_, i64>(1).unsigned_abs());
        let (_, others) = taken(client, stream, Some(viewer)).await?;
        if to.bitrate().max(least) > limit.saturating_sub(others) {
            return Ok(false);
        }
    }
    Ok(true)
}
