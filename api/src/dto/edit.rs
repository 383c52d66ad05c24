//! Wishes beside the recipe, on the wire.

use reelmill_shared::ids::UploadId;
use reelmill_shared::job::edit::Corner;
use serde::Deserialize;
use utoipa::ToSchema;

/// A part of the source, a part of the picture, a mark on it.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "start": 5.0, "end": 65.0, "pad": "16:9", "max_height": 720 }))]
pub(crate) struct EditDto {
    /// Seconds into the source at which the recording begins; to a frame.
    pub(crate) start: Option<f64>,
    /// Seconds into the source at which it ends.
    pub(crate) end: Option<f64>,
    pub(crate) crop: Option<CropDto>,
    /// Shape the picture is brought to with black bars, as `16:9`.
    pub(crate) pad: Option<String>,
    /// No rendition is wider, higher or faster, whatever the profile says; 16 to 7680 pixels, 1 to 60 frames per second.
    pub(crate) max_width: Option<u32>,
    pub(crate) max_height: Option<u32>,
    pub(crate) max_frame_rate: Option<u32>,
    pub(crate) watermark: Option<WatermarkDto>,
    /// What becomes of the source's own metadata (title, artist, date, place …): `keep` writes it into MP4 files. `drop` where it is
    /// left out.
    pub(crate) metadata: Option<SourceMetadata>,
}

/// What becomes of a source's own metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceMetadata {
    Keep,
    Drop,
}

/// What is cut off at each side, in pixels of the picture as it is seen (upright, square pixels).
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CropDto {
    #[serde(default)]
    pub(crate) left: u32,
    #[serde(default)]
    pub(crate) top: u32,
    #[serde(default)]
    pub(crate) right: u32,
    #[serde(default)]
    pub(crate) bottom: u32,
}

/// An image on the picture.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatermarkDto {
    /// A finished upload: PNG, JPEG or WebP of at most 10 MB.
    pub(crate) upload_id: UploadId,
    /// `bottom_right` where it is left out.
    pub(crate) corner: Option<Corner>,
    /// Share of the picture's width, 0.01 to 1; 0.15 where it is left out.
    pub(crate) width: Option<f64>,
    /// Distance from the edges as a share of the picture's width, 0 to 0.4; 0.03 where it is left out.
    pub(crate) margin: Option<f64>,
    /// 0.01 to 1; 1 where it is left out.
    pub(crate) opacity: Option<f64>,
}
