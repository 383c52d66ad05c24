//! One FFmpeg a broadcast: decodes once what comes through a pipe, and writes every rung and the sound through pipes of their own,
//! a fragment a frame.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::media::grid::Grid;
use reelmill_shared::media::live::plan::{LiveAudio, LivePlan};
use reelmill_shared::media::profile::{Preset, RateControl};

use super::super::encoders::{self, Wish};
use super::{Args, DECODERS, MAX_PIXELS, MAX_STREAMS, ffmpeg_start, file_url, fragmented_mp4, guarded_input};

/// Where a broadcast comes in and goes out.
#[derive(Debug)]
pub struct LiveFiles<'a> {
    pub input: &'a Path,
    /// FFmpeg's name of the container that comes in.
    pub format: &'static str,
    /// The picture's index in it, where there is one.
    pub video: Option<u32>,
    /// Its size as it is stored when the run begins.
    pub stored_size: (u32, u32),
    /// The sound's.
    pub audio: Option<u32>,
    /// The plan has one rung, and that is the picture as it comes.
    pub passed: bool,
    /// One a track of the plan, in their order.
    pub outputs: &'a [PathBuf],
}

/// The command line of a run. What the plan has and the publisher does not send is made up: a black picture would deceive, so the
/// picture must be there; silence stands for sound.
pub fn live(plan: &LivePlan, files: &LiveFiles<'_>, encoder: Encoder, threads: u32) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    let threads_word = threads.to_string();
    args.extend(encoders::device(encoder));
    args.add(["-filter_threads", "1", "-filter_complex_threads", "1"]);
    // Threads over slices: over frames, each thread would hold a frame back.
    args.add(["-threads", &threads_word, "-thread_type", "slice", "-flags", "low_delay"]);
    args.add(["-protocol_whitelist", "file,pipe", "-codec_whitelist", DECODERS]);
    args.add(["-max_pixels", MAX_PIXELS, "-max_streams", MAX_STREAMS]);
    // Its beginning was looked into: there is nothing to wait for. (`nobuffer` would drop what is looked at, up to the next keyframe.)
    args.add(["-probesize", "5M", "-analyzeduration", "500000", "-fpsprobesize", "0"]);
    // A graph that is made anew for pictures of another size would begin its count of frames anew, with copies of the first.
    args.add(["-noautorotate", "-reinit_filter:v", "0"]);
    args.add(["-f", files.format, "-i"]);
    args.0.push(file_url(files.input));
    let silence = plan.audio.as_ref().filter(|_| files.audio.is_none());
    if let Some(audio) = silence {
        args.add(["-f", "lavfi", "-i", &format!("anullsrc=r={}:cl=stereo", audio.sample_rate)]);
    }
    if let Some(video) = files.video.filter(|_| !plan.rungs.is_empty() && !files.passed) {
        args.add(["-filter_complex", &graph(plan, (video, files.stored_size), encoder)]);
    }
    let grid = Grid {
        rate: plan.cadence.rate,
        gop_frames: plan.cadence.gop_frames,
        segment_gops: plan.cadence.segment_gops,
        frames: 0,
    };
    let mut outputs = files.outputs.iter();
    for (index, (rung, output)) in plan.rungs.iter().zip(outputs.by_ref()).enumerate() {
        if let Some(video) = files.video.filter(|_| files.passed) {
            args.add(["-map", &format!("0:{video}"), "-c:v", "copy"]);
            fragment_a_frame(&mut args, output);
            continue;
        }
        args.add(["-map", &format!("[r{index}]")]);
        args.extend(&encoders::live_output(&Wish {
            encoder,
            preset: Preset::Veryfast,
            rate_control: RateControl::Constant { bitrate: rung.bitrate, buffer: rung.buffer },
            grid,
            threads,
            tone_mapped: false,
            seconds: 0.0,
        }));
        fragment_a_frame(&mut args, output);
    }
    if let Some((audio, output)) = plan.audio.as_ref().zip(outputs.next()) {
        sound(&mut args, audio, files.audio);
        fragment_a_frame(&mut args, output);
    }
    args.0
}

/// Makes a picture, within a box, of the first frame of `input`, which is a file of ours.
pub fn live_thumbnail(input: &Path, (width, height): (u32, u32), output: &Path) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1", "-filter_threads", "1"]);
    guarded_input(&mut args, input);
    let fit = format!(
        "scale=w={width}:h={height}:force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bilinear:out_range=full,\
         format=yuvj420p,setsar=1"
    );
    args.add(["-map", "0:v:0", "-frames:v", "1", "-vf", &fit]);
    args.add(["-c:v", "mjpeg", "-threads", "1", "-q:v", "5", "-fflags", "+bitexact", "-f", "image2"]);
    args.add(["-update", "1"]);
    args.0.push(file_url(output));
    args.0
}

/// Brought to the grid, whatever the publisher's clock does, and to the size of each rung, with bars where its shape is another.
fn graph(plan: &LivePlan, (video, stored): (u32, (u32, u32)), encoder: Encoder) -> String {
    // The only filter here that takes pictures as they come; it hands on untouched what has this size.
    let mut graph = format!(
        "[0:{video}]scale=w={}:h={}:flags=fast_bilinear,fps=fps={}:start_time=0:round=near",
        stored.0, stored.1, plan.cadence.rate
    );
    let _ = write!(graph, ",split={}", plan.rungs.len());
    for index in 0..plan.rungs.len() {
        let _ = write!(graph, "[s{index}]");
    }
    for (index, rung) in plan.rungs.iter().enumerate() {
        let (width, height) = (rung.width, rung.height);
        let _ = write!(
            graph,
            ";[s{index}]scale=w={width}:h={height}:force_original_aspect_ratio=decrease:force_divisible_by=2\
             :flags=fast_bilinear,pad=w={width}:h={height}:x=-1:y=-1:color=black,format=yuv420p,setsar=1{}[r{index}]",
            encoders::upload(encoder)
        );
    }
    graph
}

/// Sound that starts at zero and has no holes: what is missing is silence. Where a publisher changes its sound's form the filter begins
/// anew, with silence for all the time before: the run ends then, because the sound is too far ahead.
fn sound(args: &mut Args, audio: &LiveAudio, stream: Option<u32>) {
    let source = stream.map_or_else(|| "1:0".to_owned(), |stream| format!("0:{stream}"));
    let rate = audio.sample_rate.to_string();
    args.add(["-map", &source, "-af", "aresample=async=1:first_pts=0"]);
    args.add(["-c:a", "aac", "-b:a", &audio.bitrate.to_string(), "-ac", "2", "-ar", &rate]);
}

fn fragment_a_frame(args: &mut Args, output: &Path) {
    args.add(["-flush_packets", "1"]);
    fragmented_mp4(args, output, "frag_every_frame");
}
