//! Puts a rendition of a finished set, with its sound, into one MP4 to be downloaded. Encodes nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reelmill_shared::db::downloads::Download;
use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::sets::{self, Rendition, TrackKind};
use reelmill_shared::db::{jobs, sources};
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::Mp4Spec;
use reelmill_shared::media::grid::AAC_FRAME;
use reelmill_shared::media::tags;
use reelmill_shared::storage::keys;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::{Amount, Bench, check_exit};
use crate::collect::collect;
use crate::ffmpeg::argv;

/// Long enough for ffprobe to read an index.
const LOOK: Duration = Duration::from_secs(300);
const OUTPUT: &str = "download.mp4";
/// What the source says of the work, in FFmpeg's metadata format.
const TAGS: &str = "tags.txt";

pub(super) async fn perform(bench: &Bench, spec: &Mp4Spec) -> Result<Vec<Publication>, TaskError> {
    let renditions = sets::renditions(&bench.shop.db, spec.set).await.map_err(index)?;
    let missing =
        || TaskError::fatal(Reason::CheckFailed, format!("there is no rendition {}", spec.download.rung));
    let main =
        renditions.iter().find(|rendition| rendition.rung == spec.download.rung).ok_or_else(missing)?;
    let sound =
        renditions.iter().find(|other| other.kind == TrackKind::Audio && main.kind == TrackKind::Video);

    bench.say(0.0, "collecting segments", None);
    let mut tracks = vec![];
    for (number, rendition) in [Some(main), sound].into_iter().flatten().enumerate() {
        let path = track(&bench.dir, number);
        collect(&bench.shop.db, &bench.shop.storage, spec.set, rendition, &path).await?;
        tracks.push(rendition);
    }
    let output = bench.dir.join(OUTPUT);
    let seconds = main.duration_ticks as f64 / f64::from(main.timescale);
    let tagged = write_tags(bench, spec).await?;
    let args = command(&bench.dir, tracks.len(), main.timescale, tagged);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let ended = bench.ffmpeg("writing the MP4", &args, Amount::seconds(seconds), deadline, 1).await?;
    check_exit("writing the MP4", &ended)?;
    check(bench, &output, &tracks, held_frames(bench, spec).await?).await?;

    bench.say(1.0, "storing the MP4", None);
    let key = keys::download(&bench.prefix, &spec.download.rung);
    let bytes = store(bench, &output, &key).await?;
    let download = Download { rung: spec.download.rung.clone(), key, bytes };
    Ok(vec![Publication::Download { recording: spec.recording, set: spec.set, download }])
}

/// The file with one of the tracks that are put together, the picture first.
fn track(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("track-{number}.mp4"))
}

/// The FFmpeg that puts so many tracks into one file, all of them in `dir`; `timescale` is the first one's.
pub(super) fn command(dir: &Path, tracks: usize, timescale: u32, tagged: bool) -> Vec<OsString> {
    let inputs: Vec<PathBuf> = (0..tracks).map(|number| track(dir, number)).collect();
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let tags = tagged.then(|| dir.join(TAGS));
    argv::mp4(&inputs, timescale, tags.as_deref(), &dir.join(OUTPUT))
}

/// Writes a file with what the source of the recording says of the work, where who had its set made wanted it kept; tells whether it did.
async fn write_tags(bench: &Bench, spec: &Mp4Spec) -> Result<bool, TaskError> {
    let (db, project) = (&bench.shop.db, bench.claimed.project_id);
    let maker = jobs::maker(db, spec.set).await.map_err(index)?;
    if !maker.is_some_and(|job| job.spec.edit.keep_metadata) {
        return Ok(false);
    }
    // Its own, of the same bytes: who lent the set may be gone, and the source with it.
    let source = sources::of_recording(db, project, spec.recording).await.map_err(index)?.flatten();
    let Some(probe) = source.and_then(|source| source.probe) else { return Ok(false) };
    tokio::fs::write(bench.dir.join(TAGS), tags::ffmetadata(&probe.tags)).await.map_err(disk)?;
    Ok(true)
}

/// Writes the file to the store; gives its length.
async fn store(bench: &Bench, path: &Path, key: &str) -> Result<u64, TaskError> {
    let mut file = tokio::fs::File::open(path).await.map_err(disk)?;
    let mut writer = bench.shop.storage.writer(key).await.map_err(store_error)?;
    let mut buffer = bytes::BytesMut::new();
    let mut total = 0;
    loop {
        buffer.reserve(PIECE);
        if file.read_buf(&mut buffer).await.map_err(disk)? == 0 {
            break;
        }
        let piece = buffer.split().freeze();
        total += piece.len() as u64;
        writer.write(piece).await.map_err(store_error)?;
    }
    writer.finish().await.map_err(store_error)?;
    Ok(total)
}

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// What ffprobe says of the file's tracks.
#[derive(Debug, Deserialize)]
struct Described {
    streams: Vec<Stream>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    nb_frames: Option<String>,
}

/// Every frame of every track must be there: FFmpeg ends well when it has lost some.
async fn check(bench: &Bench, output: &Path, renditions: &[&Rendition], held: u64) -> Result<(), TaskError> {
    let ffprobe = bench.shop.programs.ffprobe.clone();
    let mut json = String::new();
    let ended =
        bench.child(&ffprobe, &argv::count_frames(output), LOOK, 1, |line| json.push_str(line)).await?;
    check_exit("looking at the MP4", &ended)?;
    let told: Described = serde_json::from_str(&json)
        .map_err(|error| TaskError::internal("reading ffprobe's answer", error))?;
    let counts: Vec<Option<u64>> =
        told.streams.iter().map(|stream| stream.nb_frames.as_ref()?.parse().ok()).collect();
    let expected = renditions.iter().map(|rendition| match rendition.kind {
        TrackKind::Video => Some(frames(rendition).saturating_sub(held)),
        TrackKind::Audio | TrackKind::Text => Some(frames(rendition)),
    });
    let expected: Vec<Option<u64>> = expected.collect();
    if counts == expected {
        return Ok(());
    }
    Err(TaskError::retryable(
        Reason::CheckFailed,
        format!("the MP4 has {counts:?} frames where {expected:?} were stored"),
    ))
}

/// For how many frames a picture is held in a rendition that was encoded on air: such a picture is one that lasts.
async fn held_frames(bench: &Bench, spec: &Mp4Spec) -> Result<u64, TaskError> {
    let maker = jobs::maker(&bench.shop.db, spec.set).await.map_err(index)?;
    let taken = maker.and_then(|job| job.spec.taken).filter(|taken| {
        let rungs = &mut taken.rungs.iter();
        rungs.any(|rung| rung.name == spec.download.rung)
    });
    Ok(taken.map_or(0, |taken| taken.held_frames))
}

/// Pictures, or AAC frames, of a rendition that is whole.
fn frames(rendition: &Rendition) -> u64 {
    let ticks = u128::from(rendition.duration_ticks);
    let frames = match rendition.kind {
        TrackKind::Video => {
            let (num, den) = rendition.frame_rate.unwrap_or((1, 1));
            ticks * u128::from(num) / (u128::from(rendition.timescale) * u128::from(den.max(1)))
        }
        TrackKind::Audio | TrackKind::Text => ticks / u128::from(AAC_FRAME),
    };
    u64::try_from(frames).unwrap_or(u64::MAX)
}

fn index(error: reelmill_shared::db::DbError) -> TaskError {
    TaskError::internal("reading the segment index", error)
}

fn disk(error: std::io::Error) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("no room for the MP4: {error}"))
}

fn store_error(error: impl std::fmt::Display) -> TaskError {
    TaskError::retryable(Reason::Storage, format!("the object store: {error}"))
}
