//! What a person wants changed before anything is encoded: a part of the source, a part of the picture, a mark on it.

use serde::{Deserialize, Serialize};

use super::error::{Reason, TaskError};
use super::state::words;
use crate::ids::SourceId;
use crate::media::profile::Rung;

/// Wishes beside the recipe, frozen into the job. The default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edit {
    /// Where the recording begins and ends in the source, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Shape (width to height) that the picture is brought to with black bars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<(u32, u32)>,
    /// No rung is larger or faster than this, whatever the recipe says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frame_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// What the source's container says of the work goes into files that are made of it. Else nobody learns it: it may say where
    /// somebody lives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_metadata: bool,
}

/// What is cut off at each side, in pixels of the picture as seen: upright, square pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crop {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

/// An image on the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// PNG, JPEG or WebP.
    pub source: SourceId,
    pub corner: Corner,
    /// Width of the image and its distance from the edges, in percent of the picture's width.
    pub width_percent: u32,
    pub margin_percent: u32,
    /// 1 to 100.
    pub opacity_percent: u32,
}

words! {
    /// Where a watermark is.
    Corner("corner") {
        TopLeft = "top_left",
        TopRight = "top_right",
        BottomLeft = "bottom_left",
        BottomRight = "bottom_right",
        Center = "center",
    }
}

/// Fewer pixels than this are no picture any more.
const SMALLEST_SIDE: f64 = 16.0;

impl Edit {
    /// True where nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True where a part of the source is left out.
    pub fn is_trimmed(&self) -> bool {
        self.start_ms.is_some() || self.end_ms.is_some()
    }

    /// Seconds into the source at which the recording begins.
    pub fn start(&self) -> f64 {
        self.start_ms.unwrap_or(0) as f64 / 1000.0
    }

    /// What of `seconds`, counted in the source, is left when they are counted in the recording. Not below zero.
    pub fn trimmed(&self, seconds: f64) -> f64 {
        let end = self.end_ms.map_or(seconds, |end| seconds.min(end as f64 / 1000.0));
        (end - self.start()).max(0.0)
    }

    /// The size of a picture of this size when the crop is done.
    ///
    /// # Errors
    /// Final where next to nothing would be left.
    pub fn cropped(&self, (width, height): (f64, f64)) -> Result<(f64, f64), TaskError> {
        let Some(crop) = self.crop else { return Ok((width, height)) };
        let left = (
            width - f64::from(crop.left) - f64::from(crop.right),
            height - f64::from(crop.top) - f64::from(crop.bottom),
        );
        if left.0 < SMALLEST_SIDE || left.1 < SMALLEST_SIDE {
            return Err(TaskError::fatal(
                Reason::Unsuitable,
                format!("the crop leaves nothing of a picture of {width:.0}x{height:.0} pixels"),
            ));
        }
        Ok(left)
    }

    /// The smallest picture of the wanted shape that a picture of this size fits into.
    pub fn padded(&self, (width, height): (f64, f64)) -> (f64, f64) {
        let Some((across, down)) = self.pad else { return (width, height) };
        let shape = f64::from(across) / f64::from(down);
        if width / height < shape { (height * shape, height) } else { (width, width / shape) }
    }

    /// The share of its size at which a picture of this size is within the limits, at most 1.
    pub fn reduction(&self, (width, height): (f64, f64)) -> f64 {
        let within = |limit: Option<u32>, side: f64| limit.map_or(1.0, |limit| f64::from(limit) / side);
        within(self.max_width, width).min(within(self.max_height, height)).min(1.0)
    }

    /// A rung within the limit of frames.
    pub fn limited(&self, rung: Rung) -> Rung {
        let slower = [rung.max_frame_rate, self.max_frame_rate].into_iter().flatten().min();
        Rung { max_frame_rate: slower, ..rung }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_the_start_that_was_asked_for() {
        let edit = Edit { start_ms: Some(1500), end_ms: Some(4000), ..Edit::default() };
        assert_eq!(edit.trimmed(10.0), 2.5);
        assert_eq!(edit.trimmed(3.0), 1.5);
        assert_eq!(edit.trimmed(1.0), 0.0);
        assert_eq!(Edit::default().trimmed(3.0), 3.0);
    }

    #[test]
    fn shapes() {
        let crop = Some(Crop { left: 10, right: 30, top: 0, bottom: 80 });
        let edit = Edit { crop, pad: Some((16, 9)), max_height: Some(360), ..Edit::default() };
        assert_eq!(edit.cropped((680.0, 800.0)).unwrap(), (640.0, 720.0));
        assert!(edit.cropped((50.0, 800.0)).unwrap_err().message.contains("50x800"));
        assert_eq!(edit.padded((640.0, 720.0)), (1280.0, 720.0));
        assert_eq!(edit.padded((1600.0, 450.0)), (1600.0, 900.0));
        assert_eq!(edit.reduction((1280.0, 720.0)), 0.5);
        assert_eq!(edit.reduction((128.0, 72.0)), 1.0);
    }
}
