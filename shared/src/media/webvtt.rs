//! Text tracks as WebVTT (W3C): reads what FFmpeg made of a subtitle track, keeps what a player should show of it, and cuts it into
//! segments (RFC 8216, 3.5). What a file's subtitles contain is hostile: times, markup and amounts are all bounded here.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

mod markup;

/// More cues than a day of talk has.
const MAX_CUES: usize = 50_000;
/// More at once than a screen has room for.
const MAX_AT_ONCE: usize = 32;
/// Bytes of a segment: six seconds have three hundred, as a rule.
const MAX_SEGMENT: usize = 16 << 10;
/// Bytes of a file of all cues: what a browser may be asked to read at once.
const MAX_WHOLE: usize = 8 << 20;

/// A text and when it is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cue {
    /// Milliseconds from the start of the recording.
    pub start: u64,
    /// Behind `start`.
    pub end: u64,
    /// Cue text of the specification: escaped, with `<b>`, `<i>` and `<u>` alone for markup, and no empty line.
    pub text: String,
}

/// The cues of a track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cues {
    /// By time, none twice, all within the recording.
    pub cues: Vec<Cue>,
    /// How many were left out because there were too many.
    pub left_out: usize,
}

/// Reads a WebVTT file of a recording that begins `offset` milliseconds into it and lasts `duration`. What is no cue is passed over, whatever it is: there is
/// nothing that cannot be read.
pub fn read(file: &str, offset: u64, duration: u64) -> Cues {
    let file = file.replace("\r\n", "\n").replace('\r', "\n");
    let mut all = Cues::default();
    for block in file.split("\n\n") {
        let Some(cue) = cue(block, offset, duration) else { continue };
        if all.cues.len() < MAX_CUES {
            all.cues.push(cue);
        } else {
            all.left_out += 1;
        }
    }
    all.cues.sort();
    // Styled subtitles draw outline and face as two texts.
    all.cues.dedup();
    all
}

/// A cue of a block of lines: its times are in the first line, or in the second behind an identifier.
fn cue(block: &str, offset: u64, duration: u64) -> Option<Cue> {
    let block = block.trim_start_matches('\n');
    let (timing, text) = block.split_once('\n')?;
    let (timing, text) = if timing.contains("-->") { (timing, text) } else { text.split_once('\n')? };
    let (start, end) = timing.split_once("-->")?;
    let start = time(start.trim())?.saturating_sub(offset);
    // Settings follow the end: where a cue stands is the player's choice.
    let end = time(end.split_whitespace().next()?)?.saturating_sub(offset).min(duration);
    let text = markup::clean(text);
    (start < end && !text.is_empty()).then_some(Cue { start, end, text })
}

/// `HH:MM:SS.mmm` with any number of hours, or none, in milliseconds.
fn time(text: &str) -> Option<u64> {
    let (clock, millis) = text.split_once(['.', ','])?;
    let digits = |part: &str, most: usize| {
        let fits = (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if fits { part.parse::<u64>().ok() } else { None }
    };
    let mut parts = clock.rsplitn(3, ':');
    let (seconds, minutes) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let hours = parts.next().map_or(Some(0), |part| digits(part, 5))?;
    (seconds < 60 && minutes < 60 && millis.len() == 3)
        .then(|| digits(millis, 3))
        .flatten()
        .map(|millis| ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
}

/// Cuts cues, in order, where `ends` says, in milliseconds, the last of which is the end of the recording. Gives the segments as they
/// come, and at last how many cues they had no room for. A cue stands, whole, in each segment it is shown in: players know it again.
pub struct Segments<'a, E> {
    cues: std::iter::Peekable<std::slice::Iter<'a, Cue>>,
    shown: Vec<&'a Cue>,
    ends: E,
    left_out: usize,
}

impl<'a, E: Iterator<Item = u64>> Segments<'a, E> {
    /// The segments of `cues`.
    pub fn new(cues: &'a [Cue], ends: E) -> Self {
        Self { cues: cues.iter().peekable(), shown: vec![], ends, left_out: 0 }
    }

    /// Cues that had no room in a segment they are shown in, so far.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

impl<E: Iterator<Item = u64>> Iterator for Segments<'_, E> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let end = self.ends.next()?;
        while let Some(cue) = self.cues.next_if(|cue| cue.start < end) {
            if self.shown.len() < MAX_AT_ONCE {
                self.shown.push(cue);
            } else {
                self.left_out += 1;
            }
        }
        // Times are those of the recording, whose picture and sound start at zero on the MPEG clock too (RFC 8216, 3.5).
        let mut out = String::from("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n");
        for cue in &self.shown {
            if out.len() + cue.text.len() > MAX_SEGMENT {
                self.left_out += 1;
                continue;
            }
            cue.write(&mut out);
        }
        self.shown.retain(|cue| cue.end > end);
        Some(out)
    }
}

impl Cue {
    fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n{} --> {}\n{}\n", clock(self.start), clock(self.end), self.text);
    }
}

/// All cues in one file, for players that take no segments; what goes beyond its bound is left out.
pub fn whole(cues: &[Cue]) -> String {
    let mut out = String::from("WEBVTT\n");
    for cue in cues {
        if out.len() + cue.text.len() > MAX_WHOLE {
            break;
        }
        cue.write(&mut out);
    }
    out
}

fn clock(millis: u64) -> String {
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str) -> Vec<(u64, u64, String)> {
        read(file, 0, 10_000).cues.into_iter().map(|cue| (cue.start, cue.end, cue.text)).collect()
    }

    #[test]
    fn cues_are_read_whatever_surrounds_them() {
        let file = "\u{feff}WEBVTT - made by x\nKind: captions\r\n\r\nSTYLE\n::cue { color: red }\n\n\
                    NOTE nothing\n\n00:01.500 --> 00:00:02.000 line:0 align:start\nOne\r\nline\n\n\n\n\
                    id 7\n01:00:00.000 --> 01:00:01.000\nLate\n\n00:00:00,500 --> 00:00:01,000\nFirst --> of all\n";
        assert_eq!(
            shown(file),
            [(500, 1000, "First --&gt; of all".into()), (1500, 2000, "One\nline".into())]
        );
    }

    #[test]
    fn times_lie_within_the_recording() {
        let one = |times: &str| shown(&format!("WEBVTT\n\n{times}\nx")).first().map(|cue| (cue.0, cue.1));
        assert_eq!(one("00:09.000 --> 99999:00:00.000"), Some((9000, 10_000)));
        for bad in [
            "00:05.000 --> 00:05.000",
            "00:05.000 --> 00:04.000",
            "00:10.000 --> 00:11.000",
            "-00:01.000 --> 00:04.000",
            "00:61.000 --> 00:62.000",
            "99999999999999999999:00:00.000 --> 99999999999999999999:00:01.000",
            "00:01.00 --> 00:02.00",
            "00:01.000 --> ",
            "٠٠:٠١.٠٠٠ --> 00:02.000",
            "--> -->",
        ] {
            assert_eq!(one(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_source_keeps_what_is_shown_in_it() {
        let file = "00:01.000 --> 00:02.000\na\n\n00:04.000 --> 00:07.000\nb\n\n00:08.000 --> 00:09.000\nc";
        let cues = read(file, 5000, 3500).cues;
        let times: Vec<(u64, u64)> = cues.iter().map(|cue| (cue.start, cue.end)).collect();
        assert_eq!(times, [(0, 2000), (3000, 3500)]);
    }

    #[test]
    fn amounts_are_bounded() {
        let many: String = (0..MAX_CUES + 7).map(|n| format!("00:00.000 --> 00:10.000\nx{n}\n\n")).collect();
        let cues = read(&many, 0, 10_000);
        assert_eq!((cues.cues.len(), cues.left_out), (MAX_CUES, 7));
        let mut segments = Segments::new(&cues.cues, [5000, 10_000].into_iter());
        let texts: Vec<String> = segments.by_ref().collect();
        assert!(texts.iter().all(|text| text.matches("-->").count() == MAX_AT_ONCE));
        assert_eq!(segments.left_out(), MAX_CUES - MAX_AT_ONCE);

        let wide: Vec<Cue> =
            (0..MAX_AT_ONCE as u64).map(|start| Cue { start, end: 9000, text: "x".repeat(1000) }).collect();
        let mut segments = Segments::new(&wide, [10_000].into_iter());
        assert!(segments.next().unwrap().len() < MAX_SEGMENT + 1100);
        assert!(segments.left_out() > 0);

        let many = vec![Cue { start: 0, end: 9000, text: "x".repeat(5000) }; MAX_CUES];
        assert!((MAX_WHOLE - 5100..MAX_WHOLE + 100).contains(&whole(&many).len()));
    }

    #[test]
    fn a_file_of_all_cues_has_each_once() {
        let cue = |start, end, text: &str| Cue { start, end, text: text.into() };
        let text = whole(&[cue(1000, 2000, "a"), cue(3_600_500, 3_614_000, "b")]);
        assert_eq!(text, "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na\n\n01:00:00.500 --> 01:00:14.000\nb\n");
        assert_eq!(whole(&[]), "WEBVTT\n");
    }

    #[test]
    fn a_cue_is_in_every_segment_it_is_shown_in() {
        let cue = |start, end, text: &str| Cue { start, end, text: text.into() };
        let cues = [cue(1000, 2000, "a"), cue(5500, 14_000, "b"), cue(12_000, 12_500, "c")];
        let texts: Vec<String> = Segments::new(&cues, [6000, 12_000, 15_000].into_iter()).collect();
        assert_eq!(
            texts[0],
            "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n\
             00:00:01.000 --> 00:00:02.000\na\n\n00:00:05.500 --> 00:00:14.000\nb\n"
        );
        assert!(texts[1].contains("\nb\n") && !texts[1].contains("\na\n") && !texts[1].contains("\nc\n"));
        assert!(texts[2].contains("\nb\n") && texts[2].contains("\nc\n"));
        assert!(Segments::new(&[], [6000].into_iter()).all(|text| text.starts_with("WEBVTT\nX-TIME")));
    }

    #[test]
    fn doubled_cues_are_shown_once() {
        let file = "00:01.000 --> 00:02.000\nx\n\n00:01.000 --> 00:02.000\n{\\blur2}x\n\n";
        assert_eq!(shown(file), [(1000, 2000, "x".into())]);
    }
}
