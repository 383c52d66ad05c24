//! Progress on stderr: bars on a terminal, now and then a plain line elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::note;
use super::text::{percent, plain, shorten, size};

/// Between two plain lines.
pub(crate) const LINES: Duration = Duration::from_secs(3);
/// Draws a second: enough for the eye, little enough for a slow line.
const DRAWS: u8 = 8;
const JOB_BAR: &str = "{prefix} [{bar:24}] {msg}";
const UPLOAD_BAR: &str =
    "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
/// Steps of a bar whose measure is a share of one.
pub(crate) const WHOLE: u64 = 1000;

/// True where bars can be drawn: redrawing needs a terminal that can move its cursor.
pub(crate) fn can_draw() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Bars one under another.
pub(crate) fn bars() -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS))
}

/// A bar for a share of one, with a text behind it.
pub(crate) fn share_bar(bars: &MultiProgress, name: &str) -> ProgressBar {
    let bar = bars.add(ProgressBar::new(WHOLE).with_style(style(JOB_BAR)));
    bar.set_prefix(plain(name));
    bar
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// How far an upload is.
#[derive(Debug)]
pub(crate) struct UploadMeter {
    name: String,
    total: u64,
    bar: Option<ProgressBar>,
    said: Instant,
    said_share: String,
}

impl UploadMeter {
    pub(crate) fn new(name: &str, total: u64) -> Self {
        let name = shorten(&plain(name), 40);
        let bar = can_draw().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWS);
            let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style(UPLOAD_BAR));
            bar.set_message(format!("uploading {name}"));
            bar
        });
        Self { name, total, bar, said: Instant::now(), said_share: String::new() }
    }

    /// Tells how many bytes have gone out.
    pub(crate) fn set(&mut self, sent: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(sent);
            return;
        }
        let share = percent(sent as f64 / self.total.max(1) as f64);
        if self.said.elapsed() >= LINES && share != self.said_share {
            note(&format!("uploading {}: {share} ({} of {})", self.name, size(sent), size(self.total)));
            self.said = Instant::now();
            self.said_share = share;
        }
    }

    /// Says something without tearing the bar.
    pub(crate) fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(message)),
            None => note(message),
        }
    }

    /// All is there.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        note(&format!("uploaded {} ({})", self.name, size(self.total)));
    }
}
