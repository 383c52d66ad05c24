//! `live`.

use std::io::IsTerminal;

use chrono::Utc;
use clap::builder::PossibleValuesParser;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::event::Severity;
use reelmill_shared::live::spec::Resolution;
use reelmill_shared::live::state::LiveStatus;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::Context;
use super::documents::{LiveEvent, Livestream, PlaybackToken, Said};
use super::failure::Failure;
use super::http::Document;
use super::lists::{self, Paging};
use super::output::{Column, Format, confirmed, fields, note, print};
use super::text::{ago, bitrate, plain, quote, shorten, span};

const TITLE_WIDTH: usize = 40;
const MESSAGE_WIDTH: usize = 80;

/// Commands about livestreams.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LiveCommand {
    /// Create a livestream and tell where to publish to
    Create(CreateArgs),
    /// List livestreams, newest first
    List(ListArgs),
    /// Show a livestream
    Show(ShowArgs),
    /// Fetch its source from now on, or let its publisher in
    Start(LiveArgs),
    /// Take a livestream off the air
    Stop(LiveArgs),
    /// Give a livestream a new stream key; who publishes now goes on
    RotateKey(LiveArgs),
    /// List what happened to a livestream, newest first
    Events(EventsArgs),
    /// Delete a livestream; one that is on air is stopped first
    Delete(DeleteArgs),
}

/// A livestream.
#[derive(Debug, clap::Args)]
pub(crate) struct LiveArgs {
    /// The livestream's id
    #[arg(value_name = "LIVESTREAM")]
    id: LivestreamId,
}

/// Options of `live create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    #[arg(value_name = "TITLE")]
    title: String,
    /// Playlists list parts of segments, so that viewers are a second or two behind
    #[arg(long)]
    low_latency: bool,
    /// Let viewers seek back, so far; two hours where no seconds are given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "7200", value_parser = clap::value_parser!(u32).range(60..=86_400))]
    dvr: Option<u32>,
    /// Where a worker fetches it, instead of a publisher sending it: rtsp:// of a camera, or the https:// (or file://) URL of a video that is played out
    #[arg(long, value_name = "URL")]
    source: Option<Url>,
    /// Play the video of --source again when it ends
    #[arg(long, requires = "source")]
    r#loop: bool,
    /// Qualities, separated by commas: 720p,360p
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(Resolution::ALL.iter().map(|resolution| resolution.as_str())))]
    resolutions: Vec<String>,
    /// Keep what was on air; with --dvr it is kept anyway
    #[arg(long)]
    record: bool,
    /// Let publishers in only after `live start`
    #[arg(long)]
    require_start: bool,
}

/// Options of `live list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only livestreams in this state
    #[arg(long, value_parser = PossibleValuesParser::new(LiveStatus::ALL.iter().map(|status| status.as_str())))]
    status: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `live show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The livestream's id
    #[arg(value_name = "LIVESTREAM")]
    id: LivestreamId,
    /// Print only an address that plays without a key, for some hours
    #[arg(long)]
    play_url: bool,
}

/// Options of `live events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// The livestream's id
    #[arg(value_name = "LIVESTREAM")]
    id: LivestreamId,
    /// Only events that matter so much
    #[arg(long, value_parser = PossibleValuesParser::new(Severity::ALL.iter().map(|severity| severity.as_str())))]
    severity: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `live delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The livestream's id
    #[arg(value_name = "LIVESTREAM")]
    id: LivestreamId,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Runs a command about livestreams.
pub(crate) async fn run(context: &Context, command: LiveCommand) -> Result<(), Failure> {
    match command {
        LiveCommand::Create(args) => create(context, args).await,
        LiveCommand::List(args) => list(context, args).await,
        LiveCommand::Show(args) if args.play_url => play_url(context, args.id).await,
        LiveCommand::Show(args) => show(context, args.id).await,
        LiveCommand::Start(args) => tell(context, args.id, "start").await,
        LiveCommand::Stop(args) => tell(context, args.id, "stop").await,
        LiveCommand::RotateKey(args) => rotate_key(context, args.id).await,
        LiveCommand::Events(args) => events(context, args).await,
        LiveCommand::Delete(args) => delete(context, args).await,
    }
}

/// A new idempotency key.
fn once() -> String {
    Uuid::now_v7().to_string()
}

fn body(args: &CreateArgs) -> Value {
    let mut settings = json!({});
    if !args.resolutions.is_empty() {
        settings["resolutions"] = json!(args.resolutions);
    }
    if args.record {
        settings["record"] = json!(true);
    }
    let mut body = json!({
        "title": args.title, "low_latency": args.low_latency, "dvr_enabled": args.dvr.is_some(),
        "require_start": args.require_start, "settings": settings,
    });
    if let Some(seconds) = args.dvr {
        body["dvr_window"] = json!(seconds);
    }
    if let Some(url) = &args.source {
        let kind = if matches!(url.scheme(), "rtsp" | "rtsps") { "rtsp" } else { "file" };
        body["source"] = json!({ "type": kind, "url": url, "loop": args.r#loop });
    }
    body
}

async fn create(context: &Context, args: CreateArgs) -> Result<(), Failure> {
    let document = context.farm.post::<Livestream>(&["livestreams"], &body(&args), &once()).await?;
    report(context, &document)?;
    let livestream = &document.view;
    if args.require_start || livestream.is_fetched() {
        note(&format!("start it with: reelmill live start {}", livestream.id));
    }
    hint(livestream.rtmp_ingest_url.as_deref());
    Ok(())
}

/// Tells how to publish.
fn hint(ingest: Option<&str>) {
    let Some(url) = ingest else { return };
    let command = ["ffmpeg", "-re", "-i", "VIDEO", "-c:v", "libx264", "-c:a", "aac", "-f", "flv", url];
    note(&format!("publish with FFmpeg:  {}", quote(&command)));
    if let Some((server, key)) = url.rsplit_once('/') {
        note(&format!("or with OBS:  server {server}, stream key {key}"));
    }
}

fn report(context: &Context, document: &Document<Livestream>) -> Result<(), Failure> {
    let livestream = &document.view;
    let page = context.farm.absolute(&livestream.watch_url);
    if context.format == Format::Json {
        // The API knows paths only; where it is reached is known here.
        let mut value: Value = serde_json::from_str(&document.text).unwrap_or_default();
        value["watch_page"] = Value::from(page);
        return print(&value.to_string());
    }
    let now = Utc::now();
    let error = livestream.error.as_ref().map(|fault| format!("{} ({})", fault.message, fault.reason));
    let source = match &livestream.source.url {
        Some(url) => format!("{} {url}", livestream.source.r#type),
        None => livestream.source.r#type.clone(),
    };
    let since = livestream.started_at.filter(|_| livestream.status != LiveStatus::Idle.as_str());
    let waits = (livestream.require_start || livestream.is_fetched()) && !livestream.armed;
    let state = match livestream.status.as_str() {
        "idle" if waits => "idle, not started".to_owned(),
        other => other.to_owned(),
    };
    print(&fields(&[
        ("livestream", livestream.id.to_string()),
        ("title", livestream.title.clone()),
        ("status", state),
        ("error", error.unwrap_or_default()),
        ("on air", since.map(|since| ago(since, now)).unwrap_or_default()),
        ("viewers", livestream.viewer_count.to_string()),
        ("publish to", livestream.publish_to().unwrap_or_default().to_owned()),
        ("source", source),
        ("latency", if livestream.low_latency { "low".to_owned() } else { "usual".to_owned() }),
        ("seek back", if livestream.dvr_enabled { span(livestream.dvr_window) } else { String::new() }),
        ("recorded", if livestream.settings.record { "yes".to_owned() } else { "no".to_owned() }),
        ("qualities", qualities(livestream)),
        ("created", ago(livestream.created_at, now)),
        ("watch page", page),
    ]))
}

/// What is on air, or else what will be.
fn qualities(livestream: &Livestream) -> String {
    if livestream.variants.is_empty() {
        return format!("{} ({})", livestream.settings.resolutions.join(" "), livestream.settings.codec);
    }
    let told = livestream.variants.iter().map(|variant| match variant.bitrate {
        Some(bits) => format!("{} {}", variant.resolution, bitrate(bits)),
        None => variant.resolution.clone(),
    });
    told.collect::<Vec<_>>().join(", ")
}

async fn list(context: &Context, args: ListArgs) -> Result<(), Failure> {
    let filters = [("status", args.status)];
    let path = ["livestreams"];
    let list = lists::read_at::<Livestream>(&context.farm, &path, "streams", &filters, &args.paging).await?;
    let columns = [
        Column::Text("LIVESTREAM"),
        Column::Text("STATUS"),
        Column::Figure("VIEWERS"),
        Column::Text("SOURCE"),
        Column::Figure("CREATED"),
        Column::Text("TITLE"),
    ];
    let now = Utc::now();
    list.show(context.format, &columns, |livestream| {
        vec![
            livestream.id.to_string(),
            livestream.status.clone(),
            livestream.viewer_count.to_string(),
            livestream.source.r#type.clone(),
            ago(livestream.created_at, now),
            shorten(&livestream.title, TITLE_WIDTH),
        ]
    })
}

async fn show(context: &Context, id: LivestreamId) -> Result<(), Failure> {
    report(context, &context.farm.get::<Livestream>(&["livestreams", &id.to_string()]).await?)
}

async fn play_url(context: &Context, id: LivestreamId) -> Result<(), Failure> {
    let path = ["livestreams", &id.to_string(), "playback-token"];
    let document = context.farm.post::<PlaybackToken>(&path, &json!({}), &once()).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => print(&plain(&document.view.hls_url)),
    }
}

async fn tell(context: &Context, id: LivestreamId, what: &str) -> Result<(), Failure> {
    let path = ["livestreams", &id.to_string(), what];
    let document = context.farm.post::<Said>(&path, &json!({}), &once()).await?;
    if context.format == Format::Json {
        return print(&document.text);
    }
    note(&document.view.message);
    hint(document.view.rtmp_ingest_url.as_deref());
    Ok(())
}

async fn rotate_key(context: &Context, id: LivestreamId) -> Result<(), Failure> {
    let path = ["livestreams", &id.to_string(), "rotate-key"];
    let document = context.farm.post::<Livestream>(&path, &json!({}), &once()).await?;
    if context.format == Format::Json {
        return print(&document.text);
    }
    let livestream = document.view;
    print(&fields(&[
        ("livestream", livestream.id.to_string()),
        ("stream key", livestream.stream_key.unwrap_or_default()),
        ("publish to", livestream.rtmp_ingest_url.unwrap_or_default()),
    ]))?;
    if livestream.status != LiveStatus::Idle.as_str() {
        note(&format!("who publishes now goes on; to send them away: reelmill live stop {id}"));
    }
    Ok(())
}

async fn events(context: &Context, args: EventsArgs) -> Result<(), Failure> {
    let filters = [("severity", args.severity)];
    let path = ["livestreams", &args.id.to_string(), "events"];
    let list = lists::read_at::<LiveEvent>(&context.farm, &path, "events", &filters, &args.paging).await?;
    let columns =
        [Column::Text("TIME"), Column::Text("SEVERITY"), Column::Text("EVENT"), Column::Text("MESSAGE")];
    list.show(context.format, &columns, |event| {
        vec![
            event.timestamp.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            event.severity.clone(),
            event.event_type.clone(),
            shorten(&event.message, MESSAGE_WIDTH),
        ]
    })
}

async fn delete(context: &Context, args: DeleteArgs) -> Result<(), Failure> {
    let farm = &context.farm;
    let id = args.id.to_string();
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage("nobody can be asked here: give --yes".to_owned()));
        }
        let title = farm.get::<Livestream>(&["livestreams", &id]).await?.view.title;
        if !confirmed(&format!("Delete \"{}\"? [y/N] ", plain(&title))).await {
            return Err(Failure::Failed("nothing was deleted".to_owned()));
        }
    }
    farm.send(farm.request(Method::DELETE, farm.url(&["livestreams", &id]))).await?;
    match context.format {
        Format::Json => print(&json!({ "id": id, "deleted": true }).to_string()),
        Format::Table => {
            note(&format!("deleted {id}"));
            Ok(())
        }
    }
}
