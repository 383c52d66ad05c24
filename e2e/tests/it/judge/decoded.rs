//! What FFmpeg's demuxers of HLS and DASH and its decoders make of a recording, frame by frame.

use reelmill_testkit::ffmpeg::{ffmpeg, probe, probe_file};

use super::{Expected, Playback, number};

/// Plays everything at once with FFmpeg's HLS demuxer, down to the last frame, and no decoder may complain.
pub fn check(playback: &Playback, expected: &Expected) {
    let url = playback.url.as_str();
    for stream in probe(&["-show_streams"], url)["streams"].as_array().unwrap() {
        assert_eq!(
            number(&stream["start_time"]),
            0.0,
            "stream {} of the master starts at zero",
            stream["index"]
        );
    }
    for track in playback.tracks() {
        let found = probe(&["-show_streams"], &track.url);
        assert_eq!(number(&found["streams"][0]["start_time"]), 0.0, "{} starts at zero", track.name);
    }
    let args = ["-err_detect", "explode", "-copyts", "-i", url, "-map", "0:v?", "-map", "0:a?"];
    let more = ["-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "framecrc", "-"];
    let listed = ffmpeg(&[&args[..], &more].concat());
    let listed = Decoded::parse(&String::from_utf8(listed).unwrap());
    // FFmpeg lists the sound twice where it is offered without the picture too, or as one of several without any.
    let offered =
        playback.sound_alone.is_some() || (playback.video.is_empty() && !playback.more_audio.is_empty());
    let sounds = expected.audio.len() + usize::from(offered);
    assert_eq!(listed.len(), expected.rungs.len() + sounds, "streams");

    for (stream, rung) in listed.iter().zip(&expected.rungs) {
        assert_eq!(stream.size, Some(rung.size), "{}", rung.name);
        assert_eq!(stream.frames.len(), rung.frames, "frames of {}", rung.name);
        for (n, (time, _)) in stream.frames.iter().enumerate() {
            let right = n as f64 * rung.rate.1 as f64 / rung.rate.0 as f64;
            assert!((time - right).abs() < 1e-6, "{}: frame {n} is at {time}, not {right}", rung.name);
        }
    }
    for stream in &listed[expected.rungs.len()..] {
        let sample_rate = stream.sample_rate.unwrap();
        assert!(expected.audio.contains(&sample_rate), "{sample_rate} Hz");
        let mut samples = 0;
        for (time, bytes) in &stream.frames {
            let right = f64::from(samples) / f64::from(sample_rate);
            assert!((time - right).abs() < 1e-5, "a hole in the sound at {time}");
            // Two channels of 16 bits.
            samples += *bytes as u32 / 4;
        }
        let lasts = f64::from(samples) / f64::from(sample_rate);
        if let Some(rung) = expected.rungs.first() {
            let picture = rung.frames as f64 * rung.rate.1 as f64 / rung.rate.0 as f64;
            let over = lasts - picture;
            assert!(
                (0.0..1024.0 / f64::from(sample_rate) + 1e-6).contains(&over),
                "{lasts} s of sound beside {picture} s of picture"
            );
        }
    }
}

/// Reads each representation of a manifest to its end with FFmpeg's DASH demuxer: every packet is there, at its time. One at a time,
/// because this demuxer ends when the shortest does.
pub fn demuxed(manifest: &str, expected: &Expected) {
    let streams = probe_file(&["-show_streams"], manifest);
    let streams = streams["streams"].as_array().unwrap();
    let count = |kind: &str| streams.iter().filter(|stream| stream["codec_type"] == kind).count();
    let found = (count("video"), count("audio"), count("subtitle"));
    assert_eq!(found, (expected.rungs.len(), expected.audio.len(), expected.texts), "{manifest}");
    for (index, stream) in streams.iter().enumerate().filter(|(_, stream)| stream["codec_type"] != "subtitle")
    {
        assert_eq!(number(&stream["start_time"]), 0.0, "stream {index} of {manifest} starts at zero");
        let map = format!("0:{index}");
        let args = ["-copyts", "-i", manifest, "-map", &map, "-c", "copy", "-f", "framecrc", "-"];
        let listed = Decoded::parse(&String::from_utf8(ffmpeg(&args)).unwrap());
        let mut times: Vec<f64> = listed[0].frames.iter().map(|(time, _)| *time).collect();
        // Packets come in the order of decoding.
        times.sort_by(f64::total_cmp);
        let (step, frames) = match expected.rungs.get(index) {
            Some(rung) => {
                let size = (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap());
                assert_eq!(size, rung.size, "{}", rung.name);
                (rung.rate.1 as f64 / rung.rate.0 as f64, rung.frames)
            }
            None => {
                let rate = expected.audio[index - expected.rungs.len()];
                assert_eq!(stream["sample_rate"], rate.to_string(), "{manifest}");
                let rate = f64::from(rate);
                let whole = expected.rungs.first().map(|rung| {
                    let shown = rung.frames as f64 * rung.rate.1 as f64 / rung.rate.0 as f64;
                    (shown * rate / 1024.0 - 1e-6).ceil()
                });
                (1024.0 / rate, whole.map_or(times.len(), |frames| frames as usize))
            }
        };
        assert_eq!(times.len(), frames, "packets of stream {index} of {manifest}");
        for (n, time) in times.iter().enumerate() {
            let right = n as f64 * step;
            assert!((time - right).abs() < 1e-4, "stream {index}: packet {n} is at {time}, not {right}");
        }
    }
}

/// A stream as `-f framecrc` lists it.
#[derive(Debug, Default)]
struct Decoded {
    size: Option<(u64, u64)>,
    sample_rate: Option<u32>,
    tick: f64,
    /// Presentation time and size in bytes of each decoded frame.
    frames: Vec<(f64, u64)>,
}

impl Decoded {
    fn parse(text: &str) -> Vec<Self> {
        let mut streams: Vec<Self> = vec![];
        for line in text.lines() {
            if let Some((what, value)) = line.strip_prefix('#').and_then(|header| header.split_once(": ")) {
                let mut words = what.split(' ');
                let (key, index) = (words.next().unwrap(), words.next());
                let Some(index) = index.and_then(|index| index.parse::<usize>().ok()) else {
                    continue;
                };
                if streams.len() <= index {
                    streams.resize_with(index + 1, Self::default);
                }
                let pair = |at| {
                    let (a, b) = value.split_once(at).unwrap();
                    (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap())
                };
                match key {
                    "tb" => streams[index].tick = pair('/').0 as f64 / pair('/').1 as f64,
                    "sample_rate" => streams[index].sample_rate = Some(value.parse().unwrap()),
                    "dimensions" => streams[index].size = Some(pair('x')),
                    _ => {}
                }
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let cells: Vec<i64> = line.split(',').take(5).map(|cell| cell.trim().parse().unwrap()).collect();
            let stream = &mut streams[cells[0] as usize];
            let time = cells[2] as f64 * stream.tick;
            stream.frames.push((time, cells[4] as u64));
        }
        streams
    }
}
