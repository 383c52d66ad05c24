//! The beginning of a very long source, made after a glance at it.

use super::expect::{Expectations, expectations};
use super::{Circumstances, Drawn, NewTask, Plan, PlanSummary, audio, draw, is_indexed, video};
use crate::ids::{SetId, SourceId};
use crate::job::spec::JobSpec;
use crate::job::task::{AudioSpec, EncodeSpec, Extent, Led, ProbeSpec, TaskSpec};
use crate::media::probe::Probe;
use crate::media::profile::Profile;

/// Up to this length a source is looked into as a whole before anything is made of it: that takes less than two seconds.
const GLANCED_SECONDS: f64 = 1800.0;

/// What is read of a source beyond what a segment is meant to last, in seconds: segments are whole GOPs, an encoder looks ahead, and
/// decoders hold pictures back.
const READ_AHEAD_SECONDS: f64 = 4.0;

/// How many seconds of a source what is led of it needs at most: the sound, which ends with the segment that ends its first span.
pub fn led_seconds(profile: &Profile) -> f64 {
    audio::FIRST_SPAN_SECONDS + f64::from(profile.segment_duration) + READ_AHEAD_SECONDS
}

/// Plans the beginning of a source so long that looking into all of it would keep a viewer waiting: the lead and the sound beside it,
/// then the probe of the whole. `glance` is what its first seconds and its header tell. `None` where it is not worth it, or nothing
/// could be made: the probe of the whole says why. `extent` is what of the source is enough for it.
pub fn lead(
    spec: &JobSpec,
    source: SourceId,
    glance: &Probe,
    extent: Option<&Extent>,
    circumstances: &Circumstances,
) -> Option<Plan> {
    if !is_worth_a_glance(glance.duration_seconds) || !is_indexed(glance) {
        return None;
    }
    if extent.is_some() && !is_made_of_the_beginning(spec) {
        return None;
    }
    // How loud it is only the whole can tell.
    let drawn = draw(spec, source, SetId::new(), glance, circumstances).ok()?;
    if drawn.measure.is_some() || drawn.duration_seconds <= video::UNLED_SECONDS {
        return None;
    }
    let video = video::lead(drawn.video.as_ref()?, circumstances.encode_threads.unwrap_or(1).max(1));
    let video = video::timed(video, glance);
    let audio = drawn.sound.first().map(audio::lead);
    let led = Led { video: video.clone(), audio: audio.clone() };
    let mut probe = NewTask::new(TaskSpec::Probe(ProbeSpec { source, led: Some(Box::new(led)) }));
    let video = EncodeSpec { extent: extent.cloned(), ..video };
    let audio = audio.map(|audio| AudioSpec { extent: extent.cloned(), ..audio });
    let works = [Some(TaskSpec::Encode(video)), audio.map(TaskSpec::Audio)];
    let works: Vec<TaskSpec> = works.into_iter().flatten().collect();
    let Expectations { renditions, .. } = expectations(&works);
    let mut tasks: Vec<NewTask> = works.into_iter().map(|work| NewTask::new(work).then(&mut probe)).collect();
    tasks.push(probe);
    let summary = PlanSummary { renditions, subtitles: vec![], warnings: drawn.warnings };
    Some(Plan { set: drawn.set, duration_seconds: drawn.duration_seconds, tasks, adopted: None, summary })
}

/// True where looking into all of a source that says it lasts this long would keep a viewer waiting.
pub fn is_worth_a_glance(declared_seconds: f64) -> bool {
    declared_seconds > GLANCED_SECONDS
}

/// True where the first that is made of a source is at its very beginning, so that nothing behind it is needed.
pub fn is_made_of_the_beginning(spec: &JobSpec) -> bool {
    spec.edit.start_ms.unwrap_or(0) == 0
}

/// Whether what was led is a piece of what is to be made.
pub(super) fn fits(led: &Led, drawn: &Drawn) -> bool {
    let video = drawn.video.as_ref().is_some_and(|whole| video::leads(&led.video, whole));
    video
        && match (&led.audio, drawn.sound.first()) {
            (Some(led), Some(whole)) => audio::leads(led, whole),
            (None, None) => true,
            _ => false,
        }
}
