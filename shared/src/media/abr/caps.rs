//! Which rungs a viewer's device can show.

use serde::{Deserialize, Serialize};

use crate::job::state::words;

/// What can be chosen from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    pub name: String,
    /// Bits per second of picture and sound, on average.
    pub bitrate: u64,
    /// Pixels; 0 where there is no picture.
    pub width: u32,
    pub height: u32,
    /// By RFC 6381, as in a master playlist.
    pub codecs: String,
}

/// What a viewer's device and wishes allow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Caps {
    /// Device pixels that the picture is shown in.
    pub screen: Option<(u32, u32)>,
    /// Beginnings of codec strings that are decoded, such as `avc1` or `hvc1`; none given: all are.
    pub codecs: Vec<String>,
    /// Whoever pays for each byte: no more than 480 lines.
    pub data_saver: bool,
    pub preference: Preference,
}

/// What a viewer prefers: no more than this, and less where the network carries less.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Preference {
    /// Name of a rung; no limit where there is none of this name.
    pub rendition: Option<String>,
    /// Of the shorter side, so that it means the same for a portrait picture.
    pub max_height: Option<u32>,
    pub data_saver: bool,
}

words! {
    /// Why a rung is out of question.
    Cap("cap") {
        Codec = "codec",
        Screen = "screen",
        DataSaver = "data_saver",
        Preference = "preference",
    }
}

/// What a data saver gets at most: enough to read a caption on a phone, at a fraction of the bytes of 720 lines.
const SAVED_LINES: u32 = 480;

/// A picture that is so little smaller than its screen fills it: nobody sees 852 pixels on 854.
const NEARLY: f64 = 1.02;

impl Caps {
    /// Rungs in ascending order of bitrate, each with why it is out of question. Where all would be, the least of what can be decoded
    /// is not (or of all, where nothing can: the player knows better than its list).
    pub fn judge(&self, rungs: &[Rung]) -> Vec<Option<Cap>> {
        let mut judged: Vec<Option<Cap>> = rungs.iter().map(|rung| self.of(rung, rungs)).collect();
        if judged.iter().all(Option::is_some) {
            let least = judged.iter().position(|cap| *cap != Some(Cap::Codec)).unwrap_or_default();
            if let Some(cap) = judged.get_mut(least) {
                *cap = None;
            }
        }
        judged
    }

    fn of(&self, rung: &Rung, rungs: &[Rung]) -> Option<Cap> {
        if !self.codecs.is_empty() && !rung.codecs.split(',').all(|codec| self.decodes(codec.trim())) {
            return Some(Cap::Codec);
        }
        let lines = rung.width.min(rung.height);
        if (self.data_saver || self.preference.data_saver) && lines > SAVED_LINES {
            return Some(Cap::DataSaver);
        }
        let Preference { rendition, max_height, .. } = &self.preference;
        let preferred = rungs.iter().find(|other| Some(&other.name) == rendition.as_ref());
        if preferred.is_some_and(|preferred| rung.bitrate > preferred.bitrate)
            || max_height.is_some_and(|most| lines > most)
        {
            return Some(Cap::Preference);
        }
        // The smallest that fills the screen one way is not too large; what is larger than that is.
        let reaches = |pixels: u32, screen: u32| f64::from(pixels) * NEARLY >= f64::from(screen);
        let fills = |rung: &Rung| {
            self.screen
                .is_some_and(|(width, height)| reaches(rung.width, width) || reaches(rung.height, height))
        };
        let smaller = |other: &Rung| other.height < rung.height && fills(other);
        (fills(rung) && rungs.iter().any(smaller)).then_some(Cap::Screen)
    }

    fn decodes(&self, codec: &str) -> bool {
        // Sound is not what devices differ in.
        codec.is_empty()
            || codec.starts_with("mp4a")
            || self.codecs.iter().any(|known| codec.starts_with(known.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rungs() -> Vec<Rung> {
        let rung = |name: &str, bitrate, width, height, codecs: &str| Rung {
            name: name.into(),
            bitrate,
            width,
            height,
            codecs: codecs.into(),
        };
        vec![
            rung("240p", 400_000, 426, 240, "avc1.64001e,mp4a.40.2"),
            rung("480p", 1_400_000, 854, 480, "avc1.64001f,mp4a.40.2"),
            rung("720p", 2_800_000, 1280, 720, "avc1.640028,mp4a.40.2"),
            rung("1080p", 5_000_000, 1920, 1080, "hvc1.1.6.L120.90,mp4a.40.2"),
        ]
    }

    #[test]
    fn who_says_nothing_gets_all() {
        assert_eq!(Caps::default().judge(&rungs()), [None; 4]);
    }

    #[test]
    fn a_screen_is_filled_and_not_more() {
        let of = |screen| Caps { screen: Some(screen), ..Caps::default() }.judge(&rungs());
        assert_eq!(of((854, 480)), [None, None, Some(Cap::Screen), Some(Cap::Screen)]);
        assert_eq!(of((900, 500)), [None, None, None, Some(Cap::Screen)]);
        assert_eq!(of((3840, 2160)), [None; 4]);
        // A phone held upright shows the picture small.
        assert_eq!(of((390, 219)), [None, Some(Cap::Screen), Some(Cap::Screen), Some(Cap::Screen)]);
    }

    #[test]
    fn codecs_and_data_savers_limit() {
        let h264 = Caps { codecs: vec!["avc1".into()], ..Caps::default() };
        assert_eq!(h264.judge(&rungs()), [None, None, None, Some(Cap::Codec)]);
        let saver = Caps { data_saver: true, ..Caps::default() };
        assert_eq!(saver.judge(&rungs()), [None, None, Some(Cap::DataSaver), Some(Cap::DataSaver)]);
        // Something is always left.
        let av1 = Caps { codecs: vec!["av01".into()], ..Caps::default() };
        assert_eq!(av1.judge(&rungs())[0], None);
        assert!(Caps::default().judge(&[]).is_empty());
    }

    #[test]
    fn what_is_preferred_is_the_most_that_is_played() {
        let of = |preference| Caps { preference, ..Caps::default() }.judge(&rungs());
        let named = |name: &str| Preference { rendition: Some(name.into()), ..Preference::default() };
        let dearer = Some(Cap::Preference);
        assert_eq!(of(named("480p")), [None, None, dearer, dearer]);
        assert_eq!(of(named("gone")), [None; 4]);
        assert_eq!(
            of(Preference { max_height: Some(720), ..Preference::default() }),
            [None, None, None, dearer]
        );
        let saver = Some(Cap::DataSaver);
        assert_eq!(of(Preference { data_saver: true, ..Preference::default() }), [None, None, saver, saver]);
        assert_eq!(of(Preference { max_height: Some(100), ..Preference::default() })[0], None);
    }
}
