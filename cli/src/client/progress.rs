//! How a job that is watched looks on stderr.

use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar};
use reelmill_shared::job::state::{JobStatus, TaskStatus};

use super::documents::{Job, Task};
use super::meter::{LINES, WHOLE, bars, can_draw, share_bar};
use super::output::note;
use super::text::{percent, plain, span, times};

/// One rendition of a job, over all tasks that make it.
#[derive(Debug, Clone, PartialEq)]
struct Rendition {
    name: String,
    state: State,
    progress: f64,
    fps: Option<f64>,
    speed: Option<f64>,
    eta: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// A watched job's face.
pub(crate) struct Display {
    look: Look,
    since: Instant,
}

enum Look {
    Bars { bars: MultiProgress, overall: ProgressBar, renditions: Vec<(String, ProgressBar)> },
    Lines { said: Option<Instant>, line: String, status: Option<JobStatus> },
}

impl Display {
    pub(crate) fn new() -> Self {
        let look = if can_draw() {
            let bars = bars();
            let overall = share_bar(&bars, "job");
            Look::Bars { bars, overall, renditions: vec![] }
        } else {
            Look::Lines { said: None, line: String::new(), status: None }
        };
        Self { look, since: Instant::now() }
    }

    /// Shows the job as it is now.
    pub(crate) fn update(&mut self, job: &Job) {
        let now = renditions(&job.tasks);
        let elapsed = self.since.elapsed().as_secs_f64();
        match &mut self.look {
            Look::Bars { bars, overall, renditions } => {
                overall.set_position(steps(job.progress));
                overall.set_message(format!(
                    "{:>4}  {}, {}",
                    percent(job.progress),
                    doing(job),
                    span(elapsed)
                ));
                // A rendition's name stands at the same place as long as the job lives.
                let width =
                    now.iter().map(|r| plain(&r.name).chars().count()).max().unwrap_or(0).clamp(3, 16);
                overall.set_prefix(format!("{:width$}", "job"));
                for rendition in &now {
                    let known = renditions.iter().position(|(name, _)| *name == rendition.name);
                    let index = known.unwrap_or_else(|| {
                        renditions.push((rendition.name.clone(), share_bar(bars, &rendition.name)));
                        renditions.len() - 1
                    });
                    let bar = &renditions[index].1;
                    bar.set_prefix(format!("{:width$}", plain(&rendition.name)));
                    bar.set_position(steps(rendition.progress));
                    bar.set_message(format!("{:>4}  {}", percent(rendition.progress), rendition.figures()));
                }
            }
            Look::Lines { said, line, status } => {
                let text = one_line(job, &now);
                // A new state is told at once, figures now and then.
                let due = *status != Some(job.status) || said.is_none_or(|said| said.elapsed() >= LINES);
                if due && *line != text && !job.is_over() {
                    note(&text);
                    (*said, *line, *status) = (Some(Instant::now()), text, Some(job.status));
                }
            }
        }
    }

    /// Says something without tearing the bars.
    pub(crate) fn say(&self, message: &str) {
        match &self.look {
            Look::Bars { bars, .. } => bars.suspend(|| note(message)),
            Look::Lines { .. } => note(message),
        }
    }

    /// Leaves the last state standing.
    pub(crate) fn finish(self, job: &Job) {
        match self.look {
            Look::Bars { overall, renditions, .. } => {
                for bar in renditions.iter().map(|(_, bar)| bar).chain([&overall]) {
                    bar.abandon();
                }
                // The cursor stands at the end of the last bar.
                note("");
            }
            // What went wrong is told with the exit.
            Look::Lines { .. } if job.status == JobStatus::Succeeded => {
                let took = job.timings.run.map(|run| format!(" in {}", span(run)));
                note(&format!("succeeded{}", took.unwrap_or_default()));
            }
            Look::Lines { .. } => {}
        }
    }
}

fn steps(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * WHOLE as f64) as u64
}

/// What the job as a whole is doing.
fn doing(job: &Job) -> String {
    match job.status {
        JobStatus::Queued => return "waiting for a worker".to_owned(),
        JobStatus::Running => {}
        over => return over.to_string(),
    }
    let mut words: Vec<String> = vec![];
    let running = job.tasks.iter().filter(|task| task.status == TaskStatus::Running);
    for task in running {
        let word = task.phase.as_ref().or(job.phase.as_ref()).unwrap_or(&task.kind);
        let again = if task.attempt > 1 {
            format!(" (try {} of {})", task.attempt, task.max_attempts)
        } else {
            String::new()
        };
        let word = format!("{}{again}", plain(word));
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if !words.is_empty() {
        return words.join(", ");
    }
    // Between tasks; where one is being tried again, say what went wrong.
    let failing = job.tasks.iter().find(|task| task.status == TaskStatus::Ready && task.attempt > 0);
    match failing.and_then(|task| Some((task, task.error.as_ref()?))) {
        Some((task, error)) => {
            format!("{} will be tried again: {}", plain(&task.kind), plain(&error.message))
        }
        None => "waiting for a worker".to_owned(),
    }
}

fn one_line(job: &Job, renditions: &[Rendition]) -> String {
    let mut parts = vec![match job.status {
        JobStatus::Running => format!("{} {}", percent(job.progress), doing(job)),
        _ => doing(job),
    }];
    for rendition in renditions {
        let name = plain(&rendition.name);
        parts.push(match rendition.state {
            State::Running => format!("{name} {} {}", percent(rendition.progress), rendition.figures()),
            _ => format!("{name} {}", rendition.figures()),
        });
    }
    parts.iter().map(|part| part.trim_end()).collect::<Vec<_>>().join("; ")
}

impl Rendition {
    fn figures(&self) -> String {
        match self.state {
            State::Waiting => return "waiting".to_owned(),
            State::Done => return "done".to_owned(),
            State::Failed => return "failed".to_owned(),
            State::Cancelled => return "cancelled".to_owned(),
            State::Running => {}
        }
        let figures = [
            self.fps.filter(|fps| *fps > 0.0).map(|fps| format!("{fps:.0} fps")),
            self.speed.filter(|speed| *speed > 0.0).map(times),
            self.eta.filter(|eta| eta.is_finite()).map(left),
        ];
        figures.into_iter().flatten().collect::<Vec<_>>().join("  ")
    }
}

/// In whole seconds: tenths would only flicker.
fn left(eta: f64) -> String {
    let eta = eta.ceil().max(0.0);
    if eta < 10.0 { format!("{eta} s left") } else { format!("{} left", span(eta)) }
}

/// The renditions in the order in which the tasks name them. Several tasks may make pieces of one.
fn renditions(tasks: &[Task]) -> Vec<Rendition> {
    let mut names: Vec<&str> = vec![];
    for name in tasks.iter().flat_map(|task| &task.renditions) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| gather(name, tasks)).collect()
}

fn gather(name: &str, tasks: &[Task]) -> Rendition {
    let makers: Vec<&Task> =
        tasks.iter().filter(|task| task.renditions.iter().any(|made| made == name)).collect();
    let any = |status: TaskStatus| makers.iter().any(|task| task.status == status);
    let state = if any(TaskStatus::Failed) {
        State::Failed
    } else if any(TaskStatus::Cancelled) {
        State::Cancelled
    } else if makers.iter().all(|task| task.status == TaskStatus::Succeeded) {
        State::Done
    } else if any(TaskStatus::Running) {
        State::Running
    } else {
        State::Waiting
    };
    let total =
        |figure: fn(&Task) -> Option<f64>| makers.iter().filter_map(|task| figure(task)).reduce(|a, b| a + b);
    Rendition {
        name: name.to_owned(),
        state,
        progress: makers.iter().map(|task| task.progress).sum::<f64>() / makers.len().max(1) as f64,
        fps: total(|task| task.fps),
        speed: total(|task| task.speed),
        eta: makers.iter().filter_map(|task| task.eta_seconds).reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(
        kind: &str,
        status: &str,
        progress: f64,
        renditions: &[&str],
        eta: Option<f64>,
    ) -> serde_json::Value {
        json!({
            "id": "01a1f8b4-7152-7089-b7cc-ae5dad334ac5", "kind": kind, "status": status, "pool": "cpu", "worker": "w",
            "attempt": 1, "max_attempts": 3, "progress": progress, "phase": (status == "running").then_some("encoding"),
            "fps": eta.map(|_| 50.0), "speed": eta.map(|_| 2.0), "eta_seconds": eta, "renditions": renditions,
            "command": null, "error": null, "started_at": null, "finished_at": null,
        })
    }

    fn job(status: &str, tasks: Vec<serde_json::Value>) -> Job {
        serde_json::from_value(json!({
            "id": "01a1f8b4-7093-702b-a7f4-ded97abf1264", "kind": "transcode", "status": status, "recording_id": null,
            "priority": 50, "progress": 0.429, "tasks": tasks, "created_at": "2026-11-20T11:25:37Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_line_tells_it_all() {
        let job = job(
            "running",
            vec![
                task("probe", "succeeded", 1.0, &[], None),
                task("encode", "running", 0.4, &["1080p", "720p"], Some(75.2)),
                task("audio", "succeeded", 1.0, &["audio"], None),
                task("encode", "blocked", 0.0, &["360p"], None),
            ],
        );
        let line = one_line(&job, &renditions(&job.tasks));
        let rung = "40% 50 fps  2.0x  1:16 left";
        assert_eq!(line, format!("42% encoding; 1080p {rung}; 720p {rung}; audio done; 360p waiting"));
    }

    #[test]
    fn pieces_of_a_rendition_are_added_up() {
        let tasks = job(
            "running",
            vec![
                task("encode", "succeeded", 1.0, &["720p"], None),
                task("encode", "running", 0.5, &["720p"], Some(10.0)),
                task("encode", "running", 0.0, &["720p"], Some(30.0)),
            ],
        )
        .tasks;
        let [only] = &renditions(&tasks)[..] else { panic!("one rendition") };
        assert_eq!((only.state, only.progress), (State::Running, 0.5));
        assert_eq!((only.fps, only.speed, only.eta), (Some(100.0), Some(4.0), Some(30.0)));
    }

    #[test]
    fn states_without_figures() {
        assert_eq!([left(0.0), left(8.2), left(61.0)], ["0 s left", "9 s left", "1:01 left"]);
        assert_eq!(one_line(&job("queued", vec![]), &[]), "waiting for a worker");
        assert_eq!(one_line(&job("succeeded", vec![]), &[]), "succeeded");
    }
}
