//! Playlists as they are sent.

use std::io::Write as _;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use reelmill_shared::media::live::manifest;
use reelmill_shared::media::live::playlist::{self, Form};
use reelmill_shared::media::live::presented::presented;
use reelmill_shared::media::live::window::Window;
use reelmill_shared::media::presentation;

/// A playlist, plain and packed: made once, sent to everybody.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    pub(crate) plain: Bytes,
    pub(crate) gzip: Bytes,
    /// Nothing of it changes any more.
    pub(crate) is_final: bool,
}

impl Rendered {
    fn new(text: String, is_final: bool) -> Self {
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
        // Writing to a Vec cannot fail.
        let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        Self { gzip: packed.map(Bytes::from).unwrap_or_default(), plain: text.into(), is_final }
    }

    /// The media playlist of a track.
    pub(crate) fn media(window: &Window, track: &str, form: Form) -> Option<Self> {
        playlist::media(window, track, form).map(|text| Self::new(text, window.ended))
    }

    /// The multivariant playlist; `None` before every track has something.
    pub(crate) fn master(window: &Window) -> Option<Self> {
        let run = window.runs.last().filter(|_| window.is_playable())?;
        let tracks = presented(&window.plan, &run.codecs);
        Some(Self::new(presentation::master(&tracks).render(), window.ended))
    }

    /// The DASH manifest; `None` before there is a whole segment.
    pub(crate) fn manifest(window: &Window, now: DateTime<Utc>) -> Option<Self> {
        manifest::manifest(window, now).map(|manifest| Self::new(manifest.render(), window.ended))
    }
}
