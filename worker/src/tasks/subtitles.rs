//! Makes WebVTT renditions of text tracks: FFmpeg reads them, our own parser keeps what may be shown and cuts it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets::{EncodedRendition, Rendition, Segment, TextFile, TrackKind};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::{SubtitleTrack, SubtitlesSpec};
use reelmill_shared::media::webvtt::{self, Segments};
use reelmill_shared::storage::keys;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{Amount, Bench, check_exit};
use crate::ffmpeg::argv;
use crate::ffmpeg::process::Ended;

/// Segments that are stored at a time: they are small, and the store is far.
const AT_ONCE: usize = 8;

pub(super) async fn perform(bench: &Bench, spec: &SubtitlesSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let file = bench.open(&source).await?;
    let outputs = outputs(&bench.dir, spec);
    let args = command(spec, &file.path, &outputs);
    let amount = Amount::seconds(spec.offset_ms as f64 / 1000.0 + spec.grid.duration());
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let torn = torn(bench.ffmpeg("reading subtitles", &args, amount, deadline, 1).await)?;
    let (mut publications, mut told) = (vec![], vec![]);
    for (track, output) in spec.tracks.iter().zip(&outputs) {
        let text = read(output).await?;
        let cues = webvtt::read(&text, spec.offset_ms, millis(spec, spec.grid.frames));
        let (encoded, crowded) = store(bench, spec, track, &cues.cues).await?;
        let left_out = cues.left_out + crowded;
        told.push(json!({ "name": track.rung, "cues": cues.cues.len(), "left_out": left_out, "note": torn }));
        publications.push(Publication::Rendition { set: spec.set, encoded: Box::new(encoded) });
    }
    publications.push(Publication::JobResult(json!({ "subtitles": told })));
    Ok(publications)
}

/// A file a track.
pub(super) fn outputs(dir: &Path, spec: &SubtitlesSpec) -> Vec<PathBuf> {
    spec.tracks.iter().map(|track| dir.join(format!("{}.vtt", track.rung))).collect()
}

/// The FFmpeg that reads them all in one pass.
pub(super) fn command(spec: &SubtitlesSpec, input: &Path, outputs: &[PathBuf]) -> Vec<OsString> {
    let streams: Vec<u32> = spec.tracks.iter().map(|track| track.stream).collect();
    argv::subtitles(&streams, input, outputs)
}

/// Why the texts end before the source does: FFmpeg (5.1) stops at a cue of more than a megabyte, and is busy for minutes with one of a
/// few. What it wrote until then is good, and no text is worth a job.
fn torn(end: Result<Ended, TaskError>) -> Result<Option<String>, TaskError> {
    let by_itself = end.as_ref().is_ok_and(|ended| ended.status.code().is_some());
    match end.and_then(|ended| check_exit("reading subtitles", &ended)) {
        Ok(()) => Ok(None),
        Err(error) if by_itself && error.reason == Reason::Ffmpeg => Ok(Some(error.message)),
        Err(error) if error.reason == Reason::DeadlineExceeded => Ok(Some(error.message)),
        Err(error) => Err(error),
    }
}

/// What FFmpeg wrote of a track; nothing where it did not get so far.
async fn read(path: &Path) -> Result<String, TaskError> {
    let reading = |error| TaskError::internal("reading subtitles", error);
    let mut bytes = vec![];
    let file = match tokio::fs::File::open(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(reading)?,
    };
    file.take(argv::MAX_SUBTITLES * 2).read_to_end(&mut bytes).await.map_err(reading)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The time of a frame of the grid.
fn millis(spec: &SubtitlesSpec, frame: u64) -> u64 {
    (spec.grid.rate.seconds(frame) * 1000.0).round() as u64
}

/// Stores a track's segments, cut where the picture is cut, and all of it in one file; tells how many texts they had no room for.
async fn store(
    bench: &Bench,
    spec: &SubtitlesSpec,
    track: &SubtitleTrack,
    cues: &[webvtt::Cue],
) -> Result<(EncodedRendition, usize), TaskError> {
    let grid = &spec.grid;
    let end = |number: u64| ((number + 1) * grid.segment_frames()).min(grid.frames);
    let unstored =
        |error| TaskError::retryable(Reason::Storage, format!("could not store {}: {error}", track.rung));
    let mut texts = Segments::new(cues, (0..grid.segments()).map(|number| millis(spec, end(number))));
    let mut segments: Vec<Segment> = vec![];
    loop {
        let batch: Vec<String> = texts.by_ref().take(AT_ONCE).collect();
        if batch.is_empty() {
            break;
        }
        let first = segments.len();
        let mut puts = vec![];
        for (number, text) in (first as u32..).zip(batch) {
            let key = keys::text_segment(&bench.prefix, &track.rung, number);
            let frames = end(number.into()) - u64::from(number) * grid.segment_frames();
            segments.push(Segment {
                number,
                key: key.clone(),
                bytes: text.len() as u64,
                duration_ticks: frames * u64::from(grid.rate.frame_ticks()),
                keyframes: vec![],
            });
            puts.push(async move { bench.shop.storage.put(&key, text.into()).await });
        }
        futures::future::try_join_all(puts).await.map_err(unstored)?;
        bench.say(segments.len() as f64 / grid.segments() as f64, "storing subtitles", None);
    }
    let (key, whole) = (keys::text(&bench.prefix, &track.rung), webvtt::whole(cues));
    let text = TextFile { key: key.clone(), bytes: whole.len() as u64 };
    bench.shop.storage.put(&key, whole.into()).await.map_err(unstored)?;
    let mut rendition = Rendition {
        rung: track.rung.clone(),
        position: track.position,
        kind: TrackKind::Text,
        codec: "wvtt".to_owned(),
        width: None,
        height: None,
        frame_rate: None,
        sample_rate: None,
        channels: None,
        language: track.language.clone(),
        label: Some(track.label.clone()),
        role: track.role,
        timescale: grid.rate.timescale(),
        init_key: String::new(),
        init_bytes: 0,
        text: Some(text),
        peak_bandwidth: 0,
        average_bandwidth: 0,
        iframe_bandwidth: None,
        duration_ticks: 0,
    };
    if let Some(measured) = rendition.measured(&segments) {
        rendition.peak_bandwidth = measured.bandwidth.peak;
        rendition.average_bandwidth = measured.bandwidth.average;
    }
    // Of no init segment, which all have in common.
    let init_sha256 = Sha256::digest([]).to_vec();
    Ok((EncodedRendition { rendition, init_sha256, segments }, texts.left_out()))
}
