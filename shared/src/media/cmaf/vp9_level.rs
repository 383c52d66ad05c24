//! VP9's level. Its stream has none, so a `vpcC` says what its writer worked out, and FFmpeg writes it before it knows how many
//! frames a second there will be.

use super::Track;
use super::boxes::{BoxHeader, RawBox, kind};
use super::codecs;

/// Levels as `vpcC` counts them, each with the most luma samples a second and a picture, and the most bits a second ("VP9 Bitstream
/// levels" of the WebM project).
const LEVELS: [(u8, u64, u64, u64); 14] = [
    (10, 829_440, 36_864, 200_000),
    (11, 2_764_800, 73_728, 800_000),
    (20, 4_608_000, 122_880, 1_800_000),
    (21, 9_216_000, 245_760, 3_600_000),
    (30, 20_736_000, 552_960, 7_200_000),
    (31, 36_864_000, 983_040, 12_000_000),
    (40, 83_558_400, 2_228_224, 18_000_000),
    (41, 160_432_128, 2_228_224, 30_000_000),
    (50, 311_951_360, 8_912_896, 60_000_000),
    (51, 588_251_136, 8_912_896, 120_000_000),
    (52, 1_176_502_272, 8_912_896, 180_000_000),
    (60, 1_176_502_272, 35_651_584, 180_000_000),
    (61, 2_353_004_544, 35_651_584, 240_000_000),
    (62, 4_706_009_088, 35_651_584, 480_000_000),
];

/// The lowest level that pictures of `width` x `height`, `frames` of them in `seconds`, at `bitrate` bits a second, keep to; the highest
/// of all where none does.
fn level(width: u32, height: u32, (frames, seconds): (u32, u32), bitrate: u64) -> u8 {
    let picture = u64::from(width) * u64::from(height);
    let rate = (picture * u64::from(frames)).div_ceil(u64::from(seconds.max(1)));
    let fits = |(_, most_rate, most_picture, most_bits): &&(u8, u64, u64, u64)| {
        rate <= *most_rate && picture <= *most_picture && bitrate <= *most_bits
    };
    LEVELS.iter().find(fits).map_or(62, |(level, ..)| *level)
}

/// Where a `VisualSampleEntry` has its first child: behind the header and 78 bytes of fields.
const CHILDREN: usize = 8 + 78;
/// Where a `vpcC` has its level: behind the header, version and flags, and the profile.
const LEVEL: usize = 8 + 4 + 1;

impl Track {
    /// Corrects the level of a VP9 track of `frames` frames in `seconds` seconds with at most `bitrate` bits a second. Other tracks stay as
    /// they are: their streams say it themselves.
    pub fn correct_level(&mut self, rate: (u32, u32), bitrate: u64) {
        let super::TrackConfig::Video { width, height } = self.config else { return };
        let mut entry = self.sample_entry.to_vec();
        let mut at = CHILDREN;
        while let Some(Ok(Some(header))) = entry.get(at..).map(BoxHeader::parse) {
            let size =
                header.body_len.and_then(|len| usize::try_from(len).ok()).map(|len| len + header.header_len);
            if header.kind == kind(b"vpcC")
                && let Some(slot) = entry.get_mut(at + LEVEL)
            {
                *slot = level(width.into(), height.into(), rate, bitrate);
                let body = entry.get(at + header.header_len..at + size.unwrap_or(0)).unwrap_or_default();
                if let Ok(codec) = codecs::vp9(RawBox { kind: header.kind, body }) {
                    (self.codec, self.sample_entry) = (codec, entry.into());
                }
                return;
            }
            match size {
                Some(size) => at += size,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_covers_pictures_rate_and_bits() {
        assert_eq!(level(320, 180, (25, 1), 600_000), 11);
        assert_eq!(level(320, 180, (60_000, 1001), 600_000), 20, "more frames a second");
        assert_eq!(level(320, 180, (25, 1), 900_000), 20, "more bits a second");
        assert_eq!(level(1920, 1080, (30, 1), 6_000_000), 40);
        assert_eq!(level(3840, 2160, (60, 1), 20_000_000), 51);
        assert_eq!(level(8192, 8192, (120, 1), 1), 62);
    }
}
