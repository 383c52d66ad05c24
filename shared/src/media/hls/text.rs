//! Values as they may stand in a playlist (RFC 8216, sections 4.1 and 4.2).

/// An attribute's quoted string. It has no escapes and may not hold a quotation mark, a line feed or a carriage
/// return, so a name someone typed is cleaned: quotation marks become apostrophes, control characters go.
pub(super) fn quoted(value: &str) -> String {
    let cleaned = value.chars().filter(|c| !c.is_control()).map(|c| if c == '"' { '\'' } else { c });
    std::iter::once('"').chain(cleaned).chain(std::iter::once('"')).collect()
}

/// A URI on a line of its own. Control characters go, since they could start another line; a leading `#`, which would
/// make the line a comment, is escaped.
pub(super) fn uri_line(uri: &str) -> String {
    let cleaned: String = uri.chars().filter(|c| !c.is_control()).collect();
    match cleaned.strip_prefix('#') {
        Some(rest) => format!("%23{rest}"),
        None => cleaned,
    }
}

/// `numerator / denominator` as a decimal with exactly `digits` digits after the point, the last one rounded half up.
/// A denominator of zero counts as one.
pub(in crate::media) fn decimal(numerator: u64, denominator: u32, digits: u32) -> String {
    let scale = 10_u128.pow(digits);
    let scaled = scaled(numerator, denominator, scale);
    format!("{}.{:0width$}", scaled / scale, scaled % scale, width = digits as usize)
}

/// Microseconds since 1970 as RFC 3339 to the millisecond, in UTC.
pub(in crate::media) fn date_time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// `numerator / denominator * scale`, rounded half up. A denominator of zero counts as one.
pub(super) fn scaled(numerator: u64, denominator: u32, scale: u128) -> u128 {
    let denominator = u128::from(denominator.max(1));
    (u128::from(numerator) * scale + denominator / 2) / denominator
}
