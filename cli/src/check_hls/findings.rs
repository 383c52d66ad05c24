//! What a rule found, counted and kept within bounds.

use std::collections::HashSet;

use super::observation::Place;

/// Failures of a rule that are shown; the others are counted.
const KEPT: usize = 20;
/// Failures that are told apart. A stream that is wrong throughout has said enough by then.
const KNOWN: usize = 10_000;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) saw: String,
    pub(super) wanted: String,
}

/// What one rule found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) checks: u64,
    /// Different ones: a fault that stands in fifty playlists counts once.
    pub(super) failed: u64,
    pub(super) faults: Vec<Fault>,
    known: HashSet<(Place, String)>,
}

impl Findings {
    /// Counts a check; where it is not `ok` keeps what `fault` says: what was seen, and what should have been.
    pub(super) fn check(&mut self, ok: bool, place: &Place, fault: impl FnOnce() -> (String, String)) {
        self.checks += 1;
        if ok {
            return;
        }
        let (saw, wanted) = fault();
        // The same thing seen again, on another line or by another request.
        let same = Place { line: None, url: String::new(), ..place.clone() };
        if self.known.len() >= KNOWN
            || !self.known.insert((same, if place.msn.is_some() { wanted.clone() } else { saw.clone() }))
        {
            return;
        }
        self.failed += 1;
        if self.faults.len() < KEPT {
            self.faults.push(Fault { place: place.clone(), saw, wanted });
        }
    }
}
