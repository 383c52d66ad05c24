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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RecordingId;
    use crate::job::plan::tests::{NOW, probe, spec};
    use crate::job::plan::{Settled, transcode};
    use crate::job::task::AUDIO_RUNG;
    use crate::media::grid::{AAC_FRAME, Rate};

    #[test]
    fn a_very_long_source_is_led_before_it_is_looked_into() {
        let (spec, source) = (spec("web"), SourceId::new());
        assert!(lead(&spec, source, &probe(600.0, Some(600.0)), None, &NOW).is_none());
        let early = lead(&spec, source, &probe(7200.0, Some(7200.0)), None, &NOW).unwrap();
        let kinds: Vec<_> = early.tasks.iter().map(|task| task.spec.kind().as_str()).collect();
        assert_eq!(kinds, ["encode", "audio", "probe"]);
        assert_eq!(early.tasks[2].blocked_by, 2);
        let TaskSpec::Probe(ProbeSpec { led: Some(led), .. }) = &early.tasks[2].spec else { panic!() };

        // The header was wrong about the length, which changes nothing.
        let rest = |probe: &Probe| {
            transcode(&spec, source, RecordingId::new(), probe, Settled { led: Some(led), ladder: &[] }, &NOW)
                .unwrap()
        };
        let plan = rest(&probe(7195.3, Some(7195.3)));
        assert_eq!(plan.set.id, early.set.id);
        let TaskSpec::Encode(first) = &plan.tasks[0].spec else { panic!() };
        assert_eq!(first.rungs[2].skip_segments, 1);
        let sounds: Vec<usize> = plan
            .tasks
            .iter()
            .filter_map(|task| match &task.spec {
                TaskSpec::Audio(audio) => Some(audio.span().segment),
                _ => None,
            })
            .collect();
        assert_eq!(sounds[0], 5, "behind the sound that was led");
        let TaskSpec::Finish(finish) = &plan.tasks.last().unwrap().spec else { panic!() };
        let mut names: Vec<&str> = finish.expect.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["360p", "480p", "720p", AUDIO_RUNG]);

        // Another rate than the first seconds had is another grid: everything is made anew.
        let mut other = probe(7200.0, Some(7200.0));
        other.video.as_mut().unwrap().rate = Rate { num: 24, den: 1 };
        let plan = rest(&other);
        assert_ne!(plan.set.id, early.set.id);
        let TaskSpec::Encode(lead) = &plan.tasks[0].spec else { panic!() };
        assert_eq!(lead.rungs.len(), 1);
    }

    #[test]
    fn what_was_led_is_made_once_however_short_the_rest_is() {
        let (mut spec, source) = (spec("web"), SourceId::new());
        let early = lead(&spec, source, &probe(7200.0, None), None, &NOW).unwrap();
        let TaskSpec::Probe(ProbeSpec { led, .. }) = &early.tasks[1].spec else { panic!() };
        let settled = Settled { led: led.as_deref(), ladder: &[] };
        let rest = |seconds: f64| {
            let recording = RecordingId::new();
            transcode(&spec, source, recording, &probe(seconds, None), settled, &NOW).unwrap()
        };
        let plan = rest(20.0);
        assert_eq!(plan.set.id, early.set.id);
        for task in &plan.tasks {
            let TaskSpec::Encode(encode) = &task.spec else { continue };
            let made = encode.rungs.iter().filter(|rung| rung.name == "360p");
            assert!(made.map(|rung| encode.rung_span(rung).first).all(|first| first >= 150));
        }
        assert_ne!(rest(6.0).set.id, early.set.id, "nothing would be left of the rung that was led");

        // As short a part of it needs no lead, either.
        spec.edit.end_ms = Some(20_000);
        assert!(lead(&spec, source, &probe(7200.0, None), None, &NOW).is_none());
        spec.edit.end_ms = Some(40_000);
        assert!(lead(&spec, source, &probe(7200.0, None), None, &NOW).is_some());
    }

    #[test]
    fn what_begins_later_is_not_led_by_the_beginning_alone() {
        let (mut spec, seen) = (spec("web"), probe(7200.0, Some(7200.0)));
        let beginning = Extent(vec![(0, 1000)]);
        let leads = |spec: &JobSpec, extent| lead(spec, SourceId::new(), &seen, extent, &NOW).is_some();
        assert!(leads(&spec, Some(&beginning)));
        spec.edit.start_ms = Some(600_000);
        assert!(!leads(&spec, Some(&beginning)) && leads(&spec, None));
    }

    #[test]
    fn what_is_led_needs_no_more_than_was_looked_at() {
        let (mut spec, mut seen) = (spec("web"), probe(7200.0, Some(7200.0)));
        for (num, den) in [(25, 1), (30_000, 1001), (60, 1), (1, 1), (5, 4), (61, 8)] {
            for segment_duration in 1..=30 {
                seen.video.as_mut().unwrap().rate = Rate { num, den };
                spec.profile.as_mut().unwrap().segment_duration = segment_duration;
                let plan = lead(&spec, SourceId::new(), &seen, None, &NOW).unwrap();
                let looked_at = led_seconds(spec.profile.as_ref().unwrap());
                for task in &plan.tasks {
                    let end = match &task.spec {
                        TaskSpec::Encode(encode) => encode.grid.rate.seconds(encode.span().frames),
                        TaskSpec::Audio(audio) => {
                            let frames = audio.span().frames(&audio.grid);
                            (frames * AAC_FRAME) as f64 / f64::from(audio.grid.sample_rate)
                        }
                        _ => continue,
                    };
                    assert!(end + 2.0 < looked_at, "{num}/{den} {segment_duration}: {end} of {looked_at}");
                }
            }
        }
    }
}
