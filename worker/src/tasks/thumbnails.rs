//! Takes a series of pictures out of a rendition.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::stills::Still;
use reelmill_shared::job::error::TaskError;
use reelmill_shared::job::task::ThumbnailsSpec;
use reelmill_shared::media::thumbnails::Series;
use reelmill_shared::storage::keys;

use super::{Bench, stills};
use crate::ffmpeg::argv;

/// The frames that are shown, or all frames.
const INPUT: &str = "frames.mp4";

/// The FFmpeg that takes them, all files in `dir` but the pictures, which come into the directory it runs in.
pub(super) fn command(spec: &ThumbnailsSpec, dir: &Path) -> Vec<OsString> {
    let step = match spec.series {
        Series::Keyframes { .. } => None,
        Series::Frames { step, .. } => Some(step),
    };
    // Relative: the scratch directory's own name may hold a `%`.
    let output = Path::new("thumbnail-%d.jpg");
    argv::thumbnails((spec.width, spec.height), step, spec.series.count(), &dir.join(INPUT), output)
}

pub(super) async fn perform(bench: &Bench, spec: &ThumbnailsSpec) -> Result<Vec<Publication>, TaskError> {
    bench.say(0.0, "reading segments", None);
    let grid = &spec.from.grid;
    let frames = spec.series.frames(grid);
    let input = bench.dir.join(INPUT);
    match spec.series {
        Series::Keyframes { .. } => {
            let gop = u64::from(grid.gop_frames.max(1));
            let gops: Vec<u64> = frames.iter().map(|frame| frame / gop).collect();
            stills::write_keyframes(bench, &spec.from, &gops, &input).await?;
        }
        Series::Frames { .. } => stills::write_whole(bench, &spec.from, &input).await?,
    }
    let args = command(spec, &bench.dir);
    let count = spec.series.count();
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let local = |number| format!("thumbnail-{number}.jpg");
    let key = |number| keys::thumbnail(&bench.prefix, number);
    let stored = stills::take(bench, "taking thumbnails", &args, deadline, count, local, key).await?;
    let series = (0..)
        .zip(stored)
        .zip(frames)
        .map(|((number, (key, bytes)), frame)| {
            let at_ms = (grid.rate.seconds(frame) * 1000.0).round() as u64;
            Still { number, at_ms, key, bytes }
        })
        .collect();
    Ok(vec![Publication::Thumbnails { set: spec.from.set, series }])
}
