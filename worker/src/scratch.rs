//! Scratch directories: one a worker process, one inside it for each attempt. What a killed worker left is swept at start,
//! children first.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reelmill_shared::ids::WorkerId;

/// The directory of this process; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    /// Held while the process lives: whoever can take it knows that the owner is dead.
    _owner: Flock<File>,
}

const OWNER: &str = "owner.lock";

impl Scratch {
    /// Makes this worker's directory under `root`, after sweeping those whose owners are dead.
    pub fn open(root: &Path, worker: WorkerId) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        sweep(root);
        let dir = root.join(format!("worker-{worker}"));
        std::fs::create_dir(&dir)?;
        let file = File::create(dir.join(OWNER))?;
        let owner = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| std::io::Error::from(errno))?;
        // FFmpeg gets absolute names.
        Ok(Self { dir: dir.canonicalize()?, _owner: owner })
    }

    /// A new directory for one attempt.
    pub fn attempt(&self, name: &str) -> std::io::Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, dir = %self.dir.display(), "could not remove the scratch directory");
        }
    }
}

fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else {
        return;
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let ours = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("worker-"));
        let Some(file) = ours.then(|| File::open(dir.join(OWNER)).ok()).flatten() else {
            continue;
        };
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err() {
            continue;
        }
        kill_children(&dir);
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => tracing::info!(dir = %dir.display(), "swept what a dead worker left"),
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "could not sweep a dead worker's scratch")
            }
        }
    }
}

/// Ends the children noted in `dir`'s attempts. A process id may have been given to somebody else since: only one that
/// works in this very directory is ours.
fn kill_children(dir: &Path) {
    let Ok(attempts) = std::fs::read_dir(dir) else {
        return;
    };
    for attempt in attempts.flatten().map(|entry| entry.path()) {
        let Ok(pid) = std::fs::read_to_string(attempt.join("child.pid")) else {
            continue;
        };
        let Ok(pid) = pid.trim().parse::<i32>() else {
            continue;
        };
        let works_here = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == attempt);
        if works_here {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_owners_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let alive = Scratch::open(root.path(), WorkerId::new()).unwrap();
        let dead = root.path().join("worker-dead");
        std::fs::create_dir(&dead).unwrap();
        File::create(dead.join(OWNER)).unwrap();
        let _second = Scratch::open(root.path(), WorkerId::new()).unwrap();
        assert!(!dead.exists());
        assert!(alive.attempt("a").is_ok());
    }
}
