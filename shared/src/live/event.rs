//! What is told of a livestream to who runs it.

use crate::job::state::words;

words! {
    /// What happened.
    LiveEventType("livestream event") {
        StreamStarted = "stream_started",
        StreamEnded = "stream_ended",
        /// The ladder was changed, or another publisher sends another picture.
        QualityChanged = "quality_changed",
        /// Nothing came in, or not enough.
        BufferUnderflow = "buffer_underflow",
        ConnectionLost = "connection_lost",
        ConnectionRestored = "connection_restored",
        HighLatency = "high_latency",
        FrameDrop = "frame_drop",
        BitrateChange = "bitrate_change",
        Error = "error",
    }
}

words! {
    /// How much it matters.
    Severity("severity") {
        Info = "info",
        Warning = "warning",
        Error = "error",
        Critical = "critical",
    }
}
