//! What one player told of itself and was told, from one decision to the next.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::bandwidth::Bandwidth;
use super::caps::{Cap, Caps, Rung};
use super::engine::{Choice, Engine, Reason, Situation};

/// Everything that is kept of a player. Rungs stand here by their names: more of them may come while something is made, and others go.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    pub bandwidth: Bandwidth,
    pub caps: Caps,
    /// Seconds that are there to be played, as was last heard.
    pub buffer: Option<f64>,
    /// Seconds after which the player fetches no more, where it said so.
    pub full: Option<f64>,
    /// What was chosen last; where the player chose by itself, that.
    pub rung: Option<String>,
    /// Of the last segment that came, which may have been asked for before the last choice.
    played: Option<String>,
    /// Seconds of that segment.
    segment: Option<f64>,
    filled: bool,
    pub switches: VecDeque<Switch>,
}

/// A change of the rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    pub at: DateTime<Utc>,
    /// `None` at the beginning.
    pub from: Option<String>,
    pub to: String,
    /// `None` where the player changed by itself.
    pub reason: Option<Reason>,
    /// Bits per second that were counted on.
    pub predicted: Option<f64>,
    pub buffer: Option<f64>,
}

/// A segment that a player fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Download<'a> {
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How long it plays.
    pub duration: f64,
    pub rung: &'a str,
    /// Seconds that were there to be played when it had come.
    pub buffer: f64,
}

/// What was chosen, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub choice: Choice,
    /// Why each rung is out of question.
    pub caps: Vec<Option<Cap>>,
}

/// Seconds that players buffer where they do not say.
const USUAL_BUFFER: f64 = 30.0;
/// Seconds of a segment where nobody knows.
const USUAL_SEGMENT: f64 = 6.0;
/// Switches that are remembered.
const REMEMBERED: usize = 50;

impl Session {
    /// A segment came.
    pub fn downloaded(&mut self, download: &Download<'_>, at: DateTime<Utc>) {
        self.bandwidth.sample(download.bytes, download.seconds);
        self.buffer = Some(download.buffer);
        self.segment = Some(download.duration);
        self.filled |= Engine::fills(download.buffer, self.full.unwrap_or(USUAL_BUFFER));
        if self.played.as_deref() == Some(download.rung) {
            return;
        }
        self.played = Some(download.rung.to_owned());
        if self.rung.as_deref() != Some(download.rung) {
            self.switch(download.rung, None, at);
        }
    }

    /// The rung of the next segment, of `rungs` in ascending order of bitrate; `segment` is how long one plays where none came yet. `None`
    /// where there is nothing to choose from.
    pub fn choose(&mut self, rungs: &[Rung], segment: Option<f64>, at: DateTime<Utc>) -> Option<Chosen> {
        let caps = self.caps.judge(rungs);
        let current = rungs.iter().position(|rung| Some(&rung.name) == self.rung.as_ref());
        let mut engine = Engine::resumed(self.bandwidth, current, self.filled);
        let choice = engine.choose(&Situation {
            rungs,
            caps: &caps,
            buffer: self.buffer.unwrap_or(0.0),
            full: self.full.unwrap_or(USUAL_BUFFER),
            segment: self.segment.or(segment).unwrap_or(USUAL_SEGMENT),
        });
        self.filled = engine.filled;
        let rung = rungs.get(choice.rung)?;
        if self.rung.as_ref() != Some(&rung.name) {
            self.switch(&rung.name, Some(choice.reason), at);
        }
        Some(Chosen { choice, caps })
    }

    fn switch(&mut self, to: &str, reason: Option<Reason>, at: DateTime<Utc>) {
        let from = self.rung.replace(to.to_owned());
        let predicted = self.bandwidth.predicted();
        self.switches.push_back(Switch {
            at,
            from,
            to: to.to_owned(),
            reason,
            predicted,
            buffer: self.buffer,
        });
        while self.switches.len() > REMEMBERED {
            self.switches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rungs() -> Vec<Rung> {
        let rung = |(name, bitrate, height): (&str, u64, u32)| Rung {
            name: name.into(),
            bitrate,
            width: height * 16 / 9,
            height,
            codecs: "avc1.64001f,mp4a.40.2".into(),
        };
        [("240p", 400_000, 240), ("480p", 1_400_000, 480), ("720p", 2_800_000, 720)].map(rung).into()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn download(rung: &str, rate: f64, buffer: f64) -> Download<'_> {
        Download { bytes: (rate / 8.0) as u64, seconds: 1.0, duration: 4.0, rung, buffer }
    }

    #[test]
    fn choices_are_remembered_with_their_reasons() {
        let mut session = Session::default();
        let first = session.choose(&rungs(), Some(4.0), at(0)).unwrap();
        assert_eq!((first.choice.rung, first.choice.reason), (0, Reason::Start));
        for second in 1..20 {
            session.downloaded(&download("240p", 9e6, 12.0 + second as f64), at(second));
        }
        session.choose(&rungs(), None, at(20));
        // Asked for before the choice: nobody changed anything.
        session.downloaded(&download("240p", 9e6, 26.0), at(21));
        session.downloaded(&download("720p", 9e6, 26.0), at(22));
        let told: Vec<_> = session
            .switches
            .iter()
            .map(|switch| (switch.at, switch.from.as_deref(), switch.to.as_str(), switch.reason.is_some()))
            .collect();
        assert_eq!(told, [(at(0), None, "240p", true), (at(20), Some("240p"), "720p", true)]);
        assert_eq!(session.rung.as_deref(), Some("720p"));
    }

    #[test]
    fn what_the_player_chose_by_itself_is_where_the_next_choice_begins() {
        let mut session = Session::default();
        session.downloaded(&download("480p", 2e6, 20.0), at(1));
        session.downloaded(&download("720p", 2e6, 20.0), at(2));
        assert_eq!(session.switches.len(), 2);
        assert!(session.switches.iter().all(|switch| switch.reason.is_none()));
        assert_eq!(session.rung.as_deref(), Some("720p"));
    }

    #[test]
    fn the_history_is_bounded_and_survives_being_kept() {
        let mut session = Session::default();
        for second in 0..200 {
            let rung = if second % 2 == 0 { "240p" } else { "480p" };
            session.downloaded(&download(rung, 2e6, 20.0), at(second));
        }
        assert_eq!((session.switches.len(), session.switches[49].at), (50, at(199)));
        let kept = serde_json::to_value(&session).unwrap();
        let mut read: Session = serde_json::from_value(kept).unwrap();
        assert_eq!(read, session);
        assert_eq!(read.choose(&rungs(), None, at(200)), session.choose(&rungs(), None, at(200)));
        // As an older program wrote it.
        assert_eq!(serde_json::from_str::<Session>("{}").unwrap(), Session::default());
    }

    #[test]
    fn a_rung_that_went_is_followed_by_one_that_is_there() {
        let mut session = Session::default();
        session.downloaded(&download("720p", 1.5e6, 20.0), at(0));
        let chosen = session.choose(&rungs()[..2], None, at(1)).unwrap();
        assert!(chosen.choice.rung < 2);
        assert_eq!(session.choose(&[], None, at(2)), None);
    }
}
