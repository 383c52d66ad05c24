//! Takes one picture out of a source.

use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::task::ThumbnailSpec;
use reelmill_shared::media::probe::{Transfer, VideoStream};
use reelmill_shared::storage::keys;

use super::{Amount, Bench, check_exit};
use crate::ffmpeg::argv::{self, PictureAt};

/// Where the default picture is taken, in seconds; in the middle of what is shorter than twice that.
const DEFAULT_SECONDS: f64 = 5.0;

pub(super) async fn perform(bench: &Bench, spec: &ThumbnailSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let Some(video) = source.probe.as_ref().and_then(|probe| probe.video.as_ref()) else {
        return Err(TaskError::fatal(
            Reason::Unsuitable,
            "the source has no video track to take a picture from",
        ));
    };
    let file = bench.open(&source).await?;
    let last = (video.end_seconds - 1.0 / video.rate.as_f64()).max(0.0);
    let seconds = match spec.picture.at_ms {
        Some(ms) => (ms as f64 / 1000.0).min(last),
        None => DEFAULT_SECONDS.min(video.end_seconds / 2.0),
    };
    let output = bench.dir.join("picture.jpg");
    let size = fit(video, spec.picture.width, spec.picture.height);
    let deadline = Duration::from_secs(spec.deadline_seconds);
    // Where the container's index leads nowhere, FFmpeg ends well without a picture.
    for at in [PictureAt::Seek(seconds), PictureAt::First] {
        let tone_map = video.transfer != Transfer::Sdr;
        let args = argv::picture(video.index, at, size, video.interlaced, tone_map, &file.path, &output);
        let ended = bench.ffmpeg("taking a picture", &args, Amount::seconds(1.0), deadline, 1).await?;
        if let Ok(jpeg) = tokio::fs::read(&output).await
            && !jpeg.is_empty()
        {
            let key = keys::picture(&bench.prefix);
            let bytes = jpeg.len() as u64;
            bench.shop.storage.put(&key, jpeg.into()).await.map_err(|error| {
                TaskError::retryable(Reason::Storage, format!("could not store the picture: {error}"))
            })?;
            let (recording, request) = (spec.recording, spec.picture);
            return Ok(vec![Publication::Picture { recording, request, key, bytes }]);
        }
        if at == PictureAt::First {
            check_exit("taking a picture", &ended)?;
        }
    }
    Err(TaskError::fatal(Reason::Damaged, "no picture of the source could be decoded"))
}

/// The largest size of the video's shape inside the box, never larger than the video.
fn fit(video: &VideoStream, width: u32, height: u32) -> (u32, u32) {
    let (shown_width, shown_height) = video.display_size();
    let scale = (f64::from(width) / shown_width).min(f64::from(height) / shown_height).min(1.0);
    let side = |length: f64| ((length * scale / 2.0).round() as u32 * 2).max(2);
    (side(shown_width), side(shown_height))
}
