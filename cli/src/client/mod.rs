//! The client commands: each is a request or two to a farm, and what they answer, for people or for programs.

mod connection;
mod documents;
mod dry_run;
mod failure;
mod http;
mod input;
mod job;
mod listen;
mod lists;
mod live;
pub(crate) mod meter;
pub(crate) mod output;
mod profile;
mod progress;
mod project;
mod queue;
mod recording;
mod sse;
mod submit;
pub(crate) mod text;
mod upload;
mod watch;
mod webhook;
mod worker;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::CommandFactory;
use clap_complete::Shell;
use reelmill_shared::ids::{JobId, UploadId, WebhookId};

pub(crate) use connection::{Connection, is_loopback};
pub(crate) use failure::Failure;

use failure::EXIT_CODES;
use http::Farm;
use output::{Format, note, print};

// No doc comment: clap would make it the program's description.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXIT_CODES)]
pub(crate) enum Command {
    /// Submit, watch and control jobs
    #[command(subcommand, after_help = EXIT_CODES)]
    Job(job::JobCommand),
    /// Show a job and its tasks (the same as `job status`)
    Status(job::JobArgs),
    /// Upload a file and print the upload's id
    Upload(upload::UploadArgs),
    /// List, show and delete recordings
    #[command(subcommand)]
    Recording(recording::RecordingCommand),
    /// Create, start, stop and show livestreams
    #[command(subcommand)]
    Live(live::LiveCommand),
    /// List and show profiles
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// List, make and change projects, and see what has reached its age
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// Send events elsewhere, or receive them here
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// List, drain and resume workers
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// List, pause and resume the pools of workers
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Print completions for a shell
    Completions { shell: Shell },
}

/// Runs a client command.
pub(crate) async fn run(connection: &Connection, command: Command) -> ExitCode {
    end(dispatch(connection, command).await)
}

/// Says why a command failed, if it did, and gives the code to exit with.
pub(crate) fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            note(&format!("reelmill: {failure}"));
            failure.into()
        }
    }
}

async fn dispatch(connection: &Connection, command: Command) -> Result<(), Failure> {
    if let Command::Completions { shell } = command {
        return completions(shell);
    }
    let context = Context {
        farm: Farm::new(connection.resolve()?)?,
        format: connection.format,
        interrupted: Mutex::new(Interrupted::Nothing),
    };
    tokio::select! {
        result = Box::pin(carry_out(&context, command)) => result,
        _ = tokio::signal::ctrl_c() => Err(context.interrupt().await),
    }
}

async fn carry_out(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Job(command) => job::run(context, command).await,
        Command::Status(args) => job::status(context, args).await,
        Command::Upload(args) => upload::run(context, args).await,
        Command::Recording(command) => recording::run(context, command).await,
        Command::Live(command) => live::run(context, command).await,
        Command::Profile(command) => profile::run(context, command).await,
        Command::Project(command) => project::run(context, command).await,
        Command::Webhook(command) => webhook::run(context, command).await,
        Command::Worker(command) => worker::run(context, command).await,
        Command::Queue(command) => queue::run(context, command).await,
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = vec![];
    clap_complete::generate(shell, &mut crate::Args::command(), "reelmill", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// What a command works with.
pub(crate) struct Context {
    pub(crate) farm: Farm,
    pub(crate) format: Format,
    interrupted: Mutex<Interrupted>,
}

/// What Ctrl-C means at the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interrupted {
    Nothing,
    /// Resumable where the same command with the same idempotency key goes on with it.
    Uploading {
        id: UploadId,
        resumable: bool,
    },
    Watching(JobId),
    Listening(WebhookId),
}

impl Context {
    /// Tells what Ctrl-C means from now on.
    pub(crate) fn on_interrupt(&self, meaning: Interrupted) {
        *self.interrupted.lock().unwrap_or_else(PoisonError::into_inner) = meaning;
    }

    async fn interrupt(&self) -> Failure {
        let meaning = *self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        Failure::Interrupted(match meaning {
            Interrupted::Nothing => "interrupted".to_owned(),
            Interrupted::Uploading { id, resumable: true } => {
                format!("interrupted; the upload {id} goes on with the same command")
            }
            Interrupted::Uploading { id, resumable: false } => {
                upload::abandon(&self.farm, id).await;
                "interrupted; the upload was given up".to_owned()
            }
            Interrupted::Listening(id) => {
                listen::remove(&self.farm, id).await;
                "stopped listening".to_owned()
            }
            Interrupted::Watching(id) => {
                format!(
                    "stopped watching; the job goes on (reelmill job watch {id}, reelmill job cancel {id})"
                )
            }
        })
    }
}
