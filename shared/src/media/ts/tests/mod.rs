//! Segments made of files that FFmpeg encoded, taken apart by FFmpeg and by the parser here.

mod ffmpeg;
mod hostile;
mod structure;

use bytes::Bytes;

use super::*;
use crate::media::cmaf::tests::ffmpeg::{demux, encode};
use crate::media::cmaf::{Fragment, Sample, Track, media_segment};

/// A rendition as the worker would have stored it.
struct Rendition {
    track: Track,
    delay: u32,
    init: Bytes,
    segments: Vec<Bytes>,
    /// What is in the segments, in decode order.
    samples: Vec<Sample>,
    /// Decode time of the first, in ticks of the track.
    start: u64,
}

impl Rendition {
    /// Packages the pictures FFmpeg wrote, from `start` seconds on, a segment for `gops` fragments. Offsets become zero or above,
    /// as the worker's are; the delay goes into the edit list.
    fn pictures(file: &[u8], gops: usize, start: u64) -> Self {
        let (track, mut fragments) = demux(file);
        let samples = || fragments.iter().flat_map(|fragment| &fragment.samples);
        let delay = samples().map(|sample| -sample.composition_offset).max().unwrap_or(0);
        for sample in fragments.iter_mut().flat_map(|fragment| &mut fragment.samples) {
            sample.composition_offset += delay;
        }
        let gops_of = |group: &[Fragment]| group.iter().map(|fragment| fragment.samples.clone()).collect();
        Self::new(track, delay.unsigned_abs(), start, fragments.chunks(gops).map(gops_of).collect())
    }

    /// Packages the sound FFmpeg wrote, cut every `seconds` to the nearest frame. The encoder's priming, a frame, is dropped.
    fn sound(file: &[u8], seconds: f64, start: u64) -> Self {
        let (track, fragments) = demux(file);
        let samples = fragments.into_iter().flat_map(|fragment| fragment.samples).skip(1);
        let count = (4.0 / seconds).round() as usize;
        let mut segments = vec![vec![vec![]]; count];
        let mut time = 0.0;
        for sample in samples {
            let middle = time + f64::from(sample.duration) / 2.0;
            let segment = (middle / f64::from(track.timescale) / seconds) as usize;
            time += f64::from(sample.duration);
            segments[segment.min(count - 1)][0].push(sample);
        }
        Self::new(track, 0, start, segments)
    }

    fn new(track: Track, delay: u32, start: u64, segments: Vec<Vec<Vec<Sample>>>) -> Self {
        let start = start * u64::from(track.timescale);
        let mut time = start;
        let segment = |(number, gops): (usize, &Vec<Vec<Sample>>)| {
            let slices: Vec<&[Sample]> = gops.iter().map(Vec::as_slice).collect();
            let segment = media_segment(number as u32 * 1000 + 1, time, &slices);
            time += gops.iter().flatten().map(|sample| u64::from(sample.duration)).sum::<u64>();
            segment.bytes
        };
        let packaged = segments.iter().enumerate().map(segment).collect();
        let init = track.init_segment_delayed(delay);
        let samples = segments.into_iter().flatten().flatten().collect();
        Self { track, delay, init, segments: packaged, samples, start }
    }

    fn media(&self, number: usize) -> Media {
        media(&self.init, self.segments.get(number).map(|bytes| &bytes[..]).unwrap_or_default())
    }

    /// Decode and presentation time of each sample in ticks of the stream, unwrapped, worked out from the samples.
    fn times(&self) -> Vec<(i64, i64)> {
        let mut time = self.start as f64 - f64::from(self.delay);
        let at =
            |ticks: f64| START + (ticks * f64::from(CLOCK) / f64::from(self.track.timescale)).round() as i64;
        let one = |sample: &Sample| {
            let times = (at(time), at(time + f64::from(sample.composition_offset)));
            time += f64::from(sample.duration);
            times
        };
        self.samples.iter().map(one).collect()
    }
}

/// A recording of pictures and sound.
struct Recording {
    video: Rendition,
    audio: Rendition,
}

const SOUND: &str = "sine=frequency=440:sample_rate=48000:duration=4";
const AAC: &str = "-c:a aac -b:a 96k -ac 2 -frag_duration 1000000";

impl Recording {
    /// Four seconds in segments of two, from `start` seconds on; `None` where FFmpeg or an encoder is missing.
    fn new(video: &str, encoder: &str, start: u64) -> Option<Self> {
        let (pictures, sound) = (encode(video, encoder)?, encode(SOUND, AAC)?);
        let pictures = Rendition::pictures(&pictures, 2, start);
        let seconds = 4.0 / pictures.segments.len() as f64;
        Some(Self { video: pictures, audio: Rendition::sound(&sound, seconds, start) })
    }

    fn segments(&self) -> Vec<Bytes> {
        (0..self.video.segments.len())
            .map(|number| {
                remux(number as u32, Some(self.video.media(number)), Some(self.audio.media(number))).unwrap()
            })
            .collect()
    }
}

fn media(init: &[u8], segment: &[u8]) -> Media {
    Media { init: Bytes::copy_from_slice(init), segment: Bytes::copy_from_slice(segment) }
}
