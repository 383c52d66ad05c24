//! What the tasks of a plan make together.

use super::{PlannedRendition, PlannedText};
use crate::job::task::{TakeOverSpec, TakenTrack, TaskSpec};

/// What the finish task must find, and what a person is told, of the planned renditions.
pub(super) struct Expectations {
    /// Segments by name.
    pub(super) expect: Vec<(String, u64)>,
    pub(super) renditions: Vec<PlannedRendition>,
    pub(super) subtitles: Vec<PlannedText>,
}

pub(super) fn expectations(works: &[TaskSpec]) -> Expectations {
    let mut expect: Vec<(String, u64)> = vec![];
    let (mut renditions, mut subtitles) = (vec![], vec![]);
    for work in works {
        match work {
            // Made in chunks: each names its rungs again.
            TaskSpec::Encode(encode) => {
                for rung in &encode.rungs {
                    if expect.iter().any(|(name, _)| *name == rung.name) {
                        continue;
                    }
                    expect.push((rung.name.clone(), rung.grid.segments()));
                    renditions.push(PlannedRendition {
                        name: rung.name.clone(),
                        width: Some(rung.width),
                        height: Some(rung.height),
                        encoder: Some(rung.encoder),
                        label: None,
                        language: None,
                        bitrate: rung.rate_control.max_bitrate(),
                    });
                }
            }
            // Made in spans: the last one tells how many segments there are.
            TaskSpec::Audio(audio) => {
                let end = audio.span().end() as u64;
                if let Some((_, segments)) = expect.iter_mut().find(|(name, _)| *name == audio.rung) {
                    *segments = end.max(*segments);
                    continue;
                }
                expect.push((audio.rung.clone(), end));
                renditions.push(PlannedRendition {
                    name: audio.rung.clone(),
                    width: None,
                    height: None,
                    encoder: None,
                    label: audio.label.clone(),
                    language: audio.language.clone(),
                    bitrate: audio.bitrate,
                });
            }
            TaskSpec::TakeOver(TakeOverSpec { track, .. }) => {
                let (segments, size, bitrate) = match track {
                    TakenTrack::Picture(rung) => {
                        let size = Some((rung.width, rung.height));
                        (rung.grid.segments(), size, rung.rate_control.max_bitrate())
                    }
                    TakenTrack::Sound(sound) => (sound.grid.starts.len() as u64, None, sound.bitrate),
                };
                expect.push((track.name().to_owned(), segments));
                renditions.push(PlannedRendition {
                    name: track.name().to_owned(),
                    width: size.map(|(width, _)| width),
                    height: size.map(|(_, height)| height),
                    encoder: None,
                    label: None,
                    language: None,
                    bitrate,
                });
            }
            TaskSpec::Subtitles(text) => {
                for track in &text.tracks {
                    expect.push((track.rung.clone(), text.grid.segments()));
                    subtitles.push(PlannedText {
                        name: track.rung.clone(),
                        label: track.label.clone(),
                        language: track.language.clone(),
                    });
                }
            }
            _ => {}
        }
    }
    Expectations { expect, renditions, subtitles }
}
