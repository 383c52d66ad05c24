//! The colours an AV1 stream tells in its sequence header ("AV1 Bitstream & Decoding Process Specification", 5.3 and 5.5). They are the last
//! of its fields, so all before them are walked through; a muxer repeats them in a `colr` only where it knows all of them.

use super::codecs::Nclx;

const SEQUENCE_HEADER: u64 = 1;
/// Value of `color_primaries`, `transfer_characteristics` and `matrix_coefficients` that say nothing.
const UNSPECIFIED: u16 = 2;

/// Reads the colours from the OBUs of an `av1C`; `None` where there is no whole sequence header.
pub(super) fn colours(obus: &[u8]) -> Option<Nclx> {
    let mut rest = obus;
    while !rest.is_empty() {
        let mut header = Bits { bytes: rest, at: 0 };
        header.skip(1)?;
        let kind = header.take(4)?;
        let (extended, sized) = (header.flag()?, header.flag()?);
        header.skip(if extended { 9 } else { 1 })?;
        let size = if sized { header.leb128()? } else { rest.len() as u64 };
        let body = rest.get(header.at / 8..)?;
        let (body, after) = body.split_at_checked(usize::try_from(size).ok()?.min(body.len()))?;
        if kind == SEQUENCE_HEADER {
            return sequence_header(&mut Bits { bytes: body, at: 0 });
        }
        rest = after;
    }
    None
}

/// 5.5.1, named as there.
fn sequence_header(bits: &mut Bits<'_>) -> Option<Nclx> {
    let seq_profile = bits.take(3)?;
    bits.skip(1)?;
    let reduced_still_picture_header = bits.flag()?;
    if reduced_still_picture_header {
        bits.skip(5)?;
    } else {
        operating_points(bits)?;
    }
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    bits.skip(width_bits + height_bits)?;
    if !reduced_still_picture_header && bits.flag()? {
        // Lengths of frame ids.
        bits.skip(4 + 3)?;
    }
    // Superblock size and two intra tools.
    bits.skip(3)?;
    if !reduced_still_picture_header {
        // Three tools between frames and the dual filter.
        bits.skip(4)?;
        let enable_order_hint = bits.flag()?;
        if enable_order_hint {
            bits.skip(2)?;
        }
        let screen_content_tools = bits.flag()? || bits.flag()?;
        if screen_content_tools && !bits.flag()? {
            bits.skip(1)?;
        }
        if enable_order_hint {
            bits.skip(3)?;
        }
    }
    // Super-resolution, CDEF and restoration.
    bits.skip(3)?;
    color_config(bits, seq_profile)
}

fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut decoder_model = None;
    if bits.flag()? {
        // Timing: units in a tick, and ticks.
        bits.skip(32 + 32)?;
        if bits.flag()? {
            bits.uvlc()?;
        }
        if bits.flag()? {
            decoder_model = Some(bits.take(5)? + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let initial_display_delay = bits.flag()?;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?;
        // Levels above 3.3 have tiers.
        if bits.take(5)? > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = decoder_model
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if initial_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// 5.5.2, to `color_range`.
fn color_config(bits: &mut Bits<'_>, seq_profile: u64) -> Option<Nclx> {
    let high_bitdepth = bits.flag()?;
    if seq_profile == 2 && high_bitdepth {
        bits.skip(1)?;
    }
    let mono_chrome = seq_profile != 1 && bits.flag()?;
    let mut code = [UNSPECIFIED; 3];
    if bits.flag()? {
        for point in &mut code {
            *point = u16::try_from(bits.take(8)?).ok()?;
        }
    }
    let [primaries, transfer, matrix] = code;
    // sRGB has full range without saying so.
    let full_range = (!mono_chrome && code == [1, 13, 0]) || bits.flag()?;
    Some(Nclx { primaries, transfer, matrix, full_range })
}

/// Takes bits from front to back; `None` at the end.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// At most 32 bits.
    fn take(&mut self, count: u64) -> Option<u64> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u64::from(self.flag()?)))
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?)?;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// 4.10.3: as many bits as there are zeros in front of the first one.
    fn uvlc(&mut self) -> Option<()> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        self.skip(if zeros < 32 { zeros } else { 0 })
    }

    /// 4.10.5: seven bits a byte, the lowest first, at most eight bytes.
    fn leb128(&mut self) -> Option<u64> {
        let mut value = 0;
        for byte in 0..8 {
            let (more, low) = (self.flag()?, self.take(7)?);
            value |= low << (7 * byte);
            if !more {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = colours(&bytes);
            // And as the body of a sequence header.
            let _ = colours(&[&[0x08], &bytes[..]].concat());
        }
    }
}
