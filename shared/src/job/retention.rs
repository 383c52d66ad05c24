//! How long things are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What has an age at which it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kept {
    /// What recordings were made from, since they were last encoded. They can be watched without.
    #[serde(rename = "sources_days")]
    Sources,
    /// Recordings with all that was made for them, since they were last encoded.
    #[serde(rename = "outputs_days")]
    Outputs,
    /// Jobs that are over, since then.
    #[serde(rename = "jobs_days")]
    Jobs,
    /// Their commands and the ends of FFmpeg's logs, since they were over.
    #[serde(rename = "logs_days")]
    Logs,
    /// The event log.
    #[serde(rename = "events_days")]
    Events,
    /// What webhooks were sent, since it was delivered or given up.
    #[serde(rename = "deliveries_days")]
    Deliveries,
    /// What was recorded of livestreams, since it ended.
    #[serde(rename = "broadcasts_days")]
    Broadcasts,
}

impl Kept {
    /// All of them, in the order in which they should go: what refers to others first.
    pub const ALL: [Self; 7] = [
        Self::Outputs,
        Self::Sources,
        Self::Broadcasts,
        Self::Logs,
        Self::Jobs,
        Self::Deliveries,
        Self::Events,
    ];
    /// What belongs to a job, so that its profile may have a word in it.
    pub const OF_JOBS: [Self; 4] = [Self::Sources, Self::Outputs, Self::Jobs, Self::Logs];

    /// The name of the setting, as in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sources => "sources_days",
            Self::Outputs => "outputs_days",
            Self::Jobs => "jobs_days",
            Self::Logs => "logs_days",
            Self::Events => "events_days",
            Self::Deliveries => "deliveries_days",
            Self::Broadcasts => "broadcasts_days",
        }
    }
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Age {
    Forever,
    /// 0.01 to 36,500.
    Days(f64),
}

/// What an age is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of days from 0.01 to 36500, or \"forever\"")]
pub struct BadAge;

const FOREVER: &str = "forever";

impl Age {
    /// An age of so many days.
    ///
    /// # Errors
    /// [`BadAge`] where that is not 0.01 to 36,500.
    pub fn days(days: f64) -> Result<Self, BadAge> {
        if (0.01..=36_500.0).contains(&days) { Ok(Self::Days(days)) } else { Err(BadAge) }
    }

    /// The same as a span of time; `None` for ever.
    pub fn span(self) -> Option<Duration> {
        match self {
            Self::Forever => None,
            Self::Days(days) => Some(Duration::from_secs_f64(days * 86_400.0)),
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str(FOREVER),
            Self::Days(days) => write!(f, "{days}"),
        }
    }
}

impl FromStr for Age {
    type Err = BadAge;

    fn from_str(text: &str) -> Result<Self, BadAge> {
        if text == FOREVER {
            return Ok(Self::Forever);
        }
        Self::days(text.parse().map_err(|_| BadAge)?)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Forever => serializer.serialize_str(FOREVER),
            Self::Days(days) => serializer.serialize_f64(*days),
        }
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Word(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Number(days)) => Self::days(days),
            Ok(Written::Word(word)) if word == FOREVER => Ok(Self::Forever),
            _ => Err(BadAge),
        }
        .map_err(D::Error::custom)
    }
}

/// Ages that somebody set; what is not among them is for somebody else to say.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Retention(pub BTreeMap<Kept, Age>);

/// What a newer program keeps by age besides is passed over.
impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = BTreeMap::<String, Age>::deserialize(deserializer)?;
        Ok(Self(Kept::ALL.into_iter().filter_map(|kept| Some((kept, all.remove(kept.as_str())?))).collect()))
    }
}

impl Retention {
    /// The age that was set for `kept`.
    pub fn of(&self, kept: Kept) -> Option<Age> {
        self.0.get(&kept).copied()
    }

    /// True where nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and what `general` says of the rest.
    #[must_use]
    pub fn or(&self, general: &Self) -> Self {
        let mut all = general.0.clone();
        all.extend(&self.0);
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_are_numbers_or_the_word() {
        let read = |value| serde_json::from_value::<Age>(value).ok();
        assert_eq!(read(json!(30)), Some(Age::Days(30.0)));
        assert_eq!(read(json!(0.5)), Some(Age::Days(0.5)));
        assert_eq!(read(json!("forever")), Some(Age::Forever));
        for bad in [json!(0), json!(-1), json!(40_000), json!("30"), json!("never"), json!(null), json!([30])]
        {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        assert_eq!("7".parse(), Ok(Age::Days(7.0)));
        assert_eq!("forever".parse(), Ok(Age::Forever));
        for bad in ["", "NaN", "inf", "a week", "1e9"] {
            assert_eq!(bad.parse::<Age>(), Err(BadAge), "{bad}");
        }
    }

    #[test]
    fn the_nearer_word_counts() {
        let farm: Retention = serde_json::from_value(json!({ "jobs_days": 90, "logs_days": 30 })).unwrap();
        let project: Retention =
            serde_json::from_value(json!({ "logs_days": "forever", "outputs_days": 7 })).unwrap();
        let both = project.or(&farm);
        assert_eq!(both.of(Kept::Jobs), Some(Age::Days(90.0)));
        assert_eq!(both.of(Kept::Logs), Some(Age::Forever));
        assert_eq!(both.of(Kept::Outputs), Some(Age::Days(7.0)));
        assert_eq!(both.of(Kept::Sources), None);
        let newer = json!({ "jobs_days": 1, "pictures_days": 2 });
        assert_eq!(serde_json::from_value::<Retention>(newer).unwrap().0.len(), 1);
        for kept in Kept::ALL {
            assert_eq!(serde_json::to_value(kept).unwrap(), json!(kept.as_str()));
        }
    }
}
