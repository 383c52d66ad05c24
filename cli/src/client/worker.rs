//! `worker`.

use chrono::Utc;

use super::Context;
use super::documents::Worker;
use super::failure::Failure;
use super::lists::{self, Paging};
use super::output::Column;
use super::text::{ago, span};

/// Commands about workers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkerCommand {
    /// List workers, newest first
    List,
}

/// Runs a command about workers.
pub(crate) async fn run(context: &Context, command: WorkerCommand) -> Result<(), Failure> {
    let WorkerCommand::List = command;
    let list = lists::read::<Worker>(&context.farm, "workers", &[], &Paging::whole()).await?;
    let columns = [
        Column::Text("WORKER"),
        Column::Text("POOL"),
        Column::Text("STATE"),
        Column::Figure("BUSY"),
        Column::Figure("SEEN"),
        Column::Figure("UP FOR"),
        Column::Text("VERSION"),
        Column::Text("CAPABILITIES"),
    ];
    let now = Utc::now();
    list.show(context.format, &columns, |worker| {
        vec![
            worker.name.clone(),
            worker.pool.clone(),
            worker.state.clone(),
            format!("{}/{}", worker.running, worker.slots),
            ago(worker.seen_at, now),
            // Until it was last seen: a worker that is gone does not get older.
            span((worker.seen_at - worker.started_at).as_seconds_f64()),
            worker.version.clone(),
            worker.capabilities.join(" "),
        ]
    })
}
