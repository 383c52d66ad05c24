//! Command lines, built by pure functions. No name a user gave ever stands on one: inputs and outputs are files named by us,
//! streams are named by number, and every word for a codec, container, filter or preset comes from a closed list.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use reelmill_shared::job::task::{CropArea, EncodeRung, EncodeSpec};
use reelmill_shared::media::grid::{Rate, Span};
use reelmill_shared::media::probe::UnsaidColours;

use super::encoders::{self, Wish};
use super::file_url;

mod audio;
mod compare;
mod live;
mod mp4;
mod pull;
mod stills;
mod subtitles;
mod watermark;

pub use audio::{AUDIO_LEAD, AUDIO_PRIMING, AUDIO_TAIL, AudioFiles, AudioTimes, audio, loudness};
pub use compare::{CompareFiles, compare, comparison, crf, figures_file, sample, smaller};
pub use live::{LiveFiles, live, live_thumbnail};
pub use mp4::{count_frames, mp4};
pub use pull::{Address, Container, Pull, pull};
pub use stills::{Look, PictureAt, glimpse, picture, sheets, thumbnails};
pub use subtitles::{MAX_SUBTITLES, subtitles};

/// Containers that may be opened. Everything that can name other files or addresses (HLS, DASH, concat, playlists, SVG …)
/// is left out: it would let one tenant's file read another's.
const FORMATS: &str =
    "mov,matroska,avi,mpegts,mpeg,mp3,wav,flac,ogg,flv,asf,aac,mxf,ivf,mpegvideo,h264,hevc,m4v";

/// Decoders that may run. ffprobe gives a file up where any of its tracks has another: cover pictures and captions are here too.
const DECODERS: &str = "h264,hevc,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,h263,flv,vp8,vp9,av1,\
libdav1d,libaom-av1,theora,prores,dnxhd,mjpeg,ffv1,huffyuv,ffvhuff,utvideo,rawvideo,v210,wmv1,wmv2,wmv3,vc1,dvvideo,cinepak,\
svq3,rv30,rv40,aac,aac_fixed,aac_latm,mp3float,mp3,mp2float,mp2,mp1float,ac3,eac3,dca,truehd,mlp,opus,libopus,vorbis,flac,alac,\
wavpack,wmav1,wmav2,wmapro,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,gsm,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,\
pcm_s32le,pcm_s32be,pcm_u8,pcm_s8,pcm_f32le,pcm_f32be,pcm_f64le,pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,adpcm_ms,adpcm_ima_wav,\
adpcm_ima_qt,adpcm_swf,nellymoser,speex,subrip,srt,ass,ssa,webvtt,mov_text,hdmv_pgs_subtitle,pgssub,dvbsub,dvdsub,xsub,\
cc_dec,libzvbi_teletextdec,png,bmp,webp";

/// 40 megapixels: 8K and some room. Checked by the demuxer's parameters and again by every decoder.
const MAX_PIXELS: &str = "40000000";
/// Bytes a single allocation may take.
const MAX_ALLOC: &str = "268435456";
const MAX_STREAMS: &str = "32";

/// What stands before every input, for FFmpeg and ffprobe alike.
fn guarded_input(args: &mut Args, input: &Path) {
    args.add(["-protocol_whitelist", "file,pipe"]);
    args.add(["-format_whitelist", FORMATS, "-codec_whitelist", DECODERS]);
    args.add(["-max_pixels", MAX_PIXELS, "-max_streams", MAX_STREAMS]);
    args.add(["-probesize", "50M", "-analyzeduration", "10M"]);
    args.add(["-i"]);
    args.0.push(file_url(input));
}

/// How FFmpeg starts: quiet, without a terminal, telling progress on stdout twice a second.
pub(super) fn ffmpeg_start() -> Args {
    let mut args = Args::default();
    args.add(["-nostdin", "-hide_banner", "-loglevel", "level+warning", "-max_alloc", MAX_ALLOC]);
    args.add(["-progress", "pipe:1", "-nostats", "-stats_period", "0.5", "-y"]);
    args
}

/// What is asked of ffprobe.
const DESCRIBED: &str = "format=format_name,start_time,duration,bit_rate:format_tags=title,artist,album_artist,album,composer,genre,date,\
creation_time,comment,description,synopsis,copyright,show,episode_id,network,location:stream=index,codec_type,codec_name,width,height,\
sample_aspect_ratio,pix_fmt,field_order,color_transfer,color_primaries,color_space,r_frame_rate,avg_frame_rate,time_base,start_time,duration,sample_rate,\
channels:stream_disposition=default,attached_pic,comment,forced,hearing_impaired,visual_impaired:\
stream_tags=language,title,rotate:stream_side_data=rotation";

/// Asks ffprobe for container and streams as JSON.
pub fn describe(input: &Path) -> Vec<OsString> {
    let mut args = Args::default();
    args.add(["-hide_banner", "-loglevel", "error", "-max_alloc", MAX_ALLOC]);
    // Only what is read, and a line for each: a file may carry megabytes of tags.
    args.add(["-show_entries", DESCRIBED, "-of", "json"]);
    guarded_input(&mut args, input);
    args.0
}

/// Asks ffprobe for every packet, or those of the first seconds, as `stream,pts,dts,duration,size,pos,flags`.
pub fn list_packets(input: &Path, first_seconds: Option<u32>) -> Vec<OsString> {
    let mut args = Args::default();
    args.add(["-hide_banner", "-loglevel", "error", "-max_alloc", MAX_ALLOC]);
    args.add(["-show_entries", "packet=stream_index,pts,dts,duration,size,pos,flags", "-of", "csv=p=0"]);
    if let Some(seconds) = first_seconds {
        args.add(["-read_intervals", &format!("%+{seconds}")]);
    }
    guarded_input(&mut args, input);
    args.0
}

/// Brings the tracks with these indices into Matroska, whose index leads to every keyframe, and decodes nothing.
pub fn remux(streams: &[u32], input: &Path, output: &Path) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    // Old containers give frames no presentation times; the muxer wants one for each.
    args.add(["-fflags", "+genpts"]);
    guarded_input(&mut args, input);
    for stream in streams {
        args.add(["-map", &format!("0:{stream}")]);
    }
    args.add(["-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1", "-f", "matroska"]);
    args.0.push(file_url(output));
    args.0
}

/// How an encode gets to the start of a chunk that is not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approach {
    /// By the container's index, to a keyframe before it.
    Seek,
    /// By decoding everything before it: for a container whose index leads astray.
    Read,
}

/// Where the files of an encode are.
#[derive(Debug)]
pub struct EncodeFiles<'a> {
    pub input: &'a Path,
    /// The image on the picture, where there is one.
    pub watermark: Option<&'a Path>,
    /// One a rung, in the order of the rungs.
    pub outputs: &'a [PathBuf],
    /// Where FFmpeg says which frame it decoded first, as `framecrc`.
    pub witness: &'a Path,
}

/// One FFmpeg that decodes a chunk once and encodes all rungs, each into a fragmented MP4 of its own, a fragment a GOP.
pub fn encode(spec: &EncodeSpec, files: &EncodeFiles<'_>, approach: Approach) -> Vec<OsString> {
    let mut args = opened(spec, files.input, files.watermark, approach);
    args.add(["-filter_complex", &filter_graph(spec)]);
    for (index, (rung, output)) in spec.rungs.iter().zip(files.outputs).enumerate() {
        args.add(["-map", &format!("[r{index}]")]);
        args.extend(&encoders::output(&Wish::of(spec, rung)));
        fragmented_mp4(&mut args, output, "frag_keyframe");
    }
    witnessed(&mut args, spec, files.witness);
    args.0
}

/// The start of a command that decodes a chunk, up to and with its inputs: the source is the first, the image the second.
fn opened(spec: &EncodeSpec, input: &Path, watermark: Option<&Path>, approach: Approach) -> Args {
    let threads = spec.threads.to_string();
    let mut args = ffmpeg_start();
    // Hardware encodes apart from everything else, so the first rung speaks for all.
    let first = spec.rungs.first();
    args.extend(first.map_or(&[], |rung| encoders::device(rung.encoder)));
    args.add(["-filter_threads", &threads, "-filter_complex_threads", &threads]);
    args.add(["-threads", &threads]);
    if spec.stored_size.is_some() {
        // A graph that is made anew for frames of another size would start its count of frames anew.
        args.add(["-noautorotate", "-reinit_filter", "0"]);
    }
    let later = spec.begins_later();
    if later {
        // Timestamps stay those of the file, so that frames fall on the same places of the grid as without a seek.
        args.add(["-copyts", "-start_at_zero"]);
    }
    if later && approach == Approach::Seek {
        // To a keyframe well before: what comes too early is dropped on the grid.
        let before = if spec.deinterlace { DEINTERLACE_FRAMES } else { 0 };
        let seconds = spec.source_seconds() - spec.grid.rate.seconds(before) - 0.001;
        args.add(["-noaccurate_seek", "-ss", &format!("{:.6}", seconds.max(0.0))]);
    }
    guarded_input(&mut args, input);
    if let Some(image) = watermark {
        watermark::input(&mut args, image);
    }
    args
}

/// Lets FFmpeg say which frame it decoded first, where it had to find its place.
fn witnessed(args: &mut Args, spec: &EncodeSpec, witness: &Path) {
    if spec.begins_later() {
        args.add(["-map", "[first]", "-fps_mode", "passthrough", "-f", "framecrc"]);
        args.0.push(file_url(witness));
    }
}

const TONE_MAP: &str = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv";

/// From a high dynamic range to BT.709. What the track does not say of its colours are those of BT.2020, where such a range is at home
/// (ITU-R BT.2100): from nowhere no way leads anywhere.
fn tone_map(unsaid: UnsaidColours) -> String {
    let assumed = match (unsaid.primaries, unsaid.matrix) {
        (false, false) => return TONE_MAP.to_owned(),
        (true, false) => "color_primaries=bt2020",
        (false, true) => "colorspace=bt2020nc",
        (true, true) => "color_primaries=bt2020:colorspace=bt2020nc",
    };
    format!("setparams={assumed},{TONE_MAP}")
}

const DEINTERLACE: &str = "bwdif=mode=send_frame:parity=auto:deint=all";

/// Frames that a deinterlacer looks at before the one it makes.
const DEINTERLACE_FRAMES: u64 = 2;

pub(super) fn fragmented_mp4(args: &mut Args, output: &Path, cut: &str) {
    // Neither names nor times nor versions get into the output: the same plan gives the same bytes.
    args.add(["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]);
    args.add(["-movflags", &format!("+{cut}+empty_moov+default_base_moof"), "-f", "mp4"]);
    args.0.push(file_url(output));
}

/// Decode once; bring to the grid; split; scale each size once; split again where rungs share a size.
fn filter_graph(spec: &EncodeSpec) -> String {
    let mut graph = format!("[0:{}]", spec.stream);
    if spec.begins_later() {
        // A seek that ends too late goes unnoticed: the grid would be filled with copies of the first picture.
        graph.push_str("split[w][v];[w]trim=end_frame=1,scale=w=16:h=16[first];[v]");
    }
    if let Some((width, height)) = spec.stored_size {
        // The only filter here that takes frames as they come; it hands on untouched what has this size.
        let _ = write!(graph, "scale=w={width}:h={height}:flags=bicubic,");
    }
    if spec.deinterlace {
        let _ = write!(graph, "{DEINTERLACE},");
    }
    let span = spec.span();
    // Only the end of the track is ever held: anywhere else a missing picture is a fault that must show.
    let hold = if spec.is_last() { spec.hold_frames } else { 0 };
    graph.push_str(&to_grid(spec.grid.rate, spec.offset_ms, span, hold));
    if let Some(area) = spec.crop {
        let _ = write!(graph, ",{}", cropped(area));
    }
    if spec.tone_map {
        let _ = write!(graph, ",{}", tone_map(spec.unsaid_colours));
    }
    let groups = groups(&spec.rungs);
    if groups.len() > 1 {
        let _ = write!(graph, ",split={}", groups.len());
        for index in 0..groups.len() {
            let _ = write!(graph, "[g{index}]");
        }
    }
    for (index, members) in groups.iter().enumerate() {
        let rung = members.first().map(|(_, rung)| *rung);
        let Some(rung) = rung else { continue };
        graph.push_str(&if groups.len() > 1 { format!(";[g{index}]") } else { ",".to_owned() });
        let on_rung = rung.grid.rung_span(&spec.grid, &span);
        if rung.grid.rate != spec.grid.rate {
            let hold = if spec.is_last() { rung.grid.rate.frames_in(1.0).max(1) } else { 0 };
            graph.push_str(&to_grid(rung.grid.rate, spec.offset_ms, on_rung, hold));
            graph.push(',');
        }
        let led = spec.rung_span(rung).start() - on_rung.start();
        if led > 0 {
            let _ = write!(graph, "trim=start_frame={led},");
        }
        let (width, height) = rung.content.unwrap_or((rung.width, rung.height));
        let _ = write!(graph, "scale=w={width}:h={height}:flags=bicubic,format=yuv420p,setsar=1");
        if rung.content.is_some() {
            let _ = write!(graph, ",{}", bars((rung.width, rung.height)));
        }
        if let Some(mark) = &spec.watermark {
            watermark::overlay(&mut graph, mark, index, rung.width);
        }
        graph.push_str(encoders::upload(rung.encoder));
        if members.len() > 1 {
            let _ = write!(graph, ",split={}", members.len());
        }
        for (rung_index, _) in members {
            let _ = write!(graph, "[r{rung_index}]");
        }
    }
    if let Some(mark) = &spec.watermark {
        let widths: Vec<u32> =
            groups.iter().filter_map(|group| group.first()).map(|(_, rung)| rung.width).collect();
        graph.push_str(&watermark::images(mark, &widths));
    }
    graph
}

/// The filter that leaves an area of the frame.
fn cropped(area: CropArea) -> String {
    format!("crop=w={}:h={}:x={}:y={}:exact=1", area.width, area.height, area.x, area.y)
}

/// The filter that puts the frame into the middle of a black one of this size.
fn bars((width, height): (u32, u32)) -> String {
    format!("pad=w={width}:h={height}:x=-1:y=-1:color=black")
}

/// Exactly the frames of `span` at `rate`: the first is repeated where the track starts late, the last is held for at most
/// `hold` frames where it ends early, and what is before and beyond is cut.
///
/// `offset_ms` is where the grid begins in the source.
fn to_grid(rate: Rate, offset_ms: u64, span: Span, hold: u64) -> String {
    let start = match (offset_ms, span.start()) {
        (0, 0) => "0".to_owned(),
        (offset, frame) => format!("{:.9}", offset as f64 / 1000.0 + rate.seconds(frame)),
    };
    let frames = span.encoded();
    format!(
        "fps=fps={rate}:start_time={start}:round=near,tpad=stop_mode=clone:stop={hold},trim=end_frame={frames}"
    )
}

/// Rungs that share size, rate and the way to their encoder share a scaler.
fn groups(rungs: &[EncodeRung]) -> Vec<Vec<(usize, &EncodeRung)>> {
    let mut groups: Vec<Vec<(usize, &EncodeRung)>> = vec![];
    for (index, rung) in rungs.iter().enumerate() {
        let key = |r: &EncodeRung| {
            (r.width, r.height, r.content, r.grid.rate, r.skip_segments, encoders::upload(r.encoder))
        };
        match groups.iter_mut().find(|group| group.first().is_some_and(|(_, first)| key(first) == key(rung)))
        {
            Some(group) => group.push((index, rung)),
            None => groups.push(vec![(index, rung)]),
        }
    }
    groups
}

#[derive(Default)]
pub(super) struct Args(pub(super) Vec<OsString>);

impl Args {
    pub(super) fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    pub(super) fn extend(&mut self, words: &[impl AsRef<OsStr>]) {
        self.0.extend(words.iter().map(|word| word.as_ref().to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use reelmill_shared::ids::{SetId, SourceId};
    use reelmill_shared::job::edit::{Corner, Watermark};
    use reelmill_shared::job::encoder::Encoder;
    use reelmill_shared::media::grid::Grid;
    use reelmill_shared::media::profile::{Preset, RateControl};
    use reelmill_shared::media::storyboard::Storyboard;

    use super::*;

    pub(super) fn rung(name: &str, width: u32, height: u32, grid: Grid) -> EncodeRung {
        let rate_control = RateControl::CappedCrf { crf: 22, max_bitrate: 1_000_000, buffer: 2_000_000 };
        EncodeRung {
            name: name.into(),
            position: 0,
            skip_segments: 0,
            encoder: Encoder::Libx264,
            width,
            height,
            content: None,
            grid,
            rate_control,
        }
    }

    pub(super) fn spec(rungs: Vec<EncodeRung>, grid: Grid) -> EncodeSpec {
        EncodeSpec {
            source: SourceId::new(),
            extent: None,
            set: SetId::new(),
            stream: 0,
            grid,
            span: None,
            offset_ms: 0,
            hold_frames: 25,
            stored_size: None,
            deinterlace: false,
            tone_map: false,
            unsaid_colours: UnsaidColours::default(),
            crop: None,
            watermark: None,
            preset: Preset::Medium,
            threads: 1,
            rungs,
            deadline_seconds: 1,
        }
    }

    fn command(spec: &EncodeSpec, approach: Approach) -> String {
        let outputs: Vec<PathBuf> = (0..spec.rungs.len()).map(|n| format!("/s/rung-{n}").into()).collect();
        let files = EncodeFiles {
            input: Path::new("/s/source"),
            watermark: spec.watermark.map(|_| Path::new("/s/mark")),
            outputs: &outputs,
            witness: Path::new("/s/first"),
        };
        text(&encode(spec, &files, approach))
    }

    pub(super) fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    const GRID: Grid = Grid { rate: Rate { num: 30, den: 1 }, gop_frames: 60, segment_gops: 3, frames: 300 };

    #[test]
    fn every_tag_that_may_be_kept_is_asked_for() {
        let line = text(&describe(Path::new("/s/source")));
        let asked = line.split("format_tags=").nth(1).and_then(|rest| rest.split(':').next()).unwrap();
        assert_eq!(asked.split(',').collect::<Vec<_>>(), reelmill_shared::media::tags::KNOWN);
    }

    #[test]
    fn rungs_that_share_a_size_share_a_scaler() {
        let capped = GRID.capped(Some(24));
        let rungs = vec![
            rung("very_high", 1920, 1080, GRID),
            rung("high", 1920, 1080, GRID),
            rung("normal", 1280, 720, capped),
            rung("low", 1280, 720, capped),
        ];
        let graph = filter_graph(&spec(rungs, GRID));
        assert_eq!(graph.matches("scale=").count(), 2, "{graph}");
        assert!(graph.contains("[g1]fps=fps=24/1:start_time=0"), "{graph}");
        assert!(graph.ends_with("split=2[r2][r3]"), "{graph}");
    }

    #[test]
    fn hardware_gets_its_device_first_and_its_pictures_last() {
        let mut rungs = vec![rung("a", 640, 360, GRID), rung("b", 640, 360, GRID)];
        rungs.iter_mut().for_each(|rung| rung.encoder = Encoder::H264Vaapi);
        let line = command(&spec(rungs, GRID), Approach::Seek);
        let device = line.find("-init_hw_device vaapi=gpu -filter_hw_device gpu").unwrap();
        assert!(device < line.find("-i file:").unwrap(), "{line}");
        assert!(line.contains("format=yuv420p,setsar=1,format=nv12,hwupload,split=2[r0][r1]"), "{line}");
        assert_eq!(line.matches("-c:v h264_vaapi ").count(), 2, "{line}");
    }

    #[test]
    fn a_chunk_starts_on_the_grid_of_the_whole() {
        let capped = GRID.capped(Some(24));
        let mut spec = spec(vec![rung("a", 640, 360, GRID), rung("b", 320, 180, capped)], GRID);
        spec.span = Some(Span { first: 180, frames: 60, warm_up: 60 });
        let line = command(&spec, Approach::Seek);
        let (seek, input) = (line.find("-ss 3.999000").unwrap(), line.find("-i file:").unwrap());
        assert!(seek < input && line.contains("-copyts -start_at_zero"), "{line}");
        assert!(line.contains("fps=fps=30/1:start_time=4.000000000:round=near,tpad=stop_mode=clone:stop=0,trim=end_frame=120"), "{line}");
        assert!(
            line.contains(
                "fps=fps=24/1:start_time=4.000000000:round=near,tpad=stop_mode=clone:stop=0,trim=end_frame=96"
            ),
            "{line}"
        );
        spec.span = Some(Span { first: 180, frames: 120, warm_up: 60 });
        let line = command(&spec, Approach::Seek);
        assert!(line.contains(":stop=25,trim=end_frame=180"), "the last one holds its last picture: {line}");
        assert!(line.ends_with("-map [first] -fps_mode passthrough -f framecrc file:/s/first"), "{line}");
        assert!(!command(&spec, Approach::Read).contains("-ss"));
    }

    #[test]
    fn a_rung_that_is_led_begins_behind_the_lead() {
        let capped = GRID.capped(Some(24));
        let mut low = rung("low", 320, 180, capped);
        low.skip_segments = 1;
        let spec = spec(vec![rung("high", 640, 360, GRID), low], GRID);
        let graph = filter_graph(&spec);
        // A GOP of 48 frames before it is the warm-up: the segment has three.
        assert!(graph.contains("trim=end_frame=240,trim=start_frame=96,scale=w=320"), "{graph}");
        assert_eq!(graph.matches("start_frame").count(), 1);
    }

    #[test]
    fn frames_of_another_size_reach_no_filter_but_the_first() {
        let mut spec = spec(vec![rung("a", 640, 360, GRID)], GRID);
        spec.stored_size = Some((320, 180));
        spec.deinterlace = true;
        assert!(filter_graph(&spec).starts_with("[0:0]scale=w=320:h=180:flags=bicubic,bwdif="));
        let line = command(&spec, Approach::Seek);
        let steady = line.find("-noautorotate -reinit_filter 0").unwrap();
        assert!(steady < line.find("-i file:/s/source").unwrap());
    }

    #[test]
    fn a_part_of_the_picture_in_bars_with_a_mark_on_it() {
        let mut spec = spec(vec![rung("a", 640, 360, GRID), rung("b", 320, 180, GRID)], GRID);
        spec.offset_ms = 1500;
        spec.crop = Some(CropArea { x: 2, y: 0, width: 480, height: 360 });
        spec.rungs.iter_mut().for_each(|rung| rung.content = Some((rung.height * 4 / 3, rung.height)));
        spec.watermark = Some(Watermark {
            source: SourceId::new(),
            corner: Corner::BottomRight,
            width_percent: 10,
            margin_percent: 5,
            opacity_percent: 80,
        });
        let line = command(&spec, Approach::Seek);
        assert!(line.contains("-ss 1.499000"), "{line}");
        for part in [
            "start_time=1.500000000:round=near",
            ",crop=w=480:h=360:x=2:y=0:exact=1,split=2",
            "pad=w=320:h=180:x=-1:y=-1:color=black[p1];[p1][w1]overlay=x=W-w-16:y=H-h-16",
            ";[1:0]format=rgba,colorchannelmixer=aa=0.80,split=2[i0][i1];[i0]scale=w=64:h=-1:flags=bicubic[w0]",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let image = line.find("-i file:/s/mark").unwrap();
        assert!(line[..image].matches("-protocol_whitelist file,pipe").count() == 2, "{line}");
    }

    #[test]
    fn one_rung_needs_no_split() {
        let graph = filter_graph(&spec(vec![rung("a", 640, 360, GRID)], GRID));
        assert!(!graph.contains("split") && graph.ends_with("setsar=1[r0]"), "{graph}");
    }

    #[test]
    fn every_command_guards_its_input_before_it_is_named() {
        let input = Path::new("/s/source");
        let output = Path::new("/s/out");
        let outputs = [output.to_owned()];
        let files = EncodeFiles { input, watermark: None, outputs: &outputs, witness: Path::new("/s/first") };
        let sound = AudioFiles { input, output, witness: Path::new("/s/first") };
        for args in [
            describe(input),
            list_packets(input, Some(20)),
            encode(&spec(vec![rung("a", 640, 360, GRID)], GRID), &files, Approach::Seek),
            audio(&audio::tests::spec(None), &sound, Approach::Seek, None),
            loudness(&audio::tests::measured(vec![audio::tests::spec(None)]), input, &["m".into()]),
            subtitles(&[2], input, &outputs),
            picture(&stills::tests::PLAIN, PictureAt::First, input, None, output),
            mp4(&[input, input], 12_800, None, output),
            count_frames(input),
            glimpse(0, 5.0, (160, 90), input, output, Path::new("/s/first")),
            sheets(&Storyboard::of(&GRID, 640, 360), input, output),
            thumbnails((320, 180), Some(25), 9, input, output),
        ] {
            let line = text(&args);
            let named = line.find("-i file:/s/source").unwrap();
            for guard in
                ["-protocol_whitelist file,pipe", "-format_whitelist ", "-codec_whitelist ", "-max_pixels "]
            {
                assert!(line.find(guard).is_some_and(|at| at < named), "{guard} in {line}");
            }
            assert!(!line.contains("http"), "{line}");
        }
    }
}
