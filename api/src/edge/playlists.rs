//! Playlists as they are sent.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::plan::{AUDIO, LivePlan};
use reelmill_shared::media::live::playlist::{self, Form};
use reelmill_shared::media::live::window::Window;
use reelmill_shared::media::presentation::{self, Presented, PresentedTrack};
use reelmill_shared::media::profile::RateControl;
use reelmill_shared::media::tracks::Role;

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
        let tracks: Vec<Presented> = window
            .plan
            .tracks()
            .zip(&run.codecs)
            .filter_map(|(name, codec)| presented(&window.plan, name, codec))
            .collect();
        Some(Self::new(presentation::master(&tracks).render(), window.ended))
    }
}

fn presented(plan: &LivePlan, name: &str, codec: &str) -> Option<Presented> {
    let rung = plan.rungs.iter().find(|rung| rung.name == name);
    let (track, rate) = match (rung, &plan.audio) {
        (Some(rung), _) => {
            let frame_rate = Some(plan.frame_rate);
            let track = PresentedTrack::Video { width: rung.width, height: rung.height, frame_rate };
            (track, RateControl::Constant { bitrate: rung.bitrate, buffer: rung.buffer })
        }
        (None, Some(audio)) if name == AUDIO => {
            let sample_rate = Some(audio.sample_rate);
            let track = PresentedTrack::Audio { channels: 2, sample_rate, language: None, role: Role::Main };
            (track, RateControl::Constant { bitrate: audio.bitrate, buffer: audio.bitrate / 2 })
        }
        _ => return None,
    };
    let declared = rate.declared();
    Some(Presented {
        name: name.to_owned(),
        label: None,
        track,
        codec: codec.to_owned(),
        peak_bandwidth: declared.peak,
        average_bandwidth: declared.average,
        uri: LiveFile::Playlist { track: name.to_owned() }.to_string(),
        iframes: None,
    })
}
