//! Takes one picture out of a source: for who asked for it, or as the recording's poster.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use reelmill_shared::db::finish::Publication;
use reelmill_shared::db::pictures;
use reelmill_shared::job::error::{Reason, TaskError};
use reelmill_shared::job::framing::Framing;
use reelmill_shared::job::spec::{Moment, PictureRequest};
use reelmill_shared::job::task::ThumbnailSpec;
use reelmill_shared::media::probe::{Transfer, VideoStream};
use reelmill_shared::storage::keys;
use serde_json::json;

use super::{Amount, Bench, check_exit, representative};
use crate::ffmpeg::argv::{self, Look, PictureAt};

const OUTPUT: &str = "picture.jpg";
/// Where a picture is taken that nobody gave a time for, in seconds; in the middle of what is shorter than twice that.
const USUAL_SECONDS: f64 = 5.0;

pub(super) async fn perform(bench: &Bench, spec: &ThumbnailSpec) -> Result<Vec<Publication>, TaskError> {
    let source = bench.source(spec.source).await?;
    let Some(video) = source.probe.as_ref().and_then(|probe| probe.video.as_ref()) else {
        return Err(TaskError::fatal(
            Reason::Unsuitable,
            "the source has no video track to take a picture from",
        ));
    };
    let file = bench.open(&source).await?;
    let deadline = Duration::from_secs(spec.deadline_seconds);
    let part = Part::of(spec, video);
    // In the source, from its start; who asks counts from the start of the recording.
    let (seconds, poster_ms) = match (spec.poster, spec.picture.at_ms) {
        (Some(moment), _) => {
            let seconds = match part.at(moment) {
                Some(seconds) => seconds,
                None => {
                    representative::find(bench, video.index, part.start, part.length, &file.path, deadline)
                        .await?
                        .unwrap_or_else(|| part.usual())
                }
            };
            let is_usual = moment == Moment::Usual && !spec.edit.is_trimmed();
            (seconds, (!is_usual).then(|| milliseconds(seconds)))
        }
        (None, Some(ms)) => (part.start + ms as f64 / 1000.0, None),
        (None, None) => {
            let known = pictures::poster_moment(&bench.shop.db, spec.recording)
                .await
                .map_err(|error| TaskError::internal("reading the poster's moment", error))?;
            (known.map_or_else(|| part.usual(), |ms| ms as f64 / 1000.0), None)
        }
    };
    let seconds = part.within(seconds, video);
    let look = look(spec, video)?;
    let mark = bench.open_mark(spec.edit.watermark.as_ref()).await?;
    let mark = mark.as_ref().map(|file| file.path.as_path());
    let output = bench.dir.join(OUTPUT);
    // Where the container's index leads nowhere, FFmpeg ends well without a picture.
    for at in [PictureAt::Seek(seconds), PictureAt::First] {
        let args = argv::picture(&look, at, &file.path, mark, &output);
        let ended = bench.ffmpeg("taking a picture", &args, Amount::seconds(1.0), deadline, 1).await?;
        if let Ok(jpeg) = tokio::fs::read(&output).await
            && !jpeg.is_empty()
        {
            let key = keys::picture(&bench.prefix);
            let bytes = jpeg.len() as u64;
            bench.shop.storage.put(&key, jpeg.into()).await.map_err(|error| {
                TaskError::retryable(Reason::Storage, format!("could not store the picture: {error}"))
            })?;
            return Ok(publications(spec, poster_ms, seconds - part.start, &key, bytes));
        }
        if at == PictureAt::First {
            check_exit("taking a picture", &ended)?;
        }
    }
    Err(TaskError::fatal(Reason::Damaged, "no picture of the source could be decoded"))
}

/// What the recording uses of the source, in seconds.
struct Part {
    start: f64,
    length: f64,
}

impl Part {
    fn of(spec: &ThumbnailSpec, video: &VideoStream) -> Self {
        Self { start: spec.edit.start(), length: spec.edit.trimmed(video.end_seconds) }
    }

    fn usual(&self) -> f64 {
        self.start + USUAL_SECONDS.min(self.length / 2.0)
    }

    /// Where a moment lies in the source; `None` where it is still to be found.
    fn at(&self, moment: Moment) -> Option<f64> {
        match moment {
            Moment::Usual => Some(self.usual()),
            Moment::AtMs(ms) => Some(self.start + ms as f64 / 1000.0),
            Moment::Percent(percent) => Some(self.start + self.length * percent / 100.0),
            Moment::Representative => None,
        }
    }

    /// At the last frame at the latest.
    fn within(&self, seconds: f64, video: &VideoStream) -> f64 {
        let end = video.end_seconds.min(self.start + self.length);
        seconds.min((end - 1.0 / video.rate.as_f64()).max(0.0))
    }
}

/// The command that is tried first for the poster of a new recording, its output in `dir`; `None` where another one finds the moment.
pub(super) fn command(
    spec: &ThumbnailSpec,
    video: &VideoStream,
    input: &Path,
    watermark: &Path,
    dir: &Path,
) -> Option<Vec<OsString>> {
    let part = Part::of(spec, video);
    let seconds = part.within(part.at(spec.poster.unwrap_or(Moment::Usual))?, video);
    let mark = spec.edit.watermark.map(|_| watermark);
    Some(argv::picture(&look(spec, video).ok()?, PictureAt::Seek(seconds), input, mark, &dir.join(OUTPUT)))
}

/// As the recording is framed, in the largest size of that shape inside the box that was asked for, never larger than the video.
fn look(spec: &ThumbnailSpec, video: &VideoStream) -> Result<Look, TaskError> {
    let framing = Framing::of(&spec.edit, video)?;
    let (width, height) = framing.canvas;
    let (most_across, most_down) = (f64::from(spec.picture.width), f64::from(spec.picture.height));
    let scale = (most_across / width).min(most_down / height).min(1.0);
    let side = |length: f64| ((length * scale / 2.0).round() as u32 * 2).max(2);
    let size = (side(width), side(height));
    Ok(Look {
        stream: video.index,
        deinterlace: video.interlaced,
        tone_map: video.transfer != Transfer::Sdr,
        unsaid_colours: video.unsaid_colours,
        crop: framing.crop,
        size,
        content: framing.content_on(size),
        watermark: spec.edit.watermark,
    })
}

/// `seconds` is where the recording shows the picture.
fn publications(
    spec: &ThumbnailSpec,
    poster_ms: Option<u64>,
    seconds: f64,
    key: &str,
    bytes: u64,
) -> Vec<Publication> {
    let recording = spec.recording;
    let picture = |request| Publication::Picture { recording, request, key: key.to_owned(), bytes };
    let Some(moment) = spec.poster else {
        return vec![picture(spec.picture)];
    };
    let size = (spec.picture.width, spec.picture.height);
    let mut all = vec![Publication::Poster { recording, at_ms: poster_ms, size }, picture(spec.picture)];
    if let Moment::AtMs(ms) = moment {
        // Who named the time finds it by that too, when the poster is another one.
        all.push(picture(PictureRequest { at_ms: Some(ms), ..spec.picture }));
    }
    all.push(Publication::JobResult(json!({ "thumbnail": { "time": (seconds * 1000.0).round() / 1000.0 } })));
    all
}

/// Down, so that a seek by it still finds the frame.
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).max(0.0) as u64
}
