//! Checks that a set is whole, writes its static playlists beside it and makes the recording ready. Moves no media.

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets::{self, Rendition};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::FinishSpec;
use reelmill_shared::media::hls::PlaylistKind;
use reelmill_shared::media::presentation;
use reelmill_shared::storage::keys;

use super::Bench;

pub(super) async fn perform(bench: &Bench, spec: &FinishSpec) -> Result<Vec<Publication>, TaskError> {
    bench.say(0.0, "writing playlists", None);
    let db = &bench.shop.db;
    let reading = |error| TaskError::internal("reading the segment index", error);
    let mut renditions = sets::renditions(db, spec.set).await.map_err(reading)?;
    let mut all_measured = vec![];
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
        all_measured.push(measured);
        let init = keys::relative(&bench.prefix, &rendition.init_key);
        let playlist =
            rendition.playlist(PlaylistKind::Vod, spec.target_duration, init, &segments, |segment| {
                keys::relative(&bench.prefix, &segment.key)
            });
        put(bench, name, playlist.render()).await?;
    }
    let presented: Vec<_> = renditions
        .iter()
        .map(|rendition: &Rendition| rendition.presented(format!("{}.m3u8", rendition.rung)))
        .collect();
    put(bench, "master", presentation::master(&presented).render()).await?;
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

async fn put(bench: &Bench, name: &str, text: String) -> Result<(), TaskError> {
    bench.shop.storage.put(&keys::playlist(&bench.prefix, name), text.into()).await.map_err(|error| {
        TaskError::retryable(Reason::Storage, format!("could not store a playlist: {error}"))
    })
}
