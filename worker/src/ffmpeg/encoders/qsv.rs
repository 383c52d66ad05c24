//! Intel's Quick Sync Video.

use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::profile::{Preset, RateControl};

use super::{Wish, words};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    let mut options = words(["-preset", speed(wish.preset)]);
    options.extend(match wish.rate_control {
        // A quality and two rates that differ: a quality under a ceiling (QVBR).
        RateControl::CappedCrf { crf, max_bitrate, buffer } => words([
            "-global_quality",
            &quality(crf, wish.encoder.codec()).to_string(),
            "-b:v",
            &(max_bitrate / 4 * 3).to_string(),
            "-maxrate",
            &max_bitrate.to_string(),
            "-bufsize",
            &buffer.to_string(),
        ]),
        RateControl::Constant { bitrate, buffer } => {
            let rate = bitrate.to_string();
            words(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer.to_string()])
        }
    });
    // Every keyframe is one that nothing after it reaches behind, and no frames come from the future.
    if matches!(wish.encoder.codec(), Codec::H264 | Codec::Hevc) {
        options.extend(words(["-idr_interval", "0"]));
    }
    options.extend(words(["-bf", "0"]));
    if wish.encoder.codec() == Codec::Hevc {
        options.extend(words(["-tag:v", "hvc1"]));
    }
    options
}

/// Its scale ends at 51, whatever the codec's own.
fn quality(crf: u8, codec: Codec) -> u64 {
    (u64::from(crf) * 51 / codec.crf().end()).max(1)
}

fn speed(preset: Preset) -> &'static str {
    match preset {
        Preset::Ultrafast | Preset::Superfast | Preset::Veryfast => "veryfast",
        Preset::Faster | Preset::Fast | Preset::Medium | Preset::Slow | Preset::Slower | Preset::Veryslow => {
            preset.as_str()
        }
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::job::encoder::Encoder;

    use super::super::tests::{CRF, STEADY, line};
    use super::super::{device, upload};

    #[test]
    fn caps_a_quality_or_keeps_a_rate() {
        assert_eq!(
            line(Encoder::HevcQsv, CRF),
            "-c:v hevc_qsv -g 50 -keyint_min 50 -preset medium -global_quality 30 -b:v 750000 -maxrate 1000000 \
             -bufsize 2000000 -idr_interval 0 -bf 0 -tag:v hvc1 -flags:v +cgop+bitexact"
        );
        assert!(line(Encoder::Vp9Qsv, CRF).contains("-global_quality 24 "));
        assert!(line(Encoder::H264Qsv, STEADY).contains("-b:v 1000000 -maxrate 1000000"));
    }

    #[test]
    fn gets_its_pictures_on_its_device() {
        assert_eq!(device(Encoder::H264Qsv).join(" "), "-init_hw_device qsv=gpu -filter_hw_device gpu");
        assert_eq!(upload(Encoder::H264Qsv), ",format=nv12,hwupload=extra_hw_frames=64");
    }
}
