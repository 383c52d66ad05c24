//! libvpx-vp9.
//!
//! Frames that are never shown travel with the next one that is, in one packet, so there is a packet a picture.

use reelmill_shared::media::profile::{Preset, RateControl};

use super::{Wish, words};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    let mut options = words([
        "-deadline",
        "good",
        "-cpu-used",
        speed(wish.preset),
        // Rows in parallel would make the bytes a matter of chance.
        "-row-mt",
        "0",
        "-threads",
        &wish.threads.to_string(),
    ]);
    options.extend(match wish.rate_control {
        // Constrained quality: not better than `crf`, and not more than the rate on the whole.
        RateControl::CappedCrf { crf, max_bitrate, buffer } => {
            let rate = max_bitrate.to_string();
            words([
                "-crf",
                &crf.to_string(),
                "-b:v",
                &rate,
                "-maxrate",
                &rate,
                "-bufsize",
                &buffer.to_string(),
            ])
        }
        // All three alike is what it takes for a constant rate.
        RateControl::Constant { bitrate, buffer } => {
            let rate = bitrate.to_string();
            words(["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &buffer.to_string()])
        }
    });
    options
}

/// Five is as fast as this way of encoding goes.
fn speed(preset: Preset) -> &'static str {
    match preset {
        Preset::Ultrafast | Preset::Superfast | Preset::Veryfast => "5",
        Preset::Faster => "4",
        Preset::Fast => "3",
        Preset::Medium => "2",
        Preset::Slow => "1",
        Preset::Slower | Preset::Veryslow => "0",
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::job::encoder::Encoder;

    use super::super::tests::{CRF, STEADY, line};

    #[test]
    fn is_held_below_the_ceiling_or_at_it() {
        let quality = line(Encoder::LibvpxVp9, CRF);
        assert!(quality.contains("-deadline good -cpu-used 2 -row-mt 0 -threads 1 -crf 30"), "{quality}");
        assert!(quality.contains("-b:v 1000000 -maxrate 1000000 -bufsize 2000000"), "{quality}");
        let steady = line(Encoder::LibvpxVp9, STEADY);
        assert!(!steady.contains("-crf") && steady.contains("-minrate 1000000 -maxrate 1000000"), "{steady}");
    }
}
