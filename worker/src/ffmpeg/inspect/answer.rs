//! What ffprobe prints, put together again line by line.

/// Bytes of a line: a name and its value. What is longer is a tag, and none is kept at such length.
const LONGEST_LINE: usize = 8 * 1024;
/// Bytes of the whole: more than all tags of all tracks have at that length.
const LONGEST: usize = 1 << 20;

/// ffprobe's JSON, with tags beyond all measure emptied: no reason to refuse a film.
#[derive(Debug, Default)]
pub struct Answer {
    json: String,
    /// The last line was emptied: the next one tells whether there is more behind it.
    emptied: bool,
}

impl Answer {
    /// Adds a line, which may be cut.
    pub fn add(&mut self, line: &str) {
        if std::mem::take(&mut self.emptied) && !line.trim_start().starts_with('}') {
            self.json.push(',');
        }
        let line = match line.split_once("\": \"") {
            Some((name, _)) if line.len() > LONGEST_LINE => {
                self.emptied = true;
                format!("{name}\": \"\"")
            }
            _ => line.to_owned(),
        };
        if self.json.len() + line.len() <= LONGEST {
            self.json.push_str(&line);
        }
    }

    /// All that came.
    pub fn json(&self) -> &[u8] {
        self.json.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::ffmpeg::argv;
    use crate::ffmpeg::inspect::Described;
    use crate::ffmpeg::process::{Limits, Run, run};

    #[tokio::test]
    async fn a_tag_without_end_is_no_reason_to_refuse_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tagged.mkv");
        let most = Duration::from_secs(30);
        for (name, long) in [("artist", true), ("comment", true), ("title", false)] {
            let value =
                if long { format!("{name}=\"{}", "ä\\ ".repeat(25_000)) } else { format!("{name}=x") };
            let ended = std::process::Command::new("ffmpeg")
                .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=0.2"])
                .args(["-metadata", &value, "-metadata", "genre=y"])
                .arg(&file)
                .status()
                .unwrap();
            assert!(ended.success());
            let (mut answer, args) = (Answer::default(), argv::describe(&file));
            let limits = Limits::standard(most, 1);
            let run_it = Run {
                program: Path::new("ffprobe"),
                args: &args,
                dir: dir.path(),
                deadline: most,
                stall: most,
                limits,
            };
            run(run_it, &CancellationToken::new(), |line| answer.add(line)).await.unwrap();
            let described = Described::parse(answer.json()).unwrap();
            let tags = &described.format.unwrap().tags;
            let of = |wanted: &str| {
                tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
            };
            assert_eq!((of(name), of("genre")), (Some(if long { "" } else { "x" }), Some("y")));
        }
    }
}
