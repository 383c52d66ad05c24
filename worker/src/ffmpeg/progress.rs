//! What `-progress` prints, read as it comes: blocks of `key=value`, each ended by `progress=`.

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// Microseconds of output so far.
    pub out_time_us: Option<u64>,
    pub frame: Option<u64>,
    /// Frames left out so far to keep the rate.
    pub dropped: Option<u64>,
    /// Output frames per second.
    pub fps: Option<f32>,
    /// Seconds of media per second.
    pub speed: Option<f32>,
    pub ended: bool,
}

/// Collects lines into reports.
#[derive(Debug, Default)]
pub struct Parser {
    current: Report,
}

impl Parser {
    /// Takes a line; gives a report when it was the last of a block. Unknown keys and `N/A` are passed over.
    pub fn line(&mut self, line: &str) -> Option<Report> {
        let (key, value) = line.trim().split_once('=')?;
        let value = value.trim();
        match key {
            "frame" => self.current.frame = value.parse().ok(),
            "drop_frames" => self.current.dropped = value.parse().ok(),
            "fps" => self.current.fps = value.parse().ok(),
            // Negative before the first packet.
            "out_time_us" => self.current.out_time_us = value.parse().ok(),
            "speed" => self.current.speed = value.trim_end_matches('x').trim().parse().ok(),
            "progress" => {
                let ended = value == "end";
                return Some(Report { ended, ..std::mem::take(&mut self.current) });
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_block_and_starts_over() {
        let mut parser = Parser::default();
        let lines = "frame=12\ndrop_frames=3\nfps=24.50\nstream_0_0_q=28.0\nbitrate=N/A\nout_time_us=480000\nspeed= 1.5x\n";
        assert!(lines.lines().all(|line| parser.line(line).is_none()));
        let report = parser.line("progress=continue").unwrap();
        assert_eq!((report.frame, report.dropped), (Some(12), Some(3)));
        assert_eq!(report.fps, Some(24.5));
        assert_eq!(report.speed, Some(1.5));
        assert_eq!(report.out_time_us, Some(480_000));
        assert_eq!(parser.line("progress=end"), Some(Report { ended: true, ..Report::default() }));
    }

    #[test]
    fn not_available_is_nothing() {
        let mut parser = Parser::default();
        for line in ["out_time_us=N/A", "speed=N/A", "fps=", "nonsense", "frame=-1"] {
            assert!(parser.line(line).is_none());
        }
        assert_eq!(parser.line("progress=continue"), Some(Report::default()));
    }
}
