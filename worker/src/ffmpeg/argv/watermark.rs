//! An image on the picture.

use std::fmt::Write;
use std::path::Path;

use reelmill_shared::job::edit::{Corner, Watermark};

use super::{Args, MAX_PIXELS};
use crate::ffmpeg::file_url;

/// What an image may be: demuxers that take one file apart and can name no other.
const FORMATS: &str = "png_pipe,jpeg_pipe,webp_pipe";
const DECODERS: &str = "png,mjpeg,webp";

/// Adds the image as the second input.
pub(super) fn input(args: &mut Args, image: &Path) {
    args.add(["-protocol_whitelist", "file,pipe"]);
    args.add(["-format_whitelist", FORMATS, "-codec_whitelist", DECODERS]);
    args.add(["-max_pixels", MAX_PIXELS, "-max_streams", "1", "-threads", "1", "-i"]);
    args.0.push(file_url(image));
}

/// Lays the image of group `index` on its picture, which is `width` pixels wide.
pub(super) fn overlay(graph: &mut String, mark: &Watermark, index: usize, width: u32) {
    let margin = width * mark.margin_percent / 100;
    let (near, right, down, middle) =
        (margin.to_string(), format!("W-w-{margin}"), format!("H-h-{margin}"), "(W-w)/2");
    let (x, y) = match mark.corner {
        Corner::TopLeft => (near.as_str(), near.as_str()),
        Corner::TopRight => (right.as_str(), near.as_str()),
        Corner::BottomLeft => (near.as_str(), down.as_str()),
        Corner::BottomRight => (right.as_str(), down.as_str()),
        Corner::Center => (middle, "(H-h)/2"),
    };
    let _ = write!(graph, "[p{index}];[p{index}][w{index}]overlay=x={x}:y={y}:format=yuv420,format=yuv420p");
}

/// The image once a group, scaled to its share of each of `widths`.
pub(super) fn images(mark: &Watermark, widths: &[u32]) -> String {
    let opacity = f64::from(mark.opacity_percent) / 100.0;
    let mut graph = format!(";[1:0]format=rgba,colorchannelmixer=aa={opacity:.2},split={}", widths.len());
    (0..widths.len()).for_each(|index| {
        let _ = write!(graph, "[i{index}]");
    });
    for (index, width) in widths.iter().enumerate() {
        let share = (width * mark.width_percent / 100).max(1);
        let _ = write!(graph, ";[i{index}]scale=w={share}:h=-1:flags=bicubic[w{index}]");
    }
    graph
}
