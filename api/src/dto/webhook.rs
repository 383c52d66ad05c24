//! Webhooks and their deliveries on the wire.

use chrono::{DateTime, Utc};
use reelmill_shared::db::deliveries::Delivery;
use reelmill_shared::db::events::EventType;
use reelmill_shared::db::webhooks::Webhook;
use reelmill_shared::ids::{DeliveryId, WebhookId};
use reelmill_shared::webhook::{Answer, DeliveryState, Verdict, WebhookKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of `POST /webhooks`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://example.com/hooks/reelmill", "events": ["job.succeeded", "job.failed"] }))]
pub(crate) struct NewWebhookDto {
    /// `endpoint` where it is left out. `callbacks` stands for the addresses that jobs name as their `callback_url`; a project has
    /// one, made with the first such job unless it was made before.
    pub(crate) kind: Option<WebhookKind>,
    /// Where an endpoint listens: `https`, or `http`, at a public address unless the operator allows others. Redirects are not followed.
    pub(crate) url: Option<String>,
    /// For people; at most 500 characters.
    pub(crate) description: Option<String>,
    /// Which events it gets; all where it is left out or empty.
    #[serde(default)]
    pub(crate) events: Vec<EventType>,
    /// `whsec_` and the base64 of 24 to 64 bytes; made where it is left out.
    pub(crate) secret: Option<String>,
}

/// Body of `PATCH /webhooks/{id}`; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "enabled": true }))]
pub(crate) struct PatchWebhookDto {
    pub(crate) url: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) events: Option<Vec<EventType>>,
    /// What is on its way when it is disabled is dead. What happens until it is enabled again can be replayed.
    pub(crate) enabled: Option<bool>,
}

/// Something that events are sent to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookDto {
    pub(crate) id: WebhookId,
    pub(crate) kind: WebhookKind,
    /// `null` for callbacks.
    pub(crate) url: Option<String>,
    pub(crate) description: String,
    /// Empty for all.
    pub(crate) events: Vec<EventType>,
    pub(crate) enabled: bool,
    pub(crate) disabled_at: Option<DateTime<Utc>>,
    pub(crate) disabled_reason: Option<String>,
    /// Since when every attempt has failed; `null` where the last one did not.
    pub(crate) failing_since: Option<DateTime<Utc>>,
    /// Until then the secret before this one signs, too.
    pub(crate) previous_secret_until: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// A webhook with the only showing of its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SecretWebhookDto {
    #[serde(flatten)]
    pub(crate) webhook: WebhookDto,
    /// Shown once.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub(crate) secret: String,
}

/// A page of webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookListDto {
    pub(crate) webhooks: Vec<WebhookDto>,
    pub(crate) next_cursor: Option<String>,
}

/// Body of `POST /webhooks/{id}/rotate-secret`; may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({ "keep_seconds": 86400 }))]
pub(crate) struct RotateSecretDto {
    /// How long the old secret signs beside the new one, up to 7 days; a day where it is left out.
    pub(crate) keep_seconds: Option<u64>,
    /// The new secret; made where it is left out.
    pub(crate) secret: Option<String>,
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookTestDto {
    pub(crate) event_id: Uuid,
    /// True for an answer of 200 to 299.
    pub(crate) delivered: bool,
    /// What the receiver answered, if it did.
    pub(crate) status: Option<u16>,
    /// Why it was not delivered.
    pub(crate) error: Option<String>,
    /// The beginning of what the receiver said.
    pub(crate) response: Option<String>,
    pub(crate) duration_ms: u64,
}

/// An event on its way to a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryDto {
    pub(crate) id: DeliveryId,
    pub(crate) webhook_id: WebhookId,
    /// The `webhook-id` of every attempt.
    pub(crate) event_id: Uuid,
    #[serde(rename = "type")]
    #[schema(example = "job.succeeded")]
    pub(crate) kind: String,
    /// Of callbacks: where to.
    pub(crate) url: Option<String>,
    pub(crate) state: DeliveryState,
    /// Attempts made.
    pub(crate) attempts: i32,
    /// While it is pending.
    pub(crate) next_attempt_at: Option<DateTime<Utc>>,
    /// When the last attempt was made.
    pub(crate) attempted_at: Option<DateTime<Utc>>,
    /// What the receiver answered last, if it did.
    pub(crate) status: Option<i32>,
    /// Why the last attempt failed.
    pub(crate) error: Option<String>,
    /// The beginning of what the receiver said last.
    pub(crate) response: Option<String>,
    /// How long the last attempt took.
    pub(crate) duration_ms: Option<i32>,
    /// True where somebody asked for it.
    pub(crate) replay: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryListDto {
    pub(crate) deliveries: Vec<DeliveryDto>,
    pub(crate) next_cursor: Option<String>,
}

/// Body of `POST /webhooks/{id}/replay`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "from": "2026-11-20T10:00:00Z", "to": "2026-11-20T11:00:00Z", "types": ["job.succeeded"] }))]
pub(crate) struct ReplaySpanDto {
    pub(crate) from: DateTime<Utc>,
    /// The first moment that is not replayed; now where it is left out.
    pub(crate) to: Option<DateTime<Utc>>,
    /// What the webhook wants, where it is left out or empty.
    #[serde(default)]
    pub(crate) types: Vec<EventType>,
}

/// What is replayed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayedDto {
    /// Deliveries on their way.
    pub(crate) deliveries: u64,
}

impl From<Webhook> for WebhookDto {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id,
            kind: webhook.kind,
            url: webhook.url,
            description: webhook.description,
            events: webhook.events,
            enabled: webhook.disabled_at.is_none(),
            disabled_at: webhook.disabled_at,
            disabled_reason: webhook.disabled_reason,
            failing_since: webhook.failing_since,
            previous_secret_until: webhook.previous_until,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

impl WebhookTestDto {
    /// What came of the test event with this id.
    pub(crate) fn new(event_id: Uuid, answer: Answer) -> Self {
        Self {
            event_id,
            delivered: answer.verdict == Verdict::Delivered,
            status: answer.status.map(|status| status.as_u16()),
            error: answer.error,
            response: answer.response,
            duration_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<Delivery> for DeliveryDto {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook_id,
            event_id: delivery.event_id,
            kind: delivery.kind,
            url: delivery.url,
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            attempted_at: delivery.attempted_at,
            status: delivery.status,
            error: delivery.error,
            response: delivery.response,
            duration_ms: delivery.duration_ms,
            replay: delivery.replay,
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
        }
    }
}
