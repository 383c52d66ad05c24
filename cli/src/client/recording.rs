//! `recording`.

use std::io::IsTerminal;

use chrono::Utc;
use clap::builder::PossibleValuesParser;
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::state::RecordingStatus;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::documents::{Job, PlaybackToken, Recording, Rendition, Source};
use super::failure::Failure;
use super::lists::{self, Paging};
use super::output::{Column, Format, confirmed, fields, note, print, table};
use super::text::{ago, bitrate, plain, short_number, shorten, size, span};
use super::watch::watch;
use super::{Context, job};

const TITLE_WIDTH: usize = 40;

/// Commands about recordings.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RecordingCommand {
    /// List recordings, newest first
    List(ListArgs),
    /// Show a recording
    Show(ShowArgs),
    /// Encode a recording in more qualities, and follow that to its end
    Qualities(QualitiesArgs),
    /// Delete a recording and everything made of it
    Delete(DeleteArgs),
}

/// Options of `recording list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only recordings in this state
    #[arg(long, value_parser = PossibleValuesParser::new(RecordingStatus::ALL.iter().map(|status| status.as_str())))]
    status: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `recording show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The recording's id
    #[arg(value_name = "RECORDING")]
    id: RecordingId,
    /// Print only an address that plays without a key, for some hours
    #[arg(long)]
    play_url: bool,
}

/// Options of `recording qualities`.
#[derive(Debug, clap::Args)]
pub(crate) struct QualitiesArgs {
    /// The recording's id
    #[arg(value_name = "RECORDING")]
    id: RecordingId,
    /// Names of rungs, as 480p, or of profiles with all their rungs; what is there already is not encoded again
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Options of `recording delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The recording's id
    #[arg(value_name = "RECORDING")]
    id: RecordingId,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Runs a command about recordings.
pub(crate) async fn run(context: &Context, command: RecordingCommand) -> Result<(), Failure> {
    match command {
        RecordingCommand::List(args) => list(context, args).await,
        RecordingCommand::Show(args) if args.play_url => play_url(context, args.id).await,
        RecordingCommand::Show(args) => show(context, args.id).await,
        RecordingCommand::Qualities(args) => qualities(context, args).await,
        RecordingCommand::Delete(args) => delete(context, args).await,
    }
}

async fn list(context: &Context, args: ListArgs) -> Result<(), Failure> {
    let filters = [("status", args.status)];
    let list = lists::read::<Recording>(&context.farm, "recordings", &filters, &args.paging).await?;
    let columns = [
        Column::Text("RECORDING"),
        Column::Text("STATUS"),
        Column::Figure("LENGTH"),
        Column::Text("RENDITIONS"),
        Column::Figure("CREATED"),
        Column::Text("TITLE"),
    ];
    let now = Utc::now();
    list.show(context.format, &columns, |recording| {
        let renditions: Vec<&str> =
            recording.renditions.iter().map(|rendition| rendition.name.as_str()).collect();
        vec![
            recording.id.to_string(),
            recording.status.clone(),
            recording.duration_seconds.map(span).unwrap_or_default(),
            renditions.join(" "),
            ago(recording.created_at, now),
            shorten(&recording.title, TITLE_WIDTH),
        ]
    })
}

async fn show(context: &Context, id: RecordingId) -> Result<(), Failure> {
    let farm = &context.farm;
    let document = farm.get::<Recording>(&["recordings", &id.to_string()]).await?;
    let recording = document.view;
    let page = farm.absolute(&recording.watch_url);
    if context.format == Format::Json {
        // The API knows paths only; where it is reached is known here.
        let mut value: Value = serde_json::from_str(&document.text).unwrap_or_default();
        value["watch_page"] = Value::from(page);
        return print(&value.to_string());
    }
    let absolute =
        |path: &Option<String>| path.as_deref().map(|path| farm.absolute(path)).unwrap_or_default();
    let error = recording.error.as_ref().map(|fault| format!("{} ({})", fault.message, fault.reason));
    let pairs = [
        ("recording", recording.id.to_string()),
        ("title", recording.title.clone()),
        ("status", recording.status.clone()),
        ("error", error.unwrap_or_default()),
        ("access", recording.access.clone()),
        ("length", recording.duration_seconds.map(span).unwrap_or_default()),
        ("source", recording.source.as_ref().map(source).unwrap_or_default()),
        ("from", recording.source.as_ref().and_then(|source| source.url.clone()).unwrap_or_default()),
        ("created", ago(recording.created_at, Utc::now())),
        ("job", recording.job_id.map(|id| id.to_string()).unwrap_or_default()),
        ("hls", absolute(&recording.hls_url)),
        ("dash", absolute(&recording.dash_url)),
        ("watch", page),
    ];
    let mut text = fields(&pairs);
    for warning in recording.source.iter().flat_map(|source| &source.warnings) {
        text.push_str(&format!("\nwarning: {}", plain(warning)));
    }
    if !recording.renditions.is_empty() {
        text.push_str("\n\n");
        text.push_str(&renditions(&recording.renditions));
    }
    print(&text)
}

/// `h264+aac 1280x720 25 fps, 1.1 MB`.
fn source(source: &Source) -> String {
    let codecs: Vec<&str> =
        [&source.video_codec, &source.audio_codec].into_iter().flatten().map(String::as_str).collect();
    let picture = source.width.zip(source.height).map(|(width, height)| format!("{width}x{height}"));
    let fps = source.fps.map(|fps| format!("{} fps", short_number(fps)));
    let media = [Some(codecs.join("+")), picture, fps];
    let media: Vec<String> = media.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let parts = [Some(media.join(" ")), source.size_bytes.map(size)];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn renditions(renditions: &[Rendition]) -> String {
    let columns = [
        Column::Text("RENDITION"),
        Column::Text("KIND"),
        Column::Figure("SIZE"),
        Column::Figure("FPS"),
        Column::Figure("AVERAGE"),
        Column::Figure("PEAK"),
        Column::Text("CODECS"),
    ];
    table(
        &columns,
        renditions.iter().map(|rendition| {
            let size =
                rendition.width.zip(rendition.height).map(|(width, height)| format!("{width}x{height}"));
            vec![
                rendition.name.clone(),
                rendition.kind.clone(),
                size.unwrap_or_default(),
                rendition.frame_rate.map(short_number).unwrap_or_default(),
                bitrate(rendition.average_bandwidth),
                bitrate(rendition.bandwidth),
                rendition.codecs.clone(),
            ]
        }),
    )
}

async fn play_url(context: &Context, id: RecordingId) -> Result<(), Failure> {
    let farm = &context.farm;
    let recording = farm.get::<Recording>(&["recordings", &id.to_string()]).await?.view;
    if recording.hls_url.is_none() {
        note(&format!("the recording is {}: there is nothing to play yet", recording.status));
    }
    let url = farm.url(&["recordings", &id.to_string(), "playback-token"]);
    let document = farm.document::<PlaybackToken>(farm.ask(farm.request(Method::POST, url)).await?).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => print(&plain(&farm.absolute(&document.view.hls_url))),
    }
}

async fn qualities(context: &Context, args: QualitiesArgs) -> Result<(), Failure> {
    let path = ["recordings", &args.id.to_string(), "transcode", "quality"];
    let body = json!({ "profiles": args.names });
    let job = context.farm.post::<Job>(&path, &body, &Uuid::now_v7().to_string()).await?.view;
    note(&format!("job {}", job.id));
    let done = watch(context, job.id).await?;
    if context.format == Format::Table { print(&job::report(&context.farm, &done)) } else { Ok(()) }
}

async fn delete(context: &Context, args: DeleteArgs) -> Result<(), Failure> {
    let farm = &context.farm;
    let id = args.id.to_string();
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage("nobody can be asked here: give --yes".to_owned()));
        }
        let title = farm.get::<Recording>(&["recordings", &id]).await?.view.title;
        if !confirmed(&format!("Delete \"{}\" and everything made of it? [y/N] ", plain(&title))).await {
            return Err(Failure::Failed("nothing was deleted".to_owned()));
        }
    }
    farm.send(farm.request(Method::DELETE, farm.url(&["recordings", &id]))).await?;
    match context.format {
        Format::Json => print(&json!({ "id": id, "deleted": true }).to_string()),
        Format::Table => {
            note(&format!("deleted {id}"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_in_a_line() {
        let json = r#"{"url":null,"size_bytes":1055736,"video_codec":"h264","audio_codec":"aac","width":1280,"height":720,
            "fps":29.97002997}"#;
        let full: Source = serde_json::from_str(json).unwrap();
        assert_eq!(source(&full), "h264+aac 1280x720 29.97 fps, 1.1 MB");
        assert_eq!(source(&serde_json::from_str("{}").unwrap()), "");
    }
}
