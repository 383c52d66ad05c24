//! What a viewer's quality is chosen from.

use reelmill_shared::db::livestreams::Livestream;
use reelmill_shared::db::preferences;
use reelmill_shared::db::recordings::Recording;
use reelmill_shared::db::sets::{Rendition, TrackKind};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{ProjectId, RecordingId};
use reelmill_shared::media::abr::{Preference, Rung};
use reelmill_shared::media::live::plan::AUDIO;
use reelmill_shared::media::live::window::Window;

use crate::edge::window;
use crate::playback::{active_set, renditions};
use crate::problem::{Answer, Kind, Problem};
use crate::state::App;

/// Something that is watched, with what can be chosen of it.
pub(crate) struct Offer {
    pub(crate) project: ProjectId,
    pub(crate) watched: Watched,
    /// In ascending order of bitrate; at least one.
    pub(crate) rungs: Vec<Rung>,
    /// Names that a segment may be of: also those of rungs that a livestream has dropped.
    pub(crate) names: Vec<String>,
    /// Seconds of a segment at most.
    pub(crate) segment: Option<f64>,
}

impl Offer {
    pub(crate) async fn recording(app: &App, recording: &Recording) -> Answer<Self> {
        let nothing = || Problem::new(Kind::NotReady, "there is nothing to play of this recording yet");
        let set = active_set(app, recording.id).await?.ok_or_else(nothing)?;
        let rungs = recorded(&renditions(app, &set).await?);
        if rungs.is_empty() {
            return Err(nothing());
        }
        Ok(Self {
            project: recording.project_id,
            watched: Watched::Recording(recording.id),
            names: rungs.iter().map(|rung| rung.name.clone()).collect(),
            rungs,
            segment: set.target_duration.map(f64::from),
        })
    }

    pub(crate) async fn livestream(app: &App, livestream: &Livestream) -> Answer<Self> {
        let (rungs, names, segment) = window(app, livestream.id, |window| {
            let plan = &window.plan;
            let names = plan.tracks().map(str::to_owned).collect();
            (on_air(window), names, plan.cadence.segment_seconds())
        })
        .await?;
        if rungs.is_empty() {
            let detail = "this stream has only just begun";
            return Err(Problem::new(Kind::NotReady, detail).with_retry_after(1));
        }
        Ok(Self {
            project: livestream.project_id,
            watched: Watched::Livestream(livestream.id),
            rungs,
            names,
            segment: Some(segment),
        })
    }
}

/// What the viewer `user` prefers for a recording; nothing where nobody is named.
pub(crate) async fn preference(app: &App, recording: RecordingId, user: Option<&str>) -> Answer<Preference> {
    let Some(user) = user else { return Ok(Preference::default()) };
    Ok(preferences::get(&app.db, recording, user).await?.unwrap_or_default())
}

/// Pictures with the sound that goes with them, the lowest first; where there are none, sound alone.
pub(crate) fn recorded(renditions: &[Rendition]) -> Vec<Rung> {
    let of = |kind: TrackKind| renditions.iter().filter(move |rendition| rendition.kind == kind);
    let sound = of(TrackKind::Audio).min_by_key(|rendition| rendition.position);
    let rung = |picture: &Rendition| Rung {
        name: picture.rung.clone(),
        bitrate: picture.average_bandwidth + sound.map_or(0, |sound| sound.average_bandwidth),
        width: picture.width.unwrap_or_default(),
        height: picture.height.unwrap_or_default(),
        codecs: both(&picture.codec, sound.map(|sound| sound.codec.as_str())),
    };
    let alone = |sound: &Rendition| Rung {
        name: sound.rung.clone(),
        bitrate: sound.average_bandwidth,
        width: 0,
        height: 0,
        codecs: sound.codec.clone(),
    };
    sorted(of(TrackKind::Video).map(rung).collect(), sound.map(alone))
}

/// The same of a livestream, by the codecs of its newest run.
pub(crate) fn on_air(window: &Window) -> Vec<Rung> {
    let plan = &window.plan;
    let Some(run) = window.runs.last() else { return vec![] };
    let codec = |wanted: &str| run.codec(plan.tracks().position(|name| name == wanted)?);
    let sound = plan.audio.as_ref().and_then(|audio| Some((audio.bitrate, codec(AUDIO)?)));
    // A rung that was dropped has no codec.
    let pictures = plan.rungs.iter().filter_map(|rung| {
        Some(Rung {
            name: rung.name.clone(),
            bitrate: rung.bitrate + sound.map_or(0, |(bitrate, _)| bitrate),
            width: rung.width,
            height: rung.height,
            codecs: both(codec(&rung.name)?, sound.map(|(_, codec)| codec)),
        })
    });
    let alone = sound.map(|(bitrate, codec)| Rung {
        name: AUDIO.to_owned(),
        bitrate,
        width: 0,
        height: 0,
        codecs: codec.to_owned(),
    });
    sorted(pictures.collect(), alone)
}

fn both(picture: &str, sound: Option<&str>) -> String {
    [picture].into_iter().chain(sound).collect::<Vec<_>>().join(",")
}

fn sorted(mut pictures: Vec<Rung>, sound: Option<Rung>) -> Vec<Rung> {
    if pictures.is_empty() {
        pictures.extend(sound);
    }
    pictures.sort_by_key(|rung| rung.bitrate);
    pictures
}
