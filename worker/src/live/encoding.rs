//! The FFmpeg of a run: its directory, its pipes, its command line.

use std::path::{Path, PathBuf};

use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::media::live::plan::LivePlan;
use reelmill_shared::media::probe::Probe;

use super::outlet;
use super::run::{NEVER, RunFault};
use super::studio::Studio;
use crate::ffmpeg::argv::{self, Container, LiveFiles};
use crate::ffmpeg::process::Limits;

/// A directory that goes when the run does.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "could not remove the scratch of a live run");
        }
    }
}

/// An FFmpeg about to be started, and its pipes.
pub(super) struct Encoding {
    pub(super) dir: PathBuf,
    pub(super) limits: Limits,
    pub(super) args: Vec<std::ffi::OsString>,
    pub(super) input: tokio::net::unix::pipe::Sender,
    pub(super) outputs: Vec<tokio::net::unix::pipe::Receiver>,
}

impl Encoding {
    pub(super) fn start(
        studio: &Studio,
        dir: &Path,
        plan: &LivePlan,
        (encoder, container, epoch): (Encoder, Container, i32),
        probe: &Probe,
        passed: bool,
    ) -> Result<Self, RunFault> {
        if !plan.rungs.is_empty() && probe.video.is_none() {
            return Err(RunFault::Input("the picture of this broadcast is missing in it".into()));
        }
        // One publisher may have several of them, one after the other.
        let input = dir.join(format!("in-{epoch}"));
        outlet::make(&input)?;
        let outputs: Vec<PathBuf> = plan.tracks().map(|track| dir.join(format!("{track}-{epoch}"))).collect();
        outputs.iter().try_for_each(|output| outlet::make(output))?;
        let files = LiveFiles {
            input: &input,
            format: container.format(),
            video: probe.video.as_ref().map(|stream| stream.index),
            stored_size: probe.video.as_ref().map_or((2, 2), |stream| (stream.width, stream.height)),
            audio: probe.audio.first().map(|stream| stream.index),
            passed,
            outputs: &outputs,
        };
        let args = argv::live(plan, &files, encoder, threads());
        tracing::debug!(program = %studio.programs.ffmpeg.display(), ?args, "starting a live encoder");
        let limits = Limits { file_size: 1 << 20, ..Limits::standard(NEVER, 1) };
        Ok(Self {
            dir: dir.to_owned(),
            limits: if encoder.is_hardware() { limits.with_drivers() } else { limits },
            args,
            input: outlet::sender(&input)?,
            outputs: outputs.iter().map(|path| outlet::receiver(path)).collect::<Result<_, _>>()?,
        })
    }
}

/// Threads of each encoder: slices of one picture, so more of them gain little.
fn threads() -> u32 {
    std::thread::available_parallelism().map_or(1, usize::from).min(4) as u32
}
