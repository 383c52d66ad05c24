//! The sound: spans of minutes, the first one short.

use super::deadline;
use crate::ids::{SetId, SourceId};
use crate::job::edit::Edit;
use crate::job::task::{AUDIO_RUNG, AudioSpec, LoudnessSpec, TaskSpec, track_rung};
use crate::media::grid::{AAC_FRAME, AudioGrid, AudioSpan, Grid};
use crate::media::probe::{AudioStream, Probe};
use crate::media::profile::{AudioTracks, Profile};
use crate::media::tracks;

/// What a viewer waits for is encoded in about a second.
pub(super) const FIRST_SPAN_SECONDS: f64 = 30.0;
/// The others are long: each decodes up to a GOP and encodes a second for nothing.
const SPAN_SECONDS: f64 = 300.0;

/// More tracks than a viewer chooses from; each is decoded and encoded over all its length.
const MOST_TRACKS: usize = 8;

/// The tracks of a source that the profile wants, the default one first.
pub(super) fn used<'a>(
    probe: &'a Probe,
    profile: &Profile,
    warnings: &mut Vec<String>,
) -> Vec<&'a AudioStream> {
    let Some(recipe) = &profile.audio else { return vec![] };
    let default = probe.audio.first();
    let others = probe.audio.iter().skip(1).filter(|_| recipe.tracks == AudioTracks::All);
    // FFmpeg can say nothing of a track that holds nothing.
    let (sounding, silent): (Vec<_>, Vec<_>) = others.partition(|track| track.end_seconds.is_some());
    if !silent.is_empty() {
        warnings.push(format!("{} audio tracks hold nothing and are left out", silent.len()));
    }
    if sounding.len() >= MOST_TRACKS {
        let all = sounding.len() + 1;
        warnings.push(format!("of {all} audio tracks only the first {MOST_TRACKS} are used"));
    }
    default.into_iter().chain(sounding).take(MOST_TRACKS).collect()
}

/// Where a plan's sound comes from and goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub source: SourceId,
    pub set: SetId,
    /// Of the picture, where there is one: sound is cut beside it.
    pub grid: Option<&'a Grid>,
    /// Seconds.
    pub duration: f64,
    pub edit: &'a Edit,
}

/// For each of these tracks, all of it in one task.
pub(super) fn whole(place: Place<'_>, profile: &Profile, used: &[&AudioStream]) -> Vec<AudioSpec> {
    let Some(recipe) = &profile.audio else { return vec![] };
    let names = tracks::names(used.iter().map(|track| (track.title.as_deref(), track.language.as_deref())));
    let make = |(position, (track, name)): (usize, (&&AudioStream, String))| {
        let sample_rate = output_sample_rate(track.sample_rate);
        let grid = match place.grid {
            Some(video) => AudioGrid::beside(video, sample_rate),
            None => AudioGrid::alone(place.duration, sample_rate, profile.segment_duration),
        };
        AudioSpec {
            source: place.source,
            extent: None,
            set: place.set,
            rung: track_rung(AUDIO_RUNG, position),
            position: position as i32,
            stream: track.index,
            span: None,
            offset_ms: place.edit.start_ms.unwrap_or(0),
            source_rate: track.sample_rate,
            bitrate: recipe.bitrate,
            language: track.language.clone(),
            label: Some(name),
            role: track.role,
            normalise: recipe.loudness.is_some(),
            deadline_seconds: deadline((grid.frames * AAC_FRAME) as f64 / f64::from(grid.sample_rate)),
            grid,
        }
    };
    used.iter().zip(names).enumerate().map(make).collect()
}

/// The tasks that make `tracks`, in the order of the recording.
pub(super) fn tasks(tracks: &[AudioSpec], seekable: bool) -> Vec<TaskSpec> {
    let mut spans: Vec<AudioSpec> = vec![];
    for whole in tracks {
        if seekable {
            let cut = whole.grid.spans(FIRST_SPAN_SECONDS, SPAN_SECONDS);
            spans.extend(cut.into_iter().map(|span| part(whole, span)));
        } else {
            spans.push(whole.clone());
        }
    }
    spans.sort_by_key(|spec| spec.span().segment);
    spans.into_iter().map(TaskSpec::Audio).collect()
}

/// A span of a track.
fn part(whole: &AudioSpec, span: AudioSpan) -> AudioSpec {
    AudioSpec { span: Some(span), grid: whole.grid.part(span), ..whole.clone() }
}

/// What must be measured of `tracks` before they are encoded.
pub(super) fn loudness(tracks: &[AudioSpec], profile: &Profile) -> Option<TaskSpec> {
    let target = profile.audio.as_ref()?.loudness?;
    let first = tracks.first()?;
    let (source, deadline_seconds) = (first.source, first.deadline_seconds);
    // Nothing is cut: all of each is one segment.
    let uncut =
        |track: &AudioSpec| AudioSpec { grid: AudioGrid { starts: vec![0], ..track.grid }, ..track.clone() };
    let tracks = tracks.iter().map(uncut).collect();
    Some(TaskSpec::Loudness(LoudnessSpec { source, target, tracks, deadline_seconds }))
}

/// The beginning, alone.
pub(super) fn lead(whole: &AudioSpec) -> AudioSpec {
    let spans = whole.grid.spans(FIRST_SPAN_SECONDS, SPAN_SECONDS);
    spans.first().map_or_else(|| whole.clone(), |first| part(whole, *first))
}

/// Whether `led` is the beginning of `whole`, whatever length the recording was thought to have.
pub(super) fn leads(led: &AudioSpec, whole: &AudioSpec) -> bool {
    // Its grid tells where it begins and where what comes behind it begins.
    let plain = |spec: AudioSpec| AudioSpec {
        set: whole.set,
        deadline_seconds: 0,
        grid: AudioGrid { frames: 0, ..spec.grid },
        ..spec
    };
    let expected = lead(whole);
    expected.span().end() < whole.grid.starts.len() && plain(led.clone()) == plain(expected)
}

fn output_sample_rate(source: u32) -> u32 {
    // Families of rates: 11,025 and its multiples stay exact at 44,100.
    if source.is_multiple_of(11_025) { 44_100 } else { 48_000 }
}
