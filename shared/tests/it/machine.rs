//! Claims, ends and losses in any order, beside a model that knows nothing of SQL: whoever holds the newest epoch writes, nobody else.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reelmill_shared::db::finish::{self, AttemptNote, Publication};
use reelmill_shared::db::jobs::{self, Cancelled};
use reelmill_shared::db::leader::{self, Leadership};
use reelmill_shared::db::tasks::{Claimed, Hold};
use reelmill_shared::db::{DbError, leases};
use reelmill_shared::ids::{JobId, ProjectId, SchedulerId, TaskId, WorkerId};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::plan::{self, NewTask};
use reelmill_shared::job::retry::MAX_ATTEMPTS;

use crate::fixture::{Fixture, LEASE, claimant, spec};

/// Something that happens. Numbers choose among what there is, whatever there is.
#[derive(Debug, Clone)]
enum Step {
    Submit,
    Claim,
    /// By whom it was claimed, lately or long ago; true where it plans more tasks.
    Succeed(usize, bool),
    /// True where another attempt may succeed.
    Fail(usize, bool),
    Release(usize),
    Beat(usize),
    /// Its lease runs out, and the scheduler sees it.
    Expire(usize),
    Cancel(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = 0..64_usize;
    let step = prop_oneof![
        2 => Just(Step::Submit),
        6 => Just(Step::Claim),
        5 => (one.clone(), any::<bool>()).prop_map(|(who, more)| Step::Succeed(who, more)),
        3 => (one.clone(), any::<bool>()).prop_map(|(who, retryable)| Step::Fail(who, retryable)),
        1 => one.clone().prop_map(Step::Release),
        1 => one.clone().prop_map(Step::Beat),
        2 => one.clone().prop_map(Step::Expire),
        1 => one.prop_map(Step::Cancel),
    ];
    vec(step, 1..60)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Blocked(i32),
    Ready,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Blocked(_) => "blocked",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Blocked(_) | Self::Ready | Self::Running)
    }
}

#[derive(Debug, Clone)]
struct Task {
    job: JobId,
    status: Status,
    epoch: i32,
    attempts: i32,
    unblocks: Vec<TaskId>,
}

/// What should be.
#[derive(Debug, Default)]
struct Model {
    tasks: HashMap<TaskId, Task>,
    jobs: HashMap<JobId, &'static str>,
    /// All claims there ever were.
    claims: Vec<(Claimed, WorkerId)>,
}

impl Model {
    fn owns(&self, hold: Hold) -> bool {
        let task = &self.tasks[&hold.task_id];
        task.status == Status::Running && task.epoch == hold.epoch
    }

    fn add(&mut self, job: JobId, tasks: &[NewTask]) {
        for task in tasks {
            let status = if task.blocked_by == 0 { Status::Ready } else { Status::Blocked(task.blocked_by) };
            let unblocks = task.unblocks.clone();
            self.tasks.insert(task.id, Task { job, status, epoch: 0, attempts: 0, unblocks });
        }
    }

    fn end(&mut self, job: JobId, how: &'static str) {
        self.jobs.insert(job, how);
        for task in self.tasks.values_mut().filter(|task| task.job == job && task.status.is_open()) {
            task.status = Status::Cancelled;
        }
    }

    fn succeed(&mut self, id: TaskId) {
        let task = self.tasks.get_mut(&id).unwrap();
        task.status = Status::Succeeded;
        let (job, unblocks) = (task.job, task.unblocks.clone());
        for next in unblocks {
            let next = self.tasks.get_mut(&next).unwrap();
            next.status = match next.status {
                Status::Blocked(1) => Status::Ready,
                Status::Blocked(more) => Status::Blocked(more - 1),
                other => other,
            };
        }
        if self.tasks.values().filter(|task| task.job == job).all(|task| task.status == Status::Succeeded) {
            self.jobs.insert(job, "succeeded");
        }
    }

    /// An attempt came to nothing.
    fn fail(&mut self, id: TaskId, retryable: bool) {
        let task = self.tasks.get_mut(&id).unwrap();
        let job = task.job;
        if retryable && task.attempts < MAX_ATTEMPTS {
            task.status = Status::Ready;
        } else {
            task.status = Status::Failed;
            self.end(job, "failed");
        }
    }
}

struct World {
    fixture: Fixture,
    project: ProjectId,
    leadership: Leadership,
    model: Model,
}

impl World {
    async fn step(&mut self, step: &Step) {
        let db = self.fixture.db.clone();
        let note = AttemptNote::default();
        let chosen = |number: &usize, of: usize| if of == 0 { None } else { Some(number % of) };
        match step {
            Step::Submit => {
                let spec = spec();
                let tasks = plan::opening(&spec, true);
                let job = self.fixture.job_of(self.project, 50, spec, tasks.clone()).await;
                self.model.jobs.insert(job, "queued");
                self.model.add(job, &tasks);
            }
            Step::Claim => {
                // Retries wait a while; the model does not know how long.
                self.fixture
                    .execute("update tasks set ready_at = now(), ready_key = now() where status = 'ready'")
                    .await;
                let claimant = claimant();
                let ready = self.model.tasks.values().filter(|task| task.status == Status::Ready).count();
                match self.fixture.claim(&claimant).await {
                    Some(claimed) => {
                        let task = self.model.tasks.get_mut(&claimed.hold.task_id).unwrap();
                        assert_eq!(task.status, Status::Ready, "only what is ready is given out");
                        task.status = Status::Running;
                        task.epoch += 1;
                        task.attempts += 1;
                        assert_eq!((claimed.hold.epoch, claimed.attempt), (task.epoch, task.attempts));
                        self.model.jobs.insert(task.job, "running");
                        self.model.claims.push((claimed, claimant.worker_id));
                    }
                    None => assert_eq!(ready, 0, "something was ready"),
                }
            }
            Step::Succeed(who, more) => {
                let Some(at) = chosen(who, self.model.claims.len()) else { return };
                let claimed = self.model.claims[at].0.clone();
                let planned = if *more { two_and_one_behind() } else { vec![] };
                let publication = [Publication::Tasks(planned.clone())];
                let done = finish::succeed(&db, &claimed, &publication, &note).await;
                if self.model.owns(claimed.hold) {
                    done.unwrap();
                    self.model.add(claimed.job_id, &planned);
                    self.model.succeed(claimed.hold.task_id);
                } else {
                    assert!(matches!(done, Err(DbError::LostRace)), "a zombie wrote");
                }
            }
            Step::Fail(who, retryable) => {
                let Some(at) = chosen(who, self.model.claims.len()) else { return };
                let claimed = self.model.claims[at].0.clone();
                let reason = Reason::Storage;
                let error = match retryable {
                    true => TaskError::retryable(reason, "later"),
                    false => TaskError::fatal(reason, "never"),
                };
                let done = finish::fail(&db, &claimed, &error, &note, 0.5).await;
                if self.model.owns(claimed.hold) {
                    done.unwrap();
                    self.model.fail(claimed.hold.task_id, *retryable);
                } else {
                    assert!(matches!(done, Err(DbError::LostRace)), "a zombie failed a task");
                }
            }
            Step::Release(who) => {
                let Some(at) = chosen(who, self.model.claims.len()) else { return };
                let claimed = self.model.claims[at].0.clone();
                let done = finish::release(&db, claimed.job_id, claimed.hold).await;
                if self.model.owns(claimed.hold) {
                    done.unwrap();
                    let task = self.model.tasks.get_mut(&claimed.hold.task_id).unwrap();
                    task.status = Status::Ready;
                    task.attempts -= 1;
                } else {
                    assert!(matches!(done, Err(DbError::LostRace)), "a zombie gave back what is not its own");
                }
            }
            Step::Beat(who) => {
                let Some(at) = chosen(who, self.model.claims.len()) else { return };
                let (claimed, worker) = self.model.claims[at].clone();
                let standing = leases::renew(&db, worker, &[claimed.hold], LEASE).await.unwrap();
                assert_eq!(standing.contains(&claimed.hold), self.model.owns(claimed.hold));
            }
            Step::Expire(who) => {
                let running: Vec<TaskId> = {
                    let mut ids: Vec<TaskId> = self
                        .model
                        .tasks
                        .iter()
                        .filter(|(_, task)| task.status == Status::Running)
                        .map(|(id, _)| *id)
                        .collect();
                    ids.sort_by_key(|id| id.0);
                    ids
                };
                let Some(at) = chosen(who, running.len()) else { return };
                let id = running[at];
                let late = format!(
                    "update task_leases set expires_at = now() - interval '1 s' where task_id = '{id}'"
                );
                self.fixture.execute(&late).await;
                assert_eq!(finish::expire_leases(&db, &self.leadership, 10).await.unwrap().len(), 1);
                self.model.fail(id, true);
            }
            Step::Cancel(which) => {
                let mut ids: Vec<JobId> = self.model.jobs.keys().copied().collect();
                ids.sort_by_key(|id| id.0);
                let Some(at) = chosen(which, ids.len()) else { return };
                let job = ids[at];
                let was = self.model.jobs[&job];
                let done = jobs::cancel(&db, self.project, job).await.unwrap();
                if matches!(was, "queued" | "running") {
                    assert_eq!(done, Cancelled::Now);
                    self.model.end(job, "cancelled");
                } else {
                    assert!(matches!(done, Cancelled::TooLate(_)));
                }
            }
        }
    }

    /// The database says what the model says.
    async fn agrees(&self) {
        let client = self.fixture.db.get().await.unwrap();
        let rows = client
            .query(
                "select t.id, t.status, t.epoch, t.attempts, l.epoch as leased from tasks t
                 left join task_leases l on l.task_id = t.id",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(rows.len(), self.model.tasks.len());
        for row in rows {
            let task = &self.model.tasks[&TaskId(row.get("id"))];
            let found: (&str, i32, i32) = (row.get("status"), row.get("epoch"), row.get("attempts"));
            assert_eq!(found, (task.status.word(), task.epoch, task.attempts));
            let leased = (task.status == Status::Running).then_some(task.epoch);
            assert_eq!(
                row.get::<_, Option<i32>>("leased"),
                leased,
                "a lease for each that runs, and for no other"
            );
        }
        for row in client.query("select id, status, pending from jobs", &[]).await.unwrap() {
            let id = JobId(row.get("id"));
            assert_eq!(row.get::<_, &str>("status"), self.model.jobs[&id]);
            let left =
                self.model.tasks.values().filter(|task| task.job == id && task.status != Status::Succeeded);
            assert_eq!(
                row.get::<_, i32>("pending") as usize,
                left.count(),
                "of a job that is {}",
                self.model.jobs[&id]
            );
        }
        let ends =
            "select count(*) from events where type in ('job.succeeded', 'job.failed', 'job.cancelled')";
        let over =
            self.model.jobs.values().filter(|status| !matches!(**status, "queued" | "running")).count();
        assert_eq!(self.fixture.count(ends).await as usize, over, "each end is told once");
    }
}

fn two_and_one_behind() -> Vec<NewTask> {
    let mut tasks = [plan::opening(&spec(), true), plan::opening(&spec(), true)].concat();
    let last = plan::opening(&spec(), true).remove(0);
    tasks.iter_mut().for_each(|task| task.unblocks.push(last.id));
    let last = NewTask { blocked_by: tasks.len() as i32, ..last };
    tasks.push(last);
    tasks
}

#[test]
fn whatever_happens_the_newest_epoch_writes_and_nobody_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 12, max_shrink_iters: 100, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let project = fixture.project("p").await;
            let leadership =
                leader::acquire(&fixture.db, SchedulerId::new(), LEASE * 60).await.unwrap().unwrap();
            let mut world = World { fixture, project, leadership, model: Model::default() };
            for step in &steps {
                world.step(step).await;
                world.agrees().await;
            }
            world.fixture.done().await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
