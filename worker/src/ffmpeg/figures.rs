//! Figures that FFmpeg's filters write about each frame, as their `metadata` filter prints them: to six places, where their own
//! statistics files give two.

use std::path::Path;

use reelmill_shared::job::error::TaskError;
use reelmill_shared::job::quality::Metric;

/// Bytes that are read for a frame, and for a file without any: each frame is two short lines.
const FRAME_BYTES: u64 = 256;

/// What the filter of this metric calls what it found out about a frame.
pub fn key(metric: Metric) -> &'static str {
    match metric {
        Metric::Psnr => "lavfi.psnr.mse_avg",
        Metric::Ssim => "lavfi.ssim.All",
    }
}

/// The figure of every frame in a file that FFmpeg wrote; `None` where there are not exactly `frames`.
pub async fn read(path: &Path, metric: Metric, frames: u64) -> Result<Option<Vec<f64>>, TaskError> {
    let doing = |error: std::io::Error| TaskError::internal("reading what FFmpeg measured", error);
    if tokio::fs::metadata(path).await.map_err(doing)?.len() > (frames + 1) * FRAME_BYTES {
        return Ok(None);
    }
    let text = tokio::fs::read_to_string(path).await.map_err(doing)?;
    Ok(parse(&text, key(metric)).filter(|figures| figures.len() as u64 == frames))
}

/// Lines `KEY=FIGURE` among others; `None` where one is no number.
fn parse(text: &str, key: &str) -> Option<Vec<f64>> {
    text.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|figure| figure.parse().ok().filter(|figure: &f64| figure.is_finite()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_its_figure() {
        let text = "frame:0    pts:0       pts_time:0\nlavfi.psnr.mse_avg=9.277049\n\
                    frame:1    pts:1       pts_time:0.04\nlavfi.psnr.mse_avg=0.000000\n";
        assert_eq!(parse(text, key(Metric::Psnr)), Some(vec![9.277049, 0.0]));
        assert_eq!(parse(text, key(Metric::Ssim)), Some(vec![]));
    }

    #[test]
    fn what_is_no_number_is_no_figure() {
        for bad in ["lavfi.ssim.All=inf", "lavfi.ssim.All=nan", "lavfi.ssim.All=", "lavfi.ssim.All=0,9"] {
            assert_eq!(parse(bad, key(Metric::Ssim)), None, "{bad}");
        }
        assert_eq!(parse("lavfi.ssim.Allx=0.5", key(Metric::Ssim)), Some(vec![]));
    }

    #[tokio::test]
    async fn a_file_with_other_frames_than_planned_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssim");
        std::fs::write(&path, "lavfi.ssim.All=0.5\n".repeat(3)).unwrap();
        assert_eq!(read(&path, Metric::Ssim, 3).await.unwrap(), Some(vec![0.5; 3]));
        assert_eq!(read(&path, Metric::Ssim, 2).await.unwrap(), None);
        std::fs::write(&path, "lavfi.ssim.All=0.5\n".repeat(100)).unwrap();
        assert_eq!(read(&path, Metric::Ssim, 1).await.unwrap(), None);
    }
}
