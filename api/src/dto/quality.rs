//! Which rendition suits a viewer, on the wire.

use reelmill_shared::media::abr::{Cap, Preference, Reason};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What a player knows of its network, its buffer and its screen; all of it may be left out.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecommendQuery {
    /// Bits per second that the player takes its network to carry.
    #[param(example = 3_000_000)]
    pub(crate) bandwidth: Option<u64>,
    /// Seconds that are there to be played. Left out, playback has not begun.
    #[param(example = 14.5, minimum = 0)]
    pub(crate) buffer: Option<f64>,
    /// Seconds after which the player fetches no more: 30 where it does not say.
    #[param(minimum = 1, maximum = 3600)]
    pub(crate) buffer_target: Option<f64>,
    /// Name of the rendition played now.
    pub(crate) current: Option<String>,
    /// Pixels of the screen, or of the part of it that shows the picture.
    #[param(example = 1280)]
    pub(crate) width: Option<u32>,
    #[param(example = 720)]
    pub(crate) height: Option<u32>,
    /// Beginnings of codec strings that the player decodes, separated by commas.
    #[param(example = "avc1,hvc1")]
    pub(crate) codecs: Option<String>,
    /// No more than 480 lines.
    pub(crate) data_saver: Option<bool>,
    /// Whose preferred quality is respected.
    #[param(max_length = 255)]
    pub(crate) user_id: Option<String>,
}

/// The rendition that suits best, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecommendedDto {
    #[serde(flatten)]
    pub(crate) rung: OfferedRungDto,
    /// `start`: nothing is known of the network. `throughput`: what the network carries. `steady`: another would fit so little better that a
    /// change is not worth it. `buffer_critical`: less than a fifth of the buffer is left. `buffer_low`: less than two fifths.
    /// `buffer_high`: there is enough in the buffer to try more. `capped`: more would be carried, and the device or the viewer has no use
    /// for it.
    pub(crate) reason: Reason,
    /// Bits per second that the next download may count on; `null` where nothing is known.
    pub(crate) predicted_bandwidth: Option<u64>,
    /// All others, the lowest first.
    pub(crate) alternatives: Vec<OfferedRungDto>,
}

/// A rendition to choose from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfferedRungDto {
    #[schema(example = "720p")]
    pub(crate) rendition: String,
    /// Bits per second of picture and sound, on average.
    pub(crate) bitrate: u64,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// RFC 6381.
    pub(crate) codecs: String,
    /// Why it is out of question; `null` where it is not.
    pub(crate) ruled_out: Option<Cap>,
}

/// What a viewer prefers. One of the last three at least; `rendition` and `max_height` not both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "user_id": "ada", "max_height": 720 }))]
pub(crate) struct PutPreferenceDto {
    /// Whom their site calls so.
    #[schema(min_length = 1, max_length = 255)]
    pub(crate) user_id: String,
    /// No more than this one.
    pub(crate) rendition: Option<String>,
    /// No more lines than these, of the shorter side.
    #[schema(minimum = 1, maximum = 16_384)]
    pub(crate) max_height: Option<u32>,
    /// No more than 480 lines.
    pub(crate) data_saver: Option<bool>,
}

/// Whose preference.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PreferenceQuery {
    #[param(required, example = "ada")]
    pub(crate) user_id: Option<String>,
}

/// What a viewer prefers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "user_id": "ada", "rendition": null, "max_height": 720, "data_saver": false }))]
pub(crate) struct PreferenceDto {
    user_id: String,
    rendition: Option<String>,
    max_height: Option<u32>,
    data_saver: bool,
}

impl PreferenceDto {
    pub(crate) fn new(user_id: String, preference: Preference) -> Self {
        let Preference { rendition, max_height, data_saver } = preference;
        Self { user_id, rendition, max_height, data_saver }
    }
}
