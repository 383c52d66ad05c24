//! Attribute lists of playlist tags (draft-pantos-hls-rfc8216bis, 4.2).

/// More than any tag has; what a hostile one may have.
const MOST: usize = 64;

/// The attributes of one tag, in order.
#[derive(Debug, Default)]
pub(super) struct Attributes<'t>(Vec<(&'t str, Value<'t>)>);

/// A value, without its quotes where it had some.
#[derive(Debug, Clone, Copy)]
struct Value<'t> {
    text: &'t str,
    quoted: bool,
}

impl<'t> Attributes<'t> {
    /// Reads `NAME=value,NAME="value"`.
    ///
    /// # Errors
    ///
    /// Says what is wrong where it is no attribute list, and where a name comes twice.
    pub(super) fn parse(text: &'t str) -> Result<Self, String> {
        let mut found: Vec<(&str, Value<'_>)> = vec![];
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or("an attribute has no value")?;
            let name = name.trim();
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
            {
                return Err("an attribute's name is not of capitals, digits and hyphens".to_owned());
            }
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (text, after) = quoted.split_once('"').ok_or("a quoted string does not end")?;
                    (Value { text, quoted: true }, after)
                }
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    (Value { text: after[..end].trim(), quoted: false }, &after[end..])
                }
            };
            if found.iter().any(|(known, _)| *known == name) {
                return Err(format!("the attribute {name} comes twice"));
            }
            if found.len() == MOST {
                return Err(format!("it has more than {MOST} attributes"));
            }
            found.push((name, value));
            rest = match after.trim_start() {
                "" => "",
                more => more.strip_prefix(',').ok_or("something stands behind a quoted string")?.trim_start(),
            };
        }
        Ok(Self(found))
    }

    /// A quoted string.
    pub(super) fn string(&self, name: &str) -> Result<Option<&'t str>, String> {
        match self.value(name) {
            Some(value) if !value.quoted => Err(format!("{name} is not a quoted string")),
            value => Ok(value.map(|value| value.text)),
        }
    }

    /// An enumerated string or a number as it is written.
    pub(super) fn word(&self, name: &str) -> Option<&'t str> {
        self.value(name).filter(|value| !value.quoted).map(|value| value.text)
    }

    /// `YES` or not.
    pub(super) fn yes(&self, name: &str) -> bool {
        self.word(name) == Some("YES")
    }

    /// Seconds.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<f64>, String> {
        let Some(text) = self.word(name) else { return Ok(None) };
        seconds(text).map(Some).ok_or_else(|| format!("{name} is not a number of seconds"))
    }

    /// A decimal integer.
    pub(super) fn integer(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.word(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name} is not a decimal integer"))
    }

    fn value(&self, name: &str) -> Option<Value<'t>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// A decimal number of seconds: digits and at most one point, at most some years.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|seconds: &f64| plain && (0.0..=1e9).contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        let text = r#"DURATION=0.2,INDEPENDENT=YES,URI="a,b=c.mp4",BYTERANGE="10@5" , LAST-MSN=7"#;
        let attributes = Attributes::parse(text).unwrap();
        assert_eq!(attributes.seconds("DURATION"), Ok(Some(0.2)));
        assert!(attributes.yes("INDEPENDENT") && !attributes.yes("GAP"));
        assert_eq!(attributes.string("URI"), Ok(Some("a,b=c.mp4")));
        assert_eq!(attributes.integer("LAST-MSN"), Ok(Some(7)));
        assert!(attributes.string("DURATION").is_err() && attributes.integer("DURATION").is_err());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for wrong in ["A", "=1", "a=1", r#"A="1"#, r#"A="1"B=2"#, "A=1,A=2"] {
            assert!(Attributes::parse(wrong).is_err(), "{wrong}");
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("A{n}=1")).collect();
        assert!(Attributes::parse(&many.join(",")).is_err());
        for wrong in ["", "1e3", "-1", "inf", "NaN", "1.2.3", "99999999999"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
