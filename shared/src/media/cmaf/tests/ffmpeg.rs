//! Files that FFmpeg wrote, taken apart, packaged anew, and judged by FFmpeg: the same frames in the same order, at
//! the times counted from frame indices. Skipped where FFmpeg or an encoder is not installed.

use std::path::Path;
use std::process::{Command, Output};

use super::super::{Demuxer, Event, Fragment, Sample, Track, TrackConfig, media_segment};

/// How the worker has FFmpeg write: a fragment for each GOP.
const FRAGMENTED: &str = "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets";
pub(in crate::media) const VIDEO: &str = "testsrc2=size=192x108:rate=30000/1001:duration=4";
pub(in crate::media) const H264: &str = "-c:v libx264 -preset veryfast -g 30 -bf 3 -pix_fmt yuv420p";

/// Runs a tool; `None` when it is not installed.
fn run(tool: &str, args: &[&str]) -> Option<Output> {
    match Command::new(tool).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {tool} does not start: {error}");
            None
        }
    }
}

/// Runs a tool that must succeed without a word on stderr, and returns what it printed.
pub(in crate::media) fn run_silently(tool: &str, args: &[&str]) -> String {
    let output = run(tool, args).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{tool} {args:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// A fragmented MP4 of a test signal, encoded with these arguments; `None` when FFmpeg or the encoder is not there.
pub(in crate::media) fn encode(source: &str, arguments: &str) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.mp4");
    let path = path.to_str().unwrap();
    let mut args = vec!["-v", "error", "-nostdin", "-f", "lavfi", "-i", source];
    args.extend(arguments.split_whitespace());
    args.extend(["-movflags", FRAGMENTED, "-strict", "-2", path]);
    let output = run("ffmpeg", &args)?;
    if !output.status.success() {
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(complaints.contains("Unknown encoder"), "{complaints}");
        println!("skipped: {complaints}");
        return None;
    }
    Some(std::fs::read(path).unwrap())
}

/// Reads a file in pieces of an odd size, as it would be seen growing.
pub(in crate::media) fn demux(file: &[u8]) -> (Track, Vec<Fragment>) {
    let mut demuxer = Demuxer::new(1 << 24);
    let (mut tracks, mut fragments) = (Vec::new(), Vec::new());
    for piece in file.chunks(4099) {
        demuxer.push(piece);
        while let Some(event) = demuxer.next().unwrap() {
            match event {
                Event::Track(track) => tracks.push(track),
                Event::Fragment(fragment) => fragments.push(fragment),
            }
        }
    }
    demuxer.finish().unwrap();
    let [track] = tracks.try_into().unwrap();
    (track, fragments)
}

/// Init segment and segments of two GOPs, with decode times counted from zero.
fn package(track: &Track, fragments: &[Fragment]) -> Vec<u8> {
    let mut file = track.init_segment().to_vec();
    let (mut decode_time, mut sequence) = (0, 1);
    for pair in fragments.chunks(2) {
        let gops: Vec<&[Sample]> = pair.iter().map(|fragment| fragment.samples.as_slice()).collect();
        file.extend_from_slice(&media_segment(sequence, decode_time, &gops).bytes);
        decode_time += pair.iter().map(Fragment::duration).sum::<u64>();
        sequence += 2;
    }
    file
}

/// One line a packet, as ffprobe tells it.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    pts: i64,
    dts: i64,
    key: bool,
}

fn packets(path: &Path) -> Vec<Packet> {
    let entries = "packet=pts,dts,flags";
    let args = ["-v", "error", "-show_entries", entries, "-of", "csv=p=0", path.to_str().unwrap()];
    let packet = |line: &str| {
        let mut fields = line.split(',');
        let mut number = || fields.next().unwrap().parse().unwrap();
        Packet { pts: number(), dts: number(), key: fields.next().unwrap().starts_with('K') }
    };
    run_silently("ffprobe", &args).lines().map(packet).collect()
}

/// The frames FFmpeg decodes, each with its time and a hash, and whether it had anything to complain about.
fn decoded(path: &Path) -> String {
    let path = path.to_str().unwrap();
    run_silently("ffmpeg", &["-v", "error", "-xerror", "-nostdin", "-i", path, "-f", "framemd5", "-"])
}

/// Packages a file anew and has FFmpeg compare the two. Returns what was read.
fn check(file: &[u8]) -> (Track, Vec<Fragment>) {
    let (track, fragments) = demux(file);
    let dir = tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir.path().join("theirs.mp4"), dir.path().join("ours.mp4"));
    std::fs::write(&theirs, file).unwrap();
    std::fs::write(&ours, package(&track, &fragments)).unwrap();

    let samples: Vec<&Sample> = fragments.iter().flat_map(|fragment| &fragment.samples).collect();
    let mut dts = 0;
    let expected = samples.iter().map(|sample| {
        let packet = Packet { pts: dts + i64::from(sample.composition_offset), dts, key: sample.sync };
        dts += i64::from(sample.duration);
        packet
    });
    let expected: Vec<Packet> = expected.collect();
    assert_eq!(expected.iter().map(|packet| packet.pts).min(), Some(0), "presentation starts at zero");
    // FFmpeg's reader keeps pts from falling behind dts: it adds the largest negative offset to every pts, where
    // 14496-12 and players add nothing.
    let shift = samples.iter().map(|sample| -i64::from(sample.composition_offset)).max().unwrap_or(0);
    let told = packets(&ours).into_iter().map(|packet| Packet { pts: packet.pts - shift, ..packet });
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(decoded(&ours), decoded(&theirs));
    (track, fragments)
}

/// Checks a video of 30000/1001 frames a second, and that its GOPs are closed and of 30 frames.
fn check_video(file: &[u8]) -> Track {
    let (track, fragments) = check(file);
    assert_eq!(track.config, TrackConfig::Video { width: 192, height: 108 });
    assert_eq!(fragments.iter().map(|fragment| fragment.samples.len()).sum::<usize>(), 120);
    assert_eq!(fragments.len(), 4);
    let frame = u64::from(track.timescale) * 1001 / 30000;
    for (gop, fragment) in fragments.iter().enumerate() {
        assert_eq!(fragment.base_decode_time, gop as u64 * 30 * frame);
        let syncs: Vec<bool> = fragment.samples.iter().map(|sample| sample.sync).collect();
        assert_eq!(syncs.iter().position(|sync| *sync), Some(0));
        assert_eq!(syncs.iter().filter(|sync| **sync).count(), 1);
        assert!(fragment.samples.iter().all(|sample| u64::from(sample.duration) == frame));
    }
    track
}

#[test]
fn h264_with_b_frames() {
    let Some(file) = encode(VIDEO, H264) else { return };
    let track = check_video(&file);
    assert_eq!(track.codec, "avc1.64000b");
    let (_, fragments) = demux(&file);
    assert!(
        fragments.iter().flat_map(|fragment| &fragment.samples).any(|sample| sample.composition_offset < 0)
    );
    assert!(!track.init_segment().windows(4).any(|window| window == b"Lavc"));
}

#[test]
fn the_init_segment_does_not_depend_on_length_or_time() {
    let short = "testsrc2=size=192x108:rate=30000/1001:duration=1";
    let moved = format!("{H264} -output_ts_offset 77");
    let (Some(long), Some(short)) = (encode(VIDEO, H264), encode(short, &moved)) else {
        return;
    };
    assert_eq!(demux(&long).0.init_segment(), demux(&short).0.init_segment());
}

#[test]
fn hevc_leaves_the_encoders_settings_behind() {
    let arguments = "-c:v libx265 -preset ultrafast -tag:v hvc1 -pix_fmt yuv420p -x265-params \
        log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=0:bframes=3";
    let here = encode(VIDEO, &format!("{arguments}:frame-threads=1"));
    let elsewhere = encode(VIDEO, &format!("{arguments}:frame-threads=2"));
    let (Some(here), Some(elsewhere)) = (here, elsewhere) else {
        return;
    };
    let track = check_video(&here);
    assert_eq!(track.codec, "hvc1.1.6.L60.90");
    assert!(here.windows(4).any(|window| window == b"x265"));
    assert!(!track.init_segment().windows(4).any(|window| window == b"x265"));
    assert_eq!(demux(&elsewhere).0.init_segment(), track.init_segment());
}

#[test]
fn vp9() {
    let vp9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 30 -b:v 200k";
    let Some(file) = encode(VIDEO, vp9) else { return };
    let mut track = check_video(&file);
    assert_eq!(track.codec, "vp09.00.10.08");
    let init = track.init_segment();
    track.correct_level((30_000, 1001), 3_000_000);
    assert_eq!(track.codec, "vp09.00.21.08");
    let corrected = track.init_segment();
    let other: Vec<usize> = (0..init.len()).filter(|at| init[*at] != corrected[*at]).collect();
    assert_eq!(other.len(), 1, "nothing but the level has changed");
    assert_eq!(demux(&corrected).0.codec, "vp09.00.21.08");
}

#[test]
fn av1() {
    let Some(file) = encode(VIDEO, "-c:v libsvtav1 -preset 12 -g 30 -pix_fmt yuv420p") else {
        return;
    };
    assert_eq!(check_video(&file).codec, "av01.0.00M.08");
}

/// FFmpeg writes no `colr` where it does not know all colours; the stream tells what there is.
#[test]
fn av1_tells_the_colours_of_its_stream() {
    let svt = "-c:v libsvtav1 -preset 12 -g 30 -pix_fmt yuv420p";
    for (colours, told) in [
        ("-colorspace bt470bg", "av01.0.00M.08.0.110.02.02.05.0"),
        ("-color_primaries bt709 -color_trc bt709 -colorspace bt709", "av01.0.00M.08"),
        (
            "-color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range pc",
            "av01.0.00M.08.0.110.01.01.01.1",
        ),
        (
            "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc",
            "av01.0.00M.08.0.110.09.16.09.0",
        ),
        ("-chroma_sample_location left", "av01.0.00M.08.0.111.02.02.02.0"),
    ] {
        let short = VIDEO.replace("duration=4", "duration=1");
        let Some(file) = encode(&short, &format!("{svt} {colours}")) else { return };
        assert_eq!(demux(&file).0.codec, told, "{colours}");
    }
}

/// Checks sound that was written with a fragment for each second.
fn check_audio(encoder: &str, channels: u16, expected: &str) {
    let arguments = format!("-c:a {encoder} -ac {channels} -frag_duration 1000000");
    let source = "sine=frequency=440:sample_rate=48000:duration=4";
    let Some(file) = encode(source, &arguments) else {
        return;
    };
    let (track, fragments) = check(&file);
    assert_eq!((track.timescale, track.codec.as_str()), (48000, expected));
    assert_eq!(track.config, TrackConfig::Audio { sample_rate: 48000, channels });
    assert!(fragments.len() >= 4);
}

#[test]
fn aac_of_any_channel_count() {
    check_audio("aac -b:a 64k", 2, "mp4a.40.2");
    check_audio("aac -b:a 64k", 1, "mp4a.40.2");
    check_audio("aac -b:a 192k", 6, "mp4a.40.2");
}

#[test]
fn opus_and_flac() {
    check_audio("libopus -b:a 64k", 2, "Opus");
    check_audio("flac", 1, "fLaC");
}
