//! Stands in for `ffmpeg` where `reelmill-bench start` measures: notes the time, then becomes the real one. Small, because its own
//! start is measured along.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let dir = Path::new(&called).parent().unwrap_or(Path::new("."));
    // One short append: whole even where several start at once.
    let mut times = OpenOptions::new().create(true).append(true).open(dir.join("times"))?;
    times.write_all(format!("{now}\n").as_bytes())?;
    Err(Command::new(dir.join("real-ffmpeg")).args(args).exec())
}
