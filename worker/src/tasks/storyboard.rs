//! Lays small pictures of a rendition's keyframes out on sheets, beside the WebVTT that says where each is.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::stills::Still;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::StoryboardSpec;
use reelmill_shared::storage::keys;

use super::{Bench, stills};
use crate::ffmpeg::argv;

/// The keyframes that are laid out.
const INPUT: &str = "keyframes.mp4";

/// The FFmpeg that lays them out, all files in `dir` but the sheets, which come into the directory it runs in.
pub(super) fn command(spec: &StoryboardSpec, dir: &Path) -> Vec<OsString> {
    // Relative: the scratch directory's own name may hold a `%`.
    argv::sheets(&spec.board, &dir.join(INPUT), Path::new("sheet-%d.jpg"))
}

pub(super) async fn perform(bench: &Bench, spec: &StoryboardSpec) -> Result<Vec<Publication>, TaskError> {
    bench.say(0.0, "reading keyframes", None);
    let board = spec.board;
    stills::write_keyframes(bench, &spec.from, &board.gops(), &bench.dir.join(INPUT)).await?;
    let args = command(spec, &bench.dir);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let local = |number| format!("sheet-{number}.jpg");
    let key = |number| keys::sheet(&bench.prefix, number);
    let stored =
        stills::take(bench, "making the storyboard", &args, deadline, board.sheets(), local, key).await?;
    let sheets = (0..)
        .zip(stored)
        .map(|(number, (key, bytes))| Still { number, at_ms: board.sheet_ms(number), key, bytes })
        .collect();
    // For who serves the bucket alone.
    let text = board.vtt(|number| keys::relative(&bench.prefix, &key(number)));
    bench.shop.storage.put(&keys::storyboard(&bench.prefix), text.into()).await.map_err(|error| {
        TaskError::retryable(Reason::Storage, format!("could not store the storyboard: {error}"))
    })?;
    Ok(vec![Publication::Storyboard { set: spec.from.set, board, sheets }])
}
