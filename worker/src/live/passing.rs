//! A picture that is passed through: given to players as it came, where it keeps to the grid that parts and segments are cut by.

use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::live::plan::LivePlan;
use reelmill_shared::media::probe::Probe;

/// Frames may be so many of their lengths away from where their count puts them.
const STRAY: f64 = 2.0;

/// Why the one rung of a plan cannot be what comes in; `None` where that may be tried. Where its keyframes lie shows only later.
pub(super) fn unfit(plan: &LivePlan, probe: &Probe) -> Option<String> {
    let (video, rung) = (probe.video.as_ref()?, plan.rungs.first()?);
    let wanted = match plan.codec {
        Codec::H264 => "h264",
        Codec::Hevc => "hevc",
        other => return Some(format!("{other} is not passed through")),
    };
    if video.codec != wanted {
        return Some(format!("it is {}, and {wanted} was asked for", video.codec));
    }
    if (video.width, video.height) != (rung.width, rung.height) || video.rotation != 0 || video.display_matrix
    {
        return Some(format!("it is not the {}x{} that this broadcast began with", rung.width, rung.height));
    }
    if !matches!(video.pixel_format.as_str(), "yuv420p" | "yuvj420p") || video.interlaced {
        return Some("not every player shows its pixels as they are".into());
    }
    // Whether they keep to it shows later: in a second of them a few may still be missing between those that came.
    if video.rate.snapped() != plan.cadence.rate {
        return Some("its pictures do not come at a constant rate".into());
    }
    None
}

/// Compares the times of frames with their count.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of the first frame, in seconds.
    first: Option<f64>,
    frames: u64,
}

impl Pace {
    /// Takes `frames` more, of which the first has this time in seconds. False where it is not where its count puts it.
    pub(super) fn keeps(&mut self, seconds: f64, frames: usize, rate: f64) -> bool {
        let expected = self.first.get_or_insert(seconds).to_owned() + self.frames as f64 / rate;
        self.frames += frames as u64;
        (seconds - expected).abs() * rate <= STRAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_too_few_is_let_pass_and_three_are_not() {
        let mut pace = Pace::default();
        assert!(pace.keeps(7.0, 1, 25.0) && pace.keeps(7.04, 2, 25.0) && pace.keeps(7.12, 1, 25.0));
        assert!(pace.keeps(7.2, 1, 25.0), "one is missing");
        assert!(!pace.keeps(7.36, 1, 25.0), "so are two more");
    }
}
