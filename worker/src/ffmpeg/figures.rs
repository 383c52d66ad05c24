//! Figures that FFmpeg's filters write about each frame. PSNR and SSIM as the `metadata` filter prints them: to six places, where their
//! own statistics files give two. VMAF from the log of libvmaf, which leaves nothing with the frame.

use std::path::Path;

use reelmill_shared::job::error::TaskError;
use reelmill_shared::job::quality::{MOST_VMAF, Metric};
use serde::Deserialize;

/// What the filters call what they found out about a frame.
pub const SQUARE_ERROR: &str = "lavfi.psnr.mse_avg";
pub const SIMILARITY: &str = "lavfi.ssim.All";

/// Bytes that are read for a frame, and for a file without any.
fn frame_bytes(metric: Metric) -> u64 {
    match metric {
        // Two short lines.
        Metric::Psnr | Metric::Ssim => 256,
        // A line for each of the features that the score is made of, some twenty of them.
        Metric::Vmaf => 4096,
    }
}

/// The figure of every frame in a file that FFmpeg wrote; `None` where there are not exactly `frames`.
pub async fn read(path: &Path, metric: Metric, frames: u64) -> Result<Option<Vec<f64>>, TaskError> {
    let doing = |error: std::io::Error| TaskError::internal("reading what FFmpeg measured", error);
    if tokio::fs::metadata(path).await.map_err(doing)?.len() > (frames + 1) * frame_bytes(metric) {
        return Ok(None);
    }
    let text = tokio::fs::read_to_string(path).await.map_err(doing)?;
    let figures = match metric {
        Metric::Psnr => parse(&text, SQUARE_ERROR),
        Metric::Ssim => parse(&text, SIMILARITY),
        Metric::Vmaf => parse_log(&text),
    };
    Ok(figures.filter(|figures| figures.len() as u64 == frames))
}

/// Lines `KEY=FIGURE` among others; `None` where one is no number.
fn parse(text: &str, key: &str) -> Option<Vec<f64>> {
    text.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|figure| figure.parse().ok().filter(|figure: &f64| figure.is_finite()))
        .collect()
}

/// What is read of libvmaf's log; it says much more.
#[derive(Deserialize)]
struct Log {
    frames: Vec<LogFrame>,
}

#[derive(Deserialize)]
struct LogFrame {
    #[serde(rename = "frameNum")]
    number: u64,
    metrics: LogMetrics,
}

#[derive(Deserialize)]
struct LogMetrics {
    vmaf: f64,
}

/// The scores in libvmaf's log as JSON; `None` where it is another document, a frame is missing, or a score is none.
fn parse_log(text: &str) -> Option<Vec<f64>> {
    let log: Log = serde_json::from_str(text).ok()?;
    let score = |(place, frame): (u64, LogFrame)| {
        let vmaf = frame.metrics.vmaf;
        (frame.number == place && (0.0..=MOST_VMAF).contains(&vmaf)).then_some(vmaf)
    };
    (0..).zip(log.frames).map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_its_figure() {
        let text = "frame:0    pts:0       pts_time:0\nlavfi.psnr.mse_avg=9.277049\n\
                    frame:1    pts:1       pts_time:0.04\nlavfi.psnr.mse_avg=0.000000\n";
        assert_eq!(parse(text, SQUARE_ERROR), Some(vec![9.277049, 0.0]));
        assert_eq!(parse(text, SIMILARITY), Some(vec![]));
    }

    #[test]
    fn what_is_no_number_is_no_figure() {
        for bad in ["lavfi.ssim.All=inf", "lavfi.ssim.All=nan", "lavfi.ssim.All=", "lavfi.ssim.All=0,9"] {
            assert_eq!(parse(bad, SIMILARITY), None, "{bad}");
        }
        assert_eq!(parse("lavfi.ssim.Allx=0.5", SIMILARITY), Some(vec![]));
    }

    /// As libvmaf 2 and 3 write it.
    const LOG: &str = r#"{
  "version": "2.3.1",
  "fps": 31.07,
  "frames": [
    {
      "frameNum": 0,
      "metrics": {
        "integer_adm2": 0.981466,
        "integer_motion2": 0.000000,
        "integer_vif_scale0": 0.738510,
        "vmaf": 88.104387
      }
    },
    {
      "frameNum": 1,
      "metrics": {
        "integer_adm2": 0.986420,
        "integer_motion2": 4.211320,
        "integer_vif_scale0": 0.741276,
        "vmaf": 100.000000
      }
    }
  ],
  "pooled_metrics": {
    "vmaf": { "min": 88.104387, "max": 100.000000, "mean": 94.052193, "harmonic_mean": 93.682151 }
  },
  "aggregate_metrics": {
  }
}
"#;

    #[test]
    fn every_frame_has_its_score() {
        assert_eq!(parse_log(LOG), Some(vec![88.104387, 100.0]));
        assert_eq!(parse_log(r#"{"frames": []}"#), Some(vec![]));
    }

    #[test]
    fn what_is_no_score_is_none() {
        for (what, bad) in [
            ("a frame is missing", LOG.replace("\"frameNum\": 1", "\"frameNum\": 2")),
            ("beyond the scale", LOG.replace("100.000000", "100.5")),
            ("below it", LOG.replace("88.104387", "-0.1")),
            ("no number", LOG.replace("88.104387", "null")),
            ("not JSON's number", LOG.replace("88.104387", "nan")),
            ("another metric", LOG.replace("\"vmaf\"", "\"vmaf_neg\"")),
            ("cut off", LOG[..LOG.len() / 2].to_owned()),
            ("XML", "<VMAF version=\"2.3.1\"></VMAF>".to_owned()),
        ] {
            assert_eq!(parse_log(&bad), None, "{what}");
        }
    }

    #[tokio::test]
    async fn a_log_is_read_as_long_as_its_frames_let_it_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmaf");
        std::fs::write(&path, LOG).unwrap();
        assert_eq!(read(&path, Metric::Vmaf, 2).await.unwrap(), Some(vec![88.104387, 100.0]));
        assert_eq!(read(&path, Metric::Vmaf, 3).await.unwrap(), None);
        std::fs::write(&path, LOG.to_owned() + &" ".repeat(20_000)).unwrap();
        assert_eq!(read(&path, Metric::Vmaf, 2).await.unwrap(), None);
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
