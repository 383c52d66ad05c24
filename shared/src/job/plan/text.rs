//! Text beside the picture: one task makes WebVTT of all tracks, in one walk through the source.

use super::deadline;
use crate::ids::{SetId, SourceId};
use crate::job::task::{SUBTITLES_RUNG, SubtitleTrack, SubtitlesSpec, TaskSpec, track_rung};
use crate::media::grid::Grid;
use crate::media::probe::{Probe, TextStream};
use crate::media::tracks;

/// More than a viewer chooses from; each becomes as many small files as the picture has segments.
const MOST_TRACKS: usize = 16;

/// The task that makes text renditions of a source; `None` where it has no text.
pub(super) fn task(
    source: SourceId,
    set: SetId,
    grid: Grid,
    offset_ms: u64,
    probe: &Probe,
    warnings: &mut Vec<String>,
) -> Option<TaskSpec> {
    if probe.text.len() > MOST_TRACKS {
        warnings
            .push(format!("of {} subtitle tracks only the first {MOST_TRACKS} are used", probe.text.len()));
    }
    let used: Vec<&TextStream> = probe.text.iter().take(MOST_TRACKS).collect();
    let names = tracks::names(used.iter().map(|track| (track.title.as_deref(), track.language.as_deref())));
    let tracks: Vec<SubtitleTrack> = (0..)
        .zip(used.iter().zip(names))
        .map(|(position, (track, label))| SubtitleTrack {
            rung: track_rung(SUBTITLES_RUNG, position),
            position: position as i32,
            stream: track.index,
            language: track.language.clone(),
            label,
            role: track.role,
        })
        .collect();
    let deadline_seconds = deadline(grid.duration());
    let spec = SubtitlesSpec { source, set, grid, offset_ms, tracks, deadline_seconds };
    (!spec.tracks.is_empty()).then_some(TaskSpec::Subtitles(spec))
}
