//! How near a rendition is to its source, frame by frame, as FFmpeg measures it.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// What was measured of one rendition.
pub(crate) struct Quality {
    /// Mean square errors over all planes, frame by frame.
    errors: Vec<f64>,
    /// Of the whole.
    pub(crate) ssim: f64,
    pub(crate) bytes: u64,
}

impl Quality {
    pub(crate) fn frames(&self) -> usize {
        self.errors.len()
    }

    /// PSNR in dB of the mean error of these frames.
    pub(crate) fn psnr(&self, frames: Range<usize>) -> anyhow::Result<f64> {
        let errors = self.errors.get(frames.start..frames.end.min(self.errors.len())).unwrap_or_default();
        if errors.is_empty() {
            bail!("there are no frames {frames:?}");
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        Ok(10.0 * (255.0_f64.powi(2) / mean.max(1e-9)).log10())
    }
}

/// Compares a rendition with its source, scaled to its size.
pub(crate) fn compare(made: &Path, source: &Path) -> anyhow::Result<Quality> {
    let dir = tempfile::tempdir()?;
    // Named without a path: a filter's argument has quoting rules of its own.
    let graph = "[1:v]fps=25:start_time=0[s];[s][0:v]scale2ref=flags=bicubic[ref][made];[made]split[a][b];[ref]split[c][d];\
                 [a][c]psnr=stats_file=psnr.txt,nullsink;[b][d]ssim=stats_file=ssim.txt[out]";
    let output = Command::new("ffmpeg")
        .current_dir(dir.path())
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(made)
        .arg("-i")
        .arg(source)
        .args(["-filter_complex", graph, "-map", "[out]", "-f", "null", "-"])
        .output()?;
    if !output.status.success() {
        bail!("comparing: {}", String::from_utf8_lossy(&output.stderr));
    }
    let number = |line: &str, name: &str| -> Option<f64> {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
    };
    let psnr = std::fs::read_to_string(dir.path().join("psnr.txt"))?;
    let errors: Vec<f64> =
        psnr.lines().map(|line| number(line, "mse_avg:")).collect::<Option<_>>().context("PSNR's figures")?;
    let ssim = std::fs::read_to_string(dir.path().join("ssim.txt"))?;
    let alike: Vec<f64> =
        ssim.lines().map(|line| number(line, "All:")).collect::<Option<_>>().context("SSIM's figures")?;
    let ssim = alike.iter().sum::<f64>() / alike.len().max(1) as f64;
    Ok(Quality { errors, ssim, bytes: std::fs::metadata(made)?.len() })
}
