//! What a socket sends: four bytes with the length of a header (big-endian), the header (JSON), then media (fragmented MP4, one track).

use axum::extract::ws::Message;
use bytes::{BufMut, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reelmill_shared::ids::SegmentDeliveryId;
use serde::Serialize;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FrameKind {
    /// Says how what follows of its track is coded.
    Init,
    Segment,
    Part,
    /// Segments that were left out; no media.
    Dropped,
    /// Nothing more comes; no media.
    End,
}

/// Why segments were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reason {
    /// They were not taken in time.
    Slow,
    /// Nobody has them.
    Lost,
}

/// Picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Video,
    Audio,
}

/// The header of a message. What does not apply is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Header {
    #[serde(rename = "type")]
    pub(super) kind: FrameKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) track: Option<Kind>,
    /// The rendition's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<String>,
    /// RFC 6381.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) codecs: Option<String>,
    /// Of the segment: the same for all tracks and qualities. Of `dropped`: the first that was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<u32>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<f64>,
    /// When it happened, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<DateTime<Utc>>,
    /// Seconds from the beginning of a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<f64>,
    /// It can be decoded without what came before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) independent: Option<bool>,
    /// How many segments were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) segments: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Reason>,
    /// It was asked for by `POST /segments/deliver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery_id: Option<SegmentDeliveryId>,
}

impl Header {
    fn bare(kind: FrameKind) -> Self {
        Self {
            kind,
            track: None,
            quality: None,
            codecs: None,
            sequence: None,
            part: None,
            duration: None,
            start: None,
            position: None,
            independent: None,
            segments: None,
            reason: None,
            delivery_id: None,
        }
    }

    /// Of media of a rendition.
    pub(super) fn of(kind: FrameKind, track: Kind, quality: &str, codecs: &str) -> Self {
        let (quality, codecs) = (Some(quality.to_owned()), Some(codecs.to_owned()));
        Self { track: Some(track), quality, codecs, ..Self::bare(kind) }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) body: Bytes,
}

impl Frame {
    /// So many segments from `first` on were left out.
    pub(super) fn dropped(first: u64, segments: u64, reason: Reason) -> Self {
        metrics::counter!("reelmill_socket_dropped_segments_total").increment(segments);
        let (sequence, segments, reason) = (Some(first), Some(segments), Some(reason));
        let header = Header { sequence, segments, reason, ..Header::bare(FrameKind::Dropped) };
        Self { header, body: Bytes::new() }
    }

    pub(super) fn end() -> Self {
        Self { header: Header::bare(FrameKind::End), body: Bytes::new() }
    }

    /// Media that counts as a segment.
    pub(super) fn is_media(&self) -> bool {
        matches!(self.header.kind, FrameKind::Segment | FrameKind::Part)
    }

    pub(super) fn message(self) -> Result<Message, serde_json::Error> {
        let header = serde_json::to_vec(&self.header)?;
        let mut bytes = BytesMut::with_capacity(4 + header.len() + self.body.len());
        // A few hundred bytes.
        bytes.put_u32(header.len() as u32);
        bytes.put_slice(&header);
        bytes.put_slice(&self.body);
        Ok(Message::Binary(bytes.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn split(message: Message) -> (Value, Bytes) {
        let mut bytes = message.into_data();
        let length = u32::from_be_bytes(bytes.split_to(4)[..].try_into().unwrap());
        let header = bytes.split_to(length as usize);
        (serde_json::from_slice(&header).unwrap(), bytes)
    }

    #[test]
    fn messages_read_as_they_are_described() {
        let header = Header {
            sequence: Some(7),
            duration: Some(2.0),
            position: Some(14.0),
            independent: Some(true),
            ..Header::of(FrameKind::Segment, Kind::Video, "720p", "avc1.64001f")
        };
        let frame = Frame { header, body: Bytes::from_static(b"moof") };
        let (header, media) = split(frame.message().unwrap());
        let told = json!({
            "type": "segment", "track": "video", "quality": "720p", "codecs": "avc1.64001f", "sequence": 7,
            "duration": 2.0, "position": 14.0, "independent": true,
        });
        assert_eq!((header, &media[..]), (told, &b"moof"[..]));
        let (header, media) = split(Frame::dropped(3, 2, Reason::Slow).message().unwrap());
        assert_eq!(header, json!({ "type": "dropped", "sequence": 3, "segments": 2, "reason": "slow" }));
        assert!(media.is_empty());
        assert_eq!(split(Frame::end().message().unwrap()).0, json!({ "type": "end" }));
    }
}
