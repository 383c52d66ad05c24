//! libx264.

use reelmill_shared::media::profile::RateControl;

use super::{Wish, words};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    let mut options = words(["-preset", wish.preset.as_str(), "-threads", &wish.threads.to_string()]);
    options.extend(rate(wish.rate_control));
    // No keyframe where a scene begins: the same cuts in every rung.
    options.extend(words(["-sc_threshold", "0"]));
    options
}

/// x264 and x265 have the same idea of a rate and of a buffer.
pub(super) fn rate(rate_control: RateControl) -> Vec<String> {
    match rate_control {
        RateControl::CappedCrf { crf, max_bitrate, buffer } => words([
            "-crf",
            &crf.to_string(),
            "-maxrate",
            &max_bitrate.to_string(),
            "-bufsize",
            &buffer.to_string(),
        ]),
        RateControl::Constant { bitrate, buffer } => {
            let rate = bitrate.to_string();
            words(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &buffer.to_string()])
        }
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::job::encoder::Encoder;

    use super::super::tests::{CRF, STEADY, line};

    #[test]
    fn is_told_a_ceiling_either_way() {
        assert_eq!(
            line(Encoder::Libx264, CRF),
            "-c:v libx264 -g 50 -keyint_min 50 -preset medium -threads 1 -crf 30 -maxrate 1000000 -bufsize 2000000 \
             -sc_threshold 0 -flags:v +cgop+bitexact"
        );
        assert!(line(Encoder::Libx264, STEADY).contains("-b:v 1000000 -maxrate 1000000 -bufsize 2000000"));
    }
}
