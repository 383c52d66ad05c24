//! What tasks share that take pictures out of renditions: segments on their way to FFmpeg, pictures on their way to the store.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use reelmill_shared::db::sets::{self, Segment};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::StillSource;
use reelmill_shared::media::cmaf::{CmafError, Demuxer, Event, Sample, media_segment};
use reelmill_shared::storage::Storage;
use tokio::io::AsyncWriteExt;

use super::{Amount, Bench, check_exit};

/// Objects read or written at once.
const AT_ONCE: usize = 4;
/// Our own segments are much shorter.
const MAX_BOX: usize = 256 << 20;

/// Writes a file of nothing but keyframes: those that begin `gops` of a rendition, in order.
pub(super) async fn write_keyframes(
    bench: &Bench,
    from: &StillSource,
    gops: &[u64],
    path: &Path,
) -> Result<(), TaskError> {
    let (init, segments) = index(bench, from).await?;
    let per_segment = u64::from(from.grid.segment_gops.max(1));
    let mut wanted: Vec<(Segment, Vec<usize>)> = vec![];
    for gop in gops {
        let (number, place) = (gop / per_segment, (gop % per_segment) as usize);
        match wanted.last_mut() {
            Some((segment, places)) if u64::from(segment.number) == number => places.push(place),
            _ => {
                let found = segments.iter().find(|segment| u64::from(segment.number) == number);
                let found = found.ok_or_else(|| missing(from, number))?;
                wanted.push((found.clone(), vec![place]));
            }
        }
    }
    let mut file = create(path).await?;
    file.write_all(&init).await.map_err(|error| disk(&error))?;
    let ticks = u64::from(from.grid.rate.frame_ticks()) * u64::from(from.grid.gop_frames);
    let storage = &bench.shop.storage;
    let reading = wanted
        .into_iter()
        .map(|(segment, places)| first_frames(storage.clone(), init.clone(), segment, places));
    let mut reading = stream::iter(reading).buffered(AT_ONCE);
    let mut numbered = (1..).zip(gops);
    while let Some(samples) = reading.try_next().await? {
        for (sample, (sequence, gop)) in samples.into_iter().zip(&mut numbered) {
            let one = media_segment(sequence, gop * ticks, &[&[sample]]);
            file.write_all(&one.bytes).await.map_err(|error| disk(&error))?;
        }
    }
    file.flush().await.map_err(|error| disk(&error))
}

/// Writes a whole rendition into one file.
pub(super) async fn write_whole(bench: &Bench, from: &StillSource, path: &Path) -> Result<(), TaskError> {
    let (init, segments) = index(bench, from).await?;
    let expected = from.grid.segments();
    if segments.len() as u64 != expected {
        return Err(missing(from, expected.saturating_sub(1)));
    }
    let mut file = create(path).await?;
    file.write_all(&init).await.map_err(|error| disk(&error))?;
    for segment in segments {
        let mut object = bench.shop.storage.get(&segment.key, None).await.map_err(|error| store(&error))?;
        while let Some(bytes) = object.body.next().await {
            let bytes = bytes.map_err(|error| store(&error))?;
            file.write_all(&bytes).await.map_err(|error| disk(&error))?;
        }
    }
    file.flush().await.map_err(|error| disk(&error))
}

/// Runs an FFmpeg that writes `count` pictures and stores them; `local` names FFmpeg's files in the scratch directory, `key` the
/// objects. Gives key and bytes of each.
pub(super) async fn take(
    bench: &Bench,
    phase: &str,
    args: &[std::ffi::OsString],
    deadline: Duration,
    count: u32,
    local: impl Fn(u32) -> String,
    key: impl Fn(u32) -> String,
) -> Result<Vec<(String, u64)>, TaskError> {
    let ended = bench.ffmpeg(phase, args, Amount::seconds(1.0), deadline, 1).await?;
    check_exit(phase, &ended)?;
    let mut stored = vec![];
    for number in 0..count {
        let jpeg = tokio::fs::read(bench.dir.join(local(number))).await.unwrap_or_default();
        if jpeg.is_empty() {
            return Err(TaskError::retryable(
                Reason::CheckFailed,
                format!("{phase}: {number} of {count} pictures were made"),
            ));
        }
        let (key, bytes) = (key(number), jpeg.len() as u64);
        bench.shop.storage.put(&key, jpeg.into()).await.map_err(|error| store(&error))?;
        stored.push((key, bytes));
    }
    // One more would mean that frames were doubled, and every time after it be wrong.
    if tokio::fs::try_exists(bench.dir.join(local(count))).await.unwrap_or(false) {
        return Err(TaskError::retryable(
            Reason::CheckFailed,
            format!("{phase}: more than {count} pictures were made"),
        ));
    }
    Ok(stored)
}

/// The init segment of a rendition and the list of its segments.
async fn index(bench: &Bench, from: &StillSource) -> Result<(Bytes, Vec<Segment>), TaskError> {
    let reading = |error| TaskError::internal("reading the segment index", error);
    let db = &bench.shop.db;
    let renditions = sets::renditions(db, from.set).await.map_err(reading)?;
    let rendition =
        renditions.iter().find(|rendition| rendition.rung == from.rung).ok_or_else(|| missing(from, 0))?;
    let init = read(&bench.shop.storage, &rendition.init_key, None).await?;
    let segments = sets::segments(db, from.set, &from.rung).await.map_err(reading)?;
    Ok((init, segments))
}

/// First frames of the GOPs at `places` of a segment. Where not all of them are wanted, no more than they is read.
async fn first_frames(
    storage: Storage,
    init: Bytes,
    segment: Segment,
    places: Vec<usize>,
) -> Result<Vec<Sample>, TaskError> {
    if places.len() >= segment.keyframes.len() {
        let whole = read(&storage, &segment.key, None).await?;
        let frames = keyframes(&init, &whole).map_err(|error| damaged(&error))?;
        return places.into_iter().map(|place| frames.get(place).cloned().ok_or_else(no_keyframe)).collect();
    }
    let mut frames = vec![];
    for place in places {
        let known = segment.keyframes.get(place).ok_or_else(no_keyframe)?;
        let start = u64::from(known.offset);
        let part = read(&storage, &segment.key, Some(start..start + u64::from(known.bytes))).await?;
        let found = keyframes(&init, &part).map_err(|error| damaged(&error))?;
        frames.push(found.into_iter().next().ok_or_else(no_keyframe)?);
    }
    Ok(frames)
}

/// The first frames of GOPs of a segment; the last of them may break off behind its first frame.
fn keyframes(init: &[u8], segment: &[u8]) -> Result<Vec<Sample>, CmafError> {
    let mut demuxer = Demuxer::new(MAX_BOX);
    demuxer.push(init);
    demuxer.push(segment);
    let mut firsts: Vec<Sample> = vec![];
    while let Some(event) = demuxer.next()? {
        if let Event::Fragment(fragment) = event {
            firsts.extend(fragment.samples.into_iter().next());
        }
    }
    firsts.extend(demuxer.first_sample()?);
    firsts.retain(|sample| sample.sync);
    Ok(firsts)
}

fn no_keyframe() -> TaskError {
    damaged(&"a keyframe is missing")
}

async fn read(storage: &Storage, key: &str, range: Option<std::ops::Range<u64>>) -> Result<Bytes, TaskError> {
    let object = storage.get(key, range).await.map_err(|error| store(&error))?;
    let parts: Vec<Bytes> = object.body.try_collect().await.map_err(|error| store(&error))?;
    Ok(match <[Bytes; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => parts.concat().into(),
    })
}

async fn create(path: &Path) -> Result<tokio::fs::File, TaskError> {
    tokio::fs::File::create(path).await.map_err(|error| disk(&error))
}

fn missing(from: &StillSource, number: u64) -> TaskError {
    TaskError::fatal(
        Reason::CheckFailed,
        format!("the set is not whole: {} has no segment {number}", from.rung),
    )
}

fn damaged(error: &dyn std::fmt::Display) -> TaskError {
    TaskError::retryable(Reason::CheckFailed, format!("a segment does not read: {error}"))
}

fn store(error: &dyn std::fmt::Display) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("the object store did not do its part: {error}"))
}

fn disk(error: &std::io::Error) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("could not write a scratch file: {error}"))
}
