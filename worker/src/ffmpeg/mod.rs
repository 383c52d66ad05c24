//! FFmpeg as a child process: what it is told, how it runs, what it says.

pub mod argv;
pub mod encoders;
pub mod figures;
pub mod inspect;
pub mod process;
pub mod progress;
pub mod refusal;
pub mod witness;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
}

impl Programs {
    /// Looks in `PATH`.
    ///
    /// # Errors
    /// The name of the program that is missing.
    pub fn find() -> Result<Self, String> {
        let need = |name: &str| {
            on_path(name).ok_or_else(|| {
                format!("{name} is not installed (looked in PATH); install FFmpeg 5.1 or later")
            })
        };
        Ok(Self { ffmpeg: need("ffmpeg")?, ffprobe: need("ffprobe")? })
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `file:` and the path: never taken for an option, a pattern or another protocol.
pub(crate) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}
