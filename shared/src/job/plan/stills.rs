//! Pictures made out of renditions: the storyboard and series of thumbnails. They wait for the encodes of the rendition they
//! are made from, and nothing waits for them: a recording is ready without.

use super::{NewTask, deadline};
use crate::ids::SetId;
use crate::job::error::{Reason, TaskError};
use crate::job::spec::{JobSpec, Output};
use crate::job::task::{
    EncodeRung, StillSource, StoryboardSpec, TakeOverSpec, TakenTrack, TaskSpec, ThumbnailsSpec,
};
use crate::media::grid::Grid;
use crate::media::storyboard::Storyboard;
use crate::media::thumbnails::Series;

/// Where nobody names the outputs, a recording of this many seconds gets a storyboard: nobody seeks in less.
const STORYBOARD_FROM_SECONDS: f64 = 10.0;
/// Pictures of a series.
const MOST_THUMBNAILS: u32 = 1000;

/// A planned rendition of the picture.
struct Planned {
    name: String,
    width: u32,
    height: u32,
    grid: Grid,
}

/// Adds the tasks that make pictures out of what `tasks` encode into `set`. Without a video rendition there are none.
pub(super) fn add(
    tasks: &mut Vec<NewTask>,
    spec: &JobSpec,
    set: SetId,
    duration: f64,
) -> Result<(), TaskError> {
    let renditions = renditions(tasks);
    let Some(least) = renditions.iter().min_by_key(|r| u64::from(r.width) * u64::from(r.height)) else {
        return Ok(());
    };
    let source =
        |rendition: &Planned| StillSource { set, rung: rendition.name.clone(), grid: rendition.grid };
    let long_enough = !spec.outputs_by_default || duration >= STORYBOARD_FROM_SECONDS;
    if spec.outputs.contains(&Output::Storyboard) && long_enough {
        let task = TaskSpec::Storyboard(StoryboardSpec {
            from: source(least),
            board: Storyboard::of(&least.grid, least.width, least.height),
            deadline_seconds: deadline(0.0),
        });
        push(tasks, task, &least.name);
    }
    if let Some(wanted) = spec.series {
        let rendition = nearest(&renditions, wanted.width).unwrap_or(least);
        let series = Series::every(wanted.interval_seconds, &rendition.grid);
        if series.count() > MOST_THUMBNAILS {
            return Err(TaskError::fatal(
                Reason::LimitExceeded,
                format!(
                    "a thumbnail every {} s of {duration:.0} s are {}; at most {MOST_THUMBNAILS} are made, with an interval of {:.1} s or more",
                    wanted.interval_seconds,
                    series.count(),
                    duration / f64::from(MOST_THUMBNAILS) + 0.1
                ),
            ));
        }
        let width = wanted.width.min(rendition.width);
        let height = f64::from(width) * f64::from(rendition.height) / f64::from(rendition.width.max(1));
        let task = TaskSpec::Thumbnails(ThumbnailsSpec {
            from: source(rendition),
            series,
            width: even(f64::from(width)),
            height: even(height),
            deadline_seconds: deadline(duration),
        });
        push(tasks, task, &rendition.name);
    }
    Ok(())
}

/// Every video rendition that the tasks encode, once.
fn renditions(tasks: &[NewTask]) -> Vec<Planned> {
    let mut found: Vec<Planned> = vec![];
    for rung in made(tasks).flat_map(|(_, rungs)| rungs) {
        if found.iter().all(|known| known.name != rung.name) {
            found.push(Planned {
                name: rung.name.clone(),
                width: rung.width,
                height: rung.height,
                grid: rung.grid,
            });
        }
    }
    found
}

/// The rungs that each of the tasks makes, or makes a part of.
fn made(tasks: &[NewTask]) -> impl Iterator<Item = (usize, &[EncodeRung])> {
    tasks.iter().enumerate().filter_map(|(index, task)| match &task.spec {
        TaskSpec::Encode(encode) => Some((index, encode.rungs.as_slice())),
        TaskSpec::TakeOver(TakeOverSpec { track: TakenTrack::Picture(rung), .. }) => {
            Some((index, std::slice::from_ref(rung)))
        }
        _ => None,
    })
}

/// The smallest rendition that has the width, else the widest.
fn nearest(renditions: &[Planned], width: u32) -> Option<&Planned> {
    let enough = renditions.iter().filter(|rendition| rendition.width >= width);
    enough.min_by_key(|rendition| rendition.width).or(renditions.iter().max_by_key(|r| r.width))
}

/// Adds a task that waits for everything that encodes a part of `rung`.
fn push(tasks: &mut Vec<NewTask>, spec: TaskSpec, rung: &str) {
    let mut new = NewTask::new(spec);
    let makers: Vec<usize> = made(tasks)
        .filter(|(_, rungs)| rungs.iter().any(|made| made.name == rung))
        .map(|(index, _)| index)
        .collect();
    for maker in makers {
        if let Some(maker) = tasks.get_mut(maker) {
            maker.unblocks.push(new.id);
            new.blocked_by += 1;
        }
    }
    tasks.push(new);
}

fn even(length: f64) -> u32 {
    ((length / 2.0).round() as u32 * 2).max(2)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ids::{SourceId, UploadId};
    use crate::job::spec::SeriesRequest;
    use crate::job::task::TaskKind;
    use crate::media::grid::Rate;

    fn task(spec: Value) -> NewTask {
        NewTask::new(serde_json::from_value(spec).unwrap())
    }

    /// Two chunks of a ladder of two rungs, and a task that has nothing to do with them.
    fn tasks(seconds: f64) -> Vec<NewTask> {
        let rate = Rate { num: 25, den: 1 };
        let grid = Grid::new(rate, rate.frames_in(seconds), 6);
        let rung = |name: &str, width: u32, height: u32, grid: Grid| {
            json!({ "name": name, "width": width, "height": height, "grid": grid,
                "crf": 22, "max_bitrate": 1_000_000, "buffer": 2_000_000 })
        };
        let rungs = [rung("720p", 1280, 720, grid), rung("360p", 640, 360, grid.capped(Some(10)))];
        let encode = |first: u64, frames: u64| {
            task(json!({ "kind": "encode", "source": SourceId::new(), "set": SetId::new(), "stream": 0,
                "grid": grid, "span": { "first": first, "frames": frames, "warm_up": 0 }, "hold_frames": 0,
                "deinterlace": false, "tone_map": false, "preset": "medium", "threads": 1, "rungs": rungs,
                "deadline_seconds": 1 }))
        };
        let half = grid.frames / 2;
        let probe = task(json!({ "kind": "probe", "source": SourceId::new() }));
        vec![encode(0, half), encode(half, grid.frames - half), probe]
    }

    fn spec(by_default: bool, series: Option<SeriesRequest>) -> JobSpec {
        let spec = json!({ "input": { "upload_id": UploadId::new() }, "source": SourceId::new(),
            "outputs": ["hls", "storyboard"], "outputs_by_default": by_default, "series": series });
        serde_json::from_value(spec).unwrap()
    }

    fn planned(seconds: f64, spec: &JobSpec) -> Vec<NewTask> {
        let mut tasks = tasks(seconds);
        add(&mut tasks, spec, SetId::new(), seconds).unwrap();
        tasks
    }

    #[test]
    fn the_storyboard_waits_for_every_chunk_of_the_least_rung() {
        let tasks = planned(60.0, &spec(true, None));
        let [first, second, probe, board] = &tasks[..] else { panic!("{tasks:?}") };
        assert_eq!(board.blocked_by, 2);
        assert!(first.unblocks == [board.id] && second.unblocks == [board.id] && probe.unblocks.is_empty());
        let TaskSpec::Storyboard(made) = &board.spec else { panic!() };
        assert_eq!((made.from.rung.as_str(), made.board.tiles), ("360p", 30));
        assert_eq!(made.from.grid.gop_frames, 20, "counted on the rung's own grid");
    }

    #[test]
    fn short_recordings_get_one_only_where_it_was_asked_for() {
        let has_board = |tasks: &[NewTask]| tasks.iter().any(|t| t.spec.kind() == TaskKind::Storyboard);
        assert!(!has_board(&planned(9.9, &spec(true, None))));
        assert!(has_board(&planned(10.0, &spec(true, None))));
        assert!(has_board(&planned(0.08, &spec(false, None))));
        let mut sound = vec![];
        add(&mut sound, &spec(false, None), SetId::new(), 60.0).unwrap();
        assert!(sound.is_empty(), "nothing to see, no pictures");
    }

    #[test]
    fn a_series_is_taken_from_the_least_rendition_that_has_the_width() {
        let of = |interval_seconds, width| {
            let mut all = planned(60.0, &spec(false, Some(SeriesRequest { interval_seconds, width })));
            let TaskSpec::Thumbnails(made) = all.pop().unwrap().spec else { panic!() };
            (made.from.rung, made.width, made.height, made.series.count())
        };
        assert_eq!(of(5.0, 320), ("360p".into(), 320, 180, 12));
        assert_eq!(of(5.0, 800), ("720p".into(), 800, 450, 12));
        assert_eq!(of(0.5, 4000), ("720p".into(), 1280, 720, 116), "to whole frames");
    }

    #[test]
    fn a_series_is_bounded() {
        let wanted = SeriesRequest { interval_seconds: 1.0, width: 320 };
        let mut tasks = tasks(1001.0);
        let error = add(&mut tasks, &spec(false, Some(wanted)), SetId::new(), 1001.0).unwrap_err();
        assert!(!error.retryable && error.reason == Reason::LimitExceeded, "{error}");
        assert!(error.to_string().contains("1.1 s"), "{error}");
    }
}
