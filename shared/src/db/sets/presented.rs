//! From rows to what playlists and manifests are made of.

use super::{Rendition, Segment, TrackKind};
use crate::media::cmaf::Keyframe;
use crate::media::dash;
use crate::media::hls::{self, PlaylistKind};
use crate::media::presentation::{Presented, PresentedIframes, PresentedTrack, iframes, media};

impl Rendition {
    /// This rendition in a master playlist or a manifest, with `uri` for its media playlist and `iframes` for that of its I-frames.
    pub fn presented(&self, uri: String, iframes: String) -> Presented {
        let track = match self.kind {
            TrackKind::Video => PresentedTrack::Video {
                width: self.width.unwrap_or(0),
                height: self.height.unwrap_or(0),
                frame_rate: self.frame_rate,
            },
            TrackKind::Audio => PresentedTrack::Audio {
                channels: self.channels.unwrap_or(2),
                sample_rate: self.sample_rate,
                language: self.language.clone(),
                role: self.role,
            },
            TrackKind::Text => PresentedTrack::Text { language: self.language.clone(), role: self.role },
        };
        Presented {
            name: self.rung.clone(),
            label: self.label.clone(),
            track,
            codec: self.codec.clone(),
            peak_bandwidth: self.peak_bandwidth,
            average_bandwidth: self.average_bandwidth,
            uri,
            iframes: self.iframe_bandwidth.map(|bandwidth| PresentedIframes { uri: iframes, bandwidth }),
        }
    }

    /// The media playlist of this rendition; `init` and `name` give the URIs. `target_duration` in seconds is what was promised
    /// while it grew; `None`: what its longest segment asks for.
    pub fn playlist(
        &self,
        kind: PlaylistKind,
        target_duration: Option<u32>,
        init: String,
        segments: &[Segment],
        name: impl Fn(&Segment) -> String,
    ) -> hls::MediaPlaylist {
        let init = (self.kind != TrackKind::Text).then_some(init);
        let segments = segments
            .iter()
            .map(|segment| hls::Segment {
                uri: name(segment),
                duration: self.ticks(segment.duration_ticks),
                range: None,
            })
            .collect();
        media(kind, target_duration, init, segments)
    }

    /// The playlist of this rendition's I-frames; `init` and `name` give the URIs.
    pub fn iframe_playlist(
        &self,
        init: String,
        segments: &[Segment],
        name: impl Fn(&Segment) -> String,
    ) -> hls::MediaPlaylist {
        let frame = |segment, key: &Keyframe| hls::Segment {
            uri: name(segment),
            duration: self.ticks(key.ticks),
            range: Some(hls::ByteRange { offset: key.offset.into(), bytes: key.bytes.into() }),
        };
        let frames = segments
            .iter()
            .flat_map(|segment| segment.keyframes.iter().map(move |key| (segment, key)))
            .map(|(segment, key)| frame(segment, key));
        iframes(init, frames.collect())
    }

    /// The segments of this rendition in a manifest.
    pub fn timeline(&self, segments: &[Segment], files: dash::Files) -> dash::Timeline {
        let durations = segments.iter().map(|segment| segment.duration_ticks).collect();
        dash::Timeline::from_zero(self.timescale, durations, files)
    }
}
