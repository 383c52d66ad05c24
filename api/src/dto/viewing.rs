//! Who watches recordings, on the wire.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use reelmill_shared::db::viewers::ViewerSession;
use reelmill_shared::db::viewing::{NAMES, Share, Step, Sum, Totals};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) enum PlaybackEvent {
    #[serde(rename = "playback_start")]
    Start,
    #[serde(rename = "playback_progress")]
    Progress,
    /// It plays no more.
    #[serde(rename = "playback_end")]
    End,
}

/// Body of `POST /recordings/{id}/progress`. Counts are since the session began; what is left out stays as it was told before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "session_id": "0b8f2c", "event": "playback_progress", "position": 30.5, "duration": 120.0, "rendition": "720p", "stalls": 1,
}))]
pub(crate) struct ProgressDto {
    /// Of one player playing this recording: 1 to 128 visible ASCII characters.
    pub(crate) session_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) event: PlaybackEvent,
    /// Seconds from the beginning.
    pub(crate) position: f64,
    /// Seconds of the whole.
    pub(crate) duration: f64,
    /// It goes on from there. So it does where this is left out, but at the end.
    pub(crate) playing: Option<bool>,
    /// The rung that is shown.
    pub(crate) rendition: Option<String>,
    /// Seconds of media ahead.
    pub(crate) buffered: Option<f64>,
    /// How often it has waited for media.
    pub(crate) stalls: Option<i64>,
    /// How long, in seconds.
    pub(crate) stalled_seconds: Option<f64>,
    /// Milliseconds from the wish to play to the first picture.
    pub(crate) startup_ms: Option<i64>,
    /// How often it has changed its rung.
    pub(crate) switches: Option<i64>,
    /// A word: `desktop`, `mobile`, `tv`.
    pub(crate) device_type: Option<String>,
    /// ISO 3166-1: two capital letters.
    pub(crate) country: Option<String>,
    /// Bytes of media it has got.
    pub(crate) bytes: Option<i64>,
    /// Segments it has got.
    pub(crate) segments: Option<i64>,
    /// The viewer's; with a key only.
    pub(crate) ip_address: Option<String>,
    /// The viewer's; with a key only.
    pub(crate) user_agent: Option<String>,
}

/// A viewer's session.
#[derive(Debug, Serialize)]
pub(crate) struct WatchSessionDto {
    pub(crate) session_id: String,
    pub(crate) expires_at: DateTime<Utc>,
}

/// One player playing a recording.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccessDto {
    pub(crate) session_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) joined_at: DateTime<Utc>,
    /// When it was heard of last.
    pub(crate) seen_at: DateTime<Utc>,
    /// `null` until it says that it leaves.
    pub(crate) left_at: Option<DateTime<Utc>>,
    /// Seconds.
    pub(crate) played_seconds: f64,
    /// Where it was last, in seconds from the beginning.
    pub(crate) position: Option<f64>,
}

impl From<ViewerSession> for AccessDto {
    fn from(session: ViewerSession) -> Self {
        Self {
            session_id: session.id,
            user_id: session.user_id,
            ip_address: session.ip_address,
            user_agent: session.user_agent,
            joined_at: session.joined_at,
            seen_at: session.seen_at,
            left_at: session.left_at,
            played_seconds: session.played_seconds.unwrap_or_default(),
            position: session.position_seconds,
        }
    }
}

/// A page of those who watched.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccessLogDto {
    pub(crate) sessions: Vec<AccessDto>,
    pub(crate) next_cursor: Option<String>,
}

/// How a recording was watched: of all sessions that were joined within the span. `null` is: nobody measured it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewingDto {
    /// Players that played it.
    pub(crate) total_sessions: i64,
    /// Different users; of those who told none, different pairs of address and user agent. Of what is older than four weeks the viewers of
    /// each day are counted by themselves.
    pub(crate) unique_viewers: i64,
    /// Seconds that were played, by all together. What is played twice counts twice.
    pub(crate) total_playtime: f64,
    /// The same a session, in seconds.
    pub(crate) average_playtime: Option<f64>,
    /// When a player was heard of last.
    pub(crate) last_accessed_at: Option<DateTime<Utc>>,
    /// 0 to 1: the share of sessions that reached 95 % of the recording by watching.
    pub(crate) completion_rate: Option<f64>,
    /// For each hundredth of the recording, how many sessions watched any of it.
    pub(crate) heatmap: Vec<i64>,
    /// 0 to 1: the time that was waited for media after the first picture, of that and the time played; of players that tell it.
    pub(crate) rebuffer_ratio: Option<f64>,
    /// Seconds from the wish to play to the first picture: the mean of players that tell it.
    pub(crate) startup_time: Option<f64>,
    /// How often players changed their rung, all together.
    pub(crate) switches: Option<i64>,
    /// How often players waited for media after the first picture, all together.
    pub(crate) stalls: Option<i64>,
    /// The most first, at most 50. A name of `null`: those that told none.
    pub(crate) by_device: Vec<ShareDto>,
    pub(crate) by_country: Vec<ShareDto>,
    /// By the rung they showed last.
    pub(crate) by_rendition: Vec<ShareDto>,
}

/// Sessions with something in common.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShareDto {
    #[schema(example = "desktop")]
    pub(crate) name: Option<String>,
    pub(crate) sessions: i64,
    /// Seconds.
    pub(crate) playtime: f64,
}

/// Sessions that were joined within an hour or a day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewingStepDto {
    /// Where it begins.
    pub(crate) timestamp: DateTime<Utc>,
    pub(crate) sessions: i64,
    /// Different ones within the step.
    pub(crate) unique_viewers: i64,
    /// Seconds.
    pub(crate) playtime: f64,
    pub(crate) completion_rate: Option<f64>,
    pub(crate) rebuffer_ratio: Option<f64>,
    /// Seconds.
    pub(crate) startup_time: Option<f64>,
    pub(crate) stalls: Option<i64>,
    pub(crate) switches: Option<i64>,
}

/// Answer of `GET /recordings/{id}/analytics`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingAnalyticsDto {
    #[serde(flatten)]
    pub(crate) totals: ViewingDto,
    /// Oldest first; steps in which nobody joined are left out.
    pub(crate) series: Vec<ViewingStepDto>,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) step: StepDto,
}

/// What a series is cut into, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StepDto {
    Hour,
    Day,
}

impl From<StepDto> for Step {
    fn from(step: StepDto) -> Self {
        match step {
            StepDto::Hour => Self::Hour,
            StepDto::Day => Self::Day,
        }
    }
}

fn share(of: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| of / all)
}

fn completion_rate(sum: &Sum) -> Option<f64> {
    share(sum.completed as f64, sum.sessions as f64)
}

fn rebuffer_ratio(sum: &Sum) -> Option<f64> {
    let stalled = sum.stalled_seconds?;
    share(stalled, stalled + sum.timed_seconds?)
}

fn startup_time(sum: &Sum) -> Option<f64> {
    share(sum.startup_ms? as f64 / 1000.0, sum.startups as f64)
}

fn shares(names: HashMap<String, Share>) -> Vec<ShareDto> {
    let mut all: Vec<ShareDto> = names
        .into_iter()
        .map(|(name, (sessions, playtime))| ShareDto {
            name: (!name.is_empty()).then_some(name),
            sessions,
            playtime,
        })
        .collect();
    all.sort_by(|a, b| b.sessions.cmp(&a.sessions).then_with(|| a.name.cmp(&b.name)));
    all.truncate(NAMES as usize);
    all
}

impl From<Totals> for ViewingDto {
    fn from(totals: Totals) -> Self {
        let Totals { sum, heat, names } = totals;
        Self {
            total_sessions: sum.sessions,
            unique_viewers: sum.viewers,
            total_playtime: sum.played_seconds,
            average_playtime: share(sum.played_seconds, sum.sessions as f64),
            last_accessed_at: sum.last_seen_at,
            completion_rate: completion_rate(&sum),
            heatmap: heat,
            rebuffer_ratio: rebuffer_ratio(&sum),
            startup_time: startup_time(&sum),
            switches: sum.switches,
            stalls: sum.stalls,
            by_device: shares(names.device),
            by_country: shares(names.country),
            by_rendition: shares(names.rendition),
        }
    }
}

impl From<(DateTime<Utc>, Sum)> for ViewingStepDto {
    fn from((timestamp, sum): (DateTime<Utc>, Sum)) -> Self {
        Self {
            timestamp,
            sessions: sum.sessions,
            unique_viewers: sum.viewers,
            playtime: sum.played_seconds,
            completion_rate: completion_rate(&sum),
            rebuffer_ratio: rebuffer_ratio(&sum),
            startup_time: startup_time(&sum),
            stalls: sum.stalls,
            switches: sum.switches,
        }
    }
}
