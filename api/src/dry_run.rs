//! The answer to a dry run. What would be done depends on what workers are set to and can do, and the words of the commands are
//! theirs: so one of them is asked, by a job that looks into the source and plans.

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use reelmill_shared::db::jobs;
use reelmill_shared::ids::JobId;
use reelmill_shared::job::error::TaskError;
use reelmill_shared::job::state::JobStatus;
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
    match job.status {
        JobStatus::Succeeded => {
            let told = DryRunDto::of(&job);
            let told =
                told.ok_or_else(|| Problem::new(Kind::Internal, "the dry run has no result that reads"))?;
            Ok(Json(told).into_response())
        }
        JobStatus::Failed => Err(failed(job.id, job.error.as_ref())),
        JobStatus::Cancelled => {
            Err(Problem::new(Kind::Conflict, format!("the dry run was cancelled: job {}", job.id)))
        }
        JobStatus::Queued | JobStatus::Running => {
            let location = format!("/api/v1/jobs/{}", job.id);
            let body = Json(whole(app, job).await?);
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], body).into_response())
        }
    }
}

/// What is wrong with the input is said of it; a failure of the farm is not.
fn failed(id: JobId, error: Option<&TaskError>) -> Problem {
    match error {
        Some(error) if error.reason.is_of_the_input() => Problem::field("/input", error.message.clone()),
        _ => {
            let reason = error.map_or("unknown", |error| error.reason.as_str());
            let detail =
                format!("nothing could be found out ({reason}); GET /api/v1/jobs/{id}/log tells more");
            Problem::new(Kind::Unavailable, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::job::error::Reason;

    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_input_is_said_of_it() {
        for (reason, kind) in [
            (Reason::NotMedia, Kind::Validation),
            (Reason::Unreachable, Kind::Validation),
            (Reason::Storage, Kind::Unavailable),
            (Reason::WorkerLost, Kind::Unavailable),
            (Reason::Internal, Kind::Unavailable),
        ] {
            let problem = failed(JobId::new(), Some(&TaskError::fatal(reason, "words of the farm")));
            assert_eq!(problem.kind(), kind, "{reason}");
        }
        assert_eq!(failed(JobId::new(), None).kind(), Kind::Unavailable);
    }
}
