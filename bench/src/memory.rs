//! The most memory that processes and what they started held at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks several times a second until it is stopped.
pub(crate) struct Peak {
    most_kb: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    looking: JoinHandle<()>,
}

/// FFmpeg's buffers grow within its first second and then stay.
const LOOK: Duration = Duration::from_millis(200);

impl Peak {
    /// Of the one among `parents` that holds the most together with its children.
    pub(crate) fn of(parents: &[i32]) -> Self {
        let (most_kb, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let looking = {
            let (parents, most, over) = (parents.to_vec(), Arc::clone(&most_kb), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let now = parents.iter().map(|parent| family_kb(*parent)).max().unwrap_or(0);
                    most.fetch_max(now, Ordering::Relaxed);
                    std::thread::sleep(LOOK);
                }
            })
        };
        Self { most_kb, over, looking }
    }

    /// Megabytes.
    pub(crate) fn stop(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.looking.join();
        self.most_kb.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

/// Resident memory of a process alone; zero where there is none.
pub(crate) fn resident_kb(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    field(&status, "VmRSS:").unwrap_or(0)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// Resident memory of a process and its children.
fn family_kb(parent: i32) -> u64 {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mine = pid == parent || field(&status, "PPid:")? == parent as u64;
        if mine { field(&status, "VmRSS:") } else { None }
    })
    .sum()
}
