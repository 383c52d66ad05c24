//! From what somebody says of a livestream to its terms, or to everything that is wrong with it.

use reelmill_shared::auth::seal::SealError;
use reelmill_shared::db::livestreams::{Livestream, Terms};
use reelmill_shared::ids::{LivestreamId, RecordingId};
use reelmill_shared::live::address::SrtAddress;
use reelmill_shared::live::key::source_seal;
use reelmill_shared::live::spec::{LiveSettings, LiveSource, LiveSpec, Overload, Resolution, SourceKind};
use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::profile::FieldError;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use url::Url;

use crate::dto::livestream::{AUDIO_CODEC, PatchLivestreamDto, SettingsWishDto, SourceWishDto, shown_url};
use crate::problem::{Answer, Problem};
use crate::state::App;
use crate::submit::{bad_title, fault, fetchable, metadata};

const DESCRIPTION_LIMIT: usize = 5000;
const USER_ID_LIMIT: usize = 255;
const URL_LIMIT: usize = 4096;
/// Live encoders of AV1 are too slow still.
const CODECS: [Codec; 3] = [Codec::H264, Codec::Hevc, Codec::Vp9];

type Faults = Vec<FieldError>;

/// Terms with an open source.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    title: String,
    description: Option<String>,
    user_id: Option<String>,
    metadata: Value,
    spec: LiveSpec,
    source: LiveSource,
}

impl Draft {
    /// What a livestream is unless it is said otherwise; the title is missing.
    pub(crate) fn new() -> Self {
        Self {
            title: String::new(),
            description: None,
            user_id: None,
            metadata: json!({}),
            spec: LiveSpec::default(),
            source: EMPTY,
        }
    }

    /// What a livestream is.
    pub(super) fn of(app: &App, livestream: &Livestream) -> Answer<Self> {
        let terms = livestream.terms.clone();
        Ok(Self {
            source: open_source(app, livestream.id, &terms)?.unwrap_or(EMPTY),
            title: terms.title,
            description: terms.description,
            user_id: terms.user_id,
            metadata: terms.metadata,
            spec: terms.spec,
        })
    }

    /// The same with what somebody wants of it.
    ///
    /// # Errors
    /// Every field that is not right.
    pub(crate) fn with(mut self, app: &App, wish: PatchLivestreamDto) -> Answer<Self> {
        let mut faults = vec![];
        if let Some(title) = wish.title {
            faults.extend(bad_title(&title).map(|detail| fault("/title", detail)));
            self.title = title;
        } else if self.title.is_empty() {
            faults.push(fault("/title", "is missing"));
        }
        text(&mut self.description, wish.description, DESCRIPTION_LIMIT, "/description", &mut faults);
        text(&mut self.user_id, wish.user_id, USER_ID_LIMIT, "/user_id", &mut faults);
        if wish.metadata.is_some() {
            self.metadata = metadata(wish.metadata, "/metadata", &mut faults);
        }
        let spec = &mut self.spec;
        set(&mut spec.dvr_enabled, wish.dvr_enabled);
        set(&mut spec.low_latency, wish.low_latency);
        set(&mut spec.require_start, wish.require_start);
        number(&mut spec.dvr_window, wish.dvr_window, 60..=86_400, "/dvr_window", &mut faults);
        settings(&mut spec.settings, wish.settings.unwrap_or_default(), &mut faults);
        self.source(app, wish.source, &mut faults);
        if faults.is_empty() { Ok(self) } else { Err(Problem::fields(faults)) }
    }

    fn source(&mut self, app: &App, wish: Option<SourceWishDto>, faults: &mut Faults) {
        let Some(wish) = wish else { return };
        let before = self.spec.source;
        if let Some(word) = &wish.r#type {
            match word.parse() {
                Ok(kind) => self.spec.source = kind,
                // What goes with it cannot be told.
                Err(_) => return faults.push(fault("/source/type", one_of(word, SourceKind::ALL))),
            }
        }
        let kind = self.spec.source;
        if kind != before {
            self.source = EMPTY;
        }
        if let Some(url) = wish.url {
            // Who changes something else may send the address back as it was shown, without its credentials.
            if url.is_none() || url != shown_url(&self.source) {
                self.source.url = url;
                if let Some(url) = &self.source.url {
                    address(app, kind, url, faults);
                }
            }
        }
        self.spec.calls = kind == SourceKind::Srt && self.source.url.is_some();
        if matches!(kind, SourceKind::Rtsp | SourceKind::File) && self.source.url.is_none() {
            faults.push(fault("/source/url", format!("is missing: a source of the type {kind} is fetched")));
        }
        if let Some(passphrase) = wish.passphrase {
            self.source.passphrase = passphrase;
            if let Some(passphrase) = &self.source.passphrase {
                check_passphrase(kind, passphrase, faults);
            }
        }
        if self.spec.is_listened_for() && self.source.passphrase.is_none() {
            let detail = "is missing: who sends by SRT is known by it (or name a url to be called)";
            faults.push(fault("/source/passphrase", detail));
        }
        if let Some(repeat) = wish.r#loop {
            if repeat && kind != SourceKind::File {
                faults.push(fault("/source/loop", "only goes with a source of the type file"));
            }
            self.source.repeat = repeat;
        }
    }

    /// The same, with what was on air kept or not, whatever else is said of that.
    pub(crate) fn recorded(mut self, record: bool) -> Self {
        self.spec.settings.record = Some(record);
        self
    }

    /// The same, played out from a recording.
    pub(crate) fn replaying(mut self, recording: RecordingId) -> Self {
        self.spec.source = SourceKind::File;
        self.source = LiveSource { recording: Some(recording), ..EMPTY };
        self
    }

    /// The terms as they are kept.
    pub(crate) fn sealed(self, app: &App, id: LivestreamId) -> Answer<Terms> {
        let source = if self.source == EMPTY {
            None
        } else {
            let plain = serde_json::to_vec(&self.source).map_err(|_| Problem::from(SealError))?;
            Some(app.config.secret.sealer.seal(&source_seal(id), &plain)?)
        };
        Ok(Terms {
            title: self.title,
            description: self.description,
            user_id: self.user_id,
            spec: self.spec,
            source,
            metadata: self.metadata,
        })
    }
}

const EMPTY: LiveSource = LiveSource { url: None, passphrase: None, repeat: false, recording: None };

/// Where a livestream comes from, where there is anything to be said of that.
pub(super) fn open_source(app: &App, id: LivestreamId, terms: &Terms) -> Answer<Option<LiveSource>> {
    let open = |sealed: &Vec<u8>| {
        let plain = app.config.secret.sealer.open(&source_seal(id), sealed)?;
        serde_json::from_slice(&plain).map_err(|_| SealError)
    };
    Ok(terms.source.as_ref().map(open).transpose()?)
}

fn address(app: &App, kind: SourceKind, text: &str, faults: &mut Faults) {
    let at = "/source/url";
    match kind {
        SourceKind::File => drop(fetchable(app, at, text, faults)),
        SourceKind::Push => {
            faults.push(fault(at, "does not go with push: publishers send to rtmp_ingest_url"))
        }
        SourceKind::Rtsp | SourceKind::Srt if text.len() > URL_LIMIT => {
            faults.push(fault(at, format!("may have at most {URL_LIMIT} bytes")));
        }
        SourceKind::Rtsp => match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "rtsp" | "rtsps") && url.has_host() => {}
            Ok(_) => faults.push(fault(at, "must have the form rtsp://host/path, or rtsps://…")),
            Err(error) => faults.push(fault(at, format!("is not a URL: {error}"))),
        },
        SourceKind::Srt => faults.extend(SrtAddress::parse(text).err().map(|detail| fault(at, detail))),
    }
}

fn check_passphrase(kind: SourceKind, text: &str, faults: &mut Faults) {
    let at = "/source/passphrase";
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if kind != SourceKind::Srt {
        faults.push(fault(at, "only goes with a source of the type srt"));
    } else if !visible || !(10..=79).contains(&text.len()) {
        faults.push(fault(at, "must have 10 to 79 visible ASCII characters, none of them a space"));
    }
}

fn settings(settings: &mut LiveSettings, wish: SettingsWishDto, faults: &mut Faults) {
    let before = faults.len();
    set(&mut settings.enable_transcoding, wish.enable_transcoding);
    set(&mut settings.gpu_acceleration, wish.gpu_acceleration);
    if let Some(words) = &wish.resolutions {
        settings.resolutions = resolutions(words, faults);
    }
    if let Some(word) = &wish.codec {
        match CODECS.into_iter().find(|codec| codec.as_str() == word) {
            Some(codec) => settings.codec = codec,
            None => faults.push(fault("/settings/codec", one_of(word, &CODECS))),
        }
    }
    if let Some(word) = &wish.overload {
        match word.parse() {
            Ok(overload) => settings.overload = overload,
            Err(_) => faults.push(fault("/settings/overload", one_of(word, Overload::ALL))),
        }
    }
    if let Some(word) = wish.audio_codec.filter(|word| word != AUDIO_CODEC) {
        faults.push(fault("/settings/audio_codec", one_of(&word, &[AUDIO_CODEC])));
    }
    let at = |field: &str| format!("/settings/{field}");
    number(&mut settings.segment_duration, wish.segment_duration, 1..=30, &at("segment_duration"), faults);
    number(&mut settings.playlist_length, wish.playlist_length, 3..=60, &at("playlist_length"), faults);
    number(&mut settings.audio_bitrate, wish.audio_bitrate, 32..=320, &at("audio_bitrate"), faults);
    number(&mut settings.keyframe_interval, wish.keyframe_interval, 1..=10, &at("keyframe_interval"), faults);
    if let Some(seconds) = wish.part_duration {
        if (0.1..=2.0).contains(&seconds) {
            settings.part_duration_ms = (seconds * 1000.0).round() as u32;
        } else {
            faults.push(fault(at("part_duration"), "must be from 0.1 to 2"));
        }
    }
    if let Some(record) = wish.record {
        settings.record = record;
    }
    match wish.retention_days {
        Some(Some(days)) => {
            let mut kept = 0;
            number(&mut kept, Some(days), 7..=30, &at("retention_days"), faults);
            settings.retention_days = Some(kept);
        }
        Some(None) => settings.retention_days = None,
        None => {}
    }
    // Of lengths that are out of bounds nothing sensible can be said.
    if faults.len() == before {
        check_lengths(settings, faults);
    }
}

fn check_lengths(settings: &LiveSettings, faults: &mut Faults) {
    let (segment, interval) = (settings.segment_duration, settings.keyframe_interval);
    if !segment.is_multiple_of(interval) {
        let below = segment - segment % interval;
        let near: Vec<String> = [below, below + interval]
            .into_iter()
            .filter(|length| (1..=30).contains(length))
            .map(|length| length.to_string())
            .collect();
        let detail = format!(
            "must be a multiple of keyframe_interval, {interval}: {}, or choose another keyframe_interval",
            near.join(" or ")
        );
        faults.push(fault("/settings/segment_duration", detail));
    }
    if settings.part_duration_ms > segment * 500 {
        let half = f64::from(segment) / 2.0;
        let detail = format!("must be at most half of segment_duration, {half}");
        faults.push(fault("/settings/part_duration", detail));
    }
}

fn resolutions(words: &[String], faults: &mut Faults) -> Vec<Resolution> {
    let mut found: Vec<Resolution> = vec![];
    if words.is_empty() {
        faults.push(fault("/settings/resolutions", "names none"));
    }
    // More than there are name one twice.
    for (index, word) in words.iter().enumerate().take(Resolution::ALL.len() + 1) {
        let at = format!("/settings/resolutions/{index}");
        match word.parse() {
            Ok(resolution) if found.contains(&resolution) => faults.push(fault(at, "is there twice")),
            Ok(resolution) => found.push(resolution),
            Err(_) => faults.push(fault(at, one_of(word, Resolution::ALL))),
        }
    }
    // The best first, in whichever order they were named.
    Resolution::ALL.iter().copied().filter(|resolution| found.contains(resolution)).collect()
}

fn one_of<W: ToString>(word: &str, known: &[W]) -> String {
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    format!("{word:?} is none of {}", known.join(", "))
}

fn set<T>(field: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *field = wanted;
    }
}

fn number(field: &mut u32, wanted: Option<i64>, range: RangeInclusive<u32>, at: &str, faults: &mut Faults) {
    let Some(wanted) = wanted else { return };
    match u32::try_from(wanted).ok().filter(|number| range.contains(number)) {
        Some(number) => *field = number,
        None => faults.push(fault(at, format!("must be from {} to {}", range.start(), range.end()))),
    }
}

fn text(
    field: &mut Option<String>,
    wanted: Option<Option<String>>,
    limit: usize,
    at: &str,
    faults: &mut Faults,
) {
    let Some(wanted) = wanted else { return };
    if wanted.as_ref().is_some_and(|text| text.chars().count() > limit || text.contains('\0')) {
        faults.push(fault(at, format!("may have at most {limit} characters, and none that is NUL")));
    }
    *field = wanted;
}
