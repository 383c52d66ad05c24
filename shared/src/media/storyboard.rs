//! The storyboard: small pictures of a recording at regular times, laid out on sheets, and the WebVTT that says which part of
//! which sheet shows a time (`#xywh=` of W3C Media Fragments URI 1.0, 4.2.2). Every picture is the first frame of a GOP, so
//! that nothing but keyframes need be decoded.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::grid::{Grid, Rate};

/// The box of a picture, in pixels; turned for a portrait picture.
const BOX: (u32, u32) = (160, 90);
/// Pictures in a row of a sheet, and rows: a sheet is about 100 kB, so that the first preview does not wait for megabytes.
const SIDE: u32 = 5;
/// More pictures than these help nobody to find a place on a bar of a thousand pixels.
const MOST_TILES: u64 = 400;

/// Where each picture of a storyboard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storyboard {
    /// Pixels of one picture.
    pub width: u32,
    pub height: u32,
    /// Pictures in a row of a sheet, and rows of a sheet; the last sheet may be filled in part.
    pub columns: u32,
    pub rows: u32,
    /// Pictures in all, at least 1.
    pub tiles: u32,
    /// GOPs from one picture to the next.
    pub step_gops: u32,
    /// Frames of a GOP, and of the whole, at `rate`.
    pub gop_frames: u32,
    pub frames: u64,
    pub rate: Rate,
}

impl Storyboard {
    /// Lays out the storyboard of a rendition of `width` x `height` square pixels: a picture for every GOP, and in long
    /// recordings for every second, third … one; from there on where a segment is passed over for a whole number of segments, whose
    /// first GOPs are easily got.
    pub fn of(grid: &Grid, width: u32, height: u32) -> Self {
        let gops = grid.frames.div_ceil(u64::from(grid.gop_frames)).max(1);
        let mut step = gops.div_ceil(MOST_TILES);
        if step > u64::from(grid.segment_gops) {
            step = step.next_multiple_of(u64::from(grid.segment_gops));
        }
        let tiles = gops.div_ceil(step) as u32;
        let (width, height) = fit(width, height);
        let columns = tiles.min(SIDE);
        Self {
            width,
            height,
            columns,
            rows: tiles.div_ceil(columns).min(SIDE),
            tiles,
            step_gops: step as u32,
            gop_frames: grid.gop_frames,
            frames: grid.frames,
            rate: grid.rate,
        }
    }

    /// The GOPs whose first frames are shown, in order.
    pub fn gops(&self) -> Vec<u64> {
        (0..u64::from(self.tiles)).map(|tile| tile * u64::from(self.step_gops)).collect()
    }

    /// Pictures on a full sheet.
    pub fn per_sheet(&self) -> u32 {
        (self.columns * self.rows).max(1)
    }

    /// Number of sheets.
    pub fn sheets(&self) -> u32 {
        self.tiles.div_ceil(self.per_sheet())
    }

    /// When the first picture of a sheet is shown, in milliseconds from the start.
    pub fn sheet_ms(&self, sheet: u32) -> u64 {
        let tile = u64::from(sheet) * u64::from(self.per_sheet());
        self.ms(tile * u64::from(self.step_gops) * u64::from(self.gop_frames))
    }

    /// The WebVTT (W3C WebVTT, 4), a cue a picture; `sheet` gives the URI of a sheet by its number, from zero.
    pub fn vtt(&self, sheet: impl Fn(u32) -> String) -> String {
        let mut text = "WEBVTT\n".to_owned();
        let step = u64::from(self.step_gops) * u64::from(self.gop_frames);
        for tile in 0..self.tiles {
            let from = u64::from(tile) * step;
            let to = (from + step).min(self.frames);
            let place = tile % self.per_sheet();
            let (x, y) = (place % self.columns * self.width, place / self.columns * self.height);
            let _ = write!(
                text,
                "\n{} --> {}\n{}#xywh={x},{y},{},{}\n",
                self.stamp(from),
                self.stamp(to),
                sheet(tile / self.per_sheet()),
                self.width,
                self.height
            );
        }
        text
    }

    /// `hh:mm:ss.mmm` of a frame.
    fn stamp(&self, frame: u64) -> String {
        let ms = self.ms(frame);
        let (seconds, ms) = (ms / 1000, ms % 1000);
        format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn ms(&self, frame: u64) -> u64 {
        (self.rate.seconds(frame) * 1000.0).round() as u64
    }
}

/// The largest even size of this shape inside the box, never larger than the picture.
fn fit(width: u32, height: u32) -> (u32, u32) {
    let (box_width, box_height) = if height > width { (BOX.1, BOX.0) } else { BOX };
    let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
    let scale = (f64::from(box_width) / width).min(f64::from(box_height) / height).min(1.0);
    let side = |length: f64| ((length * scale / 2.0).round() as u32 * 2).max(2);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(num: u64, den: u64) -> Rate {
        Rate::new(num, den).unwrap()
    }

    fn of(seconds: f64, size: (u32, u32)) -> Storyboard {
        let rate = rate(25, 1);
        Storyboard::of(&Grid::new(rate, rate.frames_in(seconds), 6), size.0, size.1)
    }

    #[test]
    fn short_recordings_are_dense_and_long_ones_bounded() {
        let shape = |seconds| {
            let board = of(seconds, (640, 360));
            (board.tiles, board.step_gops, board.columns, board.rows, board.sheets())
        };
        assert_eq!(shape(0.08), (1, 1, 1, 1, 1));
        assert_eq!(shape(7.0), (4, 1, 4, 1, 1));
        assert_eq!(shape(16.0), (8, 1, 5, 2, 1));
        assert_eq!(shape(60.0), (30, 1, 5, 5, 2));
        assert_eq!(shape(800.0), (400, 1, 5, 5, 16));
        // Two seconds more: every second GOP.
        assert_eq!(shape(802.0), (201, 2, 5, 5, 9));
        // Beyond a segment only whole segments: eighteen GOPs, not seventeen.
        assert_eq!(shape(12.0 * 3600.0), (400, 54, 5, 5, 16));
        assert_eq!(shape(13_000.0), (362, 18, 5, 5, 15));
    }

    #[test]
    fn pictures_keep_their_shape() {
        let size = |width, height| {
            let board = of(60.0, (width, height));
            (board.width, board.height)
        };
        assert_eq!(size(640, 360), (160, 90));
        assert_eq!(size(360, 640), (90, 160));
        assert_eq!(size(480, 360), (120, 90));
        assert_eq!(size(500, 500), (90, 90));
        assert_eq!(size(64, 64), (64, 64), "nothing is made larger");
        assert_eq!(size(1000, 4), (160, 2));
        assert_eq!(size(2, 2), (2, 2));
    }

    #[test]
    fn cues_cover_the_recording_without_a_gap() {
        let rate = rate(30_000, 1001);
        let board = Storyboard::of(&Grid::new(rate, 3601, 6), 640, 360);
        let text = board.vtt(|number| format!("sheet-{number}.jpg"));
        let times: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(" --> ")).collect();
        assert_eq!(times.len(), board.tiles as usize);
        assert!(times.windows(2).all(|pair| pair[0].1 == pair[1].0), "{text}");
        assert_eq!((times[0].0, times[1].0, times[60].0), ("00:00:00.000", "00:00:02.002", "00:02:00.120"));
        assert_eq!(times.last().unwrap().1, "00:02:00.153");
        assert!(text.starts_with("WEBVTT\n\n00:00:00.000 --> 00:00:02.002\nsheet-0.jpg#xywh=0,0,160,90\n"));
        assert!(text.contains("\nsheet-0.jpg#xywh=640,360,160,90\n\n"), "the last place of a sheet");
        assert!(text.contains("\nsheet-1.jpg#xywh=0,0,160,90\n"), "and the first of the next");
        assert!(text.ends_with("sheet-2.jpg#xywh=0,180,160,90\n"), "{text}");
    }

    #[test]
    fn every_picture_begins_a_gop_that_is_there() {
        for (seconds, segment) in [(0.04, 6), (61.3, 6), (5000.0, 10), (43_000.0, 2)] {
            let rate = rate(179, 6);
            let grid = Grid::new(rate, rate.frames_in(seconds).max(1), segment);
            let board = Storyboard::of(&grid, 640, 360);
            let gops = board.gops();
            assert!(gops.len() <= 400 && gops[0] == 0);
            assert!(gops.last().unwrap() * u64::from(grid.gop_frames) < grid.frames);
            assert_eq!(gops.len(), board.tiles as usize);
        }
    }
}
