//! A broadcast as master playlists and manifests describe it.

use super::names::LiveFile;
use super::plan::{AUDIO, LivePlan};
use crate::media::presentation::{Presented, PresentedTrack};
use crate::media::profile::RateControl;
use crate::media::tracks::Role;

/// The tracks of a plan, in their order, without those that were dropped. `codecs` by RFC 6381, in the same order; empty where one was.
pub fn presented(plan: &LivePlan, codecs: &[String]) -> Vec<Presented> {
    let named = plan.tracks().zip(codecs).filter(|(_, codec)| !codec.is_empty());
    named.filter_map(|(name, codec)| track(plan, name, codec)).collect()
}

fn track(plan: &LivePlan, name: &str, codec: &str) -> Option<Presented> {
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
