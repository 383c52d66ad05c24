//! VA-API: what Linux drivers offer for chips of Intel and AMD. How fast or how good they are is the drivers' business: there is no
//! preset that means the same to two of them.

use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::profile::RateControl;

use super::{Wish, words};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    let mut options = match wish.rate_control {
        RateControl::CappedCrf { crf, max_bitrate, buffer } => {
            let rate = max_bitrate.to_string();
            words([
                "-rc_mode",
                "QVBR",
                "-global_quality",
                &quality(crf, wish.encoder.codec()).to_string(),
                "-b:v",
                &rate,
                "-maxrate",
                &rate,
                "-bufsize",
                &buffer.to_string(),
            ])
        }
        RateControl::Constant { bitrate, buffer } => {
            let rate = bitrate.to_string();
            words(["-rc_mode", "CBR", "-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer.to_string()])
        }
    };
    // Every keyframe is one that nothing after it reaches behind, and no frames come from the future.
    options.extend(words(["-idr_interval", "0", "-bf", "0"]));
    if wish.encoder.codec() == Codec::Hevc {
        options.extend(words(["-tag:v", "hvc1"]));
    }
    options
}

/// VP9 and AV1 count their quantizers to 255 here.
fn quality(crf: u8, codec: Codec) -> u32 {
    match codec {
        Codec::H264 | Codec::Hevc => crf.into(),
        Codec::Vp9 | Codec::Av1 => u32::from(crf) * 4,
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
            line(Encoder::HevcVaapi, CRF),
            "-c:v hevc_vaapi -g 50 -keyint_min 50 -rc_mode QVBR -global_quality 30 -b:v 1000000 -maxrate 1000000 \
             -bufsize 2000000 -idr_interval 0 -bf 0 -tag:v hvc1 -flags:v +cgop+bitexact"
        );
        assert!(line(Encoder::Vp9Vaapi, CRF).contains("-global_quality 120 "));
        assert!(line(Encoder::H264Vaapi, STEADY).contains("-rc_mode CBR -b:v 1000000"));
    }

    #[test]
    fn gets_its_pictures_on_its_device() {
        assert_eq!(device(Encoder::Vp9Vaapi).join(" "), "-init_hw_device vaapi=gpu -filter_hw_device gpu");
        assert_eq!(upload(Encoder::Vp9Vaapi), ",format=nv12,hwupload");
    }
}
