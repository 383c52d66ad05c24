//! Looks into a source: ffprobe's description, then every packet, because headers lie.

mod answer;
mod timing;

use std::collections::BTreeMap;
use std::ops::Range;

use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::probe::{AudioStream, Probe, TextStream, Transfer, UnsaidColours, VideoStream};
use reelmill_shared::media::tags;
use reelmill_shared::media::tracks::{self, Role};
use serde::Deserialize;

pub use self::answer::Answer;
use self::timing::{Declared, Timing};

/// What `ffprobe -show_format -show_streams` prints, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
pub struct Described {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Option<Format>,
}

#[derive(Debug, Clone, Deserialize)]
struct Format {
    format_name: String,
    start_time: Option<String>,
    duration: Option<String>,
    bit_rate: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Stream {
    index: u32,
    codec_type: Option<String>,
    codec_name: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    sample_aspect_ratio: Option<String>,
    pix_fmt: Option<String>,
    field_order: Option<String>,
    color_transfer: Option<String>,
    color_primaries: Option<String>,
    color_space: Option<String>,
    r_frame_rate: Option<String>,
    avg_frame_rate: Option<String>,
    time_base: Option<String>,
    start_time: Option<String>,
    duration: Option<String>,
    sample_rate: Option<String>,
    channels: Option<u32>,
    #[serde(default)]
    disposition: BTreeMap<String, i32>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Clone, Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

/// Packets of one track, as the scan found them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scanned {
    /// Presentation times in the track's time base, in file order.
    pub times: Vec<i64>,
    /// End of the latest packet.
    pub end: Option<i64>,
    /// Time of the latest keyframe, or of the first packet.
    key: Option<i64>,
    /// The longest that it took from one to the next.
    key_gap: i64,
}

/// Longest hole between two frames, in seconds. Beyond it a constant-rate output is mostly copies of one picture.
const MAX_GAP_SECONDS: f64 = 600.0;
/// A container that declares more than this beyond its last packet was cut off.
const MISSING_SECONDS: f64 = 1.0;
/// Pixels flatter or taller than this are a broken header.
const MAX_PIXEL_ASPECT: f64 = 10.0;
/// Subtitles that are text. The others are pictures of text.
const TEXT_CODECS: [&str; 6] = ["subrip", "srt", "ass", "ssa", "webvtt", "mov_text"];

impl Described {
    /// Reads ffprobe's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, TaskError> {
        serde_json::from_slice(json).map_err(|error| TaskError::internal("reading ffprobe's answer", error))
    }

    /// Tracks whose packets the scan should keep: the picture and the sound.
    pub fn wanted(&self) -> Vec<u32> {
        self.video().into_iter().chain(self.audio()).map(|stream| stream.index).collect()
    }

    fn video(&self) -> Option<&Stream> {
        let pictures = |stream: &&Stream| {
            stream.codec_type.as_deref() == Some("video")
                && stream.disposition.get("attached_pic") != Some(&1)
        };
        let default = self.streams.iter().filter(pictures).find(|s| s.disposition.get("default") == Some(&1));
        default.or_else(|| self.streams.iter().find(pictures))
    }

    fn audio(&self) -> impl Iterator<Item = &Stream> {
        let mut found: Vec<&Stream> =
            self.streams.iter().filter(|stream| stream.codec_type.as_deref() == Some("audio")).collect();
        // The default track first, else as in the file.
        found.sort_by_key(|stream| stream.disposition.get("default") != Some(&1));
        found.into_iter()
    }

    /// What the header says of the length, in seconds.
    pub fn declared_seconds(&self) -> Option<f64> {
        number(self.format.as_ref()?.duration.as_deref())
    }

    /// True where the packets of the picture and of the default sound go on for so many seconds.
    pub fn reach(&self, packets: &BTreeMap<u32, Scanned>, seconds: f64) -> bool {
        let start = self.format.as_ref().and_then(|format| number(format.start_time.as_deref()));
        self.video().into_iter().chain(self.audio().next()).all(|stream| {
            let end = packets.get(&stream.index).and_then(|scanned| scanned.end);
            end.is_some_and(|end| end as f64 * stream.tick() - start.unwrap_or(0.0) >= seconds)
        })
    }

    /// The same as [`Described::probe`] from the packets of the first seconds, the header believed in for the rest. `None` where there
    /// is anything odd about it.
    pub fn glance(&self, packets: BTreeMap<u32, Scanned>, size_bytes: u64) -> Option<Probe> {
        let seconds = self.declared_seconds()?;
        let mut begun = self.clone();
        begun.streams.iter_mut().for_each(|stream| stream.duration = None);
        let mut probe = begun.probe(packets, size_bytes).ok()?;
        probe.duration_seconds = seconds;
        // Where the keyframes are is not known yet.
        probe.video.iter_mut().for_each(|video| {
            (video.end_seconds, video.keyframe_gap_seconds) = (seconds, seconds);
        });
        probe.audio.iter_mut().for_each(|audio| audio.end_seconds = Some(seconds));
        Some(probe)
    }

    /// Puts description and scan together, and refuses what cannot be used.
    pub fn probe(&self, mut packets: BTreeMap<u32, Scanned>, size_bytes: u64) -> Result<Probe, TaskError> {
        let format = self
            .format
            .as_ref()
            .ok_or_else(|| TaskError::fatal(Reason::NotMedia, "the source is not a video or audio file"))?;
        let start = number(format.start_time.as_deref()).unwrap_or(0.0);
        let mut warnings = vec![];
        let video = match self.video() {
            Some(stream) => Some(video_stream(stream, packets.remove(&stream.index), start, &mut warnings)?),
            None => None,
        };
        let audio: Vec<AudioStream> =
            self.audio().map(|stream| audio_stream(stream, packets.get(&stream.index), start)).collect();
        if video.is_none() && audio.is_empty() {
            return Err(TaskError::fatal(
                Reason::NotMedia,
                "the source has neither a video nor an audio track",
            ));
        }
        let ends = video.iter().map(|v| v.end_seconds).chain(audio.iter().filter_map(|a| a.end_seconds));
        let duration = ends.fold(0.0, f64::max);
        let duration =
            if duration > 0.0 { duration } else { number(format.duration.as_deref()).unwrap_or(0.0) };
        if duration <= 0.0 {
            return Err(TaskError::fatal(Reason::Damaged, "the source holds no media that lasts any time"));
        }
        let subtitles: Vec<&Stream> =
            self.streams.iter().filter(|s| s.codec_type.as_deref() == Some("subtitle")).collect();
        let text: Vec<TextStream> = subtitles.iter().filter_map(|stream| text_stream(stream)).collect();
        let pictures = subtitles.len() - text.len();
        if pictures > 0 {
            warnings.push(format!(
                "{pictures} of {} subtitle tracks are left out: they are pictures, and only text can become WebVTT",
                subtitles.len()
            ));
        }
        Ok(Probe {
            format: format.format_name.clone(),
            duration_seconds: duration,
            size_bytes,
            bitrate: format.bit_rate.as_deref().and_then(|rate| rate.parse().ok()),
            video,
            audio,
            subtitles: subtitles.len() as u32,
            text,
            tags: tags::known(&format.tags),
            warnings,
        })
    }
}

fn video_stream(
    stream: &Stream,
    scanned: Option<Scanned>,
    start: f64,
    warnings: &mut Vec<String>,
) -> Result<VideoStream, TaskError> {
    let (Some(width), Some(height)) =
        (stream.width.filter(|side| *side > 0), stream.height.filter(|side| *side > 0))
    else {
        return Err(TaskError::fatal(
            Reason::Damaged,
            "the video track does not say how large its picture is",
        ));
    };
    let tick = stream.tick();
    let scanned = scanned.filter(|scanned| !scanned.times.is_empty()).ok_or_else(|| {
        TaskError::fatal(Reason::Damaged, "the video track holds no frames; the file may be cut off")
    })?;
    let interlaced = matches!(stream.field_order.as_deref(), Some("tt" | "bb" | "tb" | "bt"));
    let header = |text: &Option<String>| text.as_deref().and_then(Rate::parse);
    let (nominal, average) = (header(&stream.r_frame_rate), header(&stream.avg_frame_rate));
    let (packets, keyframe_gap) = (scanned.times.len() as u64, scanned.keyframe_gap());
    let last = scanned.times.iter().max().copied().unwrap_or(0) as f64 * tick;
    let timing = Timing::of(Declared { nominal, average, interlaced }, scanned.times, tick);
    if timing.gap > MAX_GAP_SECONDS {
        return Err(TaskError::fatal(
            Reason::LimitExceeded,
            format!(
                "the video track has a hole of {:.0} s between two frames; at most {MAX_GAP_SECONDS:.0} s are allowed",
                timing.gap
            ),
        ));
    }
    // Some containers give the last frame no length, or an absurd one.
    let frame = 1.0 / timing.rate.as_f64();
    let end = scanned
        .end
        .map_or(last + frame, |end| (end as f64 * tick).clamp(last + frame * 0.5, last + 1.0_f64.max(frame)));
    let declared = number(stream.duration.as_deref())
        .map(|duration| number(stream.start_time.as_deref()).unwrap_or(start) + duration);
    if let Some(declared) = declared.filter(|declared| *declared > end + MISSING_SECONDS.max(declared * 0.02))
    {
        return Err(TaskError::fatal(
            Reason::Damaged,
            format!(
                "the file is cut off: it declares {:.1} s of video, but its frames end at {:.1} s",
                declared - start,
                end - start
            ),
        ));
    }
    if timing.variable {
        warnings.push(format!("the frame rate varies; converted to a constant {} fps", timing.rate));
    }
    Ok(VideoStream {
        index: stream.index,
        codec: stream.codec_name.clone().unwrap_or_default(),
        width,
        height,
        sample_aspect: sample_aspect(stream.sample_aspect_ratio.as_deref()),
        rotation: rotation(stream),
        display_matrix: stream.side_data_list.iter().any(|data| data.rotation.is_some())
            || stream.tags.contains_key("rotate"),
        pixel_format: stream.pix_fmt.clone().unwrap_or_default(),
        interlaced,
        transfer: match stream.color_transfer.as_deref() {
            Some("smpte2084") => Transfer::Pq,
            Some("arib-std-b67") => Transfer::Hlg,
            _ => Transfer::Sdr,
        },
        unsaid_colours: UnsaidColours {
            primaries: is_unsaid(stream.color_primaries.as_deref()),
            matrix: is_unsaid(stream.color_space.as_deref()),
        },
        rate: timing.rate,
        variable_rate: timing.variable,
        end_seconds: end - start,
        packets,
        keyframe_gap_seconds: keyframe_gap as f64 * tick,
    })
}

fn audio_stream(stream: &Stream, scanned: Option<&Scanned>, start: f64) -> AudioStream {
    let end = scanned.and_then(|scanned| scanned.end).map(|end| end as f64 * stream.tick() - start);
    AudioStream {
        index: stream.index,
        codec: stream.codec_name.clone().unwrap_or_default(),
        sample_rate: stream.sample_rate.as_deref().and_then(|rate| rate.parse().ok()).unwrap_or(48_000),
        channels: stream.channels.unwrap_or(2),
        language: stream.language(),
        title: stream.title(),
        role: stream.role(),
        end_seconds: end,
    }
}

fn text_stream(stream: &Stream) -> Option<TextStream> {
    let codec = stream.codec_name.clone().filter(|codec| TEXT_CODECS.contains(&codec.as_str()))?;
    let (language, title, role) = (stream.language(), stream.title(), stream.role());
    Some(TextStream { index: stream.index, codec, language, title, role })
}

impl Stream {
    /// Seconds in which its times count.
    fn tick(&self) -> f64 {
        self.time_base.as_deref().and_then(Rate::parse).map_or(1e-6, Rate::as_f64)
    }
}

// All of it reaches playlists: what a file says is cleaned here.
impl Stream {
    fn language(&self) -> Option<String> {
        tracks::language_tag(self.tags.get("language")?)
    }

    fn title(&self) -> Option<String> {
        tracks::title(self.tags.get("title")?)
    }

    fn role(&self) -> Role {
        let is = |disposition: &str| self.disposition.get(disposition) == Some(&1);
        match () {
            () if is("forced") => Role::Forced,
            () if is("comment") => Role::Commentary,
            () if is("visual_impaired") => Role::Description,
            () if is("hearing_impaired") => Role::Captions,
            () => Role::Main,
        }
    }
}

/// True for a word on colours that is missing or means nothing.
fn is_unsaid(word: Option<&str>) -> bool {
    matches!(word, None | Some("unknown" | "reserved"))
}

fn sample_aspect(text: Option<&str>) -> (u32, u32) {
    let parsed = text.and_then(|text| text.split_once(':')).and_then(|(num, den)| {
        Some((num.parse::<u32>().ok()?, den.parse::<u32>().ok()?)).filter(|(num, den)| *num > 0 && *den > 0)
    });
    parsed
        .filter(|(num, den)| {
            let shape = f64::from(*num) / f64::from(*den);
            (1.0 / MAX_PIXEL_ASPECT..=MAX_PIXEL_ASPECT).contains(&shape)
        })
        .unwrap_or((1, 1))
}

/// Degrees clockwise, from the display matrix (which counts the other way round) or the older tag.
fn rotation(stream: &Stream) -> u32 {
    let matrix = stream.side_data_list.iter().find_map(|data| data.rotation).map(|angle| -angle);
    let tag = stream.tags.get("rotate").and_then(|tag| tag.parse::<f64>().ok());
    let angle = matrix.or(tag).unwrap_or(0.0).rem_euclid(360.0);
    // FFmpeg turns by right angles; anything else is drawn as it is.
    match angle.round() as i64 {
        90 => 90,
        180 => 180,
        270 => 270,
        _ => 0,
    }
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok().filter(|number: &f64| number.is_finite())
}

impl Scanned {
    /// Adds a line `stream,pts,dts,duration,size,pos,flags` of the scan; returns where in the file a packet lies that counts. Packets without
    /// a time or to be discarded do not; old containers tell only when a frame is decoded, which is as regular.
    pub fn add(all: &mut BTreeMap<u32, Scanned>, line: &str) -> Option<Range<u64>> {
        let mut fields = line.trim().split(',');
        let index = fields.next()?.parse().ok()?;
        let mut number = || fields.next().and_then(|field| field.parse::<i64>().ok());
        let (shown, decoded, duration) = (number(), number(), number());
        let (size, position) = (number(), number());
        let time = shown.or(decoded)?;
        let scanned = all.get_mut(&index)?;
        let flags = fields.next().unwrap_or_default();
        if flags.contains('D') {
            return None;
        }
        scanned.times.push(time);
        let key = scanned.key.get_or_insert(time);
        if flags.contains('K') {
            scanned.key_gap = scanned.key_gap.max(time.saturating_sub(*key));
            *key = time;
        }
        let end = time.saturating_add(duration.unwrap_or(0).max(0));
        scanned.end = Some(scanned.end.map_or(end, |known| known.max(end)));
        let (size, position) = (u64::try_from(size?).ok()?, u64::try_from(position?).ok()?);
        Some(position..position.checked_add(size)?)
    }

    /// Longest time from a keyframe to the next, or to the end.
    fn keyframe_gap(&self) -> i64 {
        let last = self.end.zip(self.key).map_or(0, |(end, key)| end.saturating_sub(key));
        self.key_gap.max(last)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scan(times: impl IntoIterator<Item = i64>, duration: i64) -> BTreeMap<u32, Scanned> {
        let mut all = BTreeMap::from([(0, Scanned::default())]);
        for time in times {
            Scanned::add(&mut all, &format!("0,{time},N/A,{duration},9,N/A,K_"));
        }
        all
    }

    fn described(extra: serde_json::Value) -> Described {
        let mut stream = json!({
            "index": 0, "codec_type": "video", "codec_name": "h264", "width": 640, "height": 360,
            "time_base": "1/1000", "r_frame_rate": "25/1", "avg_frame_rate": "25/1"
        });
        stream.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let body =
            json!({ "format": { "format_name": "matroska,webm", "start_time": "0.0" }, "streams": [stream] });
        Described::parse(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn dropped_frames_are_a_variable_rate_on_the_same_grid() {
        let times = (0..200).filter(|n| n % 7 != 3 && n % 11 != 5).map(|n| n * 40);
        let found = described(json!({"avg_frame_rate": "19/1"}));
        let video = found.probe(scan(times, 40), 1).unwrap().video.unwrap();
        assert_eq!((video.rate, video.variable_rate), (Rate { num: 25, den: 1 }, true));
        // Frame 199 is one of those dropped.
        assert_eq!(video.end_seconds, 7.96);
    }

    #[test]
    fn frames_without_a_time_of_their_own_count_when_they_are_decoded() {
        let mut all = BTreeMap::from([(0, Scanned::default())]);
        for line in ["0,N/A,0,1,9,7,K_", "0,2,1,1,9,7,__", "0,N/A,2,1,9,7,__", "0,N/A,N/A,1,9,7,__"] {
            Scanned::add(&mut all, line);
        }
        assert_eq!(all[&0].times, [0, 2, 2]);
        assert_eq!(Scanned::add(&mut all, "0,3,3,1,100,4096,K_"), Some(4096..4196));
        assert_eq!(Scanned::add(&mut all, "0,4,4,1,100,4096,_D"), None);
        assert_eq!(Scanned::add(&mut all, "1,4,4,1,100,4096,__"), None, "another track");
    }

    #[test]
    fn a_day_between_two_frames_and_a_cut_file_are_refused() {
        let error = described(json!({})).probe(scan([0, 40, 86_400_000], 40), 1).unwrap_err();
        assert_eq!(error.reason, Reason::LimitExceeded);
        let found = described(json!({"duration": "10.0"}));
        let error = found.probe(scan((0..100).map(|n| n * 40), 40), 1).unwrap_err();
        assert!(error.reason == Reason::Damaged && error.message.contains("10.0 s"), "{error}");
    }

    #[test]
    fn the_longest_time_between_keyframes() {
        let gap = |keys: &[i64]| {
            let mut all = BTreeMap::from([(0, Scanned::default())]);
            for time in (0..1000).step_by(40) {
                let flags = if keys.contains(&time) { "K_" } else { "__" };
                Scanned::add(&mut all, &format!("0,{time},N/A,40,9,N/A,{flags}"));
            }
            described(json!({})).probe(all, 1).unwrap().video.unwrap().keyframe_gap_seconds
        };
        assert_eq!((gap(&[0, 200, 600, 800]), gap(&[0, 400]), gap(&[400, 600, 800])), (0.4, 0.6, 0.4));
        assert_eq!((gap(&[0]), gap(&[])), (1.0, 1.0), "all of it");
    }

    #[test]
    fn every_track_that_is_led_must_reach_as_far() {
        let sound = |index: u32| json!({ "index": index, "codec_type": "audio", "time_base": "1/1000" });
        let body = json!({
            "format": { "format_name": "mov,mp4", "start_time": "1.0" },
            "streams": [{ "index": 0, "codec_type": "video", "time_base": "1/1000" }, sound(1), sound(2)],
        });
        let found = Described::parse(body.to_string().as_bytes()).unwrap();
        let until = |picture: i64, sound: i64| {
            let scanned = |end| Scanned { end: Some(end), ..Scanned::default() };
            BTreeMap::from([(0, scanned(picture)), (1, scanned(sound)), (2, Scanned::default())])
        };
        assert!(found.reach(&until(31_000, 31_000), 30.0));
        assert!(!found.reach(&until(30_900, 31_000), 30.0) && !found.reach(&until(31_000, 30_900), 30.0));
        assert!(!found.reach(&BTreeMap::new(), 30.0));
    }

    #[test]
    fn tracks_tell_language_name_and_purpose() {
        let stream = |index: u32, kind: &str, codec: &str, tags: serde_json::Value, role: &str| {
            json!({ "index": index, "codec_type": kind, "codec_name": codec, "time_base": "1/1000", "tags": tags,
                "disposition": { "default": u8::from(index == 1), role: 1 } })
        };
        let body = json!({
            "format": { "format_name": "matroska,webm", "start_time": "0.0" },
            "streams": [
                stream(0, "audio", "aac", json!({"language": "ger", "title": "Ton\nspur \"1\""}), "comment"),
                stream(1, "audio", "aac", json!({"language": "\"\n#EXT"}), "dub"),
                stream(2, "subtitle", "subrip", json!({"language": "eng"}), "forced"),
                stream(3, "subtitle", "hdmv_pgs_subtitle", json!({}), "dub"),
                stream(4, "subtitle", "mov_text", json!({"language": "und"}), "hearing_impaired"),
            ],
        });
        let found = Described::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(found.wanted(), [1, 0], "all sound, the default one first");
        let mut packets = BTreeMap::from([(0, Scanned::default())]);
        Scanned::add(&mut packets, "0,0,0,1000,K_");
        let probe = found.probe(packets, 1).unwrap();
        let audio: Vec<_> =
            probe.audio.iter().map(|it| (it.index, it.language.as_deref(), it.role)).collect();
        assert_eq!(audio, [(1, None, Role::Main), (0, Some("de"), Role::Commentary)]);
        assert_eq!((probe.audio[1].title.as_deref(), probe.audio[0].end_seconds), (Some("Ton spur 1"), None));
        let text: Vec<_> = probe.text.iter().map(|it| (it.index, it.language.as_deref(), it.role)).collect();
        assert_eq!(text, [(2, Some("en"), Role::Forced), (4, None, Role::Captions)]);
        assert_eq!((probe.subtitles, probe.warnings.len()), (3, 1));
        assert!(probe.warnings[0].starts_with("1 of 3 subtitle tracks are left out: they are pictures"));
    }

    #[test]
    fn wild_shapes_and_odd_angles_are_ignored() {
        assert_eq!(sample_aspect(Some("2000:1")), (1, 1));
        assert_eq!(sample_aspect(Some("16:11")), (16, 11));
        assert_eq!(sample_aspect(Some("0:1")), (1, 1));
        let found = described(json!({"side_data_list": [{"rotation": -90}]}));
        assert_eq!(rotation(&found.streams[0]), 90);
        assert_eq!(rotation(&described(json!({"tags": {"rotate": "13"}})).streams[0]), 0);
    }
}
