//! How a recording's picture comes out of its source's.

use super::edit::{Crop, Edit};
use super::error::TaskError;
use super::task::CropArea;
use crate::media::probe::VideoStream;

/// What of a frame is used and what it is put into. Sizes are those of the picture as seen: upright, square pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Framing {
    /// Where only a part of the frame is used.
    pub crop: Option<CropArea>,
    /// Width and height of what is used of it.
    pub content: (f64, f64),
    /// Of the whole picture, bars included.
    pub canvas: (f64, f64),
    is_padded: bool,
}

impl Framing {
    /// # Errors
    /// Final where a crop leaves next to nothing.
    pub fn of(edit: &Edit, video: &VideoStream) -> Result<Self, TaskError> {
        let content = edit.cropped(video.display_size())?;
        Ok(Self {
            crop: edit.crop.map(|crop| area(crop, video)),
            content,
            canvas: edit.padded(content),
            is_padded: edit.pad.is_some(),
        })
    }

    /// The size of what is used of the frame, on a picture of `width` x `height` pixels; `None` where it fills it.
    pub fn content_on(&self, size: (u32, u32)) -> Option<(u32, u32)> {
        self.is_padded.then(|| within(size, self.content))
    }
}

/// The largest even size of this shape within a box.
fn within((width, height): (u32, u32), (across, down): (f64, f64)) -> (u32, u32) {
    let scale = (f64::from(width) / across).min(f64::from(height) / down);
    let even = |side: f64, most: u32| ((side * scale / 2.0).round() as u32 * 2).clamp(2, most);
    (even(across, width), even(down, height))
}

/// From pixels as seen to pixels of the frame as it is decoded, turned upright already; chroma is shared by two, so both ends are even.
fn area(crop: Crop, video: &VideoStream) -> CropArea {
    let seen = video.display_size();
    let turned = video.rotation % 180 == 90;
    let (width, height) = if turned { (video.height, video.width) } else { (video.width, video.height) };
    let cut = |near: u32, far: u32, side: u32, seen: f64| {
        let scale = f64::from(side) / seen;
        let even = |length: u32| (f64::from(length) * scale / 2.0).round() as u32 * 2;
        let first = even(near).min(side.saturating_sub(2));
        (first, (side & !1).saturating_sub(first + even(far)).max(2))
    };
    let (x, width) = cut(crop.left, crop.right, width, seen.0);
    let (y, height) = cut(crop.top, crop.bottom, height, seen.1);
    CropArea { x, y, width, height }
}
