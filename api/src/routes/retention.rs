//! `/projects/{id}/retention`: what would go.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use reelmill_shared::auth::Scope;
use reelmill_shared::db::{projects, retention};
use reelmill_shared::ids::ProjectId;
use reelmill_shared::job::retention::{Age, Kept, Retention};
use reelmill_shared::media::profile::FieldError;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::dto::retention::{DueDocument, DueListDto};
use crate::extract::{Path, Query, limit};
use crate::problem::{Answer, Problem, ProblemDocument};
use crate::state::App;
use crate::submit::fault;

/// Ages to try: days, or `forever`. What is left out is as it is in force.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetentionQuery {
    sources_days: Option<String>,
    outputs_days: Option<String>,
    jobs_days: Option<String>,
    logs_days: Option<String>,
    events_days: Option<String>,
    deliveries_days: Option<String>,
    broadcasts_days: Option<String>,
    /// Most that are listed of a kind, 1 to 200; 50 where it is left out.
    limit: Option<i64>,
}

impl RetentionQuery {
    fn ages(&self) -> Answer<Retention> {
        let given = [
            (Kept::Sources, &self.sources_days),
            (Kept::Outputs, &self.outputs_days),
            (Kept::Jobs, &self.jobs_days),
            (Kept::Logs, &self.logs_days),
            (Kept::Events, &self.events_days),
            (Kept::Deliveries, &self.deliveries_days),
            (Kept::Broadcasts, &self.broadcasts_days),
        ];
        let mut ages = Retention::default();
        let mut faults: Vec<FieldError> = vec![];
        for (kept, text) in given {
            let Some(text) = text else { continue };
            match text.parse::<Age>() {
                Ok(age) => drop(ages.0.insert(kept, age)),
                Err(error) => faults.push(fault(format!("/{}", kept.as_str()), error.to_string())),
            }
        }
        if faults.is_empty() { Ok(ages) } else { Err(Problem::fields(faults)) }
    }
}

/// See what reached its age.
///
/// A dry run: lists what the scheduler would delete of the project's at its next look, by the ages in force or by those in the query, and
/// deletes nothing. What profiles say of ages stands above both. Never listed is what somebody has a token to watch, what a job works
/// on, and what webhooks have not been told of. Needs the scope `admin`.
#[utoipa::path(get, path = "/projects/{id}/retention", tag = "projects",
    params(("id" = ProjectId, Path), RetentionQuery), responses(
    (status = 200, description = "By kind: `sources_days`, `outputs_days`, `jobs_days`, `logs_days`, `events_days`, `deliveries_days`, `broadcasts_days`.", body = DueDocument),
    (status = 404, description = "There is no such project.", body = ProblemDocument),
    (status = 422, description = "Ages are not right; each is named in errors[].", body = ProblemDocument),
))]
pub(crate) async fn due(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ProjectId>,
    Query(query): Query<RetentionQuery>,
) -> Answer<Json<DueDocument>> {
    caller.need(Scope::Admin)?;
    let tried = query.ages()?;
    let limit = limit(query.limit)?;
    let project = projects::get(&app.db, id).await?.ok_or_else(|| Problem::not_found("project", id))?;
    let ages = tried.or(&project.retention.or(&app.config.retention.ages));
    let mut kinds = BTreeMap::new();
    for kept in Kept::ALL {
        let age = ages.of(kept).unwrap_or(Age::Forever);
        let list = retention::due(&app.db, id, kept, Some(age), limit).await?;
        kinds.insert(kept, DueListDto::new(list, age));
    }
    Ok(Json(DueDocument(kinds)))
}
