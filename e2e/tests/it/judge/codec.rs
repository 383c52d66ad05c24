//! Whether `CODECS` says what is in the stream. FFmpeg reads the parameter sets (`trace_headers`), and its DASH muxer writes strings
//! for VP9 and AV1 itself; what RFC 6381 and the bindings of the codecs make of the former is worked out here anew.

use std::collections::HashMap;
use std::path::Path;

use reelmill_testkit::ffmpeg::{ffmpeg, ffmpeg_log};
use serde_json::Value;

use super::Track;

/// Checks the first entry of the variant's `CODECS` against the track's file, of which ffprobe says `stream`.
pub fn check(track: &Track, stream: &Value, codec: &str) {
    assert_eq!(stream["codec_name"], codec, "{}", track.name);
    let codecs = track.variant.as_ref().unwrap().codecs.as_deref().unwrap();
    let (declared, beside) = codecs.split_once(',').unwrap_or((codecs, "mp4a.40.2"));
    assert_eq!(beside, "mp4a.40.2", "CODECS {codecs}");
    let derived = match codec {
        "h264" => avc(&track.file),
        "hevc" => {
            assert_eq!(stream["codec_tag_string"], "hvc1", "Apple's players take no other");
            hevc(&track.file)
        }
        "av1" => av1(&track.file),
        _ => vp9(&track.file, stream, declared),
    };
    if codec == "vp9" {
        // FFmpeg's level is for the size and the rate alone; ours is for the bits too, and so no lower.
        let (ours, theirs) = (without_level(declared), without_level(&derived));
        assert!(ours.0 == theirs.0 && ours.1 >= theirs.1, "CODECS of {}: {declared}, {derived}", track.name);
    } else {
        assert_eq!(declared, derived, "CODECS of {}", track.name);
    }
    // 8 bit, 4:2:0, in the one profile of each codec that every decoder of it has.
    let profile = stream["profile"].as_str().unwrap();
    assert!(
        ["Constrained Baseline", "Main", "High", "Profile 0"].contains(&profile),
        "{profile} is no profile browsers play"
    );
    let init = std::fs::read(&track.init).unwrap();
    for encoder in [&b"x264"[..], b"x265", b"Lavc"] {
        assert!(!init.windows(encoder.len()).any(|window| window == encoder), "the encoder left its name");
    }
}

fn avc(file: &Path) -> String {
    let told = headers(file);
    let constraints = (0..6).fold(0, |byte, n| byte | told[&format!("constraint_set{n}_flag")] << (7 - n));
    format!("avc1.{:02x}{constraints:02x}{:02x}", told["profile_idc"], told["level_idc"])
}

/// Annex E of 14496-15.
fn hevc(file: &Path) -> String {
    let told = headers(file);
    assert_eq!(told["general_profile_space"], 0);
    let compatible = (0..32).fold(0_u32, |bits, n| {
        bits | (told[&format!("general_profile_compatibility_flag[{n}]")] as u32) << n
    });
    let tier = if told["general_tier_flag"] == 1 { 'H' } else { 'L' };
    let sources =
        ["progressive_source", "interlaced_source", "non_packed_constraint", "frame_only_constraint"];
    let first = sources
        .iter()
        .enumerate()
        .fold(0, |byte, (n, name)| byte | told[&format!("general_{name}_flag")] << (7 - n));
    // Of the other 44 bits the main profile has none set.
    format!(
        "hvc1.{}.{compatible:X}.{tier}{}.{first:X}",
        told["general_profile_idc"], told["general_level_idc"]
    )
}

/// FFmpeg tells the first part only; the rest must be there where the colours are not BT.709's or told at all.
fn vp9(file: &Path, stream: &Value, declared: &str) -> String {
    let short = by_ffmpeg(file);
    let matrix = match stream["color_space"].as_str().unwrap_or("unknown") {
        "unknown" | "bt709" => return short,
        "bt470bg" => 5,
        "smpte170m" => 6,
        other => panic!("{other} is no matrix of these sources"),
    };
    // Where the chroma samples lie the stream does not say.
    let chroma = if declared.contains(".01.02.") { 1 } else { 0 };
    format!("{short}.{chroma:02}.02.02.{matrix:02}.00")
}

/// FFmpeg tells the first part only; the rest must be there where it is not what a player takes for granted.
fn av1(file: &Path) -> String {
    let told = headers(file);
    let field = |name: &str, default| told.get(name).copied().unwrap_or(default);
    let chroma = field("chroma_sample_position", 0);
    // What is not there is unspecified.
    let colours =
        ["color_primaries", "transfer_characteristics", "matrix_coefficients"].map(|name| field(name, 2));
    let range = field("color_range", 0);
    assert_eq!((field("high_bitdepth", 1), field("mono_chrome", 1)), (0, 0));
    let short = plain_av1(&by_ffmpeg(file));
    if (chroma, range) == (0, 0) && [[1; 3], [2; 3]].contains(&colours) {
        return short;
    }
    let [primaries, transfer, matrix] = colours;
    format!("{short}.0.11{chroma}.{primaries:02}.{transfer:02}.{matrix:02}.{range}")
}

/// A VP9 codec without its level, and the level.
fn without_level(codec: &str) -> (String, u32) {
    let mut parts: Vec<&str> = codec.split('.').collect();
    let level = parts.remove(2).parse().unwrap();
    (parts.join("."), level)
}

/// Profile, level and depth, without chroma and colours.
fn plain_av1(codec: &str) -> String {
    codec.split('.').take(4).collect::<Vec<_>>().join(".")
}

/// Fields of the parameter sets by their names in the specification, each as it is told last: that is the sequence's.
fn headers(file: &Path) -> HashMap<String, u64> {
    let args = ["-i", file.to_str().unwrap(), "-c", "copy", "-bsf:v", "trace_headers", "-frames:v", "1"];
    let log = ffmpeg_log(&[&args[..], &["-f", "null", "-"]].concat());
    let fields = log.lines().filter_map(|line| {
        let (_, told) = line.split_once("[trace_headers @ ")?.1.split_once("] ")?;
        let mut cells = told.split_whitespace();
        let (_, name) = (cells.next()?.parse::<u64>().ok()?, cells.next()?);
        Some((name.to_owned(), told.rsplit_once("= ")?.1.parse().ok()?))
    });
    fields.collect()
}

fn by_ffmpeg(file: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest.mpd");
    let manifest = manifest.to_str().unwrap();
    ffmpeg(&["-i", file.to_str().unwrap(), "-c", "copy", "-f", "dash", manifest]);
    let text = std::fs::read_to_string(manifest).unwrap();
    let (_, codecs) = text.split_once("codecs=\"").unwrap();
    codecs.split_once('"').unwrap().0.to_owned()
}
