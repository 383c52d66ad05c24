//! SVT-AV1.

use reelmill_shared::media::profile::{Preset, RateControl};

use super::{Wish, words};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    let mut options = words(["-preset", speed(wish.preset)]);
    options.extend(match wish.rate_control {
        RateControl::CappedCrf { crf, max_bitrate, buffer } => words([
            "-crf",
            &crf.to_string(),
            "-maxrate",
            &max_bitrate.to_string(),
            "-bufsize",
            &buffer.to_string(),
        ]),
        // An average. It refuses a ceiling beside it, and has a constant rate only without frames from the future.
        RateControl::Constant { bitrate, buffer } => {
            words(["-b:v", &bitrate.to_string(), "-bufsize", &buffer.to_string()])
        }
    });
    // `-threads` says nothing to it: by itself it takes every core.
    options.extend(words(["-svtav1-params", &format!("lp={}", wish.threads)]));
    options
}

fn speed(preset: Preset) -> &'static str {
    match preset {
        Preset::Ultrafast => "12",
        Preset::Superfast => "11",
        Preset::Veryfast => "10",
        Preset::Faster => "9",
        Preset::Fast => "8",
        Preset::Medium => "7",
        Preset::Slow => "6",
        Preset::Slower => "5",
        Preset::Veryslow => "4",
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::job::encoder::Encoder;

    use super::super::tests::{CRF, STEADY, line};

    #[test]
    fn caps_a_quality_or_keeps_to_an_average() {
        let quality = line(Encoder::Libsvtav1, CRF);
        assert!(quality.contains("-preset 7 -crf 30 -maxrate 1000000 -bufsize 2000000"), "{quality}");
        assert!(quality.contains("-svtav1-params lp=1"), "{quality}");
        let steady = line(Encoder::Libsvtav1, STEADY);
        assert!(!steady.contains("-maxrate") && steady.contains("-b:v 1000000"), "{steady}");
    }
}
