//! Lets go of what has reached its age.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::retention::{self, Wishes};
use reelmill_shared::ids::{ProjectId, RecordingId};
use reelmill_shared::job::retention::Kept;

use super::{Context, Duty, Failure};

/// Rows of a kind that go in one statement, or recordings one by one.
const BATCH: i64 = 200;
/// One run begins nothing more after this: who shuts the program down should not have to wait. The next one goes on with another project.
const RUN: Duration = Duration::from_secs(8);

/// Knows where it was.
#[derive(Default)]
pub(super) struct Retention(Mutex<Place>);

#[derive(Default, Clone, Copy)]
struct Place {
    /// The project at which the last run had to stop.
    project: Option<ProjectId>,
    /// How far the rows of deleted recordings were looked through.
    buried: Option<RecordingId>,
}

impl Retention {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Duty for Retention {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        // Each deletion looks at what is there: run twice, or by two leaders, it does the same.
        let db = &context.db;
        let mut gone = 0;
        let began = Instant::now();
        while retention::settle(db, BATCH).await? == BATCH as u64 && began.elapsed() < RUN {}
        let Place { project: stopped_at, buried } = *self.place();
        let mut projects = retention::wishes(db).await?;
        let first =
            projects.iter().position(|wishes| stopped_at.is_some_and(|at| wishes.project >= at)).unwrap_or(0);
        projects.rotate_left(first);
        self.place().project = None;
        'run: for Wishes { project, retention: own } in projects {
            let ages = own.or(&context.config.retention.ages);
            for kept in Kept::ALL {
                loop {
                    if began.elapsed() > RUN {
                        self.place().project = Some(project);
                        break 'run;
                    }
                    let went = match retention::delete_due(db, project, kept, ages.of(kept), BATCH).await {
                        Ok(went) => went,
                        Err(error) => {
                            // One that resists must not keep the others from their turn.
                            tracing::warn!(%error, project_id = %project, kind = kept.as_str(), "could not delete what has reached its age");
                            break;
                        }
                    };
                    gone += went;
                    if went > 0 {
                        tracing::info!(project_id = %project, kind = kept.as_str(), count = went, "deleted what had reached its age");
                    }
                    if went < BATCH as u64 {
                        break;
                    }
                }
            }
        }
        let (count, next) = retention::bury(db, buried, BATCH).await?;
        self.place().buried = next;
        Ok(gone + count + retention::bury_unused(db, BATCH).await?)
    }
}
