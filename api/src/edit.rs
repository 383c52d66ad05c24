//! Checks the wishes beside the recipe.

use futures::StreamExt;
use reelmill_shared::db::sources::Piece;
use reelmill_shared::db::{sources, uploads};
use reelmill_shared::ids::SourceId;
use reelmill_shared::job::edit::{Corner, Crop, Edit, Watermark};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::media::profile::FieldError;

use crate::auth::Caller;
use crate::dto::edit::{EditDto, SourceMetadata, WatermarkDto};
use crate::problem::Answer;
use crate::state::App;
use crate::submit::fault;

/// Bytes of an image that is laid on pictures.
const IMAGE_LIMIT: u64 = 10 << 20;
/// A source may be this long, in seconds, as far as a wish goes; the plan knows better.
const LONGEST: f64 = 1e7;

/// The wish as it is frozen into the job, with everything that is wrong with it added to `faults`.
pub(crate) async fn edit(
    app: &App,
    caller: &Caller,
    kind: JobKind,
    wanted: Option<&EditDto>,
    faults: &mut Vec<FieldError>,
) -> Answer<Edit> {
    let Some(wanted) = wanted else { return Ok(Edit::default()) };
    if kind != JobKind::Transcode {
        faults.push(fault("/edit", "only goes with kind transcode"));
        return Ok(Edit::default());
    }
    let mut time = |field: &str, seconds: Option<f64>| {
        let seconds = seconds?;
        if !(0.0..=LONGEST).contains(&seconds) {
            faults.push(fault(format!("/edit/{field}"), "must be a number of seconds from 0"));
        }
        Some((seconds * 1000.0).round() as u64)
    };
    let (start_ms, end_ms) = (time("start", wanted.start), time("end", wanted.end));
    if end_ms.is_some_and(|end| end <= start_ms.unwrap_or(0)) {
        faults.push(fault("/edit/end", "must be behind the start"));
    }
    let mut limit = |field: &str, value: Option<u32>, range: std::ops::RangeInclusive<u32>| {
        if value.is_some_and(|value| !range.contains(&value)) {
            let (least, most) = (range.start(), range.end());
            faults.push(fault(format!("/edit/{field}"), format!("must be from {least} to {most}")));
        }
        value
    };
    let max_width = limit("max_width", wanted.max_width, 16..=7680);
    let max_height = limit("max_height", wanted.max_height, 16..=7680);
    let max_frame_rate = limit("max_frame_rate", wanted.max_frame_rate, 1..=60);
    let crop = wanted.crop.as_ref().map(|crop| {
        for (side, pixels) in
            [("left", crop.left), ("top", crop.top), ("right", crop.right), ("bottom", crop.bottom)]
        {
            limit(&format!("crop/{side}"), Some(pixels), 0..=8192);
        }
        Crop { left: crop.left, top: crop.top, right: crop.right, bottom: crop.bottom }
    });
    let pad = wanted.pad.as_deref().and_then(|text| {
        let shape = shape(text);
        if shape.is_none() {
            faults.push(fault("/edit/pad", "must be a shape from 1:4 to 4:1, as 16:9"));
        }
        shape
    });
    let watermark = match &wanted.watermark {
        Some(mark) => watermark(app, caller, mark, faults).await?,
        None => None,
    };
    let keep_metadata = wanted.metadata == Some(SourceMetadata::Keep);
    Ok(Edit { start_ms, end_ms, crop, pad, max_width, max_height, max_frame_rate, watermark, keep_metadata })
}

fn shape(text: &str) -> Option<(u32, u32)> {
    let (across, down) = text.split_once(':')?;
    let (across, down): (u32, u32) = (across.parse().ok()?, down.parse().ok()?);
    let fits = (1..=10_000).contains(&across) && (1..=10_000).contains(&down);
    (fits && across <= 4 * down && down <= 4 * across).then_some((across, down))
}

async fn watermark(
    app: &App,
    caller: &Caller,
    wanted: &WatermarkDto,
    faults: &mut Vec<FieldError>,
) -> Answer<Option<Watermark>> {
    let mut percent = |field: &str, share: Option<f64>, default: u32, least: f64, most: f64| {
        let Some(share) = share else { return default };
        if !(least..=most).contains(&share) {
            faults.push(fault(format!("/edit/watermark/{field}"), format!("must be from {least} to {most}")));
            return default;
        }
        (share * 100.0).round() as u32
    };
    let width_percent = percent("width", wanted.width, 15, 0.01, 1.0);
    let margin_percent = percent("margin", wanted.margin, 3, 0.0, 0.4);
    let opacity_percent = percent("opacity", wanted.opacity, 100, 0.01, 1.0);
    let source = match image(app, caller, wanted).await? {
        Ok(source) => source,
        Err(detail) => {
            faults.push(fault("/edit/watermark/upload_id", detail));
            return Ok(None);
        }
    };
    let corner = wanted.corner.unwrap_or(Corner::BottomRight);
    Ok(Some(Watermark { source, corner, width_percent, margin_percent, opacity_percent }))
}

/// The source of an uploaded image, or what is wrong with it.
async fn image(app: &App, caller: &Caller, wanted: &WatermarkDto) -> Answer<Result<SourceId, String>> {
    let id = wanted.upload_id;
    let Some(upload) = uploads::get(&app.db, caller.project_id, id).await? else {
        return Ok(Err(format!("there is no upload {id}")));
    };
    let source = match upload.source_id {
        Some(source) => sources::get(&app.db, source).await?,
        None => None,
    };
    let Some(source) = source else {
        return Ok(Err("the upload is not finished, or its file is gone".to_owned()));
    };
    let pieces = source.pieces.unwrap_or_default();
    if source.bytes.is_none_or(|bytes| bytes > IMAGE_LIMIT) {
        return Ok(Err(format!("an image may have at most {IMAGE_LIMIT} bytes")));
    }
    let begins = match pieces.first() {
        Some(piece) => beginning(app, piece).await?,
        None => vec![],
    };
    if !is_image(&begins) {
        return Ok(Err("the file is not a PNG, JPEG or WebP image".to_owned()));
    }
    Ok(Ok(source.id))
}

/// The first bytes of an object.
async fn beginning(app: &App, piece: &Piece) -> Answer<Vec<u8>> {
    let mut body = app.storage.get(&piece.key, Some(0..piece.bytes.min(16))).await?.body;
    let mut bytes = vec![];
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

fn is_image(begins: &[u8]) -> bool {
    let webp = begins.starts_with(b"RIFF") && begins.get(8..12) == Some(b"WEBP");
    webp || begins.starts_with(b"\x89PNG\r\n\x1a\n") || begins.starts_with(b"\xff\xd8\xff")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_two_numbers_that_make_a_picture() {
        assert_eq!(shape("16:9"), Some((16, 9)));
        assert_eq!(shape("9:16"), Some((9, 16)));
        for bad in ["", "16", "16:0", "0:9", "5:1", "1:5", "a:b", "16:9:1", "-1:1", "20000:20000"] {
            assert_eq!(shape(bad), None, "{bad}");
        }
    }

    #[test]
    fn images_are_known_by_how_they_begin() {
        assert!(is_image(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert!(is_image(b"\xff\xd8\xff\xe0\0\x10JFIF"));
        assert!(is_image(b"RIFF\x10\0\0\0WEBPVP8 "));
        assert!(!is_image(b"RIFF\x10\0\0\0WAVEfmt ") && !is_image(b"<svg") && !is_image(b""));
    }
}
