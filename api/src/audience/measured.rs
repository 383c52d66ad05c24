//! What is measured of a livestream between two times that it is written down.

use reelmill_shared::db::livestream_figures::{EdgeFigures, SPAN};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::latency;

/// Who watches further behind, in milliseconds, does so on purpose.
const LATE: u32 = 60_000;

/// What was measured since it was written down.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    bytes: u64,
    errors: u32,
    reports: u32,
    smooth: u32,
    latency_sum: u64,
    latency_count: u32,
    latencies: Vec<i32>,
    requests: u32,
    hits: u32,
}

impl Measured {
    pub(super) fn sent(&mut self, bytes: u64, failed: bool) {
        self.bytes += bytes;
        self.errors += u32::from(failed);
    }

    pub(super) fn asked(&mut self, had: bool) {
        self.requests = self.requests.saturating_add(1);
        self.hits += u32::from(had);
    }

    pub(super) fn errors(&mut self, errors: u32) {
        self.errors = self.errors.saturating_add(errors);
    }

    pub(super) fn report(&mut self, smooth: bool, latency: Option<u32>) {
        self.reports += 1;
        self.smooth += u32::from(smooth);
        self.latency(latency);
    }

    pub(super) fn latency(&mut self, latency: Option<u32>) {
        if let Some(milliseconds) = latency.filter(|latency| *latency <= LATE) {
            self.latency_sum += u64::from(milliseconds);
            self.latency_count += 1;
            self.latencies.resize(latency::CLASSES, 0);
            if let Some(class) = self.latencies.get_mut(latency::class(milliseconds)) {
                *class += 1;
            }
        }
    }

    pub(super) fn figures(self, livestream: LivestreamId) -> EdgeFigures {
        let whole = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        EdgeFigures {
            livestream,
            bandwidth_usage: i64::try_from(self.bytes * 8 / SPAN.as_secs()).unwrap_or(i64::MAX),
            error_count: whole(self.errors),
            reports: whole(self.reports),
            smooth_reports: whole(self.smooth),
            latency_sum: i64::try_from(self.latency_sum).unwrap_or(i64::MAX),
            latency_count: whole(self.latency_count),
            latencies: self.latencies,
            media_requests: whole(self.requests),
            media_hits: whole(self.hits),
        }
    }
}
