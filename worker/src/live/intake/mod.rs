//! What comes in, on its way to FFmpeg: taken apart far enough to be measured, and to be given to another FFmpeg from a keyframe on.

mod flv;
mod matroska;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reelmill_shared::media::grid::Rate;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::meter::{Meter, Wait};
use crate::ffmpeg::argv::Container;

/// A stretch of a container that stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    bytes: Bytes,
    packets: Vec<Packet>,
    /// Behind the container's head a reader can begin with it.
    begins: bool,
}

/// What is measured of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packet {
    track: Track,
    /// Milliseconds.
    time: i64,
    key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Track {
    Video,
    Audio,
}

/// What came does not read as what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unreadable;

/// Takes a container apart as it comes.
enum Reader {
    Flv(flv::Reader),
    Matroska(matroska::Reader),
    /// What does not read, and MPEG-TS: handed on as it is, and nothing is known of it but how much it is.
    Unread,
}

/// How feeding an FFmpeg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// There is no more, or nobody takes it.
    Over,
    /// It was asked for: what comes next is for another FFmpeg.
    Cut,
}

/// A publisher's media.
pub(super) struct Intake {
    media: mpsc::Receiver<Bytes>,
    reader: Reader,
    waiting: VecDeque<Unit>,
    counts: Counts,
    meter: Arc<Meter>,
    /// An FFmpeg was fed before.
    fed: bool,
}

impl Intake {
    /// Of a publisher whose first bytes were looked at.
    pub(super) fn new(
        container: Container,
        head: &Bytes,
        media: mpsc::Receiver<Bytes>,
        rate: Option<Rate>,
        meter: Arc<Meter>,
    ) -> Self {
        let reader = match container {
            Container::Flv => Reader::Flv(flv::Reader::default()),
            Container::Matroska => Reader::Matroska(matroska::Reader::default()),
            Container::MpegTs => Reader::Unread,
        };
        let counts = Counts::new(rate);
        let mut intake = Self { media, reader, waiting: VecDeque::new(), counts, meter, fed: false };
        intake.take(head);
        intake
    }

    /// Whether another FFmpeg can go on where one has stopped.
    pub(super) fn can_be_cut(&self) -> bool {
        !matches!(self.reader, Reader::Unread)
    }

    /// Gives an FFmpeg what comes, until there is no more, or from `cut` on until another one can go on.
    pub(super) async fn feed(&mut self, mut pipe: Sender, cut: &CancellationToken) -> Fed {
        if std::mem::replace(&mut self.fed, true) {
            let head = self.reader.head();
            if pipe.write_all(&head).await.is_err() {
                return Fed::Over;
            }
        }
        while let Some(unit) = self.next().await {
            if cut.is_cancelled() && unit.begins {
                self.waiting.push_front(unit);
                return Fed::Cut;
            }
            for packet in &unit.packets {
                self.counts.packet(*packet, &self.meter);
            }
            if self.meter.wait(Wait::Ffmpeg, pipe.write_all(&unit.bytes)).await.is_err() {
                return Fed::Over;
            }
        }
        Fed::Over
    }

    async fn next(&mut self) -> Option<Unit> {
        loop {
            if let Some(unit) = self.waiting.pop_front() {
                return Some(unit);
            }
            let piece = self.meter.wait(Wait::Input, self.media.recv()).await?;
            self.take(&piece);
        }
    }

    fn take(&mut self, piece: &Bytes) {
        self.meter.add(|totals| totals.bytes += piece.len() as u64);
        self.reader.push(piece, &mut self.waiting);
    }
}

impl Reader {
    fn push(&mut self, piece: &Bytes, units: &mut VecDeque<Unit>) {
        let (read, buffer) = match self {
            Self::Flv(reader) => (reader.push(piece, units), &mut reader.buffer),
            Self::Matroska(reader) => (reader.push(piece, units), &mut reader.buffer),
            Self::Unread => {
                units.push_back(Unit::unread(piece.clone()));
                return;
            }
        };
        if read.is_err() {
            let rest = std::mem::take(buffer).freeze();
            units.push_back(Unit::unread(rest));
            *self = Self::Unread;
        }
    }

    /// What another reader needs before a unit that begins.
    fn head(&self) -> Bytes {
        match self {
            Self::Flv(reader) => reader.head(),
            Self::Matroska(reader) => reader.head(),
            Self::Unread => Bytes::new(),
        }
    }
}

impl Unit {
    fn unread(bytes: Bytes) -> Self {
        Self { bytes, packets: vec![], begins: false }
    }
}

/// The first bytes of a buffer, where they are there.
fn whole(buffer: &mut BytesMut, length: usize) -> Option<Bytes> {
    (buffer.len() >= length).then(|| buffer.split_to(length).freeze())
}

/// What packets say together.
struct Counts {
    /// Milliseconds of a picture, as the beginning was found to have them.
    picture: Option<f64>,
    /// When the last keyframe came, and how many pictures since then, with it.
    keyframe: Option<(i64, u32)>,
    sound: Option<i64>,
}

/// Keyframes further apart in time, in milliseconds, lie on both sides of a silence or a jump.
const LONGEST_GOP: i64 = 60_000;

impl Counts {
    fn new(rate: Option<Rate>) -> Self {
        let picture = rate.map(|rate| rate.seconds(1) * 1000.0).filter(|picture| *picture > 0.0);
        Self { picture, keyframe: None, sound: None }
    }

    fn packet(&mut self, packet: Packet, meter: &Meter) {
        if packet.track == Track::Audio {
            self.sound = Some(packet.time);
            return;
        }
        if let Some(sound) = self.sound {
            meter.add(|totals| {
                totals.sound_ahead += sound - packet.time;
                totals.pictures += 1;
            });
        }
        match (&mut self.keyframe, packet.key) {
            (Some((since, pictures)), true) => {
                let length = packet.time - *since;
                if (1..=LONGEST_GOP).contains(&length) {
                    // Counted from one keyframe to the next: in between, pictures may come in another order than they are shown in.
                    let expected = self.picture.map_or(0.0, |picture| length as f64 / picture).round() as u32;
                    let missing = expected.saturating_sub(*pictures);
                    meter.add(|totals| {
                        totals.gops += 1;
                        totals.gop_milliseconds += length.unsigned_abs();
                        totals.missing += u64::from(missing);
                    });
                }
                self.keyframe = Some((packet.time, 1));
            }
            (None, true) => self.keyframe = Some((packet.time, 1)),
            (Some((_, pictures)), false) => *pictures += 1,
            (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Totals;
    use super::*;

    fn counted(packets: &[(Track, i64, bool)]) -> Totals {
        let meter = Meter::default();
        let mut counts = Counts::new(Some(Rate { num: 25, den: 1 }));
        packets.iter().for_each(|(track, time, key)| {
            counts.packet(Packet { track: *track, time: *time, key: *key }, &meter);
        });
        meter.totals()
    }

    #[test]
    fn pictures_that_did_not_come_are_missed() {
        let gop = |from: i64, left_out: &[i64]| -> Vec<_> {
            let times = (0..50).filter(|n| !left_out.contains(n));
            times.map(|n| (Track::Video, from + n * 40, n == 0)).collect()
        };
        let all = [gop(0, &[]), gop(2000, &[7, 8, 9]), gop(4000, &[])].concat();
        let totals = counted(&all);
        assert_eq!((totals.gops, totals.gop_milliseconds, totals.missing), (2, 4000, 3));
        // Pictures that are shown in another order than they come in.
        let shuffled: Vec<_> =
            [0, 120, 40, 80, 160, 200].map(|time| (Track::Video, time, time % 160 == 0)).into();
        assert_eq!(counted(&shuffled).missing, 0);
    }

    #[test]
    fn sound_that_comes_later_than_its_picture_is_behind() {
        let totals = counted(&[
            (Track::Video, 0, true),
            (Track::Audio, 0, true),
            (Track::Video, 40, false),
            (Track::Audio, 20, true),
            (Track::Video, 80, false),
        ]);
        assert_eq!((totals.sound_ahead, totals.pictures), (-100, 2));
    }

    #[tokio::test]
    async fn another_ffmpeg_goes_on_with_a_head_and_a_keyframe() {
        let picture = |key: bool, time: u8| {
            let first = if key { 0x17 } else { 0x27 };
            let mut tag = vec![9, 0, 0, 6, 0, 0, time, 0, 0, 0, 0, first, 1, 0, 0, 0, time];
            tag.extend(17_u32.to_be_bytes());
            Bytes::from(tag)
        };
        let config = Bytes::from_static(&[9, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0x17, 0, 0, 0, 0, 0, 0, 0, 16]);
        let (sender, media) = mpsc::channel(16);
        let head = Bytes::from([super::super::flv::header(), config.clone(), picture(true, 0)].concat());
        let mut intake = Intake::new(Container::Flv, &head, media, None, Arc::new(Meter::default()));
        let cut = CancellationToken::new();
        cut.cancel();
        let dir = tempfile::tempdir().unwrap();
        let pipe = async |name: &str| {
            let path = dir.path().join(name);
            super::super::outlet::make(&path).unwrap();
            let receiver = super::super::outlet::receiver(&path).unwrap();
            (receiver, super::super::outlet::sender(&path).unwrap())
        };
        for (key, time) in [(false, 40), (true, 80), (false, 120)] {
            sender.try_send(picture(key, time)).unwrap();
        }
        drop(sender);
        let read = |receiver: &tokio::net::unix::pipe::Receiver| {
            let mut buffer = vec![0; 4096];
            let count = receiver.try_read(&mut buffer).unwrap_or(0);
            buffer.truncate(count);
            buffer
        };
        // The first one begins with a keyframe already: it is asked to stop at once, and gets nothing of it.
        let (receiver, first) = pipe("first").await;
        assert_eq!(intake.feed(first, &cut).await, Fed::Cut);
        receiver.readable().await.unwrap();
        assert_eq!(read(&receiver), [super::super::flv::header(), config.clone()].concat());
        let (receiver, second) = pipe("second").await;
        assert_eq!(intake.feed(second, &CancellationToken::new()).await, Fed::Over);
        receiver.readable().await.unwrap();
        let expected = [
            super::super::flv::header(),
            config,
            picture(true, 0),
            picture(false, 40),
            picture(true, 80),
            picture(false, 120),
        ];
        assert_eq!(read(&receiver), expected.concat());
    }
}
