//! Around what a finished set has already, only the rest is made.

use super::PlanSummary;
use crate::ids::SetId;
use crate::job::spec::Adopt;
use crate::job::task::TaskSpec;
use crate::media::profile::Profile;

/// What a new set takes over from a finished one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub set: SetId,
    /// Renditions by name, each with its place in the new ladder; sound and text keep those they have.
    pub places: Vec<(String, i32)>,
}

/// Leaves out of `works` what is there, and adds to `expect`, the number of segments of each rendition, what the works knew nothing
/// of. All rungs get their places by the profile, which has those that are there, too.
///
/// `None`, and nothing left out, where the two would not fit together: what is there was cut otherwise.
pub(super) fn leave_out(
    adopt: &Adopt,
    profile: &Profile,
    works: &mut Vec<TaskSpec>,
    expect: &mut Vec<(String, u64)>,
    summary: &mut PlanSummary,
) -> Option<Adopted> {
    let is_there = |name: &str| adopt.segments(name).is_some();
    if expect.iter().any(|(name, segments)| adopt.segments(name).is_some_and(|there| there != *segments)) {
        return None;
    }
    let place = |name: &str| {
        (0..).zip(&profile.rungs).find(|(_, rung)| rung.name == name).map_or(0, |(place, _)| place)
    };
    works.retain_mut(|work| match work {
        TaskSpec::Encode(encode) => {
            encode.rungs.retain(|rung| !is_there(&rung.name));
            encode.rungs.iter_mut().for_each(|rung| rung.position = place(&rung.name));
            !encode.rungs.is_empty()
        }
        other => !other.renditions().iter().all(|name| is_there(name)),
    });
    for (name, segments) in &adopt.renditions {
        if expect.iter().all(|(known, _)| known != name) {
            expect.push((name.clone(), *segments));
        }
    }
    let small = profile.rungs.iter().filter(|rung| expect.iter().all(|(name, _)| *name != rung.name));
    summary
        .warnings
        .extend(small.map(|rung| format!("{} is left out: the source has no more to show", rung.name)));
    let places = adopt.renditions.iter().map(|(name, _)| (name.clone(), place(name))).collect();
    Some(Adopted { set: adopt.set, places })
}
