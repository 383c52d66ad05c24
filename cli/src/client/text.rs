//! Text for terminals: what others wrote made harmless, commands quoted, figures made readable.

use chrono::{DateTime, Utc};

/// One line without anything a terminal would act on. Titles and messages are other people's text.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if acts(c) { '?' } else { c }).collect()
}

/// The lines of a longer text, each made harmless. FFmpeg ends some lines with a carriage return alone.
pub(crate) fn lines(text: &str) -> impl DoubleEndedIterator<Item = String> {
    text.split(['\n', '\r'])
        .filter(|line| !line.trim().is_empty())
        .map(|line| plain(&line.replace('\t', "    ")))
}

/// Control characters, and those that turn the direction of writing or hide: they can make a line read as another.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// At most `width` characters.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{}...", head.trim_end())
}

/// A command line that a POSIX shell reads back as these arguments (bash and zsh where one holds control characters).
pub(crate) fn quote<S: AsRef<str>>(args: &[S]) -> String {
    args.iter().map(|arg| quote_one(arg.as_ref())).collect::<Vec<_>>().join(" ")
}

fn quote_one(arg: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !arg.is_empty() && arg.chars().all(bare) {
        return arg.to_owned();
    }
    if !arg.chars().any(acts) {
        return format!("'{}'", arg.replace('\'', r"'\''"));
    }
    // The printed text must be harmless too, so what acts on a terminal is escaped rather than quoted.
    let mut quoted = String::from("$'");
    for c in arg.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii() && acts(c) => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if acts(c) => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// A length of time: `0.4 s`, `12 s`, `3:05`, `1:02:03`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

/// How long ago something was, in one unit.
pub(crate) fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - then).num_seconds();
    match seconds {
        // Clocks differ a little between machines.
        i64::MIN..=4 => "just now".to_owned(),
        5..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Bytes in decimal units, as file managers and object stores count.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" || value >= 99.5 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Bits per second.
pub(crate) fn bitrate(bits: u64) -> String {
    match bits {
        0..=999_999 => format!("{} kb/s", bits / 1000),
        _ => format!("{:.1} Mb/s", bits as f64 / 1e6),
    }
}

/// Two decimals at most: 25, 29.97.
pub(crate) fn short_number(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A speed relative to playing: `2.5x`, `0.08x`.
pub(crate) fn times(speed: f64) -> String {
    if speed < 0.995 { format!("{speed:.2}x") } else { format!("{speed:.1}x") }
}

/// A share of one. Rounded down: 100 % means that it is over.
pub(crate) fn percent(share: f64) -> String {
    format!("{}%", (share.clamp(0.0, 1.0) * 100.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(plain("Übung 1 – 日本語 🎬"), "Übung 1 – 日本語 🎬");
        assert_eq!(plain("a\x1b]0;owned\x07b\nc\u{9b}31m"), "a?]0;owned?b?c?31m");
        assert_eq!(plain("\u{202e}gpj.exe\u{2066}"), "?gpj.exe?");
    }

    #[test]
    fn logs_are_split_at_either_line_end() {
        let text = "frame=1\rframe=2\r\n\n\terror\x1b[1m\n";
        assert_eq!(lines(text).collect::<Vec<_>>(), ["frame=1", "frame=2", "    error?[1m"]);
    }

    #[test]
    fn commands_read_back() {
        assert_eq!(quote(&["ffmpeg", "-i", "file:/a/b.mp4", "a=b,c"]), "ffmpeg -i file:/a/b.mp4 a=b,c");
        assert_eq!(
            quote(&["a b", "", "it's", "$(rm)", "[0:v]scale=-2:360"]),
            r#"'a b' '' 'it'\''s' '$(rm)' '[0:v]scale=-2:360'"#
        );
        assert_eq!(quote(&["a\x1b'\n\\\u{202e}"]), r"$'a\x1b\'\n\\\U0000202e'");
        assert_eq!(quote(&["é"]), "'é'");
    }

    #[test]
    fn bash_agrees() {
        let args = ["plain", "a b", "", "it's", "a\x1b'\n\\\u{202e}é", "\u{85}x", "!x", "~", "*", "\t"];
        let script = format!("printf '%s\\0' {}", quote(&args));
        let output = match std::process::Command::new("bash")
            .env("LC_ALL", "C.UTF-8")
            .args(["-c", &script])
            .output()
        {
            Ok(output) => output,
            // Not every machine has it.
            Err(_) => return,
        };
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.trim_end_matches('\0').split('\0').collect::<Vec<_>>(), args);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [span(0.44), span(9.96), span(59.4), span(185.0), span(3723.0)],
            ["0.4 s", "10 s", "59 s", "3:05", "1:02:03"]
        );
        assert_eq!(span(f64::NAN), "-");
        assert_eq!(
            [size(0), size(999), size(1_055_736), size(999_950), size(123_456_789)],
            ["0 B", "999 B", "1.1 MB", "1.0 MB", "123 MB"]
        );
        assert_eq!(
            [percent(0.0), percent(0.999), percent(1.0), percent(f64::NAN)],
            ["0%", "99%", "100%", "0%"]
        );
        assert_eq!(
            [short_number(25.0), short_number(29.97002997), short_number(12.5)],
            ["25", "29.97", "12.5"]
        );
        let now = Utc::now();
        let back = |seconds| ago(now - chrono::Duration::seconds(seconds), now);
        assert_eq!(
            [back(-5), back(90), back(3600), back(90_000), back(260_000)],
            ["just now", "90 s ago", "60 min ago", "25 h ago", "3 days ago"]
        );
        assert_eq!([bitrate(128_000), bitrate(4_500_000)], ["128 kb/s", "4.5 Mb/s"]);
    }

    #[test]
    fn long_titles_are_cut() {
        assert_eq!(shorten("short", 10), "short");
        assert_eq!(shorten("a rather long title", 12), "a rather...");
    }
}
