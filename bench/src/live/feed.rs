//! Hears from the origin itself when each part is complete, as an edge does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use reelmill_shared::db::live::Origin;
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::live::origin::{self, PASS_HEADER};
use reelmill_shared::media::live::window::{Message, Update, Window};

/// A part: its track's name, its segment, its place in it.
pub(crate) type PartName = (String, u64, u32);

/// A part that was completed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completed {
    pub(crate) at: Instant,
    /// Where it ends on the timeline of the broadcast, in seconds.
    pub(crate) end: f64,
}

/// What was completed since it was begun to listen.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<HashMap<PartName, Completed>>>);

impl Heard {
    /// Listens on a thread of its own, so that it is not late because others are busy. It ends with the broadcast or the process.
    pub(crate) fn listen(id: LivestreamId, origin: &Origin) -> anyhow::Result<Self> {
        let heard = Self::default();
        let (told, url) = (heard.clone(), format!("{}{}", origin.address, origin::feed(id)));
        let pass = origin.pass.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(hear(&told, &url, &pass)));
        Ok(heard)
    }

    /// When a part was completed.
    pub(crate) fn of(&self, part: &PartName) -> Option<Completed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(part).copied()
    }

    /// All parts of a track, as they were completed.
    pub(crate) fn all(&self, track: &str) -> Vec<Completed> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            heard.iter().filter(|((name, ..), _)| name == track).map(|(_, part)| *part).collect();
        all.sort_by_key(|part| part.at);
        all
    }

    fn note(&self, window: &mut Option<Window>, message: Message, at: Instant) -> Option<()> {
        match message {
            Message::Window(first) => *window = Some(*first),
            Message::Alive => {}
            Message::Update(update) => {
                let window = window.as_mut()?;
                let part = match &update {
                    Update::Part { track, number, .. } => Some((*track, *number)),
                    _ => None,
                };
                if let Some((track, number)) = part {
                    let before = window.tracks.get(track)?.segment(number).map_or(0, |open| open.part_count);
                    let name = (window.tracks.get(track)?.name.clone(), number, before);
                    window.apply(update);
                    let list = window.tracks.get(track)?;
                    let end = list.end() as f64 / f64::from(list.timescale);
                    let completed = Completed { at, end };
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, completed);
                } else {
                    window.apply(update);
                }
            }
        }
        Some(())
    }
}

async fn hear(heard: &Heard, url: &str, pass: &str) -> anyhow::Result<()> {
    let mut answer =
        reqwest::Client::new().get(url).header(PASS_HEADER, pass).send().await?.error_for_status()?;
    let (mut window, mut rest) = (None, vec![]);
    while let Some(piece) = answer.chunk().await? {
        let at = Instant::now();
        rest.extend_from_slice(&piece);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            heard.note(&mut window, serde_json::from_slice(&line).context("an odd feed")?, at);
        }
    }
    Ok(())
}
