//! Sums up what was measured of a set. Moves no media.

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::quality;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::quality::Report;
use reelmill_shared::job::task::ReportSpec;
use serde_json::json;

use super::Bench;

pub(super) async fn perform(bench: &Bench, spec: &ReportSpec) -> Result<Vec<Publication>, TaskError> {
    let report = report(bench, spec).await?;
    Ok(vec![Publication::JobResult(json!({ "quality": report }))])
}

/// The report on what was measured; it must be all.
pub(super) async fn report(bench: &Bench, spec: &ReportSpec) -> Result<Report, TaskError> {
    let measured = quality::of_set(&bench.shop.db, spec.set)
        .await
        .map_err(|error| TaskError::internal("reading what was measured", error))?;
    Report::new(&spec.expect, &spec.metrics, spec.segment_seconds, &measured)
        .map_err(|hole| TaskError::fatal(Reason::CheckFailed, format!("the report has a hole: {hole}")))
}
