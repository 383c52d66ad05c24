//! Finds the moment of a source that stands best for the whole: a quick look at a few keyframes.

use std::path::Path;
use std::time::Duration;

use reelmill_shared::job::error::TaskError;
use reelmill_shared::media::representative::{Grey, choose};

use super::{Amount, Bench};
use crate::ffmpeg::argv;
use crate::ffmpeg::witness::first_seconds;

/// Places that are looked at: the cost does not grow with the recording.
const GLIMPSES: u32 = 16;
/// Small, but large enough to tell a blurred picture.
const SIZE: (u32, u32) = (160, 90);

/// Seconds of the frame that stands best for the `length` from `start` on, both in seconds; `None` where nothing but black, white and
/// plain ones was seen, or nothing.
pub(super) async fn find(
    bench: &Bench,
    stream: u32,
    start: f64,
    length: f64,
    input: &Path,
    deadline: Duration,
) -> Result<Option<f64>, TaskError> {
    let (output, witness) = (bench.dir.join("glimpse.gray"), bench.dir.join("glimpse.txt"));
    let mut seen: Vec<(f64, Grey)> = vec![];
    for number in 0..GLIMPSES {
        // The middles of equal parts: neither the very first frame nor the very last.
        let seconds = start + length * (f64::from(number) + 0.5) / f64::from(GLIMPSES);
        let args = argv::glimpse(stream, seconds, SIZE, input, &output, &witness);
        for old in [&output, &witness] {
            let _ = tokio::fs::remove_file(old).await;
        }
        // A place where nothing is found is passed over, whatever FFmpeg says of it.
        bench.ffmpeg("looking for a picture", &args, Amount::seconds(1.0), deadline, 1).await?;
        let luma = tokio::fs::read(&output).await.unwrap_or_default();
        let Ok(Some(at)) = first_seconds(&witness).await else { continue };
        // A seek goes back to a keyframe, which may be cut away.
        let usable = luma.len() == (SIZE.0 * SIZE.1) as usize && at >= start - 0.001;
        // Several places may lead to the same keyframe.
        if usable && seen.iter().all(|(known, _)| *known != at) {
            seen.push((at, Grey { width: SIZE.0 as usize, luma }));
        }
    }
    let (times, pictures): (Vec<f64>, Vec<Grey>) = seen.into_iter().unzip();
    Ok(choose(&pictures).and_then(|index| times.get(index).copied()))
}
