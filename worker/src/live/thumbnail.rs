//! A picture of what is on air, every few seconds: the newest keyframe, decoded beside the encoder, which is not held up by it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reelmill_shared::db::live::{self, OnAir};
use reelmill_shared::storage::keys;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::studio::Studio;
use crate::ffmpeg::argv;
use crate::ffmpeg::process::{Limits, Run, run};

/// From one picture to the next; what a viewer is shown is a GOP older at most.
const EVERY: Duration = Duration::from_secs(8);
/// Before there is a first one.
const SOON: Duration = Duration::from_millis(500);
/// More than one picture takes on a machine at work.
const DEADLINE: Duration = Duration::from_secs(20);
/// A picture that a recording is known by is kept this seldom.
const KEPT_EVERY: u32 = 8;
/// Pixels of the box it fits into.
const SIZE: (u32, u32) = (320, 180);

/// What a run is watched by.
pub(crate) struct Watched<'a> {
    pub(crate) studio: &'a Studio,
    pub(crate) channel: &'a Channel,
    pub(crate) on_air: &'a OnAir,
    pub(crate) epoch: u32,
    pub(crate) dir: &'a Path,
}

impl Watched<'_> {
    /// Takes pictures until `over`.
    pub(crate) async fn keep(&self, over: CancellationToken) {
        let (mut taken, mut keep_at): (u32, u32) = (0, 0);
        let mut last = None;
        let mut pause = SOON;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = over.cancelled() => return,
            }
            let Some((number, media)) = self.channel.newest_keyframe(self.smallest(), self.epoch) else {
                continue;
            };
            if last == Some(number) {
                continue;
            }
            match self.take(media, &over).await {
                Ok(picture) => {
                    self.channel.show(picture.clone());
                    if taken >= keep_at {
                        self.store(number, picture).await;
                        keep_at = taken + KEPT_EVERY;
                    }
                    last = Some(number);
                    taken += 1;
                }
                Err(error) => {
                    tracing::debug!(livestream = %self.channel.livestream, %error, "no picture of what is on air");
                }
            }
            // One that does not decode is not tried any sooner.
            pause = EVERY;
        }
    }

    /// The place of the smallest rung that is large enough.
    fn smallest(&self) -> usize {
        let rungs = &self.on_air.plan.rungs;
        rungs.iter().rposition(|rung| rung.width >= SIZE.0).unwrap_or(rungs.len().saturating_sub(1))
    }

    async fn take(&self, media: Bytes, over: &CancellationToken) -> Result<Bytes, String> {
        let (input, output): (PathBuf, PathBuf) =
            (self.dir.join("keyframe.mp4"), self.dir.join("keyframe.jpg"));
        tokio::fs::write(&input, &media).await.map_err(|error| error.to_string())?;
        let args = argv::live_thumbnail(&input, SIZE, &output);
        let job = Run {
            program: &self.studio.programs.ffmpeg,
            args: &args,
            dir: self.dir,
            deadline: DEADLINE,
            stall: DEADLINE,
            limits: Limits { file_size: 4 << 20, ..Limits::standard(DEADLINE, 1) },
        };
        let ended = run(job, over, |_| {}).await.map_err(|error| error.to_string())?;
        if !ended.status.success() {
            return Err(ended.log_tail);
        }
        let picture = tokio::fs::read(&output).await.map_err(|error| error.to_string())?;
        if picture.is_empty() { Err("the picture is empty".to_owned()) } else { Ok(picture.into()) }
    }

    /// Keeps a picture for the recording; the one before goes.
    async fn store(&self, number: u64, picture: Bytes) {
        let prefix = keys::live_prefix(&keys::broadcast(self.channel.project, self.on_air.id), self.epoch);
        let key = keys::live_thumbnail(&prefix, number);
        let stored = async {
            self.studio.storage.put(&key, picture).await.map_err(|error| error.to_string())?;
            live::set_thumbnail(&self.studio.db, self.on_air.id, &key)
                .await
                .map_err(|error| error.to_string())
        };
        if let Err(error) = stored.await {
            tracing::debug!(livestream = %self.channel.livestream, %error, "a picture of what is on air was not kept");
        }
    }
}
