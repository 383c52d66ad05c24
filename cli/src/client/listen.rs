//! `webhook listen`: a receiver on this machine for as long as it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use reelmill_shared::ids::WebhookId;
use reelmill_shared::webhook::{Secret, verify};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::documents::Webhook;
use super::failure::Failure;
use super::http::Farm;
use super::output::{Format, note, print};
use super::text::plain;
use super::webhook::Filter;
use super::{Context, Interrupted};

/// Bodies are 20 kB at most.
const BODY_LIMIT: usize = 64 << 10;
/// For removing the webhook at the end, when somebody waits for the prompt.
const GOODBYE: Duration = Duration::from_secs(5);

/// Options of `webhook listen`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    filter: Filter,
    /// Address to listen at
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How the farm reaches that address, where something in front of it passes requests on
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// End after so many deliveries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// A delivery whose signature fits.
struct Verified {
    id: String,
    body: Bytes,
}

/// The part of a body that a line shows.
#[derive(Deserialize)]
struct Told {
    r#type: String,
    timestamp: String,
    #[serde(default)]
    data: Value,
}

struct Receiver {
    secret: Secret,
    out: mpsc::Sender<Verified>,
}

/// Runs `webhook listen`.
pub(crate) async fn run(context: &Context, args: ListenArgs) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::Usage(format!("cannot listen at {}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate())?;

    // Ours from the start, so that nothing comes that cannot be checked.
    let secret = Secret::random();
    let (out, mut verified) = mpsc::channel(16);
    let receiver = Arc::new(Receiver { secret: secret.clone(), out });
    let app = Router::new().fallback(receive).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(receiver);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(
        axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future(),
    );

    let url = args.url.map_or_else(|| format!("http://{address}/"), String::from);
    let body = json!({
        "url": url, "events": args.filter.events, "secret": secret.expose(), "description": "reelmill webhook listen",
    });
    let key = Uuid::now_v7().to_string();
    let id = context.farm.post::<Webhook>(&["webhooks"], &body, &key).await?.view.id;
    context.on_interrupt(Interrupted::Listening(id));
    note(&format!("listening at {url}; Ctrl-C ends it and removes the webhook {id}"));

    let mut left = args.count;
    let result = loop {
        if left == Some(0) {
            break Ok(());
        }
        tokio::select! {
            Some(delivery) = verified.recv() => {
                if let Err(failure) = print(&line(context.format, &delivery)) {
                    break Err(failure);
                }
                left = left.map(|left| left - 1);
            }
            _ = terminate.recv() => break Ok(()),
        }
    };
    // The last answer is still on its way out.
    stop.cancel();
    let _ = timeout(GOODBYE, serving).await;
    remove(&context.farm, id).await;
    context.on_interrupt(Interrupted::Nothing);
    result
}

/// Removes the webhook, or says that it is still there.
pub(crate) async fn remove(farm: &Farm, id: WebhookId) {
    let request = farm.request(Method::DELETE, farm.url(&["webhooks", &id.to_string()]));
    let removed = timeout(GOODBYE, farm.send(request)).await;
    if !matches!(removed, Ok(Ok(_))) {
        note(&format!("could not remove the webhook: reelmill webhook delete {id}"));
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp, signatures) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
    let now = Utc::now().timestamp();
    if let Err(error) = verify(&receiver.secret, id, timestamp, signatures, &body, now) {
        note(&format!("refused a request: {error}"));
        return StatusCode::UNAUTHORIZED;
    }
    let told = receiver.out.send(Verified { id: id.to_owned(), body }).await;
    // Nobody listens any more: somebody else shall have it.
    if told.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// A delivery in a line: for programs the body with the `webhook-id` as its `id`.
fn line(format: Format, delivery: &Verified) -> String {
    let body: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
    if format == Format::Json {
        let mut body = body;
        if let Some(fields) = body.as_object_mut() {
            fields.insert("id".to_owned(), Value::from(delivery.id.as_str()));
        }
        return body.to_string();
    }
    let Ok(told) = Told::deserialize(body) else { return plain(&delivery.id) };
    let ids = told.data.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_id"));
    let ids: Vec<String> = ids.filter_map(|(name, id)| Some(format!("{name}={}", id.as_str()?))).collect();
    plain(&format!("{}  {:<19}  {}  id={}", told.timestamp, told.r#type, ids.join(" "), delivery.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_a_line() {
        let body = r#"{"type":"job.failed","timestamp":"2026-11-20T10:00:00.000Z","data":{"job_id":"j","kind":"\u001b[31m","x_id":null}}"#;
        let delivery = Verified { id: "e\u{1b}".into(), body: Bytes::from_static(body.as_bytes()) };
        let shown = line(Format::Table, &delivery);
        assert_eq!(shown, "2026-11-20T10:00:00.000Z  job.failed           job_id=j  id=e?");
        let json: Value = serde_json::from_str(&line(Format::Json, &delivery)).unwrap();
        assert_eq!((json["id"].as_str(), json["type"].as_str()), (Some("e\u{1b}"), Some("job.failed")));
        let odd = Verified { id: "e".into(), body: Bytes::from_static(b"[]") };
        assert_eq!(line(Format::Table, &odd), "e");
    }
}
