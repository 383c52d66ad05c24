//! Runs a child in a process group of its own, under limits, to its end, its deadline or a wish to stop.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// What is to be run.
pub struct Run<'a> {
    pub program: &'a Path,
    pub args: &'a [OsString],
    /// Working directory; also where the child's process id is noted for those who end what a dead worker left.
    pub dir: &'a Path,
    pub deadline: Duration,
    /// A child that takes no CPU time for so long hangs, and is ended.
    pub stall: Duration,
    pub limits: Limits,
}

/// Resource limits of a child.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of address space. A three-rung 1080p ladder needs more than 1 GiB.
    pub address_space: Option<u64>,
    /// Bytes of the largest file.
    pub file_size: u64,
    pub cpu: Duration,
}

impl Limits {
    /// For one encode or probe that may take `deadline` on `threads` cores.
    pub fn standard(deadline: Duration, threads: u32) -> Self {
        Self {
            address_space: Some(6 << 30),
            file_size: 1 << 40,
            cpu: deadline.saturating_mul(threads.max(1) + 1),
        }
    }

    /// For a child that uses a graphics processor: drivers set addresses aside for all of its memory and ours.
    pub fn with_drivers(self) -> Self {
        Self { address_space: None, ..self }
    }
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The end of what it wrote to stderr.
    pub log_tail: String,
    /// Time on a CPU, its own and the kernel's for it, all threads together; `None` where the system does not tell.
    pub cpu: Option<Duration>,
}

/// Why a child did not come to its own end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("could not start {0}: {1}")]
    Start(String, std::io::Error),
    #[error("it ran longer than its deadline of {} s", .0.as_secs())]
    Deadline(Duration, String),
    #[error("it did nothing for {} s", .0.as_secs())]
    Stalled(Duration, String),
    #[error("stopped")]
    Stopped,
    #[error("lost touch with the child: {0}")]
    Io(#[from] std::io::Error),
}

/// Bytes of stderr that are kept.
const LOG_TAIL: usize = 16 * 1024;

/// Starts a child. Each line of its stdout goes to `on_line`.
pub async fn run(
    run: Run<'_>,
    stop: &CancellationToken,
    on_line: impl FnMut(&str) + Send,
) -> Result<Ended, RunError> {
    run_heard(run, stop, on_line, |_| {}).await
}

/// The same, and each piece of its stderr goes to `on_log`, as it comes: mostly whole lines.
pub async fn run_heard(
    run: Run<'_>,
    stop: &CancellationToken,
    mut on_line: impl FnMut(&str) + Send,
    mut on_log: impl FnMut(&str) + Send,
) -> Result<Ended, RunError> {
    let name = run.program.display().to_string();
    let mut child = spawn(&run).map_err(|error| RunError::Start(name, error))?;
    let mut group = Group::of(&child);
    if let Some(pid) = child.id() {
        limit(pid, run.limits);
        // Best effort: without the note a crash of the worker leaves the child to the operator.
        let _ = tokio::fs::write(run.dir.join("child.pid"), pid.to_string()).await;
    }
    let pid = child.id();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let reading = async { tokio::join!(read_lines(stdout, &mut on_line), read_tail(stderr, &mut on_log)).1 };
    tokio::pin!(reading);
    tokio::select! {
        // Both pipes end when the child does.
        log_tail = &mut reading => {
            let cpu = match child.id() {
                Some(pid) => cpu_time(pid).await,
                None => None,
            };
            let status = child.wait().await?;
            group.disarm();
            Ok(Ended { status, log_tail, cpu })
        }
        () = stop.cancelled() => {
            group.kill();
            let _ = child.wait().await;
            group.disarm();
            Err(RunError::Stopped)
        }
        () = tokio::time::sleep(run.deadline) => {
            group.kill();
            let _ = child.wait().await;
            group.disarm();
            Err(RunError::Deadline(run.deadline, reading.await))
        }
        () = stalled(pid, run.stall) => {
            group.kill();
            let _ = child.wait().await;
            group.disarm();
            Err(RunError::Stalled(run.stall, reading.await))
        }
    }
}

/// How many times in that while a child that might hang is looked at.
const LOOKS: u32 = 8;

/// Returns when a process has taken no CPU time for `stall`; never where the system does not tell.
async fn stalled(pid: Option<u32>, stall: Duration) {
    let mut last = None;
    let mut idle = Duration::ZERO;
    while idle < stall {
        tokio::time::sleep(stall / LOOKS).await;
        let Some(taken) = cpu_so_far(pid).await else { return std::future::pending().await };
        idle = if last == Some(taken) { idle + stall / LOOKS } else { Duration::ZERO };
        last = Some(taken);
    }
}

/// In ticks of [`TICKS_PER_SECOND`].
#[cfg(target_os = "linux")]
async fn cpu_so_far(pid: Option<u32>) -> Option<u64> {
    let stat = tokio::fs::read_to_string(format!("/proc/{}/stat", pid?)).await.ok()?;
    ticks(&stat)
}

#[cfg(not(target_os = "linux"))]
async fn cpu_so_far(_pid: Option<u32>) -> Option<u64> {
    None
}

/// What drivers of graphics processors are told by the environment.
const DRIVER_VARIABLES: [&str; 4] =
    ["LD_LIBRARY_PATH", "LIBVA_DRIVERS_PATH", "LIBVA_DRIVER_NAME", "CUDA_VISIBLE_DEVICES"];

fn spawn(run: &Run<'_>) -> std::io::Result<Child> {
    let kept = DRIVER_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    Command::new(run.program)
        .args(run.args)
        .current_dir(run.dir)
        // Nothing of ours concerns the child, least of all our secrets.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(kept)
        .env("LC_ALL", "C.UTF-8")
        // SVT-AV1 tells its settings on stderr otherwise: warnings and worse are enough.
        .env("SVT_LOG", "2")
        .env("HOME", run.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

#[cfg(target_os = "linux")]
fn limit(pid: u32, limits: Limits) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    for (resource, most) in [
        (Resource::As, limits.address_space),
        (Resource::Fsize, Some(limits.file_size)),
        (Resource::Cpu, Some(limits.cpu.as_secs().max(1))),
        (Resource::Nofile, Some(256)),
        (Resource::Core, Some(0)),
    ] {
        let limit = Rlimit { current: most, maximum: most };
        if let Err(error) = prlimit(Some(pid), resource, limit) {
            // The child may be over already.
            tracing::debug!(%error, ?resource, "could not limit a child");
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn limit(_pid: u32, _limits: Limits) {}

/// What a child that has ended took. It must not have been waited for: until then its figures stay.
#[cfg(target_os = "linux")]
async fn cpu_time(pid: u32) -> Option<Duration> {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    // Its pipes are closed, so it ends now; without this, threads that are still about to end would be left out.
    let ended = tokio::task::spawn_blocking(move || {
        rustix::io::retry_on_intr(|| waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT))
    });
    ended.await.ok()?.ok()?;
    let stat = tokio::fs::read_to_string(format!("/proc/{pid}/stat")).await.ok()?;
    ticks(&stat).map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(not(target_os = "linux"))]
async fn cpu_time(_pid: u32) -> Option<Duration> {
    None
}

/// Linux counts so for programs on every architecture but Alpha (`USER_HZ`).
#[cfg(target_os = "linux")]
const TICKS_PER_SECOND: u64 = 100;

/// `utime` and `stime` of a line of `/proc/PID/stat` (proc(5), fields 14 and 15). The name before them may hold anything.
#[cfg(target_os = "linux")]
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// A child's process group, killed when dropped before the child has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// The child was waited for: its id may be somebody else's soon.
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Longest line that is looked at; what is beyond is passed over.
const LONGEST_LINE: usize = 64 * 1024;

async fn read_lines(stdout: Option<ChildStdout>, on_line: &mut impl FnMut(&str)) {
    let Some(mut stdout) = stdout else { return };
    let mut buffer = vec![0; 64 * 1024];
    let mut line: Vec<u8> = vec![];
    while let Ok(count) = stdout.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            add_capped(&mut line, first);
        }
        for piece in pieces {
            on_line(&String::from_utf8_lossy(&line));
            line.clear();
            add_capped(&mut line, piece);
        }
    }
    if !line.is_empty() {
        on_line(&String::from_utf8_lossy(&line));
    }
}

fn add_capped(line: &mut Vec<u8>, more: &[u8]) {
    let room = LONGEST_LINE.saturating_sub(line.len()).min(more.len());
    line.extend_from_slice(&more[..room]);
}

async fn read_tail(stderr: Option<ChildStderr>, on_log: &mut impl FnMut(&str)) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut tail: Vec<u8> = vec![];
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        on_log(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        tail.extend(buffer.iter().take(count));
        if tail.len() > 2 * LOG_TAIL {
            tail.drain(..tail.len() - LOG_TAIL);
        }
    }
    let start = tail.len().saturating_sub(LOG_TAIL);
    // NUL is the one character PostgreSQL cannot keep.
    String::from_utf8_lossy(&tail[start..]).replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(
        script: &str,
        deadline: Duration,
        stop: &CancellationToken,
    ) -> (Result<Ended, RunError>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-c".into(), script.into()];
        let limits = Limits::standard(deadline, 1);
        let mut lines = vec![];
        let job = Run {
            program: Path::new("/bin/sh"),
            args: &args,
            dir: dir.path(),
            deadline,
            stall: STALL,
            limits,
        };
        let result = run(job, stop, |line| lines.push(line.to_owned())).await;
        (result, lines)
    }

    #[tokio::test]
    async fn collects_lines_and_the_end_of_the_log() {
        let script =
            "echo one; echo two; i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let (ended, lines) = shell(script, Duration::from_secs(30), &CancellationToken::new()).await;
        let ended = ended.unwrap();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.log_tail.len() <= LOG_TAIL && ended.log_tail.ends_with("line 2999\n"));
    }

    #[tokio::test]
    async fn a_hung_child_and_its_children_end_at_the_deadline() {
        let script = "sleep 1000 & echo $!; wait";
        let (ended, lines) = shell(script, Duration::from_millis(300), &CancellationToken::new()).await;
        assert!(matches!(ended, Err(RunError::Deadline(..))));
        let grandchild = Pid::from_raw(lines[0].parse().unwrap());
        // It is killed, and a zombie for as long as its new parent takes; it must not run.
        let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_child_that_does_nothing_is_ended_long_before_its_deadline() {
        let hour = Duration::from_secs(3600);
        let (ended, _) = shell("kill -STOP $$", hour, &CancellationToken::new()).await;
        assert!(matches!(ended, Err(RunError::Stalled(..))));
        let busy = "i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done";
        let (ended, _) = shell(busy, hour, &CancellationToken::new()).await;
        assert!(ended.unwrap().status.success(), "silent, but at work");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_a_child_took_is_told_with_what_its_kernel_did() {
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let (ended, _) = shell(busy, Duration::from_secs(60), &CancellationToken::new()).await;
        let took = ended.unwrap().cpu.unwrap();
        assert!(took > Duration::from_millis(20), "{took:?}");
        let (ended, _) = shell("exec sleep 0.3", Duration::from_secs(60), &CancellationToken::new()).await;
        let slept = ended.unwrap().cpu.unwrap();
        assert!(slept < Duration::from_millis(200), "waiting is no work: {slept:?}");
        assert_eq!(ticks("7 (a ) b) R 1 1 1 0 -1 0 0 0 0 0 12 30 4 5 20"), Some(42));
    }

    const STALL: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn stops_when_told() {
        let stop = CancellationToken::new();
        let telling = stop.clone();
        tokio::spawn(async move { telling.cancel() });
        let (ended, _) = shell("sleep 1000", Duration::from_secs(60), &stop).await;
        assert!(matches!(ended, Err(RunError::Stopped)));
    }
}
