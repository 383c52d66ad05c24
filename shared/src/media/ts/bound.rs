//! How long a segment can become, known before it is made: playlists must declare a bandwidth that holds.

use super::elementary::ADTS_HEADER;
use super::packets::{CLOCK_FIELD, PACKET, PAYLOAD, PES_HEADER, PES_HEADER_DTS};
use super::{CLOCK, STEP};
use crate::media::grid::AAC_FRAME;

/// What is known of a CMAF segment, or of a second of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Bytes of the CMAF segment.
    pub bytes: u64,
    /// Coded pictures or AAC frames in it.
    pub samples: u64,
    /// How long it lasts, in milliseconds, rounded up.
    pub millis: u64,
    /// Bytes of the rendition's init segment, which holds the parameter sets that are repeated.
    pub init_bytes: u64,
    /// Sampling rate of sound, in Hz.
    pub sample_rate: u64,
}

/// Longest access unit delimiter with its start code.
const DELIMITER: u64 = 7;
/// A GOP of more than one picture aims at two seconds and misses by half a picture at most.
const SHORTEST_GOP_MILLIS: u64 = 1333;
/// Packets that bring a continuity counter to its end.
const COUNTER_END: u64 = 15;

/// At most how many bytes the MPEG-TS segment of these CMAF segments has. NAL units must have lengths of four bytes, and GOPs be on a
/// [`Grid`](crate::media::grid::Grid), as all of ours are.
pub fn at_most(video: Option<Amount>, audio: Option<Amount>) -> u64 {
    // Both tables.
    let mut packets = 2;
    if let Some(video) = video {
        let header = PES_HEADER_DTS as u64 + CLOCK_FIELD as u64 + DELIMITER;
        let keyframes = video.millis.div_ceil(SHORTEST_GOP_MILLIS).min(video.samples);
        let bytes = video.bytes + keyframes * video.init_bytes + video.samples * header;
        // Clocks of their own where pictures are far apart.
        let clocks = video.millis * u64::from(CLOCK) / 1000 / STEP as u64;
        packets += whole_packets(bytes, video.samples) + clocks + COUNTER_END;
    }
    if let Some(audio) = audio {
        let frame_ticks = (AAC_FRAME * u64::from(CLOCK)).div_ceil(audio.sample_rate.max(1)) + 1;
        let bundles = audio.samples.div_ceil((STEP as u64 / frame_ticks).max(1));
        let header = PES_HEADER as u64 + CLOCK_FIELD as u64;
        let bytes = audio.bytes + audio.samples * ADTS_HEADER as u64 + bundles * header;
        packets += whole_packets(bytes, bundles) + COUNTER_END;
    }
    packets * PACKET as u64
}

/// Packets for `bytes` in `pieces` that each begin with a packet.
fn whole_packets(bytes: u64, pieces: u64) -> u64 {
    let payload = PAYLOAD as u64;
    (bytes + pieces * (payload - 1)).div_ceil(payload)
}
