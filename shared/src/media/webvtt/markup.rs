//! The text of a cue: three tags, escapes, and nothing else.

/// Characters of a cue.
const MAX_TEXT: usize = 1000;
/// Lines of a cue.
const MAX_LINES: usize = 12;
/// Characters of a tag, an override or an escape; what is longer is none.
const MAX_TAG: usize = 128;

/// Tags that a player shows as they are meant. All others are dropped, and what they enclose is kept.
const TAGS: [&str; 3] = ["b", "i", "u"];

/// Character references that cue text may have (WebVTT, 3.3), in front of the character itself.
const ESCAPES: [(&str, char); 6] = [
    ("&amp;", '&'),
    ("&lt;", '<'),
    ("&gt;", '>'),
    ("&lrm;", '\u{200e}'),
    ("&rlm;", '\u{200f}'),
    ("&nbsp;", '\u{a0}'),
];

/// What may stand in a cue of a text that may hold anything. Empty where nothing is left to be shown.
pub(super) fn clean(raw: &str) -> String {
    let mut cleaner = Cleaner::default();
    for line in raw.lines().filter(|line| !is_drawing(line)) {
        if cleaner.is_full() {
            break;
        }
        cleaner.line(line);
    }
    cleaner.finish()
}

#[derive(Default)]
struct Cleaner {
    /// Finished lines.
    lines: Vec<String>,
    line: String,
    /// Tags that are open, the outermost first.
    open: Vec<&'static str>,
    /// Characters and tags.
    length: usize,
    /// True where there is something to be seen.
    shows: bool,
}

impl Cleaner {
    fn is_full(&self) -> bool {
        self.length >= MAX_TEXT || self.lines.len() >= MAX_LINES
    }

    fn line(&mut self, raw: &str) {
        let mut rest = raw.trim();
        while let Some(next) = rest.chars().next().filter(|_| !self.is_full()) {
            if let Some(tag) = enclosed(rest, '<', '>').filter(|tag| is_tag(tag)) {
                self.tag(tag);
                rest = &rest[tag.len() + 2..];
            } else if let Some(style) = enclosed(rest, '{', '}').filter(|style| style.starts_with('\\')) {
                // An override of a styled subtitle that FFmpeg did not know.
                rest = &rest[style.len() + 2..];
            } else if let Some((escape, character)) =
                ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape))
            {
                self.character(*character);
                rest = &rest[escape.len()..];
            } else if let Some(after) = rest.strip_prefix("\\h") {
                // The hard space of a styled subtitle.
                self.character(' ');
                rest = after;
            } else {
                self.character(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        // Without a character of its own a line would end the cue.
        let line = std::mem::take(&mut self.line);
        if !line.trim().is_empty() {
            self.lines.push(line);
        }
    }

    fn character(&mut self, character: char) {
        self.length += 1;
        self.shows |= !character.is_whitespace() && !character.is_control();
        match character {
            '&' => self.line.push_str("&amp;"),
            '<' => self.line.push_str("&lt;"),
            '>' => self.line.push_str("&gt;"),
            '\t' => self.line.push(' '),
            other if other.is_control() => {}
            other => self.line.push(other),
        }
    }

    fn tag(&mut self, tag: &str) {
        self.length += 1;
        if let Some(name) = tag.strip_prefix('/') {
            if self.open.last().is_some_and(|open| *open == name) {
                self.open.pop();
                self.line.push_str(&format!("</{name}>"));
            }
            return;
        }
        // Twice open is as bold as once, and its end would be another's.
        let known = TAGS.into_iter().find(|known| *known == tag && !self.open.contains(known));
        if let Some(known) = known {
            self.open.push(known);
            self.line.push_str(&format!("<{known}>"));
        }
    }

    fn finish(mut self) -> String {
        if !self.shows {
            return String::new();
        }
        let mut text = self.lines.join("\n");
        while let Some(open) = self.open.pop() {
            text.push_str(&format!("</{open}>"));
        }
        text
    }
}

/// What stands between `open`, at the start, and the next `close`.
fn enclosed(text: &str, open: char, close: char) -> Option<&str> {
    let inner = text.strip_prefix(open)?;
    let end = inner.char_indices().take(MAX_TAG).find(|(_, c)| *c == close)?.0;
    inner.get(..end).filter(|inner| !inner.contains(open))
}

/// Like a tag of WebVTT or HTML, or a time within a cue: `b`, `/i`, `c.loud`, `font color="red"`, `00:01.000`.
fn is_tag(inner: &str) -> bool {
    let name = inner.strip_prefix('/').unwrap_or(inner);
    let first = name.chars().next();
    let is_time = name.contains(':') && name.chars().all(|c| c.is_ascii_digit() || ":.".contains(c));
    first.is_some_and(|c| c.is_ascii_alphabetic()) || is_time || inner == "/"
}

/// True for the commands of a vector drawing (`m 0 0 l 100 0`), which FFmpeg takes for the text of a styled subtitle.
fn is_drawing(line: &str) -> bool {
    let mut rest = line;
    for tag in TAGS {
        rest = rest.trim().trim_start_matches(&format!("<{tag}>")).trim_end_matches(&format!("</{tag}>"));
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    let is_command = |word: &str| word.len() == 1 && "mnlbspc".contains(word);
    words.len() >= 6
        && words.first() == Some(&"m")
        && words.iter().all(|word| is_command(word) || word.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tags_are_kept_and_closed() {
        for (raw, text) in [
            ("<i>mill</i>", "<i>mill</i>"),
            ("<b><i>both</b></i>", "<b><i>both</i></b>"),
            ("<b><b>twice</b> not</b>", "<b>twice</b> not"),
            ("<u>open\nto the end", "<u>open\nto the end</u>"),
            ("</b>only an end", "only an end"),
            ("<v Roger><c.loud>Hi</c> <00:01.000>there</v>", "Hi there"),
            ("<font color=\"red\" onload='x'>red</font><br/>", "red"),
            ("<script>alert(1)</script><img src=x onerror=alert(1)>", "alert(1)"),
            ("<b class=x>bold</b>", "bold"),
            ("<B>", ""),
        ] {
            assert_eq!(clean(raw), text, "{raw}");
        }
    }

    #[test]
    fn all_else_is_escaped() {
        for (raw, text) in [
            ("a < b > c & d", "a &lt; b &gt; c &amp; d"),
            ("&lt;b&gt; &amp; &nbsp;&copy;", "&lt;b&gt; &amp; \u{a0}&amp;copy;"),
            ("x --> y", "x --&gt; y"),
            ("<<b>>", "&lt;<b>&gt;</b>"),
            ("<", "&lt;"),
            ("\u{0}\u{8}a\tb\u{7f}", "a b"),
            ("\n \n\nfirst\n\n  \nsecond ", "first\nsecond"),
            ("{\\an8}{\\pos(1,2)}top\\hright {kept} {\\open", "top right {kept} {\\open"),
            ("<b>m 0 0 l 100 0 100 100 0 100</b>\nshown", "shown"),
            ("m 1 2 3", "m 1 2 3"),
            (" \u{0} ", ""),
            ("<i></i>", ""),
        ] {
            assert_eq!(clean(raw), text, "{raw:?}");
        }
    }

    #[test]
    fn what_goes_on_and_on_is_cut() {
        let text = clean(&"&".repeat(100_000));
        assert_eq!(text, "&amp;".repeat(MAX_TEXT));
        assert_eq!(clean(&"x\n".repeat(100)).lines().count(), MAX_LINES);
        let nested = clean(&"<i><b><u>".repeat(10_000));
        assert_eq!(nested, "", "tags alone show nothing");
        let pairs = clean(&"<i>x</i>".repeat(10_000));
        assert!(pairs.len() < MAX_TEXT * 8 && pairs.matches("<i>").count() == pairs.matches("</i>").count());
        let odd = clean(&format!("<{}>", "x".repeat(MAX_TAG)));
        assert!(odd.starts_with("&lt;xxx"));
        let unclosed = "<".repeat(20_000);
        assert_eq!(clean(&unclosed), "&lt;".repeat(MAX_TEXT));
    }
}
