//! FFmpeg as a child process: what it is told, how it runs, what it says.

pub mod argv;
pub mod encoders;
pub mod figures;
pub mod inspect;
pub mod loudness;
pub mod process;
pub mod progress;
pub mod refusal;
pub mod witness;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
    /// See [`Programs::build`]; found out when first needed.
    build: Arc<OnceCell<Vec<u8>>>,
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
        Ok(Self { ffmpeg: need("ffmpeg")?, ffprobe: need("ffprobe")?, build: Arc::default() })
    }

    /// A digest of what FFmpeg says of its version, its libraries and how it was built: another one may encode to other bytes.
    pub async fn build(&self) -> std::io::Result<&[u8]> {
        let build = self.build.get_or_try_init(|| async {
            let said = Command::new(&self.ffmpeg)
                .args(["-hide_banner", "-nostdin", "-version"])
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await?;
            Ok::<_, std::io::Error>(Sha256::digest(said.stdout).to_vec())
        });
        Ok(build.await?)
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
