//! A range of ports, as a setting.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ports that lie side by side: `10080-10099`, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(RangeInclusive<u16>);

/// It is no such range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a port or a range of them, such as 10080-10099")]
pub struct NoPorts;

impl Ports {
    /// Where publishers come in by SRT.
    pub const SRT: Self = Self(10_080..=10_099);

    /// How many there are: at least one.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them, beginning with the one that `preferred` leads to, whatever number it is.
    pub fn from(&self, preferred: u64) -> impl Iterator<Item = u16> {
        let first = (preferred % self.count() as u64) as usize;
        self.0.clone().skip(first).chain(self.0.clone().take(first))
    }
}

impl FromStr for Ports {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().ok().filter(|port| *port > 0).ok_or(NoPorts);
        let range: RangeInclusive<u16> = port(first)?..=port(last)?;
        if range.is_empty() { Err(NoPorts) } else { Ok(Self(range)) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_gone_through_from_any_of_its_ports() {
        let ports: Ports = "10080-10083".parse().unwrap();
        assert_eq!(ports.from(6).collect::<Vec<_>>(), [10_082, 10_083, 10_080, 10_081]);
        assert_eq!("9000".parse::<Ports>().unwrap().from(u64::MAX).collect::<Vec<_>>(), [9000]);
        assert_eq!(Ports::SRT.to_string().parse(), Ok(Ports::SRT));
        for text in ["", "0", "2-1", "1-2-3", "65536", "a"] {
            assert_eq!(text.parse::<Ports>(), Err(NoPorts), "{text:?}");
        }
    }
}
