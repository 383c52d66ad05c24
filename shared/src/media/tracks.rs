//! What a person is told of one of several tracks: its language, its name, and what it is for.

use serde::{Deserialize, Serialize};

mod language;

pub use language::{language_name, language_tag};

/// More characters than a line of a menu has room for.
const MAX_NAME: usize = 64;

/// What a track is for, as far as it decides who should get it unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Main,
    /// Somebody talks about what is shown.
    Commentary,
    /// Tells those who cannot see what is shown.
    Description,
    /// Tells those who cannot hear what is said and sounds.
    Captions,
    /// Only what nobody could follow without it: a sign, a sentence in another language.
    Forced,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Main, Self::Commentary, Self::Description, Self::Captions, Self::Forced];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Commentary => "commentary",
            Self::Description => "description",
            Self::Captions => "captions",
            Self::Forced => "forced",
        }
    }

    /// The role this is the word for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// A title as a file has it, made fit for a menu; `None` where nothing is left of it.
pub fn title(raw: &str) -> Option<String> {
    let quoted: String = raw.chars().take(MAX_NAME * 16).filter(|c| *c != '"').collect();
    plain(&quoted, MAX_NAME)
}

/// Text of a file on one line, without signs that nobody sees, at most so many characters of it; `None` where nothing is left.
pub fn plain(raw: &str, most: usize) -> Option<String> {
    // Signs that turn the direction of what follows would reach beyond the name.
    let turning = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain: String = raw
        .chars()
        .take(most * 16)
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !turning(*c))
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let text: String = words.join(" ").chars().take(most).collect();
    Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
}

/// A name for each track, all different, from its title and its language (BCP 47).
pub fn names<'a>(tracks: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for (number, (title, language)) in (1..).zip(tracks) {
        let known = language.map(|tag| language_name(tag).unwrap_or(tag));
        let name = title.or(known).map_or_else(|| format!("Track {number}"), str::to_owned);
        let others = (2..).map(|n| format!("{name} ({n})"));
        let free = std::iter::once(name.clone()).chain(others).find(|name| !names.contains(name));
        names.push(free.unwrap_or(name));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_say_what_is_known() {
        let tracks = [
            (None, Some("en")),
            (Some("English"), Some("en")),
            (None, Some("tlh")),
            (None, None),
            (None, Some("en")),
        ];
        assert_eq!(names(tracks), ["English", "English (2)", "tlh", "Track 4", "English (3)"]);
    }

    #[test]
    fn a_title_breaks_out_of_nothing() {
        assert_eq!(title("  Director's\r\n\tcut \"\u{202e}x\u{0}\"").as_deref(), Some("Director's cut x"));
        assert_eq!(title(&"ä".repeat(5000)).unwrap().chars().count(), MAX_NAME);
        assert_eq!(title(" \n\u{7} "), None);
    }

    #[test]
    fn roles_have_words() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("Main"), None);
    }
}
