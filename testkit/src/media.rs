//! Test media: real footage from `REELMILL_MEDIA_DIR` (default `../shared/media` beside the checkout), what is derived from
//! it, and small generated clips.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

/// The directory of real footage; `None`, said aloud, where it is missing.
pub fn footage() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/media");
    let dir = std::env::var_os("REELMILL_MEDIA_DIR").map_or(default, PathBuf::from);
    if dir.join("make-variants").is_file() {
        return Some(dir.canonicalize().unwrap());
    }
    println!("SKIPPED: no test media at {} (set REELMILL_MEDIA_DIR)", dir.display());
    None
}

/// The awkward inputs of `make-variants`: made once for all test processes, with the table of what each is for.
pub fn variants() -> Option<Derived> {
    derived("make-variants")
}

/// The attacker's inputs of `make-hostile`.
pub fn hostile() -> Option<Derived> {
    derived("make-hostile")
}

/// A directory of derived files.
#[derive(Debug)]
pub struct Derived {
    pub dir: PathBuf,
    /// File name, what it exercises, what is right.
    pub rows: Vec<[String; 3]>,
}

impl Derived {
    /// A file by name.
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        assert!(path.is_file(), "{} was not made", path.display());
        path
    }
}

/// The attacker's inputs, naming this file and this address as what is not theirs. Written to `dir`.
pub fn hostile_towards(dir: &Path, secret_file: &Path, secret_url: &str) -> Option<Derived> {
    let Derived { dir: made, rows } = hostile()?;
    let default_file = footage()?.join("bbb-720p25-h264-aac.mp4").display().to_string();
    for [name, ..] in &rows {
        let mut bytes = std::fs::read(made.join(name)).unwrap();
        // The defaults of the script stand in its texts; making the bombs anew for another name would take half a minute.
        if let Ok(text) = std::str::from_utf8(&bytes) {
            bytes = text
                .replace(&default_file, &secret_file.display().to_string())
                .replace("http://127.0.0.1:9/secret.ts", secret_url)
                .into_bytes();
        }
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    Some(Derived { dir: dir.to_owned(), rows })
}

fn derived(script: &str) -> Option<Derived> {
    let script_path = footage()?.join(script);
    let root = scratch_root();
    std::fs::create_dir_all(&root).unwrap();
    // Made once: the others wait for the lock and find it done.
    let lock = File::create(root.join(format!("{script}.lock"))).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let dir = root.join(script);
    let table = root.join(format!("{script}.tsv"));
    let made = std::fs::metadata(&table).and_then(|meta| meta.modified()).ok();
    let written = std::fs::metadata(&script_path).and_then(|meta| meta.modified()).unwrap();
    if made.is_none_or(|made| made < written) {
        let _ = std::fs::remove_dir_all(&dir);
        let output = Command::new("bash").arg(&script_path).arg(&dir).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(&table, output.stdout).unwrap();
    }
    let rows = std::fs::read_to_string(&table)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('\t').map(str::to_owned);
            Some([cells.next()?, cells.next()?, cells.next()?])
        })
        .collect();
    Some(Derived { dir, rows })
}

/// Where derived media is kept between runs: beside the build.
fn scratch_root() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join("test-media")
}

/// A clip made by FFmpeg's generators: moving picture and a tone, H.264 and AAC.
pub fn clip(dir: &Path, seconds: u32, size: &str) -> PathBuf {
    let path = dir.join(format!("clip-{seconds}s-{size}.mp4"));
    let picture = format!("testsrc2=s={size}:r=25:d={seconds}");
    let tone = format!("sine=440:r=48000:d={seconds}");
    let output = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            &picture,
            "-f",
            "lavfi",
            "-i",
            &tone,
        ])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}
