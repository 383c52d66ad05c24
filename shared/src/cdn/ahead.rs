//! What viewers of a recording fetch first.

use crate::db::sets::{self, TrackKind};
use crate::db::{Db, DbError};
use crate::ids::RecordingId;

/// Seconds from the beginning: what players have in their buffers before they slow down.
const AHEAD: f64 = 30.0;
/// Paths of one recording.
const MOST: usize = 500;

/// The paths of a recording's playlists and its beginning, in each quality, as holders of a token ask for them. None while there is
/// nothing to play.
pub async fn paths(db: &Db, recording: RecordingId, token: &str) -> Result<Vec<String>, DbError> {
    let references = sets::of_recording(db, recording).await?;
    let Some(set) = references.iter().find(|reference| reference.active) else { return Ok(vec![]) };
    let path = |name: String| format!("/v/{token}/stream/{name}");
    let mut paths = vec![path("master.m3u8".to_owned()), path("manifest.mpd".to_owned())];
    for rendition in sets::renditions(db, set.set_id).await? {
        let (rung, ordinal) = (&rendition.rung, set.ordinal);
        paths.push(path(format!("{rung}.m3u8")));
        if rendition.kind != TrackKind::Text {
            paths.push(path(format!("{rung}-{ordinal}-init.mp4")));
        }
        let mut seconds = 0.0;
        for segment in sets::segments(db, set.set_id, rung).await? {
            if seconds >= AHEAD {
                break;
            }
            seconds += segment.duration_ticks as f64 / f64::from(rendition.timescale.max(1));
            paths.push(path(format!("{rung}-{ordinal}-{}.{}", segment.number, rendition.kind.extension())));
        }
    }
    paths.truncate(MOST);
    Ok(paths)
}
