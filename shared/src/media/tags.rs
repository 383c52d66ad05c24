//! What a container says of the work in it: who made it, what it is called.

use std::collections::BTreeMap;

use super::tracks::plain;

/// The tags that are kept where somebody wishes so, by FFmpeg's names: those that an MP4 has a place for.
pub const KNOWN: [&str; 16] = [
    "title",
    "artist",
    "album_artist",
    "album",
    "composer",
    "genre",
    "date",
    "creation_time",
    "comment",
    "description",
    "synopsis",
    "copyright",
    "show",
    "episode_id",
    "network",
    "location",
];

/// Characters of a value.
const LONGEST: usize = 500;

/// Those of a container's tags that are known, made fit for any other container.
pub fn known(raw: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let value = |(name, value): (&String, &String)| {
        let name = name.to_lowercase();
        let known = KNOWN.contains(&name.as_str());
        Some((name, plain(value, LONGEST)?)).filter(|_| known)
    };
    raw.iter().filter_map(value).collect()
}

/// Tags as a file of FFmpeg's metadata format ("Metadata" in its format documentation): `=`, `;`, `#` and `\\` are escaped, and no value
/// has a line end.
pub fn ffmetadata(tags: &BTreeMap<String, String>) -> String {
    let mut text = ";FFMETADATA1\n".to_owned();
    for (name, value) in tags {
        text.push_str(name);
        text.push('=');
        for c in value.chars() {
            if matches!(c, '=' | ';' | '#' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_ends_it() {
        let tags = [("title".to_owned(), "[STREAM] a=b;c#d\\".to_owned())].into();
        assert_eq!(ffmetadata(&tags), ";FFMETADATA1\ntitle=[STREAM] a\\=b\\;c\\#d\\\\\n");
    }

    #[test]
    fn only_what_is_known_is_kept_and_only_as_text() {
        let raw = [
            ("TITLE", "A\nfilm = \u{202e}x"),
            ("comment", "\u{0}"),
            ("major_brand", "isom"),
            ("artist", &"a".repeat(9000)),
        ];
        let raw = raw.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let kept = known(&raw);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["artist", "title"]);
        assert_eq!((kept["title"].as_str(), kept["artist"].len()), ("A film = x", LONGEST));
    }
}
