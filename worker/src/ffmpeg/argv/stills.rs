//! Command lines that end in pictures.

use std::ffi::OsString;
use std::path::Path;

use reelmill_shared::job::edit::Watermark;
use reelmill_shared::job::task::CropArea;
use reelmill_shared::media::probe::UnsaidColours;
use reelmill_shared::media::storyboard::Storyboard;

use super::{Args, DEINTERLACE, bars, cropped, ffmpeg_start, guarded_input, tone_map, watermark};
use crate::ffmpeg::file_url;

/// Which frame a picture is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PictureAt {
    /// The frame shown at this many seconds, found by the container's index.
    Seek(f64),
    /// The first frame: for sources whose index leads nowhere.
    First,
}

/// How a frame of a source becomes a picture.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub stream: u32,
    pub deinterlace: bool,
    /// From a high dynamic range to BT.709.
    pub tone_map: bool,
    pub unsaid_colours: UnsaidColours,
    pub crop: Option<CropArea>,
    /// Square pixels.
    pub size: (u32, u32),
    /// The size of what is not bars, where there are any.
    pub content: Option<(u32, u32)>,
    pub watermark: Option<Watermark>,
}

/// Takes one picture. `watermark` is the image on it, where there is one.
pub fn picture(
    look: &Look,
    at: PictureAt,
    input: &Path,
    watermark: Option<&Path>,
    output: &Path,
) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1", "-filter_complex_threads", "1"]);
    if let PictureAt::Seek(seconds) = at {
        args.add(["-ss", &format!("{seconds:.3}")]);
    }
    guarded_input(&mut args, input);
    if let Some(image) = watermark {
        watermark::input(&mut args, image);
    }
    args.add(["-filter_complex", &look.graph(), "-map", "[picture]", "-frames:v", "1"]);
    jpeg(&mut args, "4");
    args.add(["-update", "1"]);
    args.0.push(file_url(output));
    args.0
}

impl Look {
    fn graph(&self) -> String {
        let (width, height) = self.content.unwrap_or(self.size);
        let small = || format!("scale=w={width}:h={height}:flags=bicubic");
        let mut filters = vec![];
        filters.extend(self.deinterlace.then(|| DEINTERLACE.to_owned()));
        filters.extend(self.crop.map(cropped));
        if self.tone_map {
            // Made small first: it costs by the pixel.
            filters.extend([small(), tone_map(self.unsaid_colours)]);
        }
        if self.content.is_some() || self.watermark.is_some() {
            filters.extend([small(), "format=yuv420p,setsar=1".to_owned()]);
        }
        filters.extend(self.content.map(|_| bars(self.size)));
        let mut graph = format!("[0:{}]{}", self.stream, filters.join(","));
        if let Some(mark) = &self.watermark {
            watermark::overlay(&mut graph, mark, 0, self.size.0);
        }
        if !filters.is_empty() {
            graph.push(',');
        }
        graph.push_str(&jpeg_pixels(self.size));
        graph.push_str("[picture]");
        if let Some(mark) = &self.watermark {
            graph.push_str(&watermark::images(mark, &[self.size.0]));
        }
        graph
    }
}

/// For how long after its place a glimpse may look for a keyframe, in seconds.
const GLIMPSE_SECONDS: &str = "30";

/// A quick look at a source: the first keyframe that a seek to `seconds` finds, as grey bytes of `width` x `height` whatever its
/// shape; `witness` says which one it was, as `framecrc`.
pub fn glimpse(
    stream: u32,
    seconds: f64,
    (width, height): (u32, u32),
    input: &Path,
    output: &Path,
    witness: &Path,
) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1", "-skip_frame", "nokey"]);
    args.add(["-copyts", "-start_at_zero", "-noaccurate_seek", "-ss", &format!("{seconds:.3}")]);
    args.add(["-t", GLIMPSE_SECONDS]);
    guarded_input(&mut args, input);
    let graph = format!(
        "[0:{stream}]split[w][v];[w]trim=end_frame=1,scale=w=16:h=16[first];\
         [v]trim=end_frame=1,scale=w={width}:h={height}:flags=area,format=gray[look]"
    );
    args.add(["-filter_complex", &graph, "-map", "[look]", "-frames:v", "1", "-f", "rawvideo"]);
    args.0.push(file_url(output));
    args.add(["-map", "[first]", "-frames:v", "1", "-fps_mode", "passthrough", "-f", "framecrc"]);
    args.0.push(file_url(witness));
    args.0
}

/// Lays every frame of `input` out on sheets; `output` holds a `%d` for their numbers, from zero.
pub fn sheets(board: &Storyboard, input: &Path, output: &Path) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1"]);
    guarded_input(&mut args, input);
    let filters =
        format!("{},tile=layout={}x{}", jpeg_pixels((board.width, board.height)), board.columns, board.rows);
    numbered(&mut args, &filters, board.sheets(), "5", output);
    args.0
}

/// Every frame of `input`, or each of so many, as a picture of its own; `output` holds a `%d` for their numbers, from zero.
pub fn thumbnails(
    size: (u32, u32),
    step: Option<u64>,
    count: u32,
    input: &Path,
    output: &Path,
) -> Vec<OsString> {
    let mut args = ffmpeg_start();
    args.add(["-threads", "1"]);
    guarded_input(&mut args, input);
    let mut filters = step.map_or(String::new(), |step| format!("select=not(mod(n\\,{step})),"));
    filters.push_str(&jpeg_pixels(size));
    numbered(&mut args, &filters, count, "4", output);
    args.0
}

fn numbered(args: &mut Args, filters: &str, count: u32, quality: &str, output: &Path) {
    args.add(["-map", "0:0", "-fps_mode", "passthrough", "-frames:v", &count.to_string(), "-vf", filters]);
    jpeg(args, quality);
    args.add(["-start_number", "0"]);
    args.0.push(file_url(output));
}

/// The size, in the colours that a JPEG has (JFIF: BT.601, full range), whichever the frame had.
fn jpeg_pixels((width, height): (u32, u32)) -> String {
    format!(
        "scale=w={width}:h={height}:flags=bicubic:out_color_matrix=bt601:out_range=full,format=yuvj420p,setsar=1"
    )
}

fn jpeg(args: &mut Args, quality: &str) {
    args.add(["-c:v", "mjpeg", "-threads", "1", "-q:v", quality, "-map_metadata", "-1"]);
    args.add(["-fflags", "+bitexact", "-f", "image2"]);
}

#[cfg(test)]
pub(super) mod tests {
    use reelmill_shared::media::grid::{Grid, Rate};

    use super::*;

    pub(in crate::ffmpeg::argv) const PLAIN: Look = Look {
        stream: 2,
        deinterlace: false,
        tone_map: false,
        unsaid_colours: UnsaidColours { primaries: false, matrix: false },
        crop: None,
        size: (320, 180),
        content: None,
        watermark: None,
    };

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn sheets_hold_every_frame_that_is_there() {
        let grid = Grid::new(Rate { num: 25, den: 1 }, 1500, 6);
        let board = Storyboard::of(&grid, 640, 360);
        let line = text(&sheets(&board, Path::new("/s/k.mp4"), Path::new("sheet-%d.jpg")));
        assert!(line.contains("-frames:v 2 ") && line.contains("scale=w=160:h=90:"), "{line}");
        assert!(line.contains(",tile=layout=5x5 ") && line.ends_with("file:sheet-%d.jpg"), "{line}");
        assert!(line.contains("-fps_mode passthrough"), "no frame is doubled or dropped: {line}");
    }

    #[test]
    fn a_picture_is_framed_and_marked_as_the_recording_is() {
        use reelmill_shared::ids::SourceId;
        use reelmill_shared::job::edit::Corner;
        let line = |look: &Look, image| {
            text(&picture(look, PictureAt::First, Path::new("/s/v"), image, Path::new("/s/p.jpg")))
        };
        assert!(line(&PLAIN, None).contains(" [0:2]scale=w=320:h=180:flags=bicubic:out_color_matrix=bt601"));
        let mark = Watermark {
            source: SourceId::new(),
            corner: Corner::TopLeft,
            width_percent: 10,
            margin_percent: 5,
            opacity_percent: 50,
        };
        let framed = Look {
            crop: Some(CropArea { x: 10, y: 0, width: 700, height: 480 }),
            content: Some((262, 180)),
            watermark: Some(mark),
            ..PLAIN
        };
        let line = line(&framed, Some(Path::new("/s/mark")));
        for words in [
            "-i file:/s/v ",
            "-i file:/s/mark ",
            "[0:2]crop=w=700:h=480:x=10:y=0:exact=1,scale=w=262:h=180:flags=bicubic,",
            ",setsar=1,pad=w=320:h=180:x=-1:y=-1:color=black[p0]",
            "[p0];[p0][w0]overlay=x=16:y=16:",
            "[picture];[1:0]format=rgba,",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
    }

    #[test]
    fn a_high_dynamic_range_without_its_colours_is_that_of_bt_2020() {
        let dir = tempfile::tempdir().unwrap();
        let ffmpeg = |args: &[OsString]| {
            let ended = std::process::Command::new("ffmpeg").args(args).output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        };
        let seen = |colours: &str, unsaid_colours| {
            let (source, jpeg) = (dir.path().join("hdr.mp4"), dir.path().join("picture.jpg"));
            let make = "-v error -y -f lavfi -i testsrc2=size=320x180:rate=25:duration=0.1 -pix_fmt yuv420p10le -c:v libx264 -qp 0";
            let words = make.split(' ').chain(["-color_trc", "smpte2084"]).chain(colours.split_whitespace());
            ffmpeg(&words.map(OsString::from).chain([source.clone().into()]).collect::<Vec<_>>());
            let look = Look { stream: 0, tone_map: true, unsaid_colours, ..PLAIN };
            ffmpeg(&picture(&look, PictureAt::First, &source, None, &jpeg));
            std::fs::read(&jpeg).unwrap()
        };
        let unsaid = |primaries, matrix| UnsaidColours { primaries, matrix };
        let said = seen("-color_primaries bt2020 -colorspace bt2020nc", unsaid(false, false));
        assert!(said.starts_with(&[0xff, 0xd8]));
        assert!(seen("", unsaid(true, true)) == said, "the same samples, the same picture");
        assert!(seen("-color_primaries bt2020", unsaid(false, true)) == said);
        assert!(seen("-colorspace bt2020nc", unsaid(true, false)) == said);
    }

    #[test]
    fn a_glimpse_reads_little() {
        let line =
            text(&glimpse(3, 61.5, (160, 90), Path::new("/s/k.mp4"), Path::new("/s/g"), Path::new("/s/w")));
        let input = line.find("-i file:/s/k.mp4").unwrap();
        for word in ["-skip_frame nokey", "-noaccurate_seek -ss 61.500", "-t 30"] {
            assert!(line.find(word).is_some_and(|at| at < input), "{word} in {line}");
        }
        assert!(line.contains("[0:3]split"), "{line}");
    }
}
