//! Packets of 188 bytes (13818-1, 2.4.3), and the PES packets in them (2.4.3.6).

use bytes::Bytes;

use super::pieces::{Copying, Pieces};

/// Bytes of a packet, and of what it carries behind its header.
pub(super) const PACKET: usize = 188;
pub(super) const PAYLOAD: usize = 184;
/// Continuity counters have four bits.
const COUNTERS: usize = 16;
/// Bytes of an adaptation field that holds the clock: length, flags, and 48 bits.
pub(super) const CLOCK_FIELD: usize = 8;
/// Bytes before the body of a PES packet with one time, and with two.
pub(super) const PES_HEADER: usize = 14;
pub(super) const PES_HEADER_DTS: usize = 19;

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pid {
    /// The program association table.
    Pat,
    /// The program map table.
    Pmt,
    Video,
    Audio,
}

impl Pid {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Pat => 0,
            Self::Pmt => 0x1000,
            Self::Video => 0x100,
            Self::Audio => 0x101,
        }
    }

    /// `stream_id` of its PES packets (table 2-22).
    fn stream_id(self) -> u8 {
        if self == Self::Audio { 0xc0 } else { 0xe0 }
    }
}

/// A PES packet.
#[derive(Debug)]
pub(super) struct Pes<'a> {
    pub(super) pid: Pid,
    pub(super) pts: i64,
    pub(super) dts: i64,
    pub(super) body: &'a Pieces<'a>,
    /// The last one of its stream in the segment: brings the continuity counter to its end.
    pub(super) last: bool,
}

/// What stands before the payload of a packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Adaptation {
    /// The clock when the packet arrives, in ticks of 90 kHz.
    pub(super) clock: Option<i64>,
    /// Decoding can begin here.
    pub(super) random_access: bool,
}

impl Adaptation {
    fn is_empty(self) -> bool {
        self.clock.is_none() && !self.random_access
    }

    /// Length in bytes.
    fn len(self) -> usize {
        match self {
            _ if self.is_empty() => 0,
            Self { clock: Some(_), .. } => CLOCK_FIELD,
            Self { clock: None, .. } => 2,
        }
    }
}

/// Writes the packets of a segment.
pub(super) struct Writer {
    out: Vec<u8>,
    video_packets: usize,
    audio_packets: usize,
    /// The header of the PES packet under way.
    pes: Vec<u8>,
}

impl Writer {
    /// A writer with room for about `payload` bytes of samples.
    pub(super) fn new(payload: usize) -> Self {
        let out = Vec::with_capacity(payload + payload / 8 + 64 * PACKET);
        Self { out, video_packets: 0, audio_packets: 0, pes: vec![] }
    }

    pub(super) fn finish(self) -> Bytes {
        self.out.into()
    }

    /// A table that fits into one packet, with the counter given.
    pub(super) fn table(&mut self, pid: Pid, counter: u8, section: &[u8]) {
        let end = self.out.len() + PACKET;
        self.header(pid, true, 1, counter);
        // The section begins right behind this byte.
        self.out.push(0);
        self.out.extend_from_slice(section);
        self.out.resize(end, 0xff);
    }

    /// A packet with nothing but the clock. Its counter is that of the packet before (2.4.3.3).
    pub(super) fn clock(&mut self, pid: Pid, clock: i64) {
        let before = (*self.packets(pid) + COUNTERS - 1) % COUNTERS;
        self.header(pid, false, 2, before as u8);
        self.adaptation(Adaptation { clock: Some(clock), random_access: false }, PAYLOAD);
    }

    pub(super) fn pes(&mut self, pes: &Pes<'_>, adaptation: Adaptation) {
        let mut header = std::mem::take(&mut self.pes);
        header.clear();
        pes_header(&mut header, pes);
        let mut rest = header.len() + pes.body.len();
        let mut left = (rest + adaptation.len()).div_ceil(PAYLOAD);
        if pes.last {
            left += (COUNTERS - (*self.packets(pes.pid) + left) % COUNTERS) % COUNTERS;
        }
        let mut adaptation = adaptation;
        let mut data = Copying::new(&header, pes.body.slices());
        let mut starts = true;
        while rest > 0 {
            // A byte at least for each packet still to come.
            let room = PAYLOAD - adaptation.len();
            let now = room.min(rest - (left - 1));
            let stuffing = PAYLOAD - now;
            let counter = *self.packets(pes.pid) % COUNTERS;
            *self.packets(pes.pid) += 1;
            self.header(pes.pid, starts, if stuffing > 0 { 3 } else { 1 }, counter as u8);
            self.adaptation(adaptation, stuffing);
            data.append(&mut self.out, now);
            adaptation = Adaptation::default();
            (rest, starts, left) = (rest - now, false, left - 1);
        }
        drop(data);
        self.pes = header;
    }

    /// Packets with payload so far.
    fn packets(&mut self, pid: Pid) -> &mut usize {
        if pid == Pid::Audio { &mut self.audio_packets } else { &mut self.video_packets }
    }

    /// The four bytes a packet begins with; `control` says whether an adaptation field (2), payload (1) or both (3) follow.
    fn header(&mut self, pid: Pid, starts: bool, control: u8, counter: u8) {
        let [high, low] = pid.number().to_be_bytes();
        self.out.extend_from_slice(&[0x47, u8::from(starts) << 6 | high, low, control << 4 | counter & 0x0f]);
    }

    /// An adaptation field (2.4.3.4) stuffed to `len` bytes; nothing where that is zero.
    fn adaptation(&mut self, adaptation: Adaptation, len: usize) {
        let end = self.out.len() + len;
        if len > 0 {
            self.out.push((len - 1) as u8);
        }
        if len > 1 {
            self.out
                .push(u8::from(adaptation.random_access) << 6 | u8::from(adaptation.clock.is_some()) << 4);
        }
        if let Some(clock) = adaptation.clock {
            // 33 bits at 90 kHz, six reserved, nine of the finer clock.
            let field = wrapped(clock) << 15 | 0x3f << 9;
            self.out.extend_from_slice(&field.to_be_bytes()[2..]);
        }
        self.out.resize(end, 0xff);
    }
}

fn pes_header(out: &mut Vec<u8>, pes: &Pes<'_>) {
    let two_times = pes.pts != pes.dts;
    let times_len: u8 = if two_times { 10 } else { 5 };
    // Counted from behind this field; zero, which only pictures may say, means until the next one starts.
    let len = u16::try_from(pes.body.len() + 3 + usize::from(times_len)).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[0, 0, 1, pes.pid.stream_id(), len[0], len[1]]);
    // Aligned: the body begins with an access unit.
    out.extend_from_slice(&[0x84, if two_times { 0xc0 } else { 0x80 }, times_len]);
    time(out, if two_times { 3 } else { 2 }, pes.pts);
    if two_times {
        time(out, 1, pes.dts);
    }
}

/// A time in five bytes: four bits of a mark, then 3, 15 and 15 bits of the time, a one behind each.
fn time(out: &mut Vec<u8>, mark: u8, ticks: i64) {
    let ticks = wrapped(ticks);
    let field = u64::from(mark) << 36
        | (ticks >> 30) << 33
        | 1 << 32
        | (ticks >> 15 & 0x7fff) << 17
        | 1 << 16
        | (ticks & 0x7fff) << 1
        | 1;
    out.extend_from_slice(&field.to_be_bytes()[3..]);
}

/// Times have 33 bits and wrap.
fn wrapped(ticks: i64) -> u64 {
    ticks.rem_euclid(1 << 33).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_as_the_standard_draws_them() {
        let mut out = vec![];
        time(&mut out, 3, (1 << 33) - 1);
        assert_eq!(out, [0x3f, 0xff, 0xff, 0xff, 0xff]);
        out.clear();
        time(&mut out, 2, (1 << 33) + 900_000);
        // 900000 is 0 of 2^30, 27 of 2^15, and 15264.
        assert_eq!(out, [0x21, 0x00, 0x37, 0x77, 0x41]);
        out.clear();
        time(&mut out, 2, -1);
        assert_eq!(out, [0x2f, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn the_last_packet_of_a_stream_brings_its_counter_to_the_end() {
        for len in [1, 7, 165, 170, 171, 184, 185, 500, 3000, 10_000] {
            let bytes = vec![7; len];
            let mut body = Pieces::default();
            // Whole, and in small pieces.
            bytes.chunks(if len % 2 == 0 { len } else { 3 }).for_each(|piece| body.push(piece));
            let mut writer = Writer::new(len);
            for last in [false, true] {
                let pes = Pes { pid: Pid::Video, pts: 3, dts: 1, body: &body, last };
                writer.pes(&pes, Adaptation { clock: Some(0), random_access: last });
            }
            let out = writer.finish();
            let packets: Vec<&[u8]> = out.chunks(PACKET).collect();
            assert!(out.len().is_multiple_of(PACKET) && packets.len().is_multiple_of(COUNTERS), "{len}");
            let mut payload = vec![];
            for (n, packet) in packets.iter().enumerate() {
                assert_eq!((packet[0], usize::from(packet[3] & 0x0f)), (0x47, n % COUNTERS));
                let field = if packet[3] & 0x20 == 0 { 0 } else { usize::from(packet[4]) + 1 };
                assert!(field < PAYLOAD, "a counter counts payload only");
                payload.extend_from_slice(&packet[4 + field..]);
            }
            assert_eq!(payload.len(), 2 * (PES_HEADER_DTS + len));
        }
    }
}
