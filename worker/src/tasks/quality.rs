//! Compares what was encoded of a span with what the encoder was given, frame by frame.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::quality::{Metric, SegmentQuality};
use reelmill_shared::job::task::{EncodeRung, QualitySpec};
use reelmill_shared::storage::StorageError;
use tokio::io::AsyncWriteExt;

use super::encode::{WITNESS, starts_in_time};
use super::{Amount, Bench, check_exit};
use crate::ffmpeg::argv::{self, Approach, CompareFiles};
use crate::ffmpeg::figures;

/// The files with what was encoded, one a rung.
pub(super) fn made(dir: &Path, spec: &QualitySpec) -> Vec<PathBuf> {
    (0..spec.encoded.rungs.len()).map(|place| dir.join(format!("made-{place}.mp4"))).collect()
}

pub(super) async fn perform(bench: &Bench, spec: &QualitySpec) -> Result<Vec<Publication>, TaskError> {
    let encoded = &spec.encoded;
    let source = bench.source(encoded.source).await?;
    let file = bench.open(&source).await?;
    let mark = bench.open_mark(encoded.watermark.as_ref()).await?;
    let made = made(&bench.dir, spec);
    fetch(bench, spec, &made).await?;
    let witness = bench.dir.join(WITNESS);
    let files = CompareFiles {
        input: &file.path,
        watermark: mark.as_ref().map(|file| file.path.as_path()),
        made: &made,
        witness: &witness,
    };
    run(bench, spec, &files, Approach::Seek).await?;
    if encoded.begins_later() && !starts_in_time(encoded, &witness).await? {
        // As the encode found out too.
        run(bench, spec, &files, Approach::Read).await?;
    }
    let mut measured = vec![];
    for (place, rung) in encoded.rungs.iter().enumerate() {
        measured.extend(segments(bench, spec, place, rung).await?);
    }
    Ok(vec![Publication::Quality { set: encoded.set, measured }])
}

async fn run(
    bench: &Bench,
    spec: &QualitySpec,
    files: &CompareFiles<'_>,
    approach: Approach,
) -> Result<(), TaskError> {
    let encoded = &spec.encoded;
    let amount = Amount {
        seconds: encoded.grid.rate.seconds(encoded.span().frames),
        frames: encoded.rungs.first().map(|rung| encoded.rung_span(rung).frames),
    };
    let deadline = Duration::from_secs(encoded.deadline_seconds);
    let args = argv::compare(spec, files, approach);
    check_exit("comparing", &bench.ffmpeg("comparing", &args, amount, deadline, encoded.threads).await?)
}

/// Brings what was encoded of the span into `files`, one a rung: the init segment and the segments behind it.
async fn fetch(bench: &Bench, spec: &QualitySpec, files: &[PathBuf]) -> Result<(), TaskError> {
    bench.say(0.0, "fetching segments", None);
    let encoded = &spec.encoded;
    let reading = |error| TaskError::internal("reading the segment index", error);
    let renditions = sets::renditions(&bench.shop.db, encoded.set).await.map_err(reading)?;
    for (path, rung) in files.iter().zip(&encoded.rungs) {
        let incomplete = || {
            TaskError::fatal(Reason::CheckFailed, format!("the set is not whole: {} is missing", rung.name))
        };
        let rendition = renditions.iter().find(|rendition| rendition.rung == rung.name);
        let rendition = rendition.ok_or_else(incomplete)?;
        let segments = sets::segments(&bench.shop.db, encoded.set, &rung.name).await.map_err(reading)?;
        let (span, length) = (encoded.rung_span(rung), rung.grid.segment_frames());
        let numbers = span.first / length..(span.first + span.frames).div_ceil(length);
        let own: Vec<&str> = segments
            .iter()
            .filter(|segment| numbers.contains(&u64::from(segment.number)))
            .map(|segment| segment.key.as_str())
            .collect();
        if own.len() as u64 != numbers.end - numbers.start {
            return Err(incomplete());
        }
        join(bench, path, [&[rendition.init_key.as_str()][..], &own].concat()).await?;
    }
    Ok(())
}

async fn join(bench: &Bench, path: &Path, keys: Vec<&str>) -> Result<(), TaskError> {
    let disk = |error: std::io::Error| TaskError::internal("joining segments", error);
    let stored = |error: StorageError| {
        TaskError::retryable(Reason::Storage, format!("could not read a segment: {error}"))
    };
    let mut file = tokio::fs::File::create(path).await.map_err(disk)?;
    for key in keys {
        let mut object = bench.shop.storage.get(key, None).await.map_err(stored)?;
        while let Some(bytes) = object.body.next().await {
            file.write_all(&bytes.map_err(stored)?).await.map_err(disk)?;
        }
    }
    file.flush().await.map_err(disk)
}

/// What FFmpeg measured of the rung at this place, segment by segment.
async fn segments(
    bench: &Bench,
    spec: &QualitySpec,
    place: usize,
    rung: &EncodeRung,
) -> Result<Vec<SegmentQuality>, TaskError> {
    let span = spec.encoded.rung_span(rung);
    let mut values: Vec<(Metric, Vec<f64>)> = vec![];
    for metric in &spec.metrics {
        let path = bench.dir.join(argv::figures_file(*metric, place));
        let read = figures::read(&path, *metric, span.frames).await?.ok_or_else(|| {
            TaskError::retryable(
                Reason::CheckFailed,
                format!("not all {} frames of {} could be compared with the source", span.frames, rung.name),
            )
        })?;
        values.push((*metric, read));
    }
    let length = rung.grid.segment_frames();
    let count = span.frames.div_ceil(length);
    let figure = |metric: Metric, n: u64| {
        let (_, values) = values.iter().find(|(known, _)| *known == metric)?;
        metric.figure(values.chunks(length as usize).nth(n as usize)?)
    };
    Ok((0..count)
        .map(|n| SegmentQuality {
            rung: rung.name.clone(),
            number: (span.first / length + n) as u32,
            frames: length.min(span.frames - n * length) as u32,
            square_error: figure(Metric::Psnr, n),
            similarity: figure(Metric::Ssim, n),
            vmaf: figure(Metric::Vmaf, n),
        })
        .collect())
}
