//! What a viewer tells their socket, and which rung follows from it.

use reelmill_shared::media::abr::{BitrateProfile, Rung};
use serde::Deserialize;

/// A text message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Told {
    /// The name of a rendition, or `auto`.
    Quality {
        quality: String,
    },
    /// Per cent of a full buffer.
    Buffer {
        health: f32,
    },
    Pause {},
    Resume {},
}

/// The quality that follows the buffer.
const AUTO: &str = "auto";

/// What is wanted now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wishes {
    /// A rendition by name; one there is none of counts for nothing.
    pub(super) quality: Option<String>,
    pub(super) profile: BitrateProfile,
    pub(super) paused: bool,
    /// What was told of the buffer, and nobody has considered yet.
    pub(super) health: Option<f32>,
}

impl Wishes {
    pub(super) fn new(quality: Option<&str>, profile: BitrateProfile) -> Self {
        Self { quality: named(quality), profile, paused: false, health: None }
    }

    /// # Errors
    ///
    /// What is wrong with the message.
    pub(super) fn take(&mut self, text: &str) -> Result<(), &'static str> {
        let told = serde_json::from_str(text).map_err(|_| "this is no message that a socket takes")?;
        match told {
            Told::Quality { quality } => self.quality = named(Some(&quality)),
            Told::Buffer { health } if (0.0..=100.0).contains(&health) => self.health = Some(health),
            Told::Buffer { .. } => return Err("health is from 0 to 100"),
            Told::Pause {} => self.paused = true,
            Told::Resume {} => self.paused = false,
        }
        Ok(())
    }

    /// The rung to play. `rungs` are in ascending order.
    pub(super) fn rung<'r>(&self, rungs: &'r [Rung]) -> Option<&'r Rung> {
        let named = self.quality.as_ref().and_then(|name| rungs.iter().find(|rung| rung.name == *name));
        named.or_else(|| self.profile.rung(rungs))
    }
}

fn named(quality: Option<&str>) -> Option<String> {
    quality.filter(|name| *name != AUTO).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_choose_by_name_or_by_their_buffer() {
        let rung = |name: &str, bitrate| Rung {
            name: name.into(),
            bitrate,
            width: 1,
            height: 1,
            codecs: String::new(),
        };
        let rungs = [rung("240p", 400_000), rung("720p", 1_900_000)];
        let mut wishes = Wishes::new(Some("auto"), BitrateProfile::Low);
        let playing = |wishes: &Wishes| wishes.rung(&rungs).unwrap().name.clone();
        assert_eq!(playing(&wishes), "240p");
        wishes.take(r#"{"type":"quality","quality":"720p"}"#).unwrap();
        assert_eq!(playing(&wishes), "720p");
        wishes.take(r#"{"type":"quality","quality":"8k"}"#).unwrap();
        assert_eq!(playing(&wishes), "240p", "there is none of that name");
        wishes.take(r#"{"type":"buffer","health":12.5}"#).unwrap();
        wishes.take(r#"{"type":"pause"}"#).unwrap();
        assert_eq!((wishes.health, wishes.paused), (Some(12.5), true));
        wishes.take(r#"{"type":"resume"}"#).unwrap();
        assert!(!wishes.paused);
        for bad in
            ["", "{}", r#"{"type":"buffer","health":101}"#, r#"{"type":"stop"}"#, r#"{"type":"pause","x":1}"#]
        {
            assert!(wishes.clone().take(bad).is_err(), "{bad}");
        }
    }
}
