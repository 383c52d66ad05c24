//! The rungs that are not out of question.

use super::caps::{Cap, Rung};

pub(super) struct Ladder<'a> {
    rungs: &'a [Rung],
    allowed: Vec<usize>,
}

impl<'a> Ladder<'a> {
    /// `caps` says why each rung is out of question.
    pub(super) fn of(rungs: &'a [Rung], caps: &[Option<Cap>]) -> Self {
        let allowed = |rung: &usize| caps.get(*rung).is_none_or(Option::is_none);
        Self { rungs, allowed: (0..rungs.len()).filter(allowed).collect() }
    }

    /// In ascending order.
    pub(super) fn allowed(&self) -> impl Iterator<Item = usize> + '_ {
        self.allowed.iter().copied()
    }

    pub(super) fn rate(&self, rung: usize) -> f64 {
        self.rungs.get(rung).map_or(0.0, |rung| rung.bitrate as f64)
    }

    pub(super) fn lowest(&self) -> usize {
        self.allowed.first().copied().unwrap_or(0)
    }

    pub(super) fn top(&self) -> usize {
        self.allowed.last().copied().unwrap_or(0)
    }

    /// The highest of at most so many bits per second; the lowest where none is.
    pub(super) fn highest(&self, rate: f64) -> usize {
        let fits = |rung: &usize| self.rate(*rung) <= rate;
        self.allowed.iter().rev().copied().find(fits).unwrap_or(self.lowest())
    }

    pub(super) fn below(&self, rung: usize) -> usize {
        self.allowed.iter().rev().copied().find(|other| *other < rung).unwrap_or(self.lowest())
    }

    pub(super) fn above(&self, rung: usize) -> usize {
        self.allowed.iter().copied().find(|other| *other > rung).unwrap_or(self.top())
    }

    /// The same rung, or the next below where it has gone out of question.
    pub(super) fn nearest(&self, rung: usize) -> usize {
        self.allowed.iter().rev().copied().find(|other| *other <= rung).unwrap_or(self.lowest())
    }

    /// A rung that so many bits per second would carry is out of question.
    pub(super) fn holds_back(&self, rate: f64) -> bool {
        self.rungs.len() > self.top() + 1 && self.rate(self.top() + 1) <= rate
    }
}
