//! The answer to a dry run. What would be done depends on what workers are set to and can do, and the words of the commands are
//! theirs: so one of them is asked, by a job that looks into the source and plans.

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::db::jobs::{self, Job};
use reelmill_shared::job::preview::Preview;
use reelmill_shared::job::state::JobStatus;
use serde::Deserialize;
use tokio::time::{Instant, interval};

use crate::auth::Caller;
use crate::dto::dry_run::DryRunDto;
use crate::problem::{Answer, Kind, Problem};
use crate::routes::jobs::whole;
use crate::state::App;
use crate::submit::{Wish, submit_dry};

/// How long an answer is waited for: a source that is stored is looked into sooner.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// 200 with what `wish` would do, or 202 with the job that finds it out.
pub(crate) async fn answer(app: &App, caller: &Caller, wish: Wish) -> Answer<Response> {
    let mut job = submit_dry(app, caller, wish).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut tick = interval(LOOK);
    while !job.status.is_final() && Instant::now() < deadline {
        tick.tick().await;
        let found = jobs::get(&app.db, caller.project_id, job.id).await?;
        job = found.ok_or_else(|| Problem::not_found("job", job.id))?;
    }
    if job.status == JobStatus::Succeeded {
        return Ok(Json(told(&job)?).into_response());
    }
    if let Some(error) = &job.error {
        return Err(Problem::field("/input", error.message.clone()));
    }
    let location = format!("/api/v1/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(whole(app, job).await?)).into_response())
}

fn told(job: &Job) -> Answer<DryRunDto> {
    let preview = job.result.as_ref().and_then(|result| Preview::deserialize(&result["dry_run"]).ok());
    let preview =
        preview.ok_or_else(|| Problem::new(Kind::Internal, "the dry run has no result that reads"))?;
    Ok(DryRunDto::new(job, preview))
}
