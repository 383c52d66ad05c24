//! Measurements against named floors, in the same run. Never a test: figures depend on the machine, ratios less so.
//!
//! ```sh
//! cargo build --release --workspace --bins
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services --durable target/release/reelmill-bench start
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services --durable target/release/reelmill-bench cost
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services --durable target/release/reelmill-bench split
//! scripts/with-services --durable target/release/reelmill-bench queue
//! scripts/with-services --durable target/release/reelmill-bench claims
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services target/release/reelmill-bench listeners
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services target/release/reelmill-bench viewers
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services target/release/reelmill-bench parts
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services target/release/reelmill-bench broadcasts
//! REELMILL_BIN_DIR=$PWD/target/release scripts/with-services --durable target/release/reelmill-bench viewing
//! target/release/reelmill-bench abr
//! ```

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod abr;
mod claimer;
mod claims;
mod cost;
mod figures;
mod footage;
mod listeners;
mod live;
mod memory;
mod quality;
mod queue;
mod rows;
mod split;
mod start;
mod storyboard;
mod viewing;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "reelmill-bench")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// From the first byte of a submission to the start of its FFmpeg, on an idle farm.
    Start {
        /// Submissions measured.
        #[arg(long, default_value_t = 300)]
        jobs: usize,
        /// Without RabbitMQ: workers look by themselves.
        #[arg(long)]
        without_broker: bool,
    },
    /// CPU and wall time of a whole job against the same ladder in one plain FFmpeg command.
    Cost {
        /// Pairs measured, farm and plain in turn.
        #[arg(long, default_value_t = 3)]
        pairs: usize,
        /// Seconds of 720p footage.
        #[arg(long, default_value_t = 40)]
        seconds: u32,
    },
    /// What splitting gains and costs: two workers pinned to a core each against one, and against one plain FFmpeg command.
    Split {
        /// Seconds of 720p footage.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
        #[arg(long, default_value = "fast")]
        profile: String,
    },
    /// CPU time of a storyboard against everything else its job does.
    Storyboard {
        /// Seconds of 720p footage.
        #[arg(long, default_value_t = 180)]
        seconds: u32,
    },
    /// Tasks that do nothing: how many a second, and how soon one is picked up, beside bare PostgreSQL, graphile-worker and Celery.
    Queue(queue::Options),
    /// Many claimers on a million queued tasks: times, shares, a long history, an old snapshot.
    Claims(claims::Options),
    /// Clients of `GET /events`: what they cost the api and the database, and how late they hear.
    Listeners(listeners::Options),
    /// Viewers of one low-latency stream: how late parts come, and what they cost the api.
    Viewers(live::viewers::Options),
    /// Viewers of a recording that tell where they are: whether all are counted, and what is written for it.
    Viewing(viewing::Options),
    /// Parts a second that one core serves, beside a bare axum server and nginx.
    Parts(live::parts::Options),
    /// Many broadcasts at once, alone and beside one that is too much.
    Broadcasts(live::broadcasts::Options),
    /// Viewers' quality of experience on changing networks, with the rule that chooses their rungs and with rules from papers: simulated.
    Abr(abr::Options),
    /// Footage by its time: an hour remuxed against FFmpeg that copies, and the playlist of a day.
    Footage(footage::Options),
    /// Serves the files of a directory from memory: what `parts` compares with.
    #[command(hide = true)]
    BareFiles(live::bare::Options),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.command {
            Command::Start { jobs, without_broker } => start::run(jobs, without_broker).await,
            Command::Cost { pairs, seconds } => cost::run(pairs, seconds).await,
            Command::Split { seconds, profile } => split::run(seconds, &profile).await,
            Command::Storyboard { seconds } => storyboard::run(seconds).await,
            Command::Queue(options) => queue::run(options).await,
            Command::Claims(options) => claims::run(options).await,
            Command::Listeners(options) => listeners::run(options).await,
            Command::Viewers(options) => live::viewers::run(options).await,
            Command::Viewing(options) => viewing::run(options).await,
            Command::Parts(options) => live::parts::run(options).await,
            Command::Broadcasts(options) => live::broadcasts::run(options).await,
            Command::Footage(options) => footage::run(options).await,
            Command::Abr(options) => abr::run(&options),
            Command::BareFiles(options) => live::bare::run(options).await,
        }
    })
}
