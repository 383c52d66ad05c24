//! The sound: spans of minutes, the first one short.

use super::deadline;
use crate::ids::{SetId, SourceId};
use crate::job::edit::Edit;
use crate::job::task::{AudioSpec, TaskSpec};
use crate::media::grid::{AAC_FRAME, AudioGrid, Grid};
use crate::media::probe::AudioStream;
use crate::media::profile::{AudioRecipe, Profile};

/// What a viewer waits for is encoded in about a second.
const FIRST_SPAN_SECONDS: f64 = 30.0;
/// The others are long: each decodes up to a GOP and encodes a second for nothing.
const SPAN_SECONDS: f64 = 300.0;

/// The grid of a track's rendition: beside the picture's where there is one.
pub(super) fn grid(audio: &AudioStream, video: Option<&Grid>, duration: f64, profile: &Profile) -> AudioGrid {
    let sample_rate = output_sample_rate(audio.sample_rate);
    match video {
        Some(video) => AudioGrid::beside(video, sample_rate),
        None => AudioGrid::alone(duration, sample_rate, profile.segment_duration),
    }
}

/// All of a track in one task.
pub(super) fn whole(
    source: SourceId,
    set: SetId,
    recipe: &AudioRecipe,
    edit: &Edit,
    audio: &AudioStream,
    grid: AudioGrid,
) -> AudioSpec {
    AudioSpec {
        source,
        extent: None,
        set,
        stream: audio.index,
        span: None,
        offset_ms: edit.start_ms.unwrap_or(0),
        source_rate: audio.sample_rate,
        bitrate: recipe.bitrate,
        language: audio.language.clone(),
        deadline_seconds: deadline((grid.frames * AAC_FRAME) as f64 / f64::from(grid.sample_rate)),
        grid,
    }
}

/// The tasks that make `whole`, in the order of the recording.
pub(super) fn tasks(whole: &AudioSpec, seekable: bool) -> Vec<TaskSpec> {
    if !seekable {
        return vec![TaskSpec::Audio(whole.clone())];
    }
    let spans = whole.grid.spans(FIRST_SPAN_SECONDS, SPAN_SECONDS);
    spans.into_iter().map(|span| TaskSpec::Audio(AudioSpec { span: Some(span), ..whole.clone() })).collect()
}

/// The beginning, alone.
pub(super) fn lead(whole: &AudioSpec) -> AudioSpec {
    AudioSpec { span: whole.grid.spans(FIRST_SPAN_SECONDS, SPAN_SECONDS).first().copied(), ..whole.clone() }
}

/// Whether `led` is the beginning of `whole`, whatever length the recording was thought to have.
pub(super) fn leads(led: &AudioSpec, whole: &AudioSpec) -> bool {
    let expected = lead(whole);
    let end = expected.span().end();
    let begins = |spec: &AudioSpec| spec.grid.starts.get(..=end).map(<[u64]>::to_vec);
    let plain = |spec: &AudioSpec| AudioSpec {
        set: whole.set,
        deadline_seconds: 0,
        grid: AudioGrid { frames: 0, starts: vec![], ..spec.grid },
        ..spec.clone()
    };
    begins(led).is_some_and(|starts| Some(starts) == begins(whole)) && plain(led) == plain(&expected)
}

fn output_sample_rate(source: u32) -> u32 {
    // Families of rates: 11,025 and its multiples stay exact at 44,100.
    if source.is_multiple_of(11_025) { 44_100 } else { 48_000 }
}
