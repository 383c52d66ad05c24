//! The states of livestreams and broadcasts, and which may follow which.

use crate::job::state::words;

words! {
    /// Where a livestream stands.
    LiveStatus("livestream status") {
        /// Nothing comes in.
        Idle = "idle",
        /// Somebody holds it, and nothing has been published yet.
        Starting = "starting",
        /// Viewers see it.
        Live = "live",
        /// The publisher is away, and may come back to the same broadcast.
        Reconnecting = "reconnecting",
        /// It was to be pulled, and could not be.
        Failed = "failed",
    }
}

impl LiveStatus {
    /// States a livestream may be in to become `self`. An UPDATE to `self` says `status = ANY(these)`.
    pub fn predecessors(self) -> &'static [Self] {
        match self {
            Self::Starting => &[Self::Idle, Self::Failed, Self::Starting],
            // A second publisher takes over what is on air.
            Self::Live => &[Self::Starting, Self::Reconnecting, Self::Live],
            // A publisher that came back may fail before anything of it was seen.
            Self::Reconnecting => &[Self::Live, Self::Reconnecting],
            Self::Idle => &[Self::Starting, Self::Live, Self::Reconnecting, Self::Failed],
            Self::Failed => &[Self::Starting, Self::Reconnecting],
        }
    }

    /// Somebody holds it, or may come back to it.
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Starting | Self::Live | Self::Reconnecting)
    }
}

words! {
    /// Where a broadcast stands, as a recording of what was on air.
    BroadcastStatus("broadcast status") {
        Recording = "recording",
        /// It is over; its last segments are being counted.
        Finalizing = "finalizing",
        Available = "available",
        Converting = "converting",
        Converted = "converted",
        /// Its media is gone.
        Expired = "expired",
        Failed = "failed",
    }
}

impl BroadcastStatus {
    /// States a broadcast may be in to become `self`.
    pub fn predecessors(self) -> &'static [Self] {
        match self {
            Self::Recording => &[],
            Self::Finalizing => &[Self::Recording],
            Self::Available => &[Self::Finalizing, Self::Converting],
            Self::Converting => &[Self::Available, Self::Converted],
            Self::Converted => &[Self::Converting],
            Self::Expired => &[Self::Finalizing, Self::Available, Self::Converted, Self::Failed],
            Self::Failed => &[Self::Recording, Self::Finalizing],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_busy_stream_can_come_to_rest() {
        for status in LiveStatus::ALL.iter().filter(|status| status.is_busy()) {
            assert!(LiveStatus::Idle.predecessors().contains(status), "{status}");
        }
    }

    #[test]
    fn nothing_follows_a_broadcast_whose_media_is_gone() {
        for next in BroadcastStatus::ALL {
            assert!(!next.predecessors().contains(&BroadcastStatus::Expired), "{next}");
        }
    }
}
