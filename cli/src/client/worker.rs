//! `worker`.

use chrono::Utc;
use reqwest::Method;
use serde_json::json;

use super::Context;
use super::documents::Worker;
use super::failure::Failure;
use super::lists::{self, Paging};
use super::output::{Column, Format, fields, note, print};
use super::text::{ago, span};

/// Commands about workers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WorkerCommand {
    /// List workers, newest first
    List,
    /// Let a worker take nothing more, finish what it can and give the rest back
    Drain(WorkerArgs),
    /// Let a worker work again that was drained, or is in quarantine
    Resume(WorkerArgs),
}

/// A worker.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Its name, or its id
    #[arg(value_name = "WORKER")]
    worker: String,
}

/// Runs a command about workers.
pub(crate) async fn run(context: &Context, command: WorkerCommand) -> Result<(), Failure> {
    match command {
        WorkerCommand::List => list(context).await,
        WorkerCommand::Drain(args) => tell(context, &args.worker, "drain").await,
        WorkerCommand::Resume(args) => tell(context, &args.worker, "resume").await,
    }
}

/// What people want to know first.
fn state(worker: &Worker) -> String {
    match (&worker.quarantine_reason, worker.drain_at) {
        _ if worker.state == "gone" => worker.state.clone(),
        (Some(_), _) => "quarantined".to_owned(),
        (None, Some(_)) if worker.running == 0 => "drained".to_owned(),
        _ => worker.state.clone(),
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
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
            state(worker),
            format!("{}/{}", worker.running, worker.slots),
            ago(worker.seen_at, now),
            // Until it was last seen: a worker that is gone does not get older.
            span((worker.seen_at - worker.started_at).as_seconds_f64()),
            worker.version.clone(),
            worker.capabilities.join(" "),
        ]
    })?;
    if context.format == Format::Table {
        for worker in list.rows.iter().filter(|worker| worker.state != "gone") {
            if let Some(reason) = &worker.quarantine_reason {
                note(&format!("{} is in quarantine: it {reason}", worker.name));
            }
        }
    }
    Ok(())
}

async fn tell(context: &Context, wanted: &str, what: &str) -> Result<(), Failure> {
    let farm = &context.farm;
    let list = lists::read::<Worker>(farm, "workers", &[], &Paging::whole()).await?;
    let is_it = |worker: &&Worker| {
        worker.state != "gone" && (worker.name == wanted || worker.id.to_string() == wanted)
    };
    let mut found = list.rows.iter().filter(is_it);
    let worker = found.next().ok_or_else(|| Failure::NotFound(format!("there is no worker {wanted:?}")))?;
    if found.next().is_some() {
        return Err(Failure::Usage(format!("several workers are called {wanted:?}; give the id")));
    }
    let id = worker.id.to_string();
    farm.ask(farm.request(Method::POST, farm.url(&["workers", &id, what]))).await?;
    match context.format {
        Format::Json => print(&json!({ "id": id, "told": what }).to_string()),
        Format::Table => print(&fields(&[("worker", worker.name.clone()), ("told", what.to_owned())])),
    }
}
