//! `reelmill check-hls`: watches any HLS stream for a while, live or not, and tells what it does that players cannot take.
//!
//! [`watch`] asks as several viewers would, [`rules`] judges what came, [`report`] tells. It knows nothing of this farm: playlists
//! and media are read by readers of its own.

mod attributes;
mod boxes;
mod findings;
mod http;
mod judge;
mod observation;
mod parse;
mod playlist;
mod report;
mod rules;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use url::Url;

use crate::client::meter::{LINES, WHOLE, bars, can_draw, share_bar};
use crate::client::output::{Format, note, print};
use crate::client::{Failure, end};
use http::Http;
use watch::Watch;

/// Shown at the end of `reelmill check-hls --help`; scripts rely on it.
const EXIT_CODES: &str = "\
Exit codes:
    0  nothing failed
    1  a rule failed; the report says which, where, and what it should be
    2  the command line is not right, or there is no such rendition
    3  the stream cannot be reached, or what is there is no playlist

Ctrl-C ends the watch early; what was seen by then is reported. docs/CHECK-HLS.md lists the rules.";

/// Options of `check-hls`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct CheckHlsArgs {
    /// A multivariant playlist, or one media playlist
    #[arg(value_parser = address)]
    url: Url,
    /// How long to watch; a stream that ends, or has ended, is done sooner
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Watch this rendition only: its NAME, or the end of its playlist's path without .m3u8
    #[arg(long, value_name = "NAME", default_value = "all")]
    rendition: String,
    /// Header to send to the host of URL (not to others that the playlist may name); may be given more than once
    #[arg(long = "header", value_name = "'K: V'", value_parser = http::parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
    if fits { Ok(url) } else { Err("it must begin with http:// or https://".to_owned()) }
}

/// Runs the command.
pub(crate) async fn run(args: CheckHlsArgs, format: Format) -> ExitCode {
    end(check(args, format).await)
}

async fn check(args: CheckHlsArgs, format: Format) -> Result<(), Failure> {
    let http = Http::new(&args.url, &args.headers)?;
    let wanted = Some(args.rendition.as_str()).filter(|name| *name != "all");
    let watch = Watch::begin(&args.url, http, wanted).await?;
    let names: Vec<&str> = watch.renditions.iter().map(|rendition| &*rendition.name).collect();
    note(&format!("watching {} for {} s: {}", args.url, args.seconds, names.join(", ")));
    let all = Duration::from_secs(args.seconds.into());
    tokio::select! {
        () = Box::pin(watch.run()) => {}
        () = sleep(all) => {}
        () = show_progress(&watch, all) => {}
        _ = tokio::signal::ctrl_c() => note("interrupted; this is what was seen"),
    }
    let (judge, watched) = watch.end();
    print(&match format {
        Format::Table => report::text(&args.url, watched, &judge),
        Format::Json => format!("{:#}", report::document(&args.url, watched, &judge)),
    })?;
    match judge.failed() {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!("{failed} rules failed"))),
    }
}

/// Tells how it stands until the time is over: by a bar on a terminal, else now and then by a line.
async fn show_progress(watch: &Watch, all: Duration) {
    let began = Instant::now();
    let bars = can_draw().then(bars);
    let bar = bars.as_ref().map(|bars| share_bar(bars, "watching"));
    let mut ticks = interval(if bar.is_some() { LINES / 12 } else { LINES });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    while began.elapsed() < all {
        ticks.tick().await;
        let gone = began.elapsed();
        let line = report::progress(gone, all, watch.so_far());
        match &bar {
            Some(bar) => {
                bar.set_position((WHOLE as f64 * gone.as_secs_f64() / all.as_secs_f64()) as u64);
                bar.set_message(line);
            }
            None => note(&line),
        }
    }
}
