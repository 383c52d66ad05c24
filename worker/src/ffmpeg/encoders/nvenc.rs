//! NVIDIA's NVENC. Takes pictures from memory as they are.

use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::profile::{Preset, RateControl};

use super::{Wish, words};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    let mut options = words(["-preset", speed(wish.preset), "-tune", "hq"]);
    options.extend(match wish.rate_control {
        RateControl::CappedCrf { crf, max_bitrate, buffer } => words([
            "-rc",
            "vbr",
            "-cq",
            &crf.to_string(),
            // Else there is a target rate besides.
            "-b:v",
            "0",
            "-maxrate",
            &max_bitrate.to_string(),
            "-bufsize",
            &buffer.to_string(),
        ]),
        RateControl::Constant { bitrate, buffer } => {
            let rate = bitrate.to_string();
            words(["-rc", "cbr", "-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer.to_string()])
        }
    });
    // No frames from the future: where they may lie in a closed GOP differs from chip to chip.
    options.extend(words(["-no-scenecut", "1", "-strict_gop", "1", "-bf", "0"]));
    if wish.encoder.codec() == Codec::Hevc {
        options.extend(words(["-tag:v", "hvc1"]));
    }
    options
}

fn speed(preset: Preset) -> &'static str {
    match preset {
        Preset::Ultrafast | Preset::Superfast => "p1",
        Preset::Veryfast => "p2",
        Preset::Faster | Preset::Fast => "p3",
        Preset::Medium => "p4",
        Preset::Slow => "p5",
        Preset::Slower => "p6",
        Preset::Veryslow => "p7",
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
            line(Encoder::HevcNvenc, CRF),
            "-c:v hevc_nvenc -g 50 -keyint_min 50 -preset p4 -tune hq -rc vbr -cq 30 -b:v 0 -maxrate 1000000 \
             -bufsize 2000000 -no-scenecut 1 -strict_gop 1 -bf 0 -tag:v hvc1 -flags:v +cgop+bitexact"
        );
        assert!(line(Encoder::H264Nvenc, STEADY).contains("-rc cbr -b:v 1000000 -maxrate 1000000"));
        assert!(device(Encoder::H264Nvenc).is_empty());
        assert!(upload(Encoder::H264Nvenc).is_empty());
    }
}
