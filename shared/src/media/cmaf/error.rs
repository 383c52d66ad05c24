//! What can be wrong with an MP4.

use super::FourCc;

/// Why bytes could not be read as a fragmented MP4 with one track.
///
/// All of them are final: the same bytes give the same error again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmafError {
    /// A box that must be held in memory whole is larger than the limit given to the demuxer.
    #[error("the `{kind}` box is {size} bytes long and at most {limit} bytes are accepted")]
    BoxTooLarge {
        /// Which box.
        kind: FourCc,
        /// Its length as it states it, in bytes, header included.
        size: u64,
        /// The limit it broke, in bytes.
        limit: u64,
    },
    /// A box states a length that is shorter than its own header, or longer than the box around it.
    #[error("the `{kind}` box states an impossible length of {size} bytes")]
    BoxLength {
        /// Which box.
        kind: FourCc,
        /// Its length as it states it, in bytes.
        size: u64,
    },
    /// A box ends in the middle of a field.
    #[error("the `{kind}` box is too short for what it should hold")]
    Truncated {
        /// Which box.
        kind: FourCc,
    },
    /// A box that is needed is not there.
    #[error("the `{kind}` box is missing")]
    Missing {
        /// Which box.
        kind: FourCc,
    },
    /// A box is there more than once; for `trak` and `traf` this means more than one track.
    #[error("there is more than one `{kind}` box, and one is expected")]
    Repeated {
        /// Which box.
        kind: FourCc,
    },
    /// A `moof` before the `moov`, an `mdat` without a `moof`, or a `moof` where an `mdat` is due.
    #[error("the `{kind}` box is out of place")]
    OutOfPlace {
        /// Which box.
        kind: FourCc,
    },
    /// A field holds a value that makes no sense.
    #[error("the `{kind}` box is not valid: {reason}")]
    Invalid {
        /// Which box.
        kind: FourCc,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The track is neither video nor audio.
    #[error("tracks of the kind `{handler}` are not supported")]
    UnsupportedHandler {
        /// The handler type of the track's `hdlr`.
        handler: FourCc,
    },
    /// The track's codec is not one we package.
    #[error("the codec `{sample_entry}` is not supported")]
    UnsupportedCodec {
        /// The type of the track's sample entry.
        sample_entry: FourCc,
    },
    /// A fragment says it holds more samples than any real one does.
    #[error("a fragment holds {count} samples and at most {limit} are accepted")]
    TooManySamples {
        /// How many it says it holds, as far as they were counted.
        count: u64,
        /// How many are accepted.
        limit: u64,
    },
    /// A sample's bytes are not where the fragment says they are.
    #[error("a sample lies outside the media data of its fragment")]
    SampleOutsideData,
    /// The stream ended too early: FFmpeg was killed, or the disk is full.
    #[error("the stream ended in the middle of a box or of a fragment")]
    Unfinished,
}
