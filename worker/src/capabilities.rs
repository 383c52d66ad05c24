//! What this worker can do, proven by doing it once.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reelmill_shared::job::capability::Capability;
use tokio::process::Command;
use tokio::time::timeout;

use crate::ffmpeg::Programs;

/// Long enough for a slow machine, short enough for a hung driver.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries every capability and gives those that work.
pub async fn prove(programs: &Programs) -> Vec<Capability> {
    let mut proven = vec![];
    for capability in Capability::ALL {
        let args: &[&str] = match capability {
            Capability::Base => {
                &["-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo", "-frames:a", "2", "-c:a", "aac"]
            }
            Capability::Libx264 => &[
                "-f",
                "lavfi",
                "-i",
                "color=black:s=64x64:r=25",
                "-frames:v",
                "1",
                "-c:v",
                "libx264",
                "-pix_fmt",
                "yuv420p",
            ],
        };
        match encodes(&programs.ffmpeg, args).await {
            Ok(()) => proven.push(*capability),
            Err(reason) => tracing::warn!(capability = %capability, reason, "this worker cannot do that"),
        }
    }
    proven
}

async fn encodes(ffmpeg: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(ffmpeg);
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
        .args(args)
        .args(["-f", "null", "-"])
        // Like every FFmpeg: our secrets are none of its concern.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
