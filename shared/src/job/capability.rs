//! What a worker must have proven to be given a task.

use std::collections::BTreeSet;
use std::fmt;

use super::encoder::Encoder;
use super::state::words;

words! {
    /// A kind of worker.
    Pool("pool") {
        Cpu = "cpu",
        Gpu = "gpu",
        Live = "live",
    }
}

/// Something a worker proves at boot by doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability {
    /// FFmpeg and ffprobe run, and FFmpeg's own AAC encoder works.
    Base,
    Encoder(Encoder),
    /// FFmpeg was built with libvmaf and compares two pictures by it.
    Libvmaf,
}

impl Capability {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Encoder(encoder) => encoder.as_str(),
            Self::Libvmaf => "libvmaf",
        }
    }

    /// The encoder that it is, where it is one.
    pub fn encoder(self) -> Option<Encoder> {
        match self {
            Self::Encoder(encoder) => Some(encoder),
            Self::Base | Self::Libvmaf => None,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word of a class, as the database has it, in whose queue its rings go: that of the capability which the fewest workers
/// have. So a worker listens on one queue for each of its capabilities, and not for each combination of them.
pub fn bell(class: &str) -> &str {
    let rarity = |word: &&str| word.parse::<Encoder>().ok().map(|encoder| encoder as usize);
    class.split('+').max_by_key(rarity).unwrap_or(class)
}

/// The capabilities one task needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class(BTreeSet<&'static str>);

impl Class {
    /// The class that needs all of `capabilities` besides [`Capability::Base`], which every task needs.
    pub fn of(capabilities: &[Capability]) -> Self {
        Self(capabilities.iter().filter(|cap| **cap != Capability::Base).map(|cap| cap.as_str()).collect())
    }
}

impl fmt::Display for Class {
    /// The words joined by `+`, `base` where nothing special is needed: the form in the database and in queue names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(Capability::Base.as_str());
        }
        let words: Vec<&str> = self.0.iter().copied().collect();
        f.write_str(&words.join("+"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_rings_where_its_rarest_capability_listens() {
        let of = |encoders: &[Encoder]| {
            let capabilities: Vec<Capability> = encoders.iter().copied().map(Capability::Encoder).collect();
            Class::of(&capabilities).to_string()
        };
        assert_eq!(bell(&of(&[])), "base");
        assert_eq!(bell(&of(&[Encoder::Libx264])), "libx264");
        let mixed = of(&[Encoder::Libx264, Encoder::Libsvtav1, Encoder::LibvpxVp9, Encoder::Libx264]);
        assert_eq!(mixed, "libsvtav1+libvpx-vp9+libx264");
        assert_eq!(bell(&mixed), "libsvtav1");
        assert_eq!(bell(&Class::of(&[Capability::Base, Capability::Libvmaf]).to_string()), "libvmaf");
    }
}
