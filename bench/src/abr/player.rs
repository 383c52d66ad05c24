//! A player that fetches one segment after another, and what its viewer had of it.

use reelmill_shared::media::abr::Rung;

use super::traces::Trace;

/// What is watched.
pub(crate) struct Video {
    pub(crate) rungs: Vec<Rung>,
    /// Seconds.
    pub(crate) segment: f64,
    /// How large each segment is of what its bitrate says: footage is not equally busy everywhere.
    pub(crate) sizes: Vec<f64>,
    /// Seconds that the player buffers at most.
    pub(crate) full: f64,
    /// Downloads that would outlast the buffer are given up for a smaller one.
    pub(crate) abandons: bool,
}

/// What a rule may know when it chooses.
pub(crate) struct Seen<'a> {
    pub(crate) video: &'a Video,
    pub(crate) buffer: f64,
    pub(crate) current: Option<usize>,
    /// Bytes and seconds of the download before.
    pub(crate) last: Option<(u64, f64)>,
}

/// Chooses the rung of the next segment.
pub(crate) trait Rule {
    fn choose(&mut self, seen: &Seen<'_>) -> usize;
}

/// What the viewer had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Megabits per second of what was played, on average.
    pub(crate) bitrate: f64,
    /// Seconds that the picture stood still, and seconds until it began.
    pub(crate) stalled: f64,
    pub(crate) startup: f64,
    pub(crate) switches: usize,
    /// Megabits per second, of all switches.
    pub(crate) switched: f64,
    segments: usize,
    /// The penalty of a second without a picture: the highest bitrate.
    top: f64,
}

impl Outcome {
    /// The linear quality of experience of Yin et al., SIGCOMM 2015, section 3.2, a segment: bitrate, less what it changed by, less the highest
    /// bitrate for each second without a picture (lambda 1, mu and mu_s the top bitrate in Mbit/s).
    pub(crate) fn qoe(&self) -> f64 {
        let segments = self.segments as f64;
        self.bitrate - self.switched / segments - self.top * (self.stalled + self.startup) / segments
    }
}

/// Plays the whole video.
pub(crate) fn play(video: &Video, trace: &Trace, rule: &mut dyn Rule) -> Outcome {
    let mbits = |rung: usize| video.rungs[rung].bitrate as f64 / 1e6;
    let (mut clock, mut buffer) = (0.0, 0.0_f64);
    let (mut current, mut last) = (None, None);
    let mut outcome = Outcome {
        bitrate: 0.0,
        stalled: 0.0,
        startup: 0.0,
        switches: 0,
        switched: 0.0,
        segments: video.sizes.len(),
        top: mbits(video.rungs.len() - 1),
    };
    for (number, size) in video.sizes.iter().enumerate() {
        // Room for another is made by playing.
        let waits = (buffer + video.segment - video.full).max(0.0);
        clock += waits;
        buffer -= waits;
        let mut rung = rule.choose(&Seen { video, buffer, current, last });
        let bits = |rung: usize| video.rungs[rung].bitrate as f64 * video.segment * size;
        let mut spent = 0.0;
        let given_up = if video.abandons && number > 0 {
            outlasts(trace, clock, bits(rung), bits(0), buffer)
        } else {
            None
        };
        if let Some((after, came)) = given_up {
            last = Some(((came / 8.0) as u64, after));
            spent = after;
            let left = (buffer - after).max(0.0);
            rung = rule.choose(&Seen { video, buffer: left, current, last }).min(rung.saturating_sub(1));
        }
        let took = trace.takes(bits(rung), clock + spent);
        last = Some(((bits(rung) / 8.0) as u64, took));
        let took = spent + took;
        clock += took;
        let without = (took - buffer).max(0.0);
        if number == 0 {
            outcome.startup = without;
        } else {
            outcome.stalled += without;
        }
        buffer = (buffer - took).max(0.0) + video.segment;
        outcome.bitrate += mbits(rung) / video.sizes.len() as f64;
        if let Some(before) = current.filter(|before| *before != rung) {
            outcome.switches += 1;
            outcome.switched += (mbits(rung) - mbits(before)).abs();
        }
        current = Some(rung);
    }
    outcome
}

/// As hls.js gives up a download: looked at every half second, what is left would take longer than the buffer lasts, and the smallest rung would
/// be there sooner. Seconds until then, and bits that came.
fn outlasts(trace: &Trace, at: f64, bits: f64, smallest: f64, buffer: f64) -> Option<(f64, f64)> {
    let ends = trace.takes(bits, at);
    let looks = (1..).map(|n| f64::from(n) * 0.5).take_while(|after| *after < ends);
    looks.map(|after| (after, trace.came(at, after))).find(|(after, came)| {
        let rate = came / after;
        let left = (bits - came) / rate;
        rate > 0.0 && left > (buffer - after).max(0.0) && smallest / rate < left
    })
}
