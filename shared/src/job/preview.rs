//! What a job would do, told without doing it: the answer to a dry run, kept in the result of the job that looked into the source.

use serde::{Deserialize, Serialize};

use super::capability::Pool;
use super::estimate::{Estimate, Figure, History};
use super::plan::NewTask;
use super::task::{EncodeRung, EncodeSpec, TaskKind, TaskSpec};
use crate::ids::{JobId, RecordingId, SetId, TaskId};
use crate::media::profile::Rung;

/// All that would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    pub duration_seconds: f64,
    /// In the order of work.
    pub tasks: Vec<PreviewedTask>,
    pub ladder: Ladder,
    pub estimate: Estimate,
    /// Nothing of it would be encoded: this set would be played.
    pub reused_from: Option<PreviewedReuse>,
    pub warnings: Vec<String>,
}

/// Which rungs there would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    pub renditions: Vec<PreviewedRendition>,
    pub dropped: Vec<Dropped>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewedTask {
    pub kind: TaskKind,
    pub pool: Pool,
    /// What a worker must have proven for it.
    pub class: String,
    /// Which of the tasks, counted from zero, must be done before it.
    pub blocked_by: Vec<usize>,
    pub renditions: Vec<String>,
    /// Its FFmpeg, files by their names only; `None` where it runs none or one that depends on what another finds.
    pub command: Option<Vec<String>>,
    pub cpu_seconds: Option<f64>,
}

/// One rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewedRendition {
    pub name: String,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub frame_rate: Option<f64>,
    pub encoder: String,
    /// Bits per second: the ceiling, or the rate where that is constant.
    pub max_bitrate: u64,
    /// Estimated; `None` where there is nothing to go by.
    pub bitrate: Option<u64>,
    pub bytes: Option<u64>,
}

/// A rung of the profile that is not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub name: String,
    /// A plain sentence.
    pub reason: String,
}

/// A set that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PreviewedReuse {
    pub job_id: JobId,
    pub recording_id: RecordingId,
    pub set_id: SetId,
}

impl PreviewedTask {
    /// A task of `all`, which says what waits for what.
    pub fn new(task: &NewTask, all: &[NewTask], command: Option<Vec<String>>, cpu: Option<Figure>) -> Self {
        let waits_for =
            |id: TaskId| all.iter().enumerate().filter(move |(_, other)| other.unblocks.contains(&id));
        Self {
            kind: task.spec.kind(),
            pool: task.pool,
            class: task.spec.class().to_string(),
            blocked_by: waits_for(task.id).map(|(place, _)| place).collect(),
            renditions: task.spec.renditions(),
            command,
            cpu_seconds: cpu.map(|figure| figure.value),
        }
    }
}

/// The renditions of a plan and what its media will weigh.
pub fn renditions(
    tasks: &[NewTask],
    duration_seconds: f64,
    history: &History,
) -> Vec<(PreviewedRendition, Option<Figure>)> {
    let mut all: Vec<(PreviewedRendition, Option<Figure>)> = vec![];
    for task in tasks {
        let found = match &task.spec {
            TaskSpec::Encode(spec) => {
                spec.rungs.iter().map(|rung| video(spec, rung, duration_seconds, history)).collect()
            }
            TaskSpec::Audio(spec) => {
                let rate = Some(Figure { value: spec.bitrate as f64, samples: None });
                vec![weighed(
                    PreviewedRendition {
                        name: spec.rung.clone(),
                        width: None,
                        height: None,
                        frame_rate: None,
                        encoder: "aac".to_owned(),
                        max_bitrate: spec.bitrate,
                        bitrate: None,
                        bytes: None,
                    },
                    rate,
                    duration_seconds,
                )]
            }
            _ => vec![],
        };
        for rendition in found {
            // Made in chunks: each names it again.
            if all.iter().all(|(known, _)| known.name != rendition.0.name) {
                all.push(rendition);
            }
        }
    }
    // The lead comes first, with the lowest rung.
    all.sort_by_key(|(rendition, _)| std::cmp::Reverse(rendition.height.zip(Some(rendition.max_bitrate))));
    all
}

/// Which of a profile's rungs a plan leaves out, and why. Of those that an encoder cannot take the plan has warned.
pub fn dropped(rungs: &[Rung], planned: &[PreviewedRendition], warnings: &[String]) -> Vec<Dropped> {
    let sized = planned.iter().filter_map(|made| Some((made, made.width?, made.height?)));
    let reason = match sized.max_by_key(|(_, width, height)| u64::from(*width) * u64::from(*height)) {
        Some((best, width, height)) => {
            format!("{} shows all that the source has to show, at {width}x{height}", best.name)
        }
        None => "the source has no picture".to_owned(),
    };
    let left_out = rungs.iter().filter(|rung| planned.iter().all(|made| made.name != rung.name));
    let warned = |rung: &Rung| {
        let begins = format!("{} is left out: ", rung.name);
        warnings.iter().find_map(|warning| warning.strip_prefix(&begins)).map(str::to_owned)
    };
    left_out
        .map(|rung| Dropped {
            name: rung.name.clone(),
            reason: warned(rung).unwrap_or_else(|| reason.clone()),
        })
        .collect()
}

fn video(
    spec: &EncodeSpec,
    rung: &EncodeRung,
    duration_seconds: f64,
    history: &History,
) -> (PreviewedRendition, Option<Figure>) {
    let rate = history.bitrate(rung, spec.preset);
    let rendition = PreviewedRendition {
        name: rung.name.clone(),
        width: Some(rung.width),
        height: Some(rung.height),
        frame_rate: Some(rung.grid.rate.as_f64()),
        encoder: rung.encoder.to_string(),
        max_bitrate: rung.rate_control.max_bitrate(),
        bitrate: None,
        bytes: None,
    };
    weighed(rendition, rate, duration_seconds)
}

fn weighed(
    rendition: PreviewedRendition,
    rate: Option<Figure>,
    duration_seconds: f64,
) -> (PreviewedRendition, Option<Figure>) {
    let bytes = rate.map(|rate| Figure { value: rate.value / 8.0 * duration_seconds, ..rate });
    let whole = |figure: Option<Figure>| figure.map(|figure| figure.value as u64);
    (PreviewedRendition { bitrate: whole(rate), bytes: whole(bytes), ..rendition }, bytes)
}
