//! What came of it, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::findings::{Fault, Findings};
use super::judge::{Figures, Judge, State};
use super::rules::Rule;
use crate::client::output::{Column, table};
use crate::client::text::{percent, plain, short_number};

/// Failures of a rule that people are shown.
const SHOWN: usize = 5;

impl State {
    /// As programs read it.
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotSeen => "not_seen",
            Self::NotApplicable => "not_applicable",
        }
    }
}

/// The document for programs.
pub(super) fn document(url: &Url, watched: Duration, judge: &Judge) -> Value {
    let rules: Vec<Value> =
        judge.results().map(|(rule, state, findings)| one_rule(rule, state, findings)).collect();
    let renditions: Vec<Value> =
        judge.figures.iter().map(|(name, figures)| one_rendition(name, figures)).collect();
    json!({
        "url": url,
        "seconds": watched.as_secs_f64(),
        "verdict": if judge.failed() == 0 { "passed" } else { "failed" },
        "rules": rules,
        "renditions": renditions,
    })
}

fn one_rule(rule: &Rule, state: State, findings: &Findings) -> Value {
    let mut value = json!({
        "rule": rule.id,
        "name": rule.name,
        "state": state.name(),
        "checks": findings.checks,
        "failures": findings.failed,
    });
    match state {
        State::Failed => value["faults"] = findings.faults.iter().map(fault_value).collect(),
        State::NotApplicable => value["reason"] = json!(rule.about.missing()),
        State::Passed | State::NotSeen => {}
    }
    value
}

fn fault_value(fault: &Fault) -> Value {
    let place = &fault.place;
    json!({
        "rendition": &*place.rendition,
        "url": place.url,
        "line": place.line,
        "msn": place.msn,
        "part": place.part,
        "saw": fault.saw,
        "wanted": fault.wanted,
    })
}

fn one_rendition(name: &str, figures: &Figures) -> Value {
    let latency = latency(figures);
    json!({
        "name": name,
        "playlists": figures.playlists,
        "parts": figures.parts,
        "segments": figures.segments,
        "discontinuities": figures.discontinuities,
        "gaps": figures.gaps,
        "target_duration": figures.stated.target_duration,
        "part_target": figures.stated.part_target,
        "hold_back": figures.stated.hold_back,
        "part_hold_back": figures.stated.part_hold_back,
        "ended": figures.stated.end,
        "seconds_between_answers": latency.map(|[median, most, max]| json!({ "p50": median, "p95": most, "max": max })),
        "longest_wait_seconds": figures.longest_wait.as_secs_f64(),
    })
}

/// Median, 95th percentile and longest time between two answers that brought something.
fn latency(figures: &Figures) -> Option<[f64; 3]> {
    let mut sorted = figures.intervals.clone();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: f64| sorted.get(((sorted.len().saturating_sub(1)) as f64 * share).round() as usize).copied();
    Some([at(0.5)?, at(0.95)?, at(1.0)?])
}

/// The text for people.
pub(super) fn text(url: &Url, watched: Duration, judge: &Judge) -> String {
    let columns =
        [Column::Figure("RULE"), Column::Text("STATE"), Column::Figure("CHECKS"), Column::Text("WHAT")];
    let rows = judge.results().map(|(rule, state, findings)| {
        let told = match state {
            State::Passed => "passed".to_owned(),
            State::Failed => format!("FAILED ({})", findings.failed),
            State::NotSeen => "not seen".to_owned(),
            State::NotApplicable => "n/a".to_owned(),
        };
        let reason = match state {
            State::NotApplicable => format!(" ({})", rule.about.missing()),
            _ => String::new(),
        };
        vec![rule.id.to_owned(), told, findings.checks.to_string(), format!("{}{reason}", rule.name)]
    });
    let mut out = table(&columns, rows);
    for (rule, _, findings) in judge.results().filter(|(_, state, _)| *state == State::Failed) {
        out.push_str(&format!("\n\n{}: {}", rule.id, rule.name));
        for fault in findings.faults.iter().take(SHOWN) {
            out.push_str(&one_fault(fault));
        }
        let more = findings.failed.saturating_sub(SHOWN as u64);
        if more > 0 {
            out.push_str(&format!("\n  and {more} more"));
        }
    }
    out.push_str("\n\n");
    out.push_str(&figures(judge));
    let passed = judge.results().filter(|(_, state, _)| *state == State::Passed).count();
    let (failed, seconds) = (judge.failed(), watched.as_secs_f64());
    let verdict = if failed == 0 { "nothing failed".to_owned() } else { format!("{failed} rules failed") };
    out.push_str(&format!(
        "\n\n{}: {verdict}, {passed} passed, watched for {seconds:.0} s",
        plain(url.as_str())
    ));
    out
}

fn one_fault(fault: &Fault) -> String {
    let place = &fault.place;
    let mut at = vec![];
    if let Some(msn) = place.msn {
        at.push(place.part.map_or(format!("segment {msn}"), |part| format!("part {msn}.{part}")));
    }
    at.push(place.url.clone());
    if let Some(line) = place.line.filter(|line| *line > 0) {
        at.push(format!("line {line}"));
    }
    let (saw, wanted) = (plain(&fault.saw), plain(&fault.wanted));
    let rendition = plain(&place.rendition);
    format!("\n  {rendition}: {}\n    saw   {saw}\n    want  {wanted}", plain(&at.join(", ")))
}

fn figures(judge: &Judge) -> String {
    let columns = [
        Column::Text("RENDITION"),
        Column::Figure("PLAYLISTS"),
        Column::Figure("PARTS"),
        Column::Figure("SEGMENTS"),
        Column::Figure("TARGET"),
        Column::Figure("PART-TARGET"),
        Column::Figure("HOLD-BACK"),
        Column::Figure("PART-HOLD-BACK"),
        Column::Figure("EVERY (P50/P95)"),
        Column::Figure("LONGEST WAIT"),
        Column::Figure("DISCONTINUITIES"),
        Column::Figure("GAPS"),
    ];
    let seconds =
        |value: Option<f64>| value.map(|value| format!("{} s", short_number(value))).unwrap_or_default();
    let rows = judge.figures.iter().map(|(name, figures)| {
        let stated = &figures.stated;
        let every = latency(figures).map(|[median, most, _]| format!("{median:.2}/{most:.2} s"));
        vec![
            name.to_string(),
            figures.playlists.to_string(),
            figures.parts.to_string(),
            figures.segments.to_string(),
            format!("{} s", stated.target_duration),
            stated.part_target.map(|target| format!("{target:.3} s")).unwrap_or_default(),
            seconds(stated.hold_back),
            seconds(stated.part_hold_back),
            every.unwrap_or_default(),
            format!("{:.1} s", figures.longest_wait.as_secs_f64()),
            figures.discontinuities.to_string(),
            figures.gaps.to_string(),
        ]
    });
    table(&columns, rows)
}

/// How far a watch is, in a line.
pub(super) fn progress(gone: Duration, all: Duration, so_far: (u64, u64, u64, usize)) -> String {
    let (playlists, parts, segments, failed) = so_far;
    let share = percent(gone.as_secs_f64() / all.as_secs_f64().max(1.0));
    format!("{share:>4}  {playlists} playlists, {parts} parts, {segments} segments, {failed} rules failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::observation::Observation;
    use crate::check_hls::rules::fixtures::{good, seen};

    #[test]
    fn a_failure_says_where_and_what() {
        let mut judge = Judge::default();
        let broken = good().replace("DURATION=0.2,URI=\"p107.2", "DURATION=0.3,URI=\"p107.2\u{1b}[31m");
        judge.observe(&Observation::Playlist(&seen(&broken)));
        let url = Url::parse("http://host/live/master.m3u8").unwrap();
        let text = text(&url, Duration::from_secs(30), &judge);
        assert!(text.contains("part 107.2, http://host/live/a.m3u8, line 31\n    saw   DURATION 0.3 s\n    want  at most 0.2 s"), "{text}");
        assert!(text.contains("1 rules failed") && !text.contains('\u{1b}'), "{text}");
        let document = document(&url, Duration::from_secs(30), &judge);
        assert_eq!(document["verdict"], "failed");
        let rule =
            |id: &str| document["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == id).unwrap();
        assert_eq!((&rule("1")["state"], &rule("1")["faults"][0]["msn"]), (&json!("failed"), &json!(107)));
        assert_eq!(
            (&rule("12")["state"], &rule("22a")["state"]),
            (&json!("not_seen"), &json!("not_applicable"))
        );
        assert!(rule("22a")["reason"].as_str().unwrap().contains("no samples"));
    }
}
