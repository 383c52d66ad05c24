//! How long things are kept, on the wire.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reelmill_shared::db::retention::{Due, DueList};
use reelmill_shared::job::retention::{Age, Kept, Retention};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::given;

/// Days, 0.01 to 36,500, or `"forever"`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes what another type reads and writes")]
pub(crate) enum AgeDto {
    Days(f64),
    Forever(String),
}

/// Ages. `null` is the farm's own word; as part of a body, what is left out stays as it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "sources_days": 30, "outputs_days": "forever", "logs_days": null }))]
pub(crate) struct RetentionDto {
    /// What recordings were made from, since they were last encoded. They can be watched without, but not encoded again.
    #[schema(value_type = Option<AgeDto>)]
    sources_days: Option<Age>,
    /// Recordings with all that was made for them, since they were last encoded.
    #[schema(value_type = Option<AgeDto>)]
    outputs_days: Option<Age>,
    /// Jobs that are over, since then.
    #[schema(value_type = Option<AgeDto>)]
    jobs_days: Option<Age>,
    /// Their commands and the ends of FFmpeg's logs, since they were over.
    #[schema(value_type = Option<AgeDto>)]
    logs_days: Option<Age>,
    /// The event log. What webhooks have not been told of stays.
    #[schema(value_type = Option<AgeDto>)]
    events_days: Option<Age>,
    /// What webhooks were sent, since it was delivered or given up.
    #[schema(value_type = Option<AgeDto>)]
    deliveries_days: Option<Age>,
    /// What was recorded of livestreams, since it ended.
    #[schema(value_type = Option<AgeDto>)]
    broadcasts_days: Option<Age>,
}

/// The same as part of a body. Read field by field, so that a mistake has a pointer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionChangeDto {
    #[serde(default, deserialize_with = "given")]
    sources_days: Option<Option<Age>>,
    #[serde(default, deserialize_with = "given")]
    outputs_days: Option<Option<Age>>,
    #[serde(default, deserialize_with = "given")]
    jobs_days: Option<Option<Age>>,
    #[serde(default, deserialize_with = "given")]
    logs_days: Option<Option<Age>>,
    #[serde(default, deserialize_with = "given")]
    events_days: Option<Option<Age>>,
    #[serde(default, deserialize_with = "given")]
    deliveries_days: Option<Option<Age>>,
    #[serde(default, deserialize_with = "given")]
    broadcasts_days: Option<Option<Age>>,
}

impl From<RetentionChangeDto> for BTreeMap<Kept, Option<Age>> {
    fn from(dto: RetentionChangeDto) -> Self {
        let all = [
            (Kept::Sources, dto.sources_days),
            (Kept::Outputs, dto.outputs_days),
            (Kept::Jobs, dto.jobs_days),
            (Kept::Logs, dto.logs_days),
            (Kept::Events, dto.events_days),
            (Kept::Deliveries, dto.deliveries_days),
            (Kept::Broadcasts, dto.broadcasts_days),
        ];
        all.into_iter().filter_map(|(kept, age)| Some((kept, age?))).collect()
    }
}

impl From<&Retention> for RetentionDto {
    fn from(retention: &Retention) -> Self {
        Self {
            sources_days: retention.of(Kept::Sources),
            outputs_days: retention.of(Kept::Outputs),
            jobs_days: retention.of(Kept::Jobs),
            logs_days: retention.of(Kept::Logs),
            events_days: retention.of(Kept::Events),
            deliveries_days: retention.of(Kept::Deliveries),
            broadcasts_days: retention.of(Kept::Broadcasts),
        }
    }
}

/// What is due of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DueListDto {
    /// The age that counts where no profile says otherwise.
    #[schema(value_type = AgeDto)]
    age_days: Age,
    /// How many would go; 10001 for more than 10,000.
    count: u64,
    /// How much they take in the store or in the database; `null` where that is not known.
    bytes: Option<u64>,
    /// The first of them, the oldest first.
    items: Vec<DueDto>,
}

/// Something that would go.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DueDto {
    id: Uuid,
    /// A title, or what kind of thing it is.
    #[schema(example = "Holiday")]
    name: String,
    /// Since when.
    due_at: DateTime<Utc>,
    bytes: Option<u64>,
}

impl DueListDto {
    /// What is due, and the age by which it is.
    pub(crate) fn new(list: DueList, age: Age) -> Self {
        Self {
            age_days: age,
            count: list.count,
            bytes: list.bytes,
            items: list.items.into_iter().map(DueDto::from).collect(),
        }
    }
}

impl From<Due> for DueDto {
    fn from(due: Due) -> Self {
        Self { id: due.id, name: due.name, due_at: due.since, bytes: due.bytes }
    }
}

/// What would be deleted, by kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, DueListDto>)]
pub(crate) struct DueDocument(pub(crate) BTreeMap<Kept, DueListDto>);
