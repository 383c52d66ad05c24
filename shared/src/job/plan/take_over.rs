//! What was encoded on air is not encoded again.

use super::Drawn;
use crate::job::encoder::Encoder;
use crate::job::spec::Taken;
use crate::job::task::{EncodeRung, TakeOverSpec, TakenTrack, TaskSpec};
use crate::media::profile::Profile;

/// The tasks that take over what is there of a broadcast. That is left out of what is `drawn`; all rungs get their places by the profile,
/// which has those that are there, too.
pub(super) fn works(taken: &Taken, profile: &Profile, drawn: &mut Drawn) -> Vec<TaskSpec> {
    let place = |name: &str| {
        (0..).zip(&profile.rungs).find(|(_, rung)| rung.name == name).map_or(0, |(place, _)| place)
    };
    let is_there = |name: &str| taken.rungs.iter().any(|rung| rung.name == name);
    if let Some(whole) = &mut drawn.video {
        whole.rungs.retain(|rung| !is_there(&rung.name));
        whole.rungs.iter_mut().for_each(|rung| rung.position = place(&rung.name));
    }
    let made = |name: &str| drawn.video.iter().flat_map(|whole| &whole.rungs).any(|rung| rung.name == name);
    let small = profile.rungs.iter().filter(|rung| !is_there(&rung.name) && !made(&rung.name));
    let warnings: Vec<String> =
        small.map(|rung| format!("{} is left out: there was no more to show on air", rung.name)).collect();
    drawn.warnings.extend(warnings);
    let set = drawn.set.id;
    let task = |track| TaskSpec::TakeOver(TakeOverSpec { broadcast: taken.broadcast, set, track });
    let mut works: Vec<TaskSpec> = taken
        .rungs
        .iter()
        .filter_map(|there| {
            let recipe = profile.rungs.iter().find(|rung| rung.name == there.name)?;
            Some(task(TakenTrack::Picture(EncodeRung {
                name: there.name.clone(),
                position: place(&there.name),
                skip_segments: 0,
                encoder: Encoder::software(recipe.codec),
                width: there.width,
                height: there.height,
                content: None,
                grid: taken.grid,
                rate_control: recipe.rate_control,
            })))
        })
        .collect();
    if taken.sound && !drawn.sound.is_empty() {
        works.push(task(TakenTrack::Sound(drawn.sound.remove(0))));
    }
    works
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, probe, spec};
    use super::super::{Plan, Settled, transcode};
    use super::*;
    use crate::ids::{BroadcastId, RecordingId};
    use crate::job::spec::{JobSpec, Output, TakenRung};
    use crate::job::task::TaskKind;
    use crate::media::grid::{Grid, Rate};

    /// What was on air in 720p and 360p in segments of two seconds, and is to be had as `web` has it.
    fn planned(adopted: bool) -> Plan {
        let rung = |name: &str, width, height| TakenRung { name: name.into(), width, height };
        let grid = Grid { rate: Rate { num: 25, den: 1 }, gop_frames: 25, segment_gops: 2, frames: 1510 };
        let taken = Taken {
            broadcast: BroadcastId::new(),
            grid,
            held_frames: 3,
            rungs: vec![rung("720p", 1280, 720), rung("360p", 640, 360)],
            sound: true,
        };
        let mut spec = JobSpec { taken: Some(taken), ..spec("web") };
        spec.outputs = vec![Output::Hls, Output::Mp4, Output::Storyboard];
        if adopted {
            let renditions = ["720p", "360p", "audio"].map(|name| (name.to_owned(), 31)).to_vec();
            spec.adopt = Some(crate::job::spec::Adopt { set: crate::ids::SetId::new(), renditions });
        }
        let probe = probe(60.4, Some(60.4));
        transcode(&spec, spec.source, RecordingId::new(), &probe, Settled::default(), &NOW).unwrap()
    }

    #[test]
    fn only_what_was_not_on_air_is_encoded_and_on_the_same_grid() {
        let plan = planned(false);
        let of = |kind| plan.tasks.iter().filter(move |task| task.spec.kind() == kind);
        let taken: Vec<String> = of(TaskKind::TakeOver).flat_map(|task| task.spec.renditions()).collect();
        assert_eq!(taken, ["720p", "360p", "audio"]);
        assert_eq!(of(TaskKind::Audio).count(), 0);
        for task in of(TaskKind::Encode) {
            let TaskSpec::Encode(encode) = &task.spec else { panic!() };
            assert!(encode.rungs.iter().all(|rung| rung.name == "480p" && rung.position == 2));
            assert_eq!((encode.grid.gop_frames, encode.grid.frames), (25, 1510));
        }
        let finish = of(TaskKind::Finish).next().unwrap();
        let TaskSpec::Finish(finish) = &finish.spec else { panic!() };
        assert_eq!(finish.expect.len(), 4);
        assert!(finish.expect.iter().all(|(_, segments)| *segments == 31), "{:?}", finish.expect);
        assert_eq!(of(TaskKind::Mp4).count(), 3);
        // Out of the least rung, which waits for nothing but that.
        let board = of(TaskKind::Storyboard).next().unwrap();
        let TaskSpec::Storyboard(orders) = &board.spec else { panic!() };
        assert_eq!((orders.from.rung.as_str(), board.blocked_by), ("360p", 1));
        assert_eq!(plan.summary.warnings, ["1080p is left out: there was no more to show on air"]);
    }

    #[test]
    fn what_was_taken_over_once_is_adopted_later() {
        let plan = planned(true);
        assert!(plan.adopted.is_some(), "it was cut alike");
        assert!(plan.tasks.iter().all(|task| task.spec.kind() != TaskKind::TakeOver));
    }
}
