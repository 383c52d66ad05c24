//! What FFmpeg says of the first frame it decoded: a seek that ends too late goes unnoticed otherwise.

use std::path::Path;

use reelmill_shared::job::error::TaskError;
use reelmill_shared::media::grid::Rate;

/// The presentation time of the first frame in seconds, from a file that FFmpeg wrote as `framecrc`; `None` where there was no frame.
pub async fn first_seconds(path: &Path) -> Result<Option<f64>, TaskError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| TaskError::internal("reading which frame was the first", error))?;
    Ok(parse(&text))
}

/// A time base (`#tb 0: 1/25`), then a line a frame (stream, dts, pts, …).
fn parse(framecrc: &str) -> Option<f64> {
    let base = framecrc.lines().find_map(|line| Rate::parse(line.strip_prefix("#tb 0:")?.trim()))?;
    let first = framecrc.lines().find(|line| !line.starts_with('#'))?;
    let pts: f64 = first.split(',').nth(2)?.trim().parse().ok()?;
    Some(pts * base.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_read_with_its_time_base() {
        let text = "#software: Lavf59\n#tb 0: 1/12800\n#media_type 0: video\n#codec_id 0: rawvideo\n#dimensions 0: 16x16\n\
                    #sar 0: 1/1\n0,      51200,      51200,        512,      384, 0x5d3e1f2a\n";
        assert_eq!(parse(text), Some(4.0));
        assert_eq!(parse("#tb 0: 1/25\n"), None);
    }
}
