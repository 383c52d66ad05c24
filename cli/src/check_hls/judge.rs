//! Shows every observation to every rule, and keeps count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::findings::Findings;
use super::observation::{Kind, Observation, Seen};
use super::rules::{About, RULES, Rule};

/// Times between answers that are kept for the figures of a rendition: a day of parts of a second.
const MOST_INTERVALS: usize = 100_000;

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Passed,
    Failed,
    /// It could have been checked, and nothing came up to check it by.
    NotSeen,
    /// The stream has nothing that the rule is about.
    NotApplicable,
}

/// What was measured of a rendition.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) playlists: u64,
    pub(super) parts: u64,
    pub(super) segments: u64,
    pub(super) discontinuities: u64,
    pub(super) gaps: u64,
    /// Times between two answers that brought something new, in seconds.
    pub(super) intervals: Vec<f64>,
    pub(super) longest_wait: Duration,
    /// When something new came last.
    newest: Option<Duration>,
    pub(super) stated: Stated,
}

/// What the newest playlist of a rendition states, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stated {
    pub(super) target_duration: u64,
    pub(super) part_target: Option<f64>,
    pub(super) hold_back: Option<f64>,
    pub(super) part_hold_back: Option<f64>,
    pub(super) end: bool,
}

/// All findings and figures of a watch.
#[derive(Debug)]
pub(super) struct Judge {
    findings: Vec<Findings>,
    about: BTreeSet<About>,
    pub(super) figures: BTreeMap<Arc<str>, Figures>,
}

impl Default for Judge {
    fn default() -> Self {
        let findings = RULES.iter().map(|_| Findings::default()).collect();
        Self { findings, about: BTreeSet::from([About::Any]), figures: BTreeMap::new() }
    }
}

impl Judge {
    /// Shows something to all rules.
    pub(super) fn observe(&mut self, observation: &Observation<'_>) {
        self.learn(observation);
        for (rule, findings) in RULES.iter().zip(&mut self.findings) {
            (rule.check)(observation, findings);
        }
    }

    /// What came of each rule, in the order of the table.
    pub(super) fn results(&self) -> impl Iterator<Item = (&'static Rule, State, &Findings)> {
        RULES.iter().zip(&self.findings).map(|(rule, findings)| {
            let state = match findings {
                Findings { failed: 1.., .. } => State::Failed,
                Findings { checks: 1.., .. } => State::Passed,
                _ if self.about.contains(&rule.about) => State::NotSeen,
                _ => State::NotApplicable,
            };
            (rule, state, findings)
        })
    }

    /// How many rules have failed so far.
    pub(super) fn failed(&self) -> usize {
        self.results().filter(|(_, state, _)| *state == State::Failed).count()
    }

    /// Counts the wait that the end of the watch cut off.
    pub(super) fn end(&mut self, at: Duration) {
        for figures in self.figures.values_mut() {
            if let Some(newest) = figures.newest.filter(|_| !figures.stated.end) {
                figures.longest_wait = figures.longest_wait.max(at.saturating_sub(newest));
            }
        }
    }

    /// Which streams rules may be about is learned from the stream, and figures are taken.
    fn learn(&mut self, observation: &Observation<'_>) {
        let mut about = |what, is: bool| {
            if is {
                self.about.insert(what);
            }
        };
        match observation {
            Observation::Playlist(seen) => {
                let (media, control) = (&seen.media, &seen.media.control);
                about(About::Live, !media.end);
                about(About::Parts, media.part_target.is_some());
                about(About::Blocking, control.can_block && !media.end);
                about(About::DeltaUpdates, control.can_skip_until.is_some() && !media.end);
                about(About::HoldBack, control.hold_back.is_some());
                about(About::Directives, control.can_block || control.can_skip_until.is_some());
                let figures = self.figures.entry(seen.place.rendition.clone()).or_default();
                figures.playlists += 1;
                figures.stated = Stated {
                    target_duration: media.target_duration,
                    part_target: media.part_target,
                    hold_back: control.hold_back,
                    part_hold_back: control.part_hold_back,
                    end: media.end,
                };
            }
            Observation::Next { before, after } => {
                self.figures.entry(after.place.rendition.clone()).or_default().went_on(before, after);
            }
            Observation::Across { .. } => about(About::SeveralRenditions, true),
            Observation::Siblings { seen, others } => {
                about(About::LowLatencyRenditions, !others.is_empty() && seen.media.part_target.is_some());
            }
            Observation::Part(_) => about(About::PartsOfMp4, true),
            Observation::Segment(_) => about(About::FragmentedMp4, true),
            Observation::Fetched(fetched) => {
                about(About::Tls, fetched.transport.tls && fetched.kind != Kind::Unknown)
            }
            _ => {}
        }
    }
}

impl Figures {
    fn went_on(&mut self, before: &Seen, after: &Seen) {
        let known = before.media.last();
        let parts = after.media.parts_after(known).filter(|(.., part)| !part.gap).count() as u64;
        let fresh =
            || after.media.segments.iter().filter(|segment| Some(segment.msn) > before.media.last_whole());
        let segments = fresh().count() as u64;
        self.parts += parts;
        self.segments += segments;
        self.discontinuities += fresh().filter(|segment| segment.discontinuity).count() as u64;
        self.gaps += fresh().filter(|segment| segment.gap).count() as u64;
        if parts + segments > 0 {
            let wait = after.at.saturating_sub(self.newest.unwrap_or(before.at));
            self.longest_wait = self.longest_wait.max(wait);
            self.newest = Some(after.at);
            if self.intervals.len() < MOST_INTERVALS {
                self.intervals.push(wait.as_secs_f64());
            }
        } else {
            self.newest.get_or_insert(before.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::rules::fixtures::{good, next, seen};

    fn state(judge: &Judge, id: &str) -> State {
        judge.results().find(|(rule, ..)| rule.id == id).unwrap().1
    }

    #[test]
    fn a_rule_is_not_passed_because_nothing_was_checked() {
        let mut judge = Judge::default();
        assert_eq!((state(&judge, "1"), state(&judge, "6")), (State::NotApplicable, State::NotSeen));
        let (before, after) = (seen(&good()), seen(&next()));
        judge.observe(&Observation::Playlist(&before));
        assert_eq!(
            (state(&judge, "1"), state(&judge, "12"), state(&judge, "22b")),
            (State::Passed, State::NotSeen, State::NotApplicable)
        );
        judge.observe(&Observation::Next { before: &before, after: &after });
        assert_eq!((judge.failed(), state(&judge, "3")), (0, State::Passed));
        judge.observe(&Observation::Next { before: &after, after: &before });
        assert_eq!((judge.failed(), state(&judge, "25a")), (1, State::Failed));
    }

    #[test]
    fn figures_are_taken() {
        let mut judge = Judge::default();
        let (mut before, mut after) = (seen(&good()), seen(&next()));
        (before.at, after.at) = (Duration::from_secs(1), Duration::from_secs(3));
        judge.observe(&Observation::Next { before: &before, after: &after });
        judge.observe(&Observation::Next { before: &after, after: &after });
        let figures = &judge.figures["a"];
        assert_eq!((figures.parts, figures.segments, figures.longest_wait), (1, 0, Duration::from_secs(2)));
        assert_eq!(figures.intervals, [2.0]);
    }
}
