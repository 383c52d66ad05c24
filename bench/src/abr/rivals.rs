//! Rules from papers, to be measured against, and ours.

use std::collections::VecDeque;

use reelmill_shared::media::abr::{Caps, Engine, Situation};

use super::player::{Rule, Seen};

/// The highest rung below the harmonic mean of the last five downloads (the rate-based rule of Yin et al., SIGCOMM 2015, section 7.1).
#[derive(Default)]
pub(crate) struct RateBased(VecDeque<f64>);

impl Rule for RateBased {
    fn choose(&mut self, seen: &Seen<'_>) -> usize {
        if let Some((bytes, seconds)) = seen.last {
            self.0.push_back(bytes as f64 * 8.0 / seconds);
            if self.0.len() > 5 {
                self.0.pop_front();
            }
        }
        let mean = self.0.len() as f64 / self.0.iter().map(|rate| 1.0 / rate).sum::<f64>();
        highest(seen, mean)
    }
}

/// BBA-0 (Huang et al., "A Buffer-Based Approach to Rate Adaptation", SIGCOMM 2014, section 4.2): the rate grows in a line with the
/// buffer between `reservoir` and `cushion` seconds above it, and changes when it crosses that of the rung beside.
pub(crate) struct BufferBased {
    pub(crate) reservoir: f64,
    pub(crate) cushion: f64,
}

impl Rule for BufferBased {
    fn choose(&mut self, seen: &Seen<'_>) -> usize {
        let rungs = &seen.video.rungs;
        let rate = |rung: usize| rungs[rung].bitrate as f64;
        let top = rungs.len() - 1;
        let before = seen.current.unwrap_or(0);
        if seen.buffer <= self.reservoir {
            return 0;
        }
        if seen.buffer >= self.reservoir + self.cushion {
            return top;
        }
        let wanted = rate(0) + (rate(top) - rate(0)) * (seen.buffer - self.reservoir) / self.cushion;
        if wanted >= rate((before + 1).min(top)) {
            (0..=top).rev().find(|rung| rate(*rung) < wanted).unwrap_or(0)
        } else if wanted <= rate(before.saturating_sub(1)) {
            (0..=top).find(|rung| rate(*rung) > wanted).unwrap_or(top)
        } else {
            before
        }
    }
}

/// The farm's own.
#[derive(Default)]
pub(crate) struct Ours(Engine);

impl Rule for Ours {
    fn choose(&mut self, seen: &Seen<'_>) -> usize {
        if let Some((bytes, seconds)) = seen.last {
            self.0.bandwidth.sample(bytes, seconds);
        }
        let rungs = &seen.video.rungs;
        let caps = Caps::default().judge(rungs);
        let (buffer, full, segment) = (seen.buffer, seen.video.full, seen.video.segment);
        self.0.choose(&Situation { rungs, caps: &caps, buffer, full, segment }).rung
    }
}

fn highest(seen: &Seen<'_>, below: f64) -> usize {
    seen.video.rungs.iter().rposition(|rung| rung.bitrate as f64 <= below).unwrap_or(0)
}
