//! Which state may follow which: declared once here, enforced in the `WHERE` of every UPDATE.

use super::state::{JobStatus, TaskStatus};

impl JobStatus {
    /// States a job may be in to become `self`. An UPDATE to `self` says `status = ANY(these)`.
    pub fn predecessors(self) -> &'static [JobStatus] {
        use JobStatus::*;
        match self {
            Queued => &[],
            Running => &[Queued],
            Succeeded => &[Running],
            Failed | Cancelled => &[Queued, Running],
        }
    }

    /// True where nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl TaskStatus {
    /// States a task may be in to become `self`.
    pub fn predecessors(self) -> &'static [TaskStatus] {
        use TaskStatus::*;
        match self {
            Blocked => &[],
            Ready => &[Blocked, Running],
            Running => &[Ready],
            Succeeded | Failed => &[Running],
            Cancelled => &[Blocked, Ready, Running],
        }
    }

    /// True where nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The words of `states`, as a parameter of a statement.
pub fn words<S: Copy + ToString>(states: &[S]) -> Vec<String> {
    states.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_final_state() {
        for next in JobStatus::ALL {
            assert!(next.predecessors().iter().all(|state| !state.is_final()), "{next}");
        }
        for next in TaskStatus::ALL {
            assert!(next.predecessors().iter().all(|state| !state.is_final()), "{next}");
        }
    }

    #[test]
    fn every_state_that_is_not_final_leads_to_a_final_one() {
        for state in TaskStatus::ALL.iter().filter(|state| !state.is_final()) {
            assert!(TaskStatus::Cancelled.predecessors().contains(state), "{state}");
        }
        for state in JobStatus::ALL.iter().filter(|state| !state.is_final()) {
            assert!(JobStatus::Failed.predecessors().contains(state), "{state}");
        }
    }
}
