//! Several tracks of sound, and text beside the picture.

use std::path::{Path, PathBuf};
use std::process::Command;

use reelmill_testkit::ffmpeg::probe_file;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::judge::{Expected, Playback, demuxed, watch};
use crate::media_dash::Bucket;
use crate::support::text;

/// What a file's subtitles may hold, and what of it may be shown.
const HOSTILE: &str = "1
00:00:01,000 --> 00:00:03,500
<b>Bold <i>both</b> <script>alert(1)</script>
1 < 2 & c --> d

2
00:00:05,000 --> 00:00:04,000
Backwards

3
00:00:05,500 --> 00:00:06,500
{\\an8}Over the cut

4
00:00:11,000 --> 99:00:00,000
Without end

5
00:10:00,000 --> 00:10:01,000
Too late
";

/// An advanced subtitle: drawn shapes, overrides, layers.
const STYLED: &str = "[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,2,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100 0 100{\\p0}
Dialogue: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,{\\blur3}Shown once
Dialogue: 1,0:00:01.00,0:00:03.00,Default,,0,0,0,,{\\pos(1,2)}Shown once
";

pub fn ffmpeg(args: &[&str], output: &Path) {
    let done = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).arg(output).status();
    assert!(done.unwrap().success(), "{args:?}");
}

/// A clip of `seconds` with an English and a Spanish track, a commentary, and two kinds of subtitles.
pub fn many_tracks(dir: &Path, seconds: u32) -> PathBuf {
    let clip = media::clip(dir, seconds, "640x360");
    let (plain, styled) = (dir.join("plain.srt"), dir.join("styled.ass"));
    std::fs::write(&plain, HOSTILE).unwrap();
    std::fs::write(&styled, STYLED).unwrap();
    let tone = |hertz: u32| format!("sine=frequency={hertz}:sample_rate=44100:duration={seconds}");
    let output = dir.join("many-tracks.mkv");
    let inputs =
        ["-i", clip.to_str().unwrap(), "-f", "lavfi", "-i", &tone(500), "-f", "lavfi", "-i", &tone(900)];
    let texts = ["-i", plain.to_str().unwrap(), "-i", styled.to_str().unwrap()];
    let maps = ["-map", "0:v", "-map", "0:a", "-map", "1:a", "-map", "2:a", "-map", "3:s", "-map", "4:s"];
    let codecs = ["-c:v", "copy", "-c:a", "flac", "-c:s:0", "srt", "-c:s:1", "ass"];
    let told = [
        "-metadata:s:a:0",
        "language=eng",
        "-metadata:s:a:1",
        "language=spa",
        "-metadata:s:a:2",
        "language=eng",
        "-metadata:s:a:2",
        "title=The \"makers\" talk",
        "-disposition:a:2",
        "comment",
        "-metadata:s:s:0",
        "language=ger",
        "-metadata:s:s:1",
        "language=ger",
        "-disposition:s:1",
        "forced",
    ];
    ffmpeg(&[&inputs[..], &texts, &maps, &codecs, &told].concat(), &output);
    output
}

/// Start, end and text of the cues of a rendition, none twice, as FFmpeg's demuxer reads its segments.
pub fn cues(segments: &[String]) -> Vec<(f64, f64, String)> {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<(f64, f64, String)> = vec![];
    for (number, segment) in segments.iter().enumerate() {
        let (header, _) = segment.split_once("\n\n").unwrap_or((segment.trim_end(), ""));
        assert_eq!(header, "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0", "segment {number}");
        let file = dir.path().join(format!("{number}.vtt"));
        std::fs::write(&file, segment).unwrap();
        for cue in read(file.to_str().unwrap(), 0) {
            if !all.contains(&cue) {
                all.push(cue);
            }
        }
    }
    all
}

/// Start, end and text of the cues of a text track, as FFmpeg's demuxers read it.
fn read(file: &str, track: usize) -> Vec<(f64, f64, String)> {
    let select = format!("s:{track}");
    let found = probe_file(&["-select_streams", &select, "-show_packets", "-show_data"], file);
    let cue = |packet: &Value| {
        let seconds = |field: &str| packet[field].as_str().unwrap().parse::<f64>().unwrap();
        let start = seconds("pts_time");
        (start, start + seconds("duration_time"), dumped(text(packet, "data")))
    };
    found["packets"].as_array().unwrap().iter().map(cue).collect()
}

/// The language of each stream of a kind in a playlist or manifest, by FFmpeg.
fn languages(url: &str, kind: &str) -> Vec<String> {
    let found = probe_file(&["-show_streams"], url);
    let streams = found["streams"].as_array().unwrap().iter().filter(|stream| stream["codec_type"] == kind);
    streams.map(|stream| stream["tags"]["language"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The bytes of a dump of ffprobe: `00000000: 4865 6c6c  Hell`.
fn dumped(dump: &str) -> String {
    let lines = dump.lines().filter_map(|line| line.split_once(": ")?.1.split_once("  "));
    let digits: String =
        lines.flat_map(|(digits, _)| digits.chars().filter(|c| !c.is_whitespace())).collect();
    let bytes = (0..digits.len() / 2).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

fn profile(audio: Value) -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "audio": audio, "rungs": [
        {"name": "only", "width": 320, "height": 180, "crf": 26, "max_bitrate": 600_000},
    ]})
}

/// What a farm makes of a file: the job and its recording.
pub async fn made(farm: &Farm, source: &Path, body: Value) -> (Value, Value) {
    let mut body = body;
    body["kind"] = json!("transcode");
    body["input"] = json!({ "upload_id": farm.client.upload(source).await });
    let job = farm.client.post("/jobs", &body).await;
    let job = farm.client.wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let recording = farm.client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    (job, recording)
}

#[tokio::test(flavor = "multi_thread")]
async fn media_tracks_become_renditions() {
    let farm = Farm::builder().start().await;
    let source = many_tracks(farm.dir.path(), 14);
    let (job, recording) = made(&farm, &source, json!({ "profile": profile(json!({})) })).await;
    let expected = picture(350).sound(48_000).sound(44_100).sound(44_100).texts(2);
    let played = watch(&farm.client, &recording, &expected).await;
    let sounds: Vec<_> = played
        .audio
        .iter()
        .chain(&played.more_audio)
        .map(|track| track.media.as_ref().unwrap())
        .map(|media| {
            (media.name.as_str(), media.language.as_deref().unwrap(), media.default, media.autoselect)
        })
        .collect();
    assert_eq!(
        sounds,
        [
            ("English", "en", true, true),
            ("Spanish", "es", false, true),
            ("The makers talk", "en", false, false),
        ]
    );
    let texts: Vec<_> = played
        .text
        .iter()
        .map(|text| (text.media.name.as_str(), text.media.autoselect, text.media.forced, text.lengths.len()))
        .collect();
    assert_eq!(texts, [("German", true, false, 7), ("German (2)", true, true, 7)]);
    assert_eq!(
        cues(&played.text[0].segments),
        [
            (1.0, 3.5, "<b>Bold <i>both</i></b> alert(1)\n1 &lt; 2 &amp; c --&gt; d".to_owned()),
            // FFmpeg lets it last until the next.
            (5.0, 5.5, "Backwards".to_owned()),
            (5.5, 6.5, "Over the cut".to_owned()),
            (11.0, 14.0, "Without end".to_owned()),
        ]
    );
    // Shown in every segment it reaches into, and in no other.
    let with = |what: &str| {
        let segments = played.text[0].segments.iter().enumerate();
        segments.filter(|(_, text)| text.contains(what)).map(|(n, _)| n).collect::<Vec<_>>()
    };
    assert_eq!((with("Over the cut"), with("Without end")), (vec![2, 3], vec![5, 6]));
    assert_eq!(cues(&played.text[1].segments), [(1.0, 3.0, "Shown once".to_owned())]);
    assert_eq!(job["result"]["plan"]["warnings"], json!([]));
    let right = json!({"name": "subtitles", "cues": 4, "left_out": 0, "note": null});
    assert_eq!(job["result"]["subtitles"][0], right);
    let kinds: Vec<&str> =
        recording["renditions"].as_array().unwrap().iter().map(|rung| text(rung, "kind")).collect();
    assert_eq!(kinds, ["video", "audio", "audio", "audio", "text", "text"]);

    the_manifest_has_them_too(&farm, &played, &expected).await;
    farm.stop().await;
}

/// From the api, and from the store alone.
async fn the_manifest_has_them_too(farm: &Farm, played: &Playback, expected: &Expected) {
    let bucket = Bucket::of(farm).await;
    let stored = bucket.url("manifest.mpd");
    demuxed(&stored, expected);
    for manifest in [&played.dash_url, &stored] {
        assert_eq!(languages(manifest, "audio"), ["en", "es", "en"]);
        assert_eq!(languages(manifest, "subtitle"), ["de", "de"]);
        let written = farm.client.text(manifest).await;
        for role in ["commentary", "subtitle", "forced-subtitle"] {
            assert_eq!(written.matches(&format!("value=\"{role}\"")).count(), 1, "{written}");
        }
        for (number, text) in played.text.iter().enumerate() {
            assert_eq!(read(manifest, number), cues(&text.segments), "text {number} of {manifest}");
        }
    }
    let listed = languages(&played.url, "audio");
    assert!(["en", "es"].iter().all(|tag| listed.iter().any(|listed| listed == tag)), "{listed:?}");
}

/// A file whose times begin at seven seconds, and a part of it.
#[tokio::test]
async fn media_tracks_of_text_keep_their_place() {
    let farm = Farm::builder().start().await;
    let source = many_tracks(farm.dir.path(), 14);
    let late = farm.dir.path().join("late.mkv");
    let map = ["-i", source.to_str().unwrap(), "-map", "0:v", "-map", "0:a:0", "-map", "0:s:0"];
    ffmpeg(&[&map[..], &["-c", "copy", "-output_ts_offset", "7"]].concat(), &late);
    let first: Vec<(f64, f64)> = read(late.to_str().unwrap(), 0).iter().map(|cue| (cue.0, cue.1)).collect();
    assert!(first.contains(&(8.0, 10.5)), "it was made as it was meant: {first:?}");
    for (edit, frames, right) in [
        (json!({}), 350, vec![(1.0, 3.5), (5.0, 5.5), (5.5, 6.5), (11.0, 14.0)]),
        (json!({"start": 2.0, "end": 12.0}), 250, vec![(0.0, 1.5), (3.0, 3.5), (3.5, 4.5), (9.0, 10.0)]),
        // Between two frames.
        (json!({"start": 5.99, "end": 12.01}), 151, vec![(0.0, 0.51), (5.01, 6.02)]),
    ] {
        let (_, recording) = made(&farm, &late, json!({ "profile": profile(json!({})), "edit": edit })).await;
        let played = watch(&farm.client, &recording, &picture(frames).sound(48_000).texts(1)).await;
        let found = cues(&played.text[0].segments);
        assert_eq!(found.len(), right.len(), "{edit}: {found:?}");
        for (cue, right) in found.iter().zip(right) {
            let apart = (cue.0 - right.0).abs().max((cue.1 - right.1).abs());
            assert!(apart <= 0.04, "{edit}: {cue:?} is not at {right:?}");
        }
    }
    farm.stop().await;
}

/// One text has a NUL in it, one is longer than anybody reads, and one is so long that FFmpeg gives up.
#[tokio::test]
async fn media_tracks_of_hostile_text_are_bounded() {
    let farm = Farm::builder().start().await;
    let dir = farm.dir.path();
    let (clip, plain) = (media::clip(dir, 9, "640x360"), dir.join("plain.srt"));
    let cue = |n: usize, text: &str| format!("{n}\n00:00:0{n},000 --> 00:00:0{n},800\n{text}\n\n");
    let long = [cue(1, "Before QQQQ after"), cue(3, &"x".repeat(100_000)), cue(5, "Good")].concat();
    std::fs::write(&plain, long + &cue(7, &"y".repeat(1_050_000)) + &cue(8, "Lost")).unwrap();
    let source = dir.join("hostile.mkv");
    let inputs = ["-i", clip.to_str().unwrap(), "-i", plain.to_str().unwrap()];
    ffmpeg(&[&inputs[..], &["-c", "copy", "-c:a", "flac"]].concat(), &source);
    let mut bytes = std::fs::read(&source).unwrap();
    let at = bytes.windows(4).position(|four| four == b"QQQQ").unwrap();
    bytes[at..at + 4].copy_from_slice(b"\0\x01-\xff");
    std::fs::write(&source, bytes).unwrap();

    let (job, recording) = made(&farm, &source, json!({ "profile": profile(json!({})) })).await;
    let played = watch(&farm.client, &recording, &picture(225).sound(48_000).texts(1)).await;
    let [text_track] = &played.text[..] else { panic!("one text") };
    let right =
        [(1.0, 1.8, "Before".to_owned()), (3.0, 3.8, "x".repeat(1000)), (5.0, 5.8, "Good".to_owned())];
    assert_eq!(cues(&text_track.segments), right);
    assert!(text_track.segments.iter().all(|segment| segment.len() < 20_000));
    let kept = &job["result"]["subtitles"][0];
    assert!(kept["cues"] == 3 && text(kept, "note").contains("FFmpeg ended"), "{kept}");
    farm.stop().await;
}

fn picture(frames: usize) -> Expected {
    Expected::video((25, 1), frames, &[("only", 320, 180)])
}
