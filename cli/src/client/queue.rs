//! `queue`.

use clap::builder::PossibleValuesParser;
use reelmill_shared::job::capability::Pool;
use reqwest::Method;

use super::Context;
use super::documents::{Queue, Queues};
use super::failure::Failure;
use super::output::{Column, Format, fields, print, table};
use super::text::span;

/// Commands about the pools of workers and what waits in them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum QueueCommand {
    /// List the pools, what waits in them, and who works
    List,
    /// Let the workers of a pool take nothing more; what runs goes on
    Pause(QueueArgs),
    /// Let the workers of a paused pool take work again
    Resume(QueueArgs),
}

/// A pool.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    #[arg(value_name = "POOL", value_parser = PossibleValuesParser::new(Pool::ALL.iter().map(|pool| pool.as_str())))]
    pool: String,
}

/// Runs a command about pools.
pub(crate) async fn run(context: &Context, command: QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::List => list(context).await,
        QueueCommand::Pause(args) => tell(context, &args.pool, "pause").await,
        QueueCommand::Resume(args) => tell(context, &args.pool, "resume").await,
    }
}

fn state(queue: &Queue) -> &'static str {
    if queue.paused { "paused" } else { "open" }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let document = context.farm.get::<Queues>(&["queues"]).await?;
    if context.format == Format::Json {
        return print(&document.text);
    }
    let columns = [
        Column::Text("POOL"),
        Column::Text("STATE"),
        Column::Figure("READY"),
        Column::Figure("OLDEST"),
        Column::Figure("SCHEDULED"),
        Column::Figure("RUNNING"),
        Column::Figure("SLOTS"),
        Column::Figure("WORKERS"),
    ];
    let rows: Vec<Vec<String>> = document
        .view
        .queues
        .iter()
        .map(|queue| {
            let oldest = if queue.ready > 0 { span(queue.oldest_seconds) } else { "-".to_owned() };
            let figures = [queue.scheduled, queue.running, queue.slots, queue.workers].map(|n| n.to_string());
            let mut row = vec![queue.pool.clone(), state(queue).to_owned(), queue.ready.to_string(), oldest];
            row.extend(figures);
            row
        })
        .collect();
    print(&table(&columns, rows))
}

async fn tell(context: &Context, pool: &str, what: &str) -> Result<(), Failure> {
    let farm = &context.farm;
    let url = farm.url(&["queues", pool, what]);
    let document = farm.document::<Queue>(farm.ask(farm.request(Method::POST, url)).await?).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => print(&fields(&[
            ("pool", document.view.pool.clone()),
            ("state", state(&document.view).to_owned()),
        ])),
    }
}
