//! What a broadcast is made of: decided when it begins, and kept through all that comes after, so that players need learn nothing
//! new when a publisher returns or another takes over.

use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, Wanted};
use crate::live::spec::{LiveSpec, Resolution};
use crate::media::codec::Codec;
use crate::media::grid::{AAC_FRAME, Rate};
use crate::media::ladder::fit;
use crate::media::probe::Probe;
use crate::media::profile::{RateControl, Rung};

/// The plan of a broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LivePlan {
    pub cadence: Cadence,
    /// Frames per second as a fraction, for who only reads.
    pub frame_rate: (u32, u32),
    pub codec: Codec,
    /// From the best to the least; empty for sound alone.
    pub rungs: Vec<LiveRung>,
    pub audio: Option<LiveAudio>,
    /// Parts are listed.
    pub low_latency: bool,
    /// Seconds that are listed.
    pub window_seconds: u32,
}

/// A rung of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRung {
    pub name: String,
    /// Even.
    pub width: u32,
    pub height: u32,
    /// Bits per second.
    pub bitrate: u64,
    /// VBV, in bits.
    pub buffer: u64,
}

/// The sound: AAC-LC stereo, once for all rungs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAudio {
    /// Bits per second.
    pub bitrate: u64,
    /// 44,100 or 48,000.
    pub sample_rate: u32,
}

/// The name of the one rung where nothing is to be transcoded.
pub const SOURCE: &str = "source";

/// The name of the one track of sound.
pub const AUDIO: &str = "audio";

/// Pictures a second, at most: what comes faster is thinned out.
const FASTEST: Rate = Rate { num: 60, den: 1 };

impl LivePlan {
    /// The plan of a stream whose beginning was looked into; `None` where there is neither picture nor sound.
    pub fn new(spec: &LiveSpec, probe: &Probe) -> Option<Self> {
        let settings = &spec.settings;
        let audio = probe.audio.first().map(|stream| LiveAudio {
            bitrate: u64::from(settings.audio_bitrate) * 1000,
            // What is neither is brought to the one that all players take.
            sample_rate: if stream.sample_rate == 44_100 { 44_100 } else { 48_000 },
        });
        let rungs = probe.video.as_ref().map_or_else(Vec::new, |video| {
            let (width, height) = video.display_size();
            let wanted: Vec<Rung> = if settings.enable_transcoding {
                settings.resolutions.iter().map(|it| rung(*it, settings.codec)).collect()
            } else {
                vec![whole(width, height, settings.codec)]
            };
            fit(&wanted, width, height)
                .into_iter()
                .map(|fitted| {
                    let bitrate = fitted.rung.rate_control.max_bitrate();
                    let (width, height) = (fitted.width, fitted.height);
                    LiveRung { name: fitted.rung.name, width, height, bitrate, buffer: bitrate }
                })
                .collect()
        });
        if rungs.is_empty() && audio.is_none() {
            return None;
        }
        let rate = probe.video.as_ref().map_or(Rate { num: 25, den: 1 }, |video| video.rate.snapped());
        let rate = if rate.as_f64() > FASTEST.as_f64() { FASTEST } else { rate };
        let cadence = Cadence::new(Wanted {
            rate,
            sample_rate: audio.as_ref().map(|audio| audio.sample_rate),
            keyframe_interval: settings.keyframe_interval,
            segment_duration: settings.segment_duration,
            part_duration_ms: settings.part_duration_ms,
        });
        let listed = settings.playlist_length * cadence.target_duration;
        Some(Self {
            cadence,
            frame_rate: (rate.num, rate.den),
            codec: settings.codec,
            rungs,
            audio,
            low_latency: spec.low_latency,
            window_seconds: if spec.dvr_enabled { spec.dvr_window.max(listed) } else { listed },
        })
    }

    /// The names of all tracks, in their order: the rungs, then the sound.
    pub fn tracks(&self) -> impl Iterator<Item = &str> {
        self.rungs.iter().map(|rung| rung.name.as_str()).chain(self.audio.iter().map(|_| AUDIO))
    }

    /// The same without the best `dropped` rungs; one stays.
    pub fn without(&self, dropped: usize) -> Self {
        let dropped = dropped.min(self.rungs.len().saturating_sub(1));
        Self { rungs: self.rungs.iter().skip(dropped).cloned().collect(), ..self.clone() }
    }

    /// How long a whole segment of a track is, in its ticks, counted from the first of its run; `None` where there is no such track.
    pub fn segment_ticks(&self, track: &str, place: u64) -> Option<u64> {
        let (begins, frame) = self.part_frames(track)?;
        let parts = self.cadence.segment_parts();
        Some((begins((place + 1) * parts) - begins(place * parts)) * frame)
    }

    /// Of how many parts a segment of a track was made that lasts so many ticks, counted from the first of its run; `None` where
    /// there is no such track.
    pub fn segment_parts(&self, track: &str, place: u64, ticks: u64) -> Option<u32> {
        let (begins, frame) = self.part_frames(track)?;
        let parts = self.cadence.segment_parts();
        let (first, frames) = (place * parts, ticks.div_ceil(frame.max(1)));
        let whole = |count: &u64| begins(first + count) - begins(first) >= frames;
        (1..parts).find(whole).unwrap_or(parts).try_into().ok()
    }

    /// Where the parts of a track begin, in its frames from the start of a run, and how many ticks a frame is.
    fn part_frames(&self, track: &str) -> Option<(impl Fn(u64) -> u64, u64)> {
        let timescale = self.timescale(track)?;
        let (cadence, is_sound) = (self.cadence, track == AUDIO);
        let begins = move |part| match is_sound {
            true => cadence.part_aac_frame(part, timescale),
            false => cadence.part_frame(part),
        };
        Some((begins, if is_sound { AAC_FRAME } else { u64::from(cadence.rate.frame_ticks()) }))
    }

    /// Ticks a second of a track's clock; `None` where there is no such track.
    pub fn timescale(&self, track: &str) -> Option<u32> {
        if track == AUDIO {
            return self.audio.as_ref().map(|audio| audio.sample_rate);
        }
        self.rungs.iter().any(|rung| rung.name == track).then(|| self.cadence.rate.timescale())
    }
}

/// The one rung of a stream that is to be left as it is: its own size, at the rate of the resolution that holds it.
fn whole(width: f64, height: f64, codec: Codec) -> Rung {
    let pixels = |rung: &Rung| f64::from(rung.width) * f64::from(rung.height);
    let known = Resolution::ALL.iter().rev().map(|it| rung(*it, codec));
    let holds = known.clone().find(|rung| pixels(rung) >= width * height);
    let best = rung(Resolution::R1080, codec);
    let bitrate = match holds {
        Some(rung) => rung.rate_control.max_bitrate(),
        None => (best.rate_control.max_bitrate() as f64 * width * height / pixels(&best)) as u64,
    };
    Rung {
        name: SOURCE.to_owned(),
        width: width.ceil() as u32,
        height: height.ceil() as u32,
        codec,
        rate_control: RateControl::Constant { bitrate, buffer: bitrate },
        max_frame_rate: None,
    }
}

/// The rung of a resolution: the box it fits into and its constant rate.
fn rung(resolution: Resolution, codec: Codec) -> Rung {
    let (width, height, kbps) = match resolution {
        Resolution::R1080 => (1920, 1080, 5000),
        Resolution::R720 => (1280, 720, 2800),
        Resolution::R480 => (854, 480, 1400),
        Resolution::R360 => (640, 360, 800),
        Resolution::R240 => (426, 240, 400),
    };
    let bitrate = kbps * 1000;
    Rung {
        name: resolution.as_str().to_owned(),
        width,
        height,
        codec,
        rate_control: RateControl::Constant { bitrate, buffer: bitrate },
        max_frame_rate: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cutter::{Cutter, Kind};
    use super::*;
    use crate::media::cmaf::Sample;

    #[test]
    fn segments_are_as_long_and_in_as_many_parts_as_the_cutter_makes_them() {
        let rate = Rate { num: 30_000, den: 1001 };
        let (keyframe_interval, segment_duration, part_duration_ms) = (1, 2, 333);
        let wanted =
            Wanted { rate, sample_rate: Some(44_100), keyframe_interval, segment_duration, part_duration_ms };
        let rung =
            LiveRung { name: "360p".into(), width: 640, height: 360, bitrate: 800_000, buffer: 800_000 };
        let plan = LivePlan {
            cadence: Cadence::new(wanted),
            frame_rate: (rate.num, rate.den),
            codec: Codec::H264,
            rungs: vec![rung],
            audio: Some(LiveAudio { bitrate: 128_000, sample_rate: 44_100 }),
            low_latency: true,
            window_seconds: 20,
        };
        for (track, kind) in [("360p", Kind::Video), (AUDIO, Kind::Audio { sample_rate: 44_100 })] {
            let mut cutter = Cutter::new(plan.cadence, kind, 0, 0);
            let mut segments = vec![(0, 0)];
            for frame in 0..400 {
                let sync = frame % u64::from(plan.cadence.gop_frames) == 0;
                let sample = Sample { duration: 1, composition_offset: 0, sync, data: bytes::Bytes::new() };
                let Some(cut) = cutter.push(sample).unwrap() else { continue };
                segments.resize(cut.number as usize + 1, (0, 0));
                let (ticks, parts) = &mut segments[cut.number as usize];
                (*ticks, *parts) = (*ticks + cut.ticks(), *parts + 1);
                // One that ends early with this part is made of those that it has.
                assert_eq!(plan.segment_parts(track, cut.number, *ticks), Some(*parts), "{track}");
                assert_eq!(plan.segment_parts(track, cut.number, *ticks - 1), Some(*parts), "{track}");
            }
            segments.pop();
            assert!(segments.len() >= 3);
            for (place, (ticks, _)) in (0..).zip(segments) {
                assert_eq!(plan.segment_ticks(track, place), Some(ticks), "{track}");
            }
        }
        assert_eq!((plan.segment_ticks("240p", 0), plan.segment_parts("240p", 0, 1)), (None, None));
    }

    #[test]
    fn the_one_rung_of_a_stream_that_stays_as_it_is_has_its_size_and_a_fitting_rate() {
        for (size, bitrate) in
            [((768.0, 432.0), 1_400_000), ((1920.0, 1080.0), 5_000_000), ((3840.0, 2160.0), 20_000_000)]
        {
            let rung = whole(size.0, size.1, Codec::H264);
            assert_eq!(rung.rate_control.max_bitrate(), bitrate, "{size:?}");
            let fitted = fit(&[rung], size.0, size.1);
            assert_eq!((f64::from(fitted[0].width), f64::from(fitted[0].height)), size);
        }
    }
}
