//! Measuring what was encoded: the spans of the encodes once more, each compared when it is there, then a report.

use super::video::timed;
use super::{NewTask, encoders};
use crate::job::quality::QualityWish;
use crate::job::task::{EncodeRung, EncodeSpec, QualitySpec, ReportSpec, TaskSpec};
use crate::media::grid::Span;
use crate::media::probe::Probe;

/// What is compared of `whole`, each with the tasks of `encodes` it waits for.
pub(super) fn tasks(
    wish: &QualityWish,
    whole: &EncodeSpec,
    probe: &Probe,
    encodes: &mut [NewTask],
) -> Vec<NewTask> {
    let spans = encodes.iter().filter_map(span).map(|span| span.first);
    // What was led is there already, and may have been all of its chunk.
    let mut starts: Vec<u64> = spans.chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([whole.grid.frames]);
    let parts = encoders::within_memory(&whole.rungs);
    starts
        .iter()
        .zip(ends)
        .flat_map(|(&first, end)| parts.iter().map(move |rungs| (first, end, rungs)))
        .map(|(first, end, rungs)| {
            let span = Span { first, frames: end - first, warm_up: 0 };
            let encoded = timed(
                EncodeSpec { span: Some(span), threads: 1, rungs: rungs.clone(), ..whole.clone() },
                probe,
            );
            let mut task =
                NewTask::new(TaskSpec::Quality(QualitySpec { encoded, metrics: wish.metrics.clone() }));
            encodes
                .iter_mut()
                .filter(|encode| encodes_of(encode, first, rungs))
                .for_each(|encode| encode.precede(&mut task));
            task
        })
        .collect()
}

/// Whether a task encodes something of these rungs for the span that begins at `first`.
fn encodes_of(task: &NewTask, first: u64, rungs: &[EncodeRung]) -> bool {
    match &task.spec {
        TaskSpec::Encode(encode) => {
            let within = |rung: &EncodeRung| rungs.iter().any(|other| other.name == rung.name);
            encode.span().first == first && encode.rungs.iter().any(within)
        }
        _ => false,
    }
}

/// The orders of the report on `whole`.
pub(super) fn report(wish: &QualityWish, whole: &EncodeSpec) -> ReportSpec {
    ReportSpec {
        set: whole.set,
        metrics: wish.metrics.clone(),
        segment_seconds: whole.grid.rate.seconds(whole.grid.segment_frames()),
        expect: whole.rungs.iter().map(|rung| (rung.name.clone(), rung.grid.segments())).collect(),
        least: wish.least,
    }
}

fn span(task: &NewTask) -> Option<Span> {
    match &task.spec {
        TaskSpec::Encode(encode) => Some(encode.span()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{RecordingId, SourceId};
    use crate::job::plan::tests::{NOW, probe, spec};
    use crate::job::plan::{Circumstances, Plan, Settled, lead, transcode};
    use crate::job::quality::{Least, Metric};
    use crate::job::spec::JobSpec;
    use crate::job::task::ProbeSpec;
    use crate::media::profile::Rung;

    fn measured(profile: &str, least: Least) -> JobSpec {
        JobSpec { quality: Some(QualityWish { metrics: vec![Metric::Ssim], least }), ..spec(profile) }
    }

    fn planned(spec: &JobSpec, seconds: f64, chunk_seconds: Option<f64>) -> Plan {
        let circumstances = Circumstances { chunk_seconds, ..NOW };
        let settled = Settled::default();
        let source = SourceId::new();
        transcode(spec, source, RecordingId::new(), &probe(seconds, Some(seconds)), settled, &circumstances)
            .unwrap()
    }

    fn of_kind<'p>(plan: &'p Plan, kind: &str) -> Vec<&'p NewTask> {
        plan.tasks.iter().filter(|task| task.spec.kind().as_str() == kind).collect()
    }

    #[test]
    fn every_segment_of_every_rung_is_compared_once_when_it_is_there() {
        for (seconds, chunk_seconds) in [(5.0, None), (31.0, Some(6.0)), (95.5, Some(6.0)), (600.0, None)] {
            for profile in ["web", "fast", "classic"] {
                let plan = planned(&measured(profile, Least::default()), seconds, chunk_seconds);
                let mut next = 0;
                for task in of_kind(&plan, "quality") {
                    let TaskSpec::Quality(quality) = &task.spec else { panic!() };
                    let span = quality.encoded.span();
                    assert_eq!((span.first, span.warm_up), (next, 0));
                    next += span.frames;
                    assert!(quality.encoded.rungs.iter().all(|rung| rung.skip_segments == 0));
                    // It waits for all that encode something of it, and for nothing else.
                    let mut waits = 0;
                    for encode in of_kind(&plan, "encode") {
                        let TaskSpec::Encode(orders) = &encode.spec else { panic!() };
                        let within = (span.first..next).contains(&orders.span().first);
                        assert_eq!(encode.unblocks.contains(&task.id), within);
                        waits += i32::from(within);
                    }
                    assert_eq!(task.blocked_by, waits);
                }
                let TaskSpec::Quality(first) = &of_kind(&plan, "quality")[0].spec else { panic!() };
                assert_eq!(next, first.encoded.grid.frames);
            }
        }
    }

    #[test]
    fn no_comparison_has_more_pixels_than_memory() {
        let mut spec = measured("web", Least::default());
        let rungs = &mut spec.profile.as_mut().unwrap().rungs;
        let largest = Rung { width: 3840, height: 2160, ..rungs[0].clone() };
        *rungs = (0..5).map(|n| Rung { name: format!("uhd_{n}"), ..largest.clone() }).collect();
        let mut seen = probe(60.0, None);
        (seen.video.as_mut().unwrap().width, seen.video.as_mut().unwrap().height) = (3840, 2160);
        let source = SourceId::new();
        let plan = transcode(&spec, source, RecordingId::new(), &seen, Settled::default(), &NOW).unwrap();
        let mut compared: Vec<(u64, String)> = vec![];
        for task in of_kind(&plan, "quality") {
            let TaskSpec::Quality(orders) = &task.spec else { panic!() };
            assert!(orders.encoded.rungs.len() <= 2, "as many as one encode makes");
            let first = orders.encoded.span().first;
            compared.extend(orders.encoded.rungs.iter().map(|rung| (first, rung.name.clone())));
            let waits =
                of_kind(&plan, "encode").iter().filter(|encode| encode.unblocks.contains(&task.id)).count();
            assert!(waits > 0 && waits as i32 == task.blocked_by);
        }
        let spans = plan.tasks.iter().filter_map(span).map(|span| span.first);
        let mut spans: Vec<u64> = spans.collect();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(compared.len(), 5 * spans.len(), "every rung of every span");
        compared.sort();
        compared.dedup();
        assert_eq!(compared.len(), 5 * spans.len(), "once");
    }

    #[test]
    fn a_viewer_waits_for_the_report_only_where_the_figures_decide() {
        for (least, waits) in
            [(Least::default(), false), (Least { ssim: Some(0.9), ..Least::default() }, true)]
        {
            let plan = planned(&measured("web", least), 60.0, None);
            let [report] = of_kind(&plan, "report")[..] else { panic!("one report") };
            assert_eq!(report.blocked_by as usize, of_kind(&plan, "quality").len());
            let finish = plan.tasks.last().unwrap();
            let TaskSpec::Finish(orders) = &finish.spec else { panic!("the finish comes last") };
            assert_eq!((report.unblocks.contains(&finish.id), orders.report.is_some()), (waits, waits));
            let awaited = plan.tasks.iter().filter(|task| task.unblocks.contains(&finish.id)).count();
            assert_eq!(finish.blocked_by as usize, awaited);
        }
        assert!(of_kind(&planned(&spec("web"), 60.0, None), "quality").is_empty(), "nobody asked");
        let sound = planned(&measured("audio", Least::default()), 60.0, None);
        assert!(of_kind(&sound, "report").is_empty(), "nothing to see");
    }

    #[test]
    fn only_what_measures_vmaf_needs_libvmaf() {
        let classes = |metrics: &[Metric]| {
            let wish = QualityWish { metrics: metrics.to_vec(), least: Least::default() };
            let spec = JobSpec { quality: Some(wish), ..spec("web") };
            let plan = planned(&spec, 60.0, None);
            let class = |kind| {
                let mut classes: Vec<String> =
                    of_kind(&plan, kind).iter().map(|task| task.spec.class().to_string()).collect();
                classes.dedup();
                classes
            };
            [class("quality"), class("report"), class("finish")].concat()
        };
        assert_eq!(classes(Metric::EVERYWHERE), ["base", "base", "base"]);
        assert_eq!(classes(Metric::ALL), ["libvmaf", "base", "base"]);
    }

    #[test]
    fn what_was_led_is_compared_too() {
        let mut spec = measured("fast", Least::default());
        // One rung only, and chunks of a segment: what was led is all of the first one.
        spec.profile.as_mut().unwrap().rungs.truncate(1);
        let (source, circumstances) = (SourceId::new(), Circumstances { chunk_seconds: Some(6.0), ..NOW });
        let early = lead(&spec, source, &probe(1900.0, None), None, &circumstances).unwrap();
        let TaskSpec::Probe(ProbeSpec { led, .. }) = &early.tasks[1].spec else { panic!() };
        let settled = Settled { led: led.as_deref(), ladder: &[] };
        let plan =
            transcode(&spec, source, RecordingId::new(), &probe(1900.0, None), settled, &circumstances)
                .unwrap();
        let first = of_kind(&plan, "quality")[0];
        let TaskSpec::Quality(orders) = &first.spec else { panic!() };
        assert_eq!(
            (orders.encoded.span().first, orders.encoded.span().frames, first.blocked_by),
            (0, 150, 0)
        );
    }
}
