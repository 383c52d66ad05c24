//! The command line of a span of sound.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use reelmill_shared::job::task::{AudioSpec, LoudnessSpec};
use reelmill_shared::media::grid::AAC_FRAME;

use super::{Approach, ffmpeg_start, fragmented_mp4, guarded_input};
use crate::ffmpeg::file_url;

/// AAC frames of silence that are encoded before the sound and dropped again, about a second: the first real frame then has a
/// past, and every frame covers whole thousands and twenty-fours of samples from zero.
pub const AUDIO_LEAD: u64 = 48;
/// AAC frames behind the sound that are encoded and dropped: the transform of the last frame reaches into the next one, which
/// must be there as the next span has it.
pub const AUDIO_TAIL: u64 = 4;
/// FFmpeg's AAC encoder puts one frame of priming before everything.
pub const AUDIO_PRIMING: u64 = 1;

/// How much of the end of a track tells its loudness: the meter speaks ten times a second.
const METERED_SECONDS: f64 = 0.5;

/// How long before the second it needs an encode of sound begins to read.
const SEEK_MARGIN_SECONDS: f64 = 2.0;

/// Where the files of an audio encode are.
#[derive(Debug)]
pub struct AudioFiles<'a> {
    pub input: &'a Path,
    pub output: &'a Path,
    /// Where FFmpeg says when the first sound it decoded begins, as `framecrc`.
    pub witness: &'a Path,
}

/// What of a track a span is made from, in samples of the output.
#[derive(Debug, PartialEq, Eq)]
pub struct AudioTimes {
    /// The whole second of the source before it: whole in every sample rate, so that resampling has the same phase in every span.
    pub second: u64,
    /// Samples from there to the lead.
    skip: u64,
    /// Samples of silence in front of what has no past.
    silence: u64,
    /// Samples encoded, lead and tail among them.
    pub total: u64,
}

impl AudioTimes {
    /// The times of a span and its lead: sound where there is some before it, silence at the start of the track.
    pub fn of(spec: &AudioSpec) -> Self {
        let (span, rate) = (spec.span(), u64::from(spec.grid.sample_rate));
        let offset = (spec.offset_ms * rate + 500) / 1000;
        let first = offset + span.first_frame(&spec.grid) * AAC_FRAME;
        let lead = AUDIO_LEAD * AAC_FRAME;
        let begin = first.saturating_sub(lead);
        let second = begin / rate;
        Self {
            second,
            skip: begin - second * rate,
            silence: lead - (first - begin),
            total: lead + (span.frames(&spec.grid) + AUDIO_TAIL) * AAC_FRAME,
        }
    }
}

/// The filters that make the samples to be encoded of a track that is read from the second before them.
fn samples(spec: &AudioSpec, times: &AudioTimes) -> String {
    let (rate, total) = (spec.grid.sample_rate, times.total);
    // Holes in the timestamps become silence, and the sound starts at the second it should: late tracks behind silence.
    format!(
        "aresample={rate}:async=1:first_pts={first},\
         aformat=sample_rates={rate}:channel_layouts=stereo,atrim=start_sample={skip},asetpts=N/SR/TB,\
         adelay=delays={silence}S:all=1,apad=whole_len={total},atrim=end_sample={total}",
        first = times.second * u64::from(spec.source_rate),
        skip = times.skip,
        silence = times.silence,
    )
}

/// Measures the loudness of tracks as they are encoded. What is known at the end of each is written, as `key=value`, to the file of
/// its place in `outputs`: names in the working directory.
pub fn loudness(spec: &LoudnessSpec, input: &Path, outputs: &[String]) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1", "-sn", "-dn"]);
    let times: Vec<AudioTimes> = spec.tracks.iter().map(AudioTimes::of).collect();
    if times.iter().any(|times| times.second > 0) {
        args.add(["-copyts", "-start_at_zero"]);
    }
    guarded_input(&mut args, input);
    let mut graphs = vec![];
    for (number, ((track, times), output)) in spec.tracks.iter().zip(&times).zip(outputs).enumerate() {
        let mut graph = format!("[0:{}]", track.stream);
        if times.second > 0 {
            let _ = write!(graph, "atrim=start={},", times.second);
        }
        graph.push_str(&samples(track, times));
        // The lead is no part of it. Each tenth of a second tells what is known so far: the last ones are enough.
        let lead = AUDIO_LEAD * AAC_FRAME;
        let last = (times.total - lead) as f64 / f64::from(track.grid.sample_rate) - METERED_SECONDS;
        let _ = write!(
            graph,
            ",atrim=start_sample={lead},asetpts=N/SR/TB,ebur128=peak=true:metadata=1:framelog=verbose,\
             aselect=gte(t\\,{last:.3}),ametadata=mode=print:file={output}[m{number}]"
        );
        graphs.push(graph);
    }
    args.add(["-filter_complex", &graphs.join(";")]);
    for number in 0..graphs.len() {
        args.add(["-map", &format!("[m{number}]")]);
    }
    args.add(["-f", "null", "-"]);
    args.0
}

/// Encodes a span of one audio track to AAC-LC stereo behind the lead, louder by `gain_db`.
pub fn audio(
    spec: &AudioSpec,
    files: &AudioFiles<'_>,
    approach: Approach,
    gain_db: Option<f64>,
) -> Vec<OsString> {
    let times = AudioTimes::of(spec);
    let (rate, total) = (spec.grid.sample_rate, times.total);
    let mut args = ffmpeg_start();
    args.add(["-threads", "1", "-sn", "-dn"]);
    let later = times.second > 0;
    if later {
        args.add(["-copyts", "-start_at_zero"]);
    }
    if later && approach == Approach::Seek {
        // The seek ends at a keyframe of the picture, and sound may lie a little behind the picture beside it.
        let seconds = (times.second as f64 - SEEK_MARGIN_SECONDS).max(0.0);
        args.add(["-noaccurate_seek", "-ss", &format!("{seconds}")]);
    }
    guarded_input(&mut args, files.input);
    let mut graph = format!("[0:{}]", spec.stream);
    if later {
        let second = times.second;
        let _ = write!(graph, "asplit[w][s];[w]atrim=end_sample=1[first];[s]atrim=start={second},");
    }
    graph.push_str(&samples(spec, &times));
    if let Some(gain) = gain_db {
        let _ = write!(graph, ",volume=volume={gain:.2}dB:precision=float");
    }
    graph.push_str("[sound]");
    args.add(["-filter_complex", &graph, "-map", "[sound]", "-threads", "1"]);
    args.add(["-c:a", "aac", "-b:a", &spec.bitrate.to_string(), "-flags:a", "+bitexact"]);
    let ceiling = spec.bitrate as f64 / 8.0 * (total as f64 / f64::from(rate) + 30.0) * 2.0;
    args.add(["-fs", &format!("{}", ceiling as u64)]);
    // In microseconds: the size of the pieces we read, nothing more.
    args.add(["-frag_duration", "2000000"]);
    fragmented_mp4(&mut args, files.output, "frag_discont");
    if later {
        args.add(["-map", "[first]", "-f", "framecrc"]);
        args.0.push(file_url(files.witness));
    }
    args.0
}

#[cfg(test)]
pub(super) mod tests {
    use reelmill_shared::ids::{SetId, SourceId};
    use reelmill_shared::media::grid::{AudioGrid, AudioSpan};
    use reelmill_shared::media::tracks::Role;

    use super::*;

    pub(in crate::ffmpeg::argv) fn spec(span: Option<AudioSpan>) -> AudioSpec {
        let starts = (0..20).map(|n| n * 281).collect();
        AudioSpec {
            source: SourceId::new(),
            extent: None,
            set: SetId::new(),
            rung: "audio".into(),
            position: 0,
            stream: 1,
            grid: AudioGrid { sample_rate: 48_000, frames: 5620, from: 0, starts },
            span,
            offset_ms: 0,
            source_rate: 32_000,
            bitrate: 128_000,
            language: None,
            label: None,
            role: Role::Main,
            normalise: false,
            deadline_seconds: 1,
        }
    }

    pub(in crate::ffmpeg::argv) fn measured(tracks: Vec<AudioSpec>) -> LoudnessSpec {
        LoudnessSpec { source: SourceId::new(), target: -23.0, tracks, deadline_seconds: 1 }
    }

    #[test]
    fn a_span_begins_at_a_whole_second_before_its_lead() {
        let whole = AudioTimes::of(&spec(None));
        let lead = AUDIO_LEAD * AAC_FRAME;
        let around = lead + AUDIO_TAIL * AAC_FRAME;
        assert_eq!(whole, AudioTimes { second: 0, skip: 0, silence: lead, total: around + 5620 * AAC_FRAME });
        let span = AudioSpan { segment: 5, segments: 2 };
        let later = AudioTimes::of(&spec(Some(span)));
        let begin = 5 * 281 * AAC_FRAME - lead;
        assert_eq!(later.second * 48_000 + later.skip, begin);
        assert!(later.skip < 48_000 && later.silence == 0);
        assert_eq!(later.total, around + 562 * AAC_FRAME);
    }

    #[test]
    fn a_part_of_a_track_has_the_sound_before_it_for_a_lead() {
        let part = AudioTimes::of(&AudioSpec { offset_ms: 2500, ..spec(None) });
        assert_eq!((part.second, part.silence), (1, 0));
        assert_eq!(part.second * 48_000 + part.skip + AUDIO_LEAD * AAC_FRAME, 120_000);
        let soon = AudioTimes::of(&AudioSpec { offset_ms: 500, ..spec(None) });
        assert_eq!((soon.second, soon.skip), (0, 0));
        assert_eq!(soon.silence, AUDIO_LEAD * AAC_FRAME - 24_000);
    }

    #[test]
    fn only_a_later_span_seeks() {
        let files = AudioFiles {
            input: Path::new("/s/source"),
            output: Path::new("/s/out"),
            witness: Path::new("/s/first"),
        };
        let line = |span, approach| {
            let args = audio(&spec(span), &files, approach, None);
            args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let whole = line(None, Approach::Seek);
        assert!(!whole.contains("-ss") && !whole.contains("framecrc"), "{whole}");
        let later = line(Some(AudioSpan { segment: 5, segments: 2 }), Approach::Seek);
        assert!(later.find("-ss 26 ").is_some_and(|at| at < later.find("-i file:").unwrap()), "{later}");
        assert!(later.contains("atrim=start=28,aresample=48000:async=1:first_pts=896000,"), "{later}");
        assert!(later.ends_with("-map [first] -f framecrc file:/s/first"), "{later}");
        let louder = audio(&spec(None), &files, Approach::Seek, Some(-3.456));
        let graph = louder.iter().find(|arg| arg.to_string_lossy().contains("aresample")).unwrap();
        assert!(
            graph.to_string_lossy().ends_with(",volume=volume=-3.46dB:precision=float[sound]"),
            "{graph:?}"
        );
    }

    #[test]
    fn loudness_is_measured_of_the_samples_that_are_encoded() {
        let track = |stream, offset_ms| AudioSpec { stream, offset_ms, ..spec(None) };
        let line = |tracks: Vec<AudioSpec>| {
            let files = ["l-0.txt", "l-1.txt"].map(str::to_owned);
            let args = loudness(&measured(tracks), Path::new("/s/source"), &files);
            args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let two = line(vec![track(1, 0), track(2, 0)]);
        assert!(
            two.contains("[0:1]aresample=48000") && two.contains("file=l-0.txt[m0];[0:2]aresample"),
            "{two}"
        );
        // 5,620 frames and the tail, less half a second.
        assert!(two.contains("aselect=gte(t\\,119.479)"), "{two}");
        assert!(two.ends_with("-map [m0] -map [m1] -f null -") && !two.contains("-copyts"), "{two}");
        let part = line(vec![track(1, 2500)]);
        assert!(
            part.contains("-copyts -start_at_zero") && part.contains("[0:1]atrim=start=1,aresample"),
            "{part}"
        );
    }
}
