//! What was on air becomes a video like any other: what of it is taken over, and the recipe of the whole.

use std::cmp::Reverse;

use super::edit::Edit;
use super::spec::{Input, JobSpec, LadderChoice, Output, Taken, TakenRung};
use crate::ids::{BroadcastId, SourceId};
use crate::media::live::assembly::Assembly;
use crate::media::live::plan::LivePlan;
use crate::media::profile::{AudioRecipe, Preset, Profile, RateControl, Rung};

/// What a conversion makes.
pub const OUTPUTS: [Output; 5] =
    [Output::Hls, Output::Dash, Output::Mp4, Output::Thumbnail, Output::Storyboard];

/// What is taken over as it was on air.
pub fn taken(broadcast: BroadcastId, plan: &LivePlan, assembly: &Assembly) -> Taken {
    Taken {
        broadcast,
        grid: assembly.grid,
        held_frames: assembly.held_frames(),
        rungs: plan
            .rungs
            .iter()
            .map(|rung| TakenRung { name: rung.name.clone(), width: rung.width, height: rung.height })
            .collect(),
        sound: plan.audio.is_some(),
    }
}

/// What is kept with a job that makes nothing but what was on air, from `source`, which is new.
pub fn spec(broadcast: BroadcastId, source: SourceId, plan: &LivePlan, assembly: &Assembly) -> JobSpec {
    JobSpec {
        input: Input::BroadcastId(broadcast),
        source,
        profile: Some(profile(plan, assembly, None)),
        outputs: OUTPUTS.to_vec(),
        outputs_by_default: false,
        edit: Edit::default(),
        ladder: LadderChoice::default(),
        quality: None,
        picture: None,
        poster: None,
        series: None,
        downloads: vec![],
        adopt: None,
        taken: Some(taken(broadcast, plan, assembly)),
        callback_url: None,
        force: false,
        dry_run: false,
    }
}

/// The rungs that were on air, and those of `asked` that were not.
pub fn profile(plan: &LivePlan, assembly: &Assembly, asked: Option<Profile>) -> Profile {
    let mut rungs: Vec<Rung> = plan
        .rungs
        .iter()
        .map(|rung| Rung {
            name: rung.name.clone(),
            // A box is that of a picture that lies.
            width: rung.width.max(rung.height),
            height: rung.width.min(rung.height),
            codec: plan.codec,
            rate_control: RateControl::Constant { bitrate: rung.bitrate, buffer: rung.buffer },
            max_frame_rate: None,
        })
        .collect();
    let (preset, hardware, retention) = asked.as_ref().map_or_else(
        || (Preset::Medium, Default::default(), Default::default()),
        |asked| (asked.preset, asked.hardware, asked.retention.clone()),
    );
    for rung in asked.into_iter().flat_map(|asked| asked.rungs) {
        if rungs.iter().all(|known| known.name != rung.name) {
            rungs.push(rung);
        }
    }
    // As in every profile.
    rungs.sort_by_key(|rung| Reverse((rung.width.min(rung.height), rung.rate_control.max_bitrate())));
    let grid = &assembly.grid;
    Profile {
        name: None,
        rungs,
        audio: plan.audio.as_ref().map(|audio| AudioRecipe::at(audio.bitrate)),
        preset,
        hardware,
        segment_duration: (grid.rate.seconds(grid.segment_frames()).round() as u32).clamp(1, 30),
        retention,
    }
}
