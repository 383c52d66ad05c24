//! A ladder for one title: whether a source is sampled for it, and what the verdict does to the rungs.

use super::{Circumstances, NewTask, draw};
use crate::ids::{SetId, SourceId};
use crate::job::spec::{JobSpec, LadderChoice};
use crate::job::task::{ComplexitySpec, EncodeSpec, Led, TaskSpec};
use crate::media::complexity::{self, Decision, RungVerdict};
use crate::media::probe::Probe;

/// Whether a source is sampled before the rest is planned.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// Nobody asked, or there is no picture to ask of.
    Unwanted,
    /// It was asked for, but would be worth nothing; why, in words.
    Skipped(&'static str),
    /// By this task, which plans the rest.
    Wanted(Box<NewTask>),
}

/// Whether `source`, which is the job's own or a remux of it, is sampled. Where nothing can be planned at all, that is said by the plan.
pub fn sampling(
    spec: &JobSpec,
    source: SourceId,
    probe: &Probe,
    led: Option<&Led>,
    circumstances: &Circumstances,
) -> Sampling {
    if spec.ladder != LadderChoice::Auto {
        return Sampling::Unwanted;
    }
    let drawn = draw(spec, source, SetId::new(), probe, circumstances).ok();
    let Some(whole) = drawn.and_then(|drawn| drawn.video) else { return Sampling::Unwanted };
    if whole.rungs.len() < 2 {
        return Sampling::Skipped("the source gets one rung only");
    }
    if !super::is_indexed(probe) {
        return Sampling::Skipped("samples cannot be taken from the middle of this source");
    }
    match complexity::sampled(&whole.grid) {
        None => Sampling::Skipped("the source is so short that samples would be most of it"),
        Some(samples) => {
            let orders = ComplexitySpec { whole, samples, led: led.cloned() };
            Sampling::Wanted(Box::new(NewTask::new(TaskSpec::Complexity(Box::new(orders)))))
        }
    }
}

/// Does to the rungs what was decided on them. Their places in the ladder stay, so that what was led is still part of it.
pub(super) fn apply(verdicts: &[RungVerdict], whole: &mut EncodeSpec) {
    let decision = |name: &str| verdicts.iter().find(|verdict| verdict.name == name).map(|v| v.decision);
    whole.rungs.retain(|rung| decision(&rung.name) != Some(Decision::Dropped));
    for rung in &mut whole.rungs {
        if let Some(Decision::Capped { max_bitrate }) = decision(&rung.name) {
            rung.rate_control = rung.rate_control.under(max_bitrate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RecordingId;
    use crate::job::plan::tests::{NOW, probe, spec};
    use crate::job::plan::{Settled, lead, transcode};
    use crate::job::task::ProbeSpec;

    fn auto(profile: &str) -> JobSpec {
        JobSpec { ladder: LadderChoice::Auto, ..spec(profile) }
    }

    fn wanted(spec: &JobSpec, probe: &Probe) -> Sampling {
        sampling(spec, SourceId::new(), probe, None, &NOW)
    }

    #[test]
    fn a_source_is_sampled_where_it_was_asked_for_and_is_worth_it() {
        let Sampling::Wanted(task) = wanted(&auto("web"), &probe(120.0, None)) else { panic!() };
        let TaskSpec::Complexity(orders) = &task.spec else { panic!() };
        assert_eq!((orders.whole.rungs.len(), orders.samples.len()), (3, 3));
        assert_eq!(wanted(&spec("web"), &probe(120.0, None)), Sampling::Unwanted);
        assert_eq!(wanted(&auto("audio"), &probe(120.0, Some(120.0))), Sampling::Unwanted);
        assert!(
            matches!(wanted(&auto("web"), &probe(8.0, None)), Sampling::Skipped(why) if why.contains("short"))
        );
        let mut stream = probe(120.0, None);
        stream.format = "mpegts".into();
        assert!(matches!(wanted(&auto("web"), &stream), Sampling::Skipped(_)));
    }

    #[test]
    fn verdicts_leave_what_was_led_in_its_place() {
        let (spec, source, seen) = (auto("web"), SourceId::new(), probe(7200.0, Some(7200.0)));
        let early = lead(&spec, source, &seen, None, &NOW).unwrap();
        let TaskSpec::Probe(ProbeSpec { led, .. }) = &early.tasks[2].spec else { panic!() };
        let verdict =
            |name: &str, decision| RungVerdict { name: name.into(), decision, reason: String::new() };
        let verdicts = [
            verdict("720p", Decision::Capped { max_bitrate: 700_000 }),
            verdict("480p", Decision::Dropped),
            verdict("360p", Decision::Kept),
        ];
        let settled = Settled { led: led.as_deref(), ladder: &verdicts };
        let plan = transcode(&spec, source, RecordingId::new(), &seen, settled, &NOW).unwrap();
        assert_eq!(plan.set.id, early.set.id, "the lead fits");
        let mut planned: Vec<(&str, u64)> =
            plan.summary.renditions.iter().map(|r| (r.name.as_str(), r.bitrate)).collect();
        planned.sort_unstable();
        assert_eq!(planned, [("360p", 900_000), ("720p", 700_000), ("audio", 128_000)]);
    }
}
