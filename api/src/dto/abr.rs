//! What players tell the farm of themselves, and which quality they are told, on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::abr::Kept;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{LivestreamId, RecordingId};
use reelmill_shared::media::abr::{Bandwidth, Cap, Chosen, Reason, Rung, Session, Switch};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a player fetched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "session_id": "7f0c1c9e", "recording_id": "01890000-0000-7000-8000-000000000000", "select": true,
    "segments": [{ "bytes": 702_113, "download_ms": 911.5, "duration": 4.0, "rung": "720p", "buffer_seconds": 18.2 }],
}))]
pub(crate) struct MetricsDto {
    /// As the player calls it: 1 to 128 visible ASCII characters.
    #[schema(max_length = 128)]
    pub(crate) session_id: String,
    /// What is watched. May be left out once the session is known, as may `livestream_id`.
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    /// In the order in which they came.
    #[schema(min_items = 1, max_items = 100)]
    pub(crate) segments: Vec<SegmentDto>,
    /// Answer with the rung of the next segment, too.
    #[serde(default)]
    pub(crate) select: bool,
}

/// A segment that a player fetched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentDto {
    #[schema(minimum = 1, maximum = 1_073_741_824)]
    pub(crate) bytes: u64,
    /// How long the download took.
    #[schema(exclusive_minimum = 0, maximum = 600_000)]
    pub(crate) download_ms: f64,
    /// Seconds that it plays.
    #[schema(exclusive_minimum = 0, maximum = 60)]
    pub(crate) duration: f64,
    /// Name of its rendition.
    pub(crate) rung: String,
    /// Seconds that were there to be played when it had come.
    #[schema(minimum = 0, maximum = 3600)]
    pub(crate) buffer_seconds: f64,
}

/// What a player wants to know the next rung by. What a session has said before stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "session_id": "7f0c1c9e", "recording_id": "01890000-0000-7000-8000-000000000000", "buffer_seconds": 18.2,
    "screen": { "width": 1280, "height": 720 }, "codecs": ["avc1", "hvc1"],
}))]
pub(crate) struct SelectDto {
    /// Without one nothing is kept.
    #[schema(max_length = 128)]
    pub(crate) session_id: Option<String>,
    /// What is watched. May be left out of a session that is known, as may `livestream_id`.
    pub(crate) recording_id: Option<RecordingId>,
    pub(crate) livestream_id: Option<LivestreamId>,
    /// Bits per second that the player takes its network to carry; counts until the session has told of a segment.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub(crate) bandwidth: Option<u64>,
    /// Seconds that are there to be played.
    #[schema(minimum = 0, maximum = 3600)]
    pub(crate) buffer_seconds: Option<f64>,
    /// Seconds after which the player fetches no more: 30 where it never says.
    #[schema(minimum = 1, maximum = 3600)]
    pub(crate) buffer_target: Option<f64>,
    pub(crate) screen: Option<ScreenDto>,
    /// Beginnings of codec strings that the player decodes; an empty list: all.
    #[schema(max_items = 32)]
    pub(crate) codecs: Option<Vec<String>>,
    /// No more than 480 lines.
    pub(crate) data_saver: Option<bool>,
    /// Whose preferred quality of a recording is respected.
    #[schema(max_length = 255)]
    pub(crate) user_id: Option<String>,
}

/// Pixels of the screen, or of the part of it that shows the picture.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScreenDto {
    #[schema(minimum = 1, maximum = 100_000)]
    pub(crate) width: u32,
    #[schema(minimum = 1, maximum = 100_000)]
    pub(crate) height: u32,
}

/// What the farm makes of a player's network; `null` where nothing is known. Bits per second.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EstimatesDto {
    /// The quick average, and the slow one.
    #[schema(example = 6_160_000)]
    pub(crate) fast: Option<u64>,
    pub(crate) slow: Option<u64>,
    /// 0 where nothing is known, 1 after many seconds that all went as expected.
    #[schema(example = 0.84)]
    pub(crate) confidence: f64,
    /// What the next download may count on.
    pub(crate) predicted: Option<u64>,
}

impl EstimatesDto {
    fn new(bandwidth: &Bandwidth) -> Self {
        let averages = bandwidth.averages();
        Self {
            fast: averages.map(|(fast, _)| fast as u64),
            slow: averages.map(|(_, slow)| slow as u64),
            confidence: bandwidth.confidence(),
            predicted: bandwidth.predicted().map(|rate| rate as u64),
        }
    }
}

/// What came of what a player told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricsAnswerDto {
    pub(crate) session_id: String,
    pub(crate) estimates: EstimatesDto,
    /// Where `select` was set.
    pub(crate) selected: Option<SelectedDto>,
}

impl MetricsAnswerDto {
    pub(crate) fn new(session_id: String, session: &Session, selected: Option<SelectedDto>) -> Self {
        Self { session_id, estimates: EstimatesDto::new(&session.bandwidth), selected }
    }
}

/// The rung of the next segment, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SelectedDto {
    #[serde(flatten)]
    rung: CandidateDto,
    /// `start`: nothing is known of the network. `throughput`: what promises the best picture on what the network is likely to carry.
    /// `steady`: another would be so little better that a change is not worth it. `buffer_critical`: less than a fifth of the buffer is left.
    /// `buffer_low`: less than two fifths. `buffer_high`: there is enough in the buffer to try more. `capped`: more would be carried, and
    /// the device or the viewer has no use for it.
    reason: Reason,
    /// Bits per second that the next download may count on; `null` where nothing is known.
    #[schema(example = 5_400_000)]
    predicted_bandwidth: Option<u64>,
    /// How far that is to be believed, 0 to 1.
    #[schema(example = 0.84)]
    confidence: f64,
    /// All others, the lowest first.
    alternatives: Vec<CandidateDto>,
}

/// A rung to choose from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CandidateDto {
    /// Name of the rendition.
    #[schema(example = "720p")]
    rung: String,
    /// Bits per second of picture and sound, on average.
    bitrate: u64,
    width: u32,
    height: u32,
    /// RFC 6381.
    codecs: String,
    /// Why it is out of question; `null` where it is not.
    ruled_out: Option<Cap>,
}

impl SelectedDto {
    /// `rungs` is what was chosen from; not empty.
    pub(crate) fn new(chosen: &Chosen, rungs: &[Rung], bandwidth: &Bandwidth) -> Self {
        let told = |(rung, cap): (&Rung, &Option<Cap>)| CandidateDto {
            rung: rung.name.clone(),
            bitrate: rung.bitrate,
            width: rung.width,
            height: rung.height,
            codecs: rung.codecs.clone(),
            ruled_out: *cap,
        };
        let mut all: Vec<CandidateDto> = rungs.iter().zip(&chosen.caps).map(told).collect();
        Self {
            rung: all.remove(chosen.choice.rung),
            reason: chosen.choice.reason,
            predicted_bandwidth: bandwidth.predicted().map(|rate| rate as u64),
            confidence: bandwidth.confidence(),
            alternatives: all,
        }
    }
}

/// What is known of a player.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AbrSessionDto {
    session_id: String,
    recording_id: Option<RecordingId>,
    livestream_id: Option<LivestreamId>,
    estimates: EstimatesDto,
    caps: CapsDto,
    /// Name of the rendition that was chosen last, by the farm or by the player itself.
    rung: Option<String>,
    buffer_seconds: Option<f64>,
    buffer_target: Option<f64>,
    /// The last 50, oldest first.
    switches: Vec<SwitchDto>,
    began_at: DateTime<Utc>,
    seen_at: DateTime<Utc>,
}

/// What a player's device and its viewer allow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CapsDto {
    screen: Option<ScreenDto>,
    /// Empty where all are decoded.
    codecs: Vec<String>,
    data_saver: bool,
    /// As the viewer prefers: no more than this rendition, and no more lines than these.
    preferred_rendition: Option<String>,
    max_height: Option<u32>,
}

/// A change of the rung.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SwitchDto {
    at: DateTime<Utc>,
    /// `null` at the beginning.
    from: Option<String>,
    to: String,
    /// As in the answer that told it; `null` where the player changed by itself.
    reason: Option<Reason>,
    predicted_bandwidth: Option<u64>,
    buffer_seconds: Option<f64>,
}

impl From<&Switch> for SwitchDto {
    fn from(switch: &Switch) -> Self {
        Self {
            at: switch.at,
            from: switch.from.clone(),
            to: switch.to.clone(),
            reason: switch.reason,
            predicted_bandwidth: switch.predicted.map(|rate| rate as u64),
            buffer_seconds: switch.buffer,
        }
    }
}

impl From<Kept> for AbrSessionDto {
    fn from(kept: Kept) -> Self {
        let (recording_id, livestream_id) = match kept.watched {
            Watched::Recording(id) => (Some(id), None),
            Watched::Livestream(id) => (None, Some(id)),
        };
        let session = kept.session;
        let preference = session.caps.preference;
        Self {
            session_id: kept.id,
            recording_id,
            livestream_id,
            estimates: EstimatesDto::new(&session.bandwidth),
            caps: CapsDto {
                screen: session.caps.screen.map(|(width, height)| ScreenDto { width, height }),
                codecs: session.caps.codecs,
                data_saver: session.caps.data_saver || preference.data_saver,
                preferred_rendition: preference.rendition,
                max_height: preference.max_height,
            },
            rung: session.rung,
            buffer_seconds: session.buffer,
            buffer_target: session.full,
            switches: session.switches.iter().map(SwitchDto::from).collect(),
            began_at: kept.began_at,
            seen_at: kept.seen_at,
        }
    }
}
