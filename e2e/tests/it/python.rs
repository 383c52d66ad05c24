//! Judges that are not ours, in Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

/// The Python of an environment beside the build with what `requirements.txt` lists, made again only when that changes.
pub fn python() -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/it-…
    let target = test.ancestors().nth(3).unwrap();
    let environment = target.join("e2e-venv");
    let lock = std::fs::File::create(target.join("e2e-venv.lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let done = environment.join("installed.txt");
    let python = environment.join("bin/python");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let _ = std::fs::remove_dir_all(&environment);
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()]);
    run(&python, &["-m", "pip", "install", "--quiet", "--requirement", requirements.to_str().unwrap()]);
    std::fs::write(done, wanted).unwrap();
    python
}
