//! `webhook`.

use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;
use reelmill_shared::db::events::EventType;
use reelmill_shared::ids::{DeliveryId, WebhookId};
use reelmill_shared::webhook::DeliveryState;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::documents::{Delivery, Replayed, Webhook, WebhookTest};
use super::failure::Failure;
use super::http::Document;
use super::lists::{self, Paging};
use super::output::{Column, Format, fields, note, print};
use super::text::{ago, plain, shorten};
use super::{Context, listen};

const URL_WIDTH: usize = 60;
const ERROR_WIDTH: usize = 70;

/// Commands about webhooks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WebhookCommand {
    /// Add a webhook; its secret is printed once
    Add(AddArgs),
    /// List webhooks, newest first
    List(Paging),
    /// Send a test event and show what came back
    Test(WebhookArgs),
    /// Give a webhook a new secret; the old one signs as well for a while
    Rotate(RotateArgs),
    /// List what was sent to a webhook, the last first
    Deliveries(DeliveriesArgs),
    /// Send one delivery again, or (with --from) all events of a span of time to a webhook
    Replay(ReplayArgs),
    /// Delete a webhook and the list of its deliveries
    Delete(WebhookArgs),
    /// Receive events on this machine, check their signatures and print them; the webhook for it goes when this ends
    Listen(listen::ListenArgs),
}

/// A webhook.
#[derive(Debug, clap::Args)]
pub(crate) struct WebhookArgs {
    /// The webhook's id
    #[arg(value_name = "WEBHOOK")]
    id: WebhookId,
}

/// Which events.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filter {
    /// Only events of this type; all where it is left out. May be given several times
    #[arg(long = "event", value_name = "TYPE", value_parser = PossibleValuesParser::new(EventType::ALL.iter().map(|kind| kind.as_str())))]
    pub(crate) events: Vec<String>,
}

/// Options of `webhook add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Where the events go, or `callbacks` for what jobs name as their callback_url
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    filter: Filter,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Options of `webhook rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// The webhook's id
    #[arg(value_name = "WEBHOOK")]
    id: WebhookId,
    /// How long the old secret signs as well; a day where it is left out
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=604_800))]
    keep: Option<u64>,
}

/// Options of `webhook deliveries`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeliveriesArgs {
    /// The webhook's id
    #[arg(value_name = "WEBHOOK")]
    id: WebhookId,
    /// Only deliveries in this state
    #[arg(long, value_parser = PossibleValuesParser::new(DeliveryState::ALL.iter().map(|state| state.as_str())))]
    state: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// Options of `webhook replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// A delivery's id; with --from a webhook's
    #[arg(value_name = "DELIVERY|WEBHOOK")]
    id: Uuid,
    /// Events from this time on, such as 2026-11-20T10:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Events before this time; now where it is left out
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<DateTime<Utc>>,
    #[command(flatten)]
    filter: Filter,
}

/// Runs a command about webhooks.
pub(crate) async fn run(context: &Context, command: WebhookCommand) -> Result<(), Failure> {
    match command {
        WebhookCommand::Add(args) => add(context, args).await,
        WebhookCommand::List(paging) => list(context, &paging).await,
        WebhookCommand::Test(args) => test(context, args.id).await,
        WebhookCommand::Rotate(args) => rotate(context, args).await,
        WebhookCommand::Deliveries(args) => deliveries(context, args).await,
        WebhookCommand::Replay(args) => replay(context, args).await,
        WebhookCommand::Delete(args) => delete(context, args.id).await,
        WebhookCommand::Listen(args) => listen::run(context, args).await,
    }
}

async fn add(context: &Context, args: AddArgs) -> Result<(), Failure> {
    let mut body = match args.url.as_str() {
        "callbacks" => json!({ "kind": "callbacks" }),
        url => json!({ "url": url }),
    };
    body["events"] = json!(args.filter.events);
    body["description"] = json!(args.description);
    let document = context.farm.post::<Webhook>(&["webhooks"], &body, &once()).await?;
    show_secret(context, &document)
}

/// A new idempotency key.
fn once() -> String {
    Uuid::now_v7().to_string()
}

fn show_secret(context: &Context, document: &Document<Webhook>) -> Result<(), Failure> {
    if context.format == Format::Json {
        return print(&document.text);
    }
    let webhook = &document.view;
    let until = webhook.previous_secret_until.map(|until| format!("until {until}"));
    print(&fields(&[
        ("webhook", webhook.id.to_string()),
        ("url", target(webhook)),
        ("secret", webhook.secret.clone().unwrap_or_default()),
        ("old secret", until.unwrap_or_default()),
    ]))?;
    note("the secret is not shown again");
    Ok(())
}

fn target(webhook: &Webhook) -> String {
    webhook.url.clone().unwrap_or_else(|| webhook.kind.clone())
}

async fn list(context: &Context, paging: &Paging) -> Result<(), Failure> {
    let list = lists::read::<Webhook>(&context.farm, "webhooks", &[], paging).await?;
    let columns = [
        Column::Text("WEBHOOK"),
        Column::Text("STATE"),
        Column::Figure("CREATED"),
        Column::Text("URL"),
        Column::Text("EVENTS"),
    ];
    let now = Utc::now();
    list.show(context.format, &columns, |webhook| {
        let state = match (&webhook.disabled_reason, webhook.failing_since) {
            (Some(reason), _) => format!("disabled: {reason}"),
            (None, Some(since)) => format!("failing since {}", ago(since, now)),
            (None, None) => "enabled".to_owned(),
        };
        let events = if webhook.events.is_empty() { "all".to_owned() } else { webhook.events.join(" ") };
        let url = shorten(&target(webhook), URL_WIDTH);
        vec![webhook.id.to_string(), state, ago(webhook.created_at, now), url, events]
    })
}

async fn test(context: &Context, id: WebhookId) -> Result<(), Failure> {
    let farm = &context.farm;
    let document =
        farm.post::<WebhookTest>(&["webhooks", &id.to_string(), "test"], &json!({}), &once()).await?;
    let test = document.view;
    if context.format == Format::Json {
        print(&document.text)?;
    } else {
        print(&fields(&[
            ("event", test.event_id.to_string()),
            ("status", test.status.map(|status| status.to_string()).unwrap_or_default()),
            ("error", test.error.clone().unwrap_or_default()),
            ("said", test.response.clone().unwrap_or_default()),
            ("took", format!("{} ms", test.duration_ms)),
        ]))?;
    }
    if test.delivered {
        return Ok(());
    }
    Err(Failure::Failed("the test event was not delivered".to_owned()))
}

async fn rotate(context: &Context, args: RotateArgs) -> Result<(), Failure> {
    let body = args.keep.map_or_else(|| json!({}), |keep| json!({ "keep_seconds": keep }));
    let path = ["webhooks", &args.id.to_string(), "rotate-secret"];
    let document = context.farm.post::<Webhook>(&path, &body, &once()).await?;
    show_secret(context, &document)
}

async fn deliveries(context: &Context, args: DeliveriesArgs) -> Result<(), Failure> {
    let filters = [("state", args.state)];
    let path = ["webhooks", &args.id.to_string(), "deliveries"];
    let list = lists::read_at::<Delivery>(&context.farm, &path, "deliveries", &filters, &args.paging).await?;
    let columns = [
        Column::Text("DELIVERY"),
        Column::Text("EVENT"),
        Column::Text("STATE"),
        Column::Figure("TRIES"),
        Column::Figure("STATUS"),
        Column::Figure("CREATED"),
        Column::Text("ERROR"),
    ];
    let now = Utc::now();
    list.show(context.format, &columns, |delivery| {
        vec![
            delivery.id.to_string(),
            delivery.r#type.clone(),
            delivery.state.clone(),
            delivery.attempts.to_string(),
            delivery.status.map(|status| status.to_string()).unwrap_or_default(),
            ago(delivery.created_at, now),
            shorten(delivery.error.as_deref().unwrap_or_default(), ERROR_WIDTH),
        ]
    })
}

async fn replay(context: &Context, args: ReplayArgs) -> Result<(), Failure> {
    let id = args.id.to_string();
    let Some(from) = args.from else {
        if !args.filter.events.is_empty() {
            return Err(Failure::Usage("--event goes with --from and a webhook".to_owned()));
        }
        let delivery = DeliveryId(args.id).to_string();
        let path = ["deliveries", &delivery, "replay"];
        let document = context.farm.post::<Delivery>(&path, &json!({}), &once()).await?;
        return match context.format {
            Format::Json => print(&document.text),
            Format::Table => print(&plain(&document.view.id.to_string())),
        };
    };
    let mut body = json!({ "from": from, "types": args.filter.events });
    if let Some(to) = args.to {
        body["to"] = json!(to);
    }
    let document = context.farm.post::<Replayed>(&["webhooks", &id, "replay"], &body, &once()).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => {
            note(&format!("{} deliveries on their way", document.view.deliveries));
            Ok(())
        }
    }
}

async fn delete(context: &Context, id: WebhookId) -> Result<(), Failure> {
    let farm = &context.farm;
    farm.send(farm.request(Method::DELETE, farm.url(&["webhooks", &id.to_string()]))).await?;
    match context.format {
        Format::Json => print(&Value::to_string(&json!({ "id": id, "deleted": true }))),
        Format::Table => {
            note(&format!("deleted {id}"));
            Ok(())
        }
    }
}
