//! Scratch directories: one a worker process, one inside it for each attempt. The children of a worker that is killed are ended by
//! its [`Guardian`]; what else it left is swept at the next start, children that lost their guardian too first.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reelmill_shared::ids::WorkerId;

/// The directory of this process; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    /// Goes after the directory: by then nothing is left for it to do.
    _guardian: Guardian,
    /// Held while the process lives: whoever can take it knows that the owner is dead.
    _owner: Flock<File>,
}

const OWNER: &str = "owner.lock";
const SWEEP: &str = "sweep.lock";

impl Scratch {
    /// Makes this worker's directory under `root`, after sweeping those whose owners are dead.
    pub fn open(root: &Path, worker: WorkerId) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        // One at a time: a directory that is being made has no owner for a moment.
        let _turn = Flock::lock(File::create(root.join(SWEEP))?, FlockArg::LockExclusive)
            .map_err(|(_, errno)| std::io::Error::from(errno))?;
        sweep(root);
        let dir = root.join(format!("worker-{worker}"));
        std::fs::create_dir(&dir)?;
        let file = File::create(dir.join(OWNER))?;
        let owner = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| std::io::Error::from(errno))?;
        // FFmpeg gets absolute names.
        let dir = dir.canonicalize()?;
        Ok(Self { _guardian: Guardian::start(&dir)?, dir, _owner: owner })
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

/// A child that outlives this process by a moment, and ends the children noted in its attempts where it ends without having done
/// so, by what `/proc` says of them; where there is none it does nothing. Linux can tie a child to the thread that started it, but not to the process, and only with one more program in between.
#[derive(Debug)]
struct Guardian(Child);

/// Waits until the pipe from the worker ends. The signals that end a worker are not for the guardian.
const GUARD: &str = r#"
trap '' INT TERM HUP
read -r _
for note in "$1"/*/child.pid; do
  [ -f "$note" ] || continue
  child=$(cat "$note")
  [ "$(readlink "/proc/$child/cwd")" = "${note%/child.pid}" ] && kill -KILL "-$child"
done
"#;

impl Guardian {
    fn start(dir: &Path) -> std::io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "reelmill-guardian"]).arg(dir);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
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

    #[test]
    fn a_guardian_ends_what_works_in_the_attempts_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let sleeper = |attempt: &str, works_there: bool| {
            let attempt = root.join(attempt);
            std::fs::create_dir(&attempt).unwrap();
            let place = if works_there { &attempt } else { &root };
            let child =
                Command::new("sleep").arg("1000").current_dir(place).process_group(0).spawn().unwrap();
            std::fs::write(attempt.join("child.pid"), child.id().to_string()).unwrap();
            child
        };
        let mut ours = sleeper("a b", true);
        let mut stranger = sleeper("c", false);
        drop(Guardian::start(&root).unwrap());
        assert!(!ours.wait().unwrap().success());
        assert!(stranger.try_wait().unwrap().is_none(), "its id was given to somebody else");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
