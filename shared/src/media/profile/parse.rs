//! Reads a profile from JSON by hand: serde stops at the first fault, a person wants all of them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::job::retention::{Age, Kept, Retention};

use super::{AudioRecipe, AudioTracks, Codec, FieldError, Hardware, Preset, Profile, RateControl, Rung};

const MAX_RUNGS: usize = 12;
const DEFAULT_AUDIO_BITRATE: u64 = 128_000;
const DEFAULT_SEGMENT_SECONDS: u64 = 6;
/// LUFS: from what cinemas ask for to what would be all limiter.
const LOUDNESS: std::ops::RangeInclusive<f64> = -31.0..=-10.0;

pub(super) fn profile(value: &Value) -> Result<Profile, Vec<FieldError>> {
    let mut faults = Faults::default();
    let Some(fields) = faults.object("", value) else {
        return Err(faults.0);
    };
    faults.unknown(
        "",
        fields,
        &["name", "rungs", "audio", "preset", "codec", "hardware", "segment_duration", "retention"],
    );

    let codec = faults.word("/codec", fields.get("codec"), &Codec::ALL, Codec::as_str);
    let rungs = match fields.get("rungs") {
        Some(Value::Array(items)) => rungs(&mut faults, items, codec.unwrap_or_default()),
        Some(_) => {
            faults.add("/rungs", "must be a list of rungs");
            vec![]
        }
        None => {
            faults.add("/rungs", "is missing; give a list of rungs, empty for audio alone");
            vec![]
        }
    };
    let audio = match fields.get("audio") {
        None => Some(AudioRecipe::at(DEFAULT_AUDIO_BITRATE)),
        Some(Value::Null) => None,
        Some(value) => audio(&mut faults, value),
    };
    let preset = faults.word("/preset", fields.get("preset"), &Preset::ALL, Preset::as_str);
    let hardware = faults.word("/hardware", fields.get("hardware"), &Hardware::ALL, Hardware::as_str);
    let segment_duration = faults.number(
        "/segment_duration",
        fields.get("segment_duration"),
        1..=30,
        Some(DEFAULT_SEGMENT_SECONDS),
    );
    let retention = fields.get("retention").map(|value| retention(&mut faults, value)).unwrap_or_default();
    if rungs.is_empty() && audio.is_none() && faults.0.is_empty() {
        faults.add("", "has neither rungs nor audio, so there is nothing to make");
    }
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    Ok(Profile {
        name: None,
        rungs,
        audio,
        preset: preset.unwrap_or(Preset::Medium),
        hardware: hardware.unwrap_or_default(),
        segment_duration: segment_duration as u32,
        retention,
    })
}

fn rungs(faults: &mut Faults, items: &[Value], codec: Codec) -> Vec<Rung> {
    if items.len() > MAX_RUNGS {
        faults.add("/rungs", format!("has {} rungs; at most {MAX_RUNGS} are allowed", items.len()));
    }
    let mut names = HashSet::new();
    let mut rungs: Vec<Rung> = items
        .iter()
        .take(MAX_RUNGS)
        .enumerate()
        .filter_map(|(index, item)| rung(faults, &format!("/rungs/{index}"), item, codec, &mut names))
        .collect();
    // Best first, whatever the order they were written in.
    rungs.sort_by_key(|rung| {
        std::cmp::Reverse((rung.width.min(rung.height), rung.rate_control.max_bitrate()))
    });
    rungs
}

const RUNG_FIELDS: [&str; 9] =
    ["name", "width", "height", "codec", "crf", "max_bitrate", "bitrate", "buffer", "max_frame_rate"];

fn rung(
    faults: &mut Faults,
    at: &str,
    item: &Value,
    default: Codec,
    names: &mut HashSet<String>,
) -> Option<Rung> {
    let fields = faults.object(at, item)?;
    faults.unknown(at, fields, &RUNG_FIELDS);

    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let spelled = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if name.is_empty() || name.len() > 32 || !spelled {
        faults.add(
            format!("{at}/name"),
            "must be 1 to 32 lower-case letters, digits or underscores, for example \"720p\"",
        );
    } else if ["audio", "subtitles"].iter().any(|word| name.starts_with(word))
        || ["master", "playlist"].contains(&name.as_str())
    {
        faults.add(
            format!("{at}/name"),
            format!(
                "\"{name}\" is reserved: master, playlist and names that begin with audio or subtitles are"
            ),
        );
    } else if !names.insert(name.clone()) {
        faults.add(format!("{at}/name"), format!("\"{name}\" is used twice; rung names must differ"));
    }
    let mut side = |field: &str| {
        let pointer = format!("{at}/{field}");
        let value = faults.number(&pointer, fields.get(field), 16..=8192, None);
        if value % 2 == 1 {
            faults.add(pointer, format!("must be even, not {value}"));
        }
        value as u32
    };
    let (width, height) = (side("width"), side("height"));
    let codec = faults
        .word(&format!("{at}/codec"), fields.get("codec"), &Codec::ALL, Codec::as_str)
        .unwrap_or(default);
    let rate_control = rate_control(faults, at, fields, codec);
    let max_frame_rate = fields
        .get("max_frame_rate")
        .map(|value| faults.number(&format!("{at}/max_frame_rate"), Some(value), 1..=120, None) as u32);
    Some(Rung { name, width, height, codec, rate_control: rate_control?, max_frame_rate })
}

fn rate_control(
    faults: &mut Faults,
    at: &str,
    fields: &Map<String, Value>,
    codec: Codec,
) -> Option<RateControl> {
    const BITRATES: std::ops::RangeInclusive<u64> = 50_000..=100_000_000;
    let buffer = |faults: &mut Faults, ceiling: u64| {
        let largest = (ceiling * 10).max(1);
        faults.number(&format!("{at}/buffer"), fields.get("buffer"), 1..=largest, Some(ceiling * 2))
    };
    match (fields.get("crf"), fields.get("bitrate")) {
        (Some(_), Some(_)) => {
            faults.add(format!("{at}/crf"), "give either crf with max_bitrate, or bitrate, not both");
            None
        }
        (Some(crf), None) => {
            let crf = faults.number(&format!("{at}/crf"), Some(crf), codec.crf(), None) as u8;
            let max_bitrate =
                faults.number(&format!("{at}/max_bitrate"), fields.get("max_bitrate"), BITRATES, None);
            let buffer = buffer(faults, max_bitrate);
            Some(RateControl::CappedCrf { crf, max_bitrate, buffer })
        }
        (None, Some(bitrate)) => {
            if fields.contains_key("max_bitrate") {
                faults.add(format!("{at}/max_bitrate"), "goes with crf, not with bitrate");
            }
            let bitrate = faults.number(&format!("{at}/bitrate"), Some(bitrate), BITRATES, None);
            let buffer = buffer(faults, bitrate);
            Some(RateControl::Constant { bitrate, buffer })
        }
        (None, None) => {
            faults.add(at, "needs crf with max_bitrate, or bitrate (bits per second)");
            None
        }
    }
}

fn audio(faults: &mut Faults, value: &Value) -> Option<AudioRecipe> {
    let fields = faults.object("/audio", value)?;
    faults.unknown("/audio", fields, &["bitrate", "tracks", "loudness"]);
    let bitrate =
        faults.number("/audio/bitrate", fields.get("bitrate"), 32_000..=320_000, Some(DEFAULT_AUDIO_BITRATE));
    let tracks = match fields.get("tracks") {
        None => AudioTracks::All,
        Some(value) => {
            let found = AudioTracks::ALL.into_iter().find(|tracks| value.as_str() == Some(tracks.as_str()));
            found.unwrap_or_else(|| {
                let words = AudioTracks::ALL.map(AudioTracks::as_str);
                faults.add("/audio/tracks", format!("must be one of {}", words.join(", ")));
                AudioTracks::All
            })
        }
    };
    let loudness = fields.get("loudness").filter(|value| !value.is_null()).map(|value| {
        value.as_f64().filter(|lufs| LOUDNESS.contains(lufs)).unwrap_or_else(|| {
            let (least, most) = (LOUDNESS.start(), LOUDNESS.end());
            faults.add("/audio/loudness", format!("must be a number of LUFS from {least} to {most}"));
            *LOUDNESS.start()
        })
    });
    Some(AudioRecipe { bitrate, tracks, loudness })
}

fn retention(faults: &mut Faults, value: &Value) -> Retention {
    let mut ages = Retention::default();
    let Some(fields) = faults.object("/retention", value) else { return ages };
    faults.unknown("/retention", fields, &Kept::OF_JOBS.map(Kept::as_str));
    for kept in Kept::OF_JOBS {
        let Some(value) = fields.get(kept.as_str()).filter(|value| !value.is_null()) else { continue };
        match serde_json::from_value::<Age>(value.clone()) {
            Ok(age) => drop(ages.0.insert(kept, age)),
            Err(error) => faults.add(format!("/retention/{}", kept.as_str()), error.to_string()),
        }
    }
    ages
}

#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    fn object<'v>(&mut self, at: &str, value: &'v Value) -> Option<&'v Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.add(at, "must be an object");
        }
        object
    }

    fn unknown(&mut self, at: &str, fields: &Map<String, Value>, known: &[&str]) {
        for field in fields.keys().filter(|field| !known.contains(&field.as_str())) {
            let escaped = field.replace('~', "~0").replace('/', "~1");
            self.add(
                format!("{at}/{escaped}"),
                format!("is not a known field; known are {}", known.join(", ")),
            );
        }
    }

    /// One of a few words; `None` where it is left out or none of them.
    fn word<T: Copy>(
        &mut self,
        pointer: &str,
        value: Option<&Value>,
        all: &[T],
        spell: fn(T) -> &'static str,
    ) -> Option<T> {
        let value = value?;
        let found = all.iter().copied().find(|word| value.as_str() == Some(spell(*word)));
        if found.is_none() {
            let words: Vec<&str> = all.iter().map(|word| spell(*word)).collect();
            self.add(pointer, format!("must be one of {}", words.join(", ")));
        }
        found
    }

    /// A whole number within `range`. Returns the start of the range where it is not one, so that reading can go on.
    fn number(
        &mut self,
        pointer: &str,
        value: Option<&Value>,
        range: std::ops::RangeInclusive<u64>,
        default: Option<u64>,
    ) -> u64 {
        match (value, default) {
            (None, Some(default)) => default,
            (None, None) => {
                self.add(
                    pointer,
                    format!("is missing; give a whole number from {} to {}", range.start(), range.end()),
                );
                *range.start()
            }
            (Some(value), _) => match value.as_u64().filter(|number| range.contains(number)) {
                Some(number) => number,
                None => {
                    self.add(
                        pointer,
                        format!("must be a whole number from {} to {}", range.start(), range.end()),
                    );
                    *range.start()
                }
            },
        }
    }
}
