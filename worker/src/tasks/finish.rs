//! Checks that a set is whole, writes its static playlists beside it and makes the recording ready. Moves no media.

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets::{self, Rendition};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::FinishSpec;
use reelmill_shared::media::dash::{Files, ManifestKind};
use reelmill_shared::media::hls::PlaylistKind;
use reelmill_shared::media::presentation::{self, Presented};
use reelmill_shared::storage::keys;

use super::Bench;
use super::report::report;

pub(super) async fn perform(bench: &Bench, spec: &FinishSpec) -> Result<Vec<Publication>, TaskError> {
    bench.say(0.0, "writing playlists", None);
    let db = &bench.shop.db;
    let reading = |error| TaskError::internal("reading the segment index", error);
    let mut renditions = sets::renditions(db, spec.set).await.map_err(reading)?;
    let mut all_measured = vec![];
    let mut timelines = vec![];
    for (name, expected) in &spec.expect {
        let Some(rendition) = renditions.iter_mut().find(|rendition| rendition.rung == *name) else {
            return Err(incomplete(format!("the rendition {name} is missing")));
        };
        let segments = sets::segments(db, spec.set, name).await.map_err(reading)?;
        let contiguous = segments.iter().zip(0..).all(|(segment, number)| segment.number == number);
        if segments.len() as u64 != *expected || !contiguous {
            return Err(incomplete(format!("{name} has {} of {expected} segments", segments.len())));
        }
        let Some(measured) = rendition.measured(&segments) else {
            return Err(incomplete(format!("{name} lasts no time")));
        };
        rendition.peak_bandwidth = measured.bandwidth.peak;
        rendition.average_bandwidth = measured.bandwidth.average;
        rendition.iframe_bandwidth = measured.iframe_bandwidth;
        all_measured.push(measured);
        let init = keys::relative(&bench.prefix, &rendition.init_key);
        let key = |segment: &sets::Segment| keys::relative(&bench.prefix, &segment.key);
        let playlist =
            rendition.playlist(PlaylistKind::Vod, spec.target_duration, init.clone(), &segments, key);
        put_playlist(bench, name, playlist.render()).await?;
        if rendition.iframe_bandwidth.is_some() {
            let playlist = rendition.iframe_playlist(init.clone(), &segments, key);
            put_playlist(bench, &iframes(name), playlist.render()).await?;
        }
        // Chunks lie under the prefixes of the tasks that made them: no pattern makes all their names.
        let files = match &rendition.text {
            Some(text) => Files::Whole(keys::relative(&bench.prefix, &text.key)),
            None => Files::List { init, media: segments.iter().map(key).collect() },
        };
        timelines.push((presented(rendition), rendition.timeline(&segments, files)));
    }
    let all: Vec<Presented> = renditions.iter().map(presented).collect();
    put_playlist(bench, "master", presentation::master(&all).render()).await?;
    let manifest = presentation::manifest(ManifestKind::Static, timelines).render();
    put(bench, &keys::manifest(&bench.prefix), manifest).await?;
    if let Some(orders) = &spec.report
        && let Some(shortfall) = report(bench, orders).await?.shortfall(&orders.least)
    {
        return Err(TaskError::fatal(Reason::Quality, format!("the quality is too low: {shortfall}")));
    }
    Ok(vec![Publication::Ready {
        recording: spec.recording,
        set: spec.set,
        static_prefix: bench.prefix.clone(),
        duration_seconds: spec.duration_seconds,
        measured: all_measured,
    }])
}

fn incomplete(what: String) -> TaskError {
    TaskError::fatal(Reason::CheckFailed, format!("the set is not whole: {what}"))
}

fn presented(rendition: &Rendition) -> Presented {
    rendition.presented(format!("{}.m3u8", rendition.rung), format!("{}.m3u8", iframes(&rendition.rung)))
}

/// What the playlist of a rendition's I-frames is called.
fn iframes(rung: &str) -> String {
    format!("{rung}-iframes")
}

async fn put_playlist(bench: &Bench, name: &str, text: String) -> Result<(), TaskError> {
    put(bench, &keys::playlist(&bench.prefix, name), text).await
}

async fn put(bench: &Bench, key: &str, text: String) -> Result<(), TaskError> {
    bench.shop.storage.put(key, text.into()).await.map_err(|error| {
        TaskError::retryable(Reason::Storage, format!("could not store a playlist: {error}"))
    })
}
