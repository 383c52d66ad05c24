//! A livestream on air: parts as they appear where it has some, else whole segments.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reelmill_shared::ids::LivestreamId;
use reelmill_shared::media::live::names::LiveFile;
use reelmill_shared::media::live::plan::AUDIO;
use reelmill_shared::media::live::window::{Track, Window};

use super::frame::{Frame, FrameKind, Header, Kind, Reason};
use super::wishes::Wishes;
use crate::abr;
use crate::edge::Following;
use crate::problem::{self, Answer, Problem};
use crate::state::App;

/// What is sent of a livestream.
pub(super) struct OnAir {
    following: Following,
    /// Of the broadcast: another one is another stream.
    place: String,
    cursors: Vec<Cursor>,
}

/// How far one track is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    kind: Kind,
    name: String,
    /// What comes next.
    number: u64,
    part: u32,
    /// Whose init segment the viewer has: of which rendition and run.
    init: Option<(String, u32)>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Due {
    /// Media of one track.
    Media {
        cursor: usize,
        piece: Box<Piece>,
    },
    /// The picture goes on in another quality, from the segment that comes next.
    Switch(String),
    /// The viewer is behind: all tracks go on at this segment.
    Jump(u64),
    /// Nobody has a segment of a track, or the rest of it.
    Lost {
        cursor: usize,
        number: u64,
    },
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    file: LiveFile,
    header: Header,
    number: u64,
    /// The run it is of.
    epoch: u32,
    /// The part behind it; `None` where the segment is whole with it.
    then: Option<u32>,
}

impl OnAir {
    pub(super) async fn new(app: &App, livestream: LivestreamId, wishes: &Wishes) -> Answer<Self> {
        let following = Following::new(app, livestream).await?;
        let begun = following.look(|window| begin(window, wishes).map(|it| (window.place.clone(), it)))?;
        let (place, cursors) = begun.ok_or_else(|| {
            Problem::new(problem::Kind::NotReady, "this stream has only just begun").with_retry_after(1)
        })?;
        Ok(Self { following, place, cursors })
    }

    /// Waits until something is to be sent. Nothing is lost where that is given up.
    pub(super) async fn due(&self, wishes: &Wishes) -> Answer<Due> {
        let names: Vec<&str> = self.cursors.iter().map(|cursor| cursor.name.as_str()).collect();
        let another = |window: &Window| (window.place != self.place).then_some(Due::End);
        self.following
            .seen(&names, |window| another(window).or_else(|| next(window, &self.cursors, wishes)))
            .await
    }

    /// What is to be sent, and goes on behind it.
    pub(super) async fn take(&mut self, app: &App, due: Due) -> Answer<Vec<Frame>> {
        match due {
            Due::End => Ok(vec![Frame::end()]),
            Due::Switch(name) => {
                if let Some(main) = self.cursors.first_mut() {
                    main.name = name;
                }
                Ok(vec![])
            }
            Due::Jump(number) => {
                let first = self.cursors.iter().map(|cursor| cursor.number).min().unwrap_or(number);
                for cursor in &mut self.cursors {
                    (cursor.number, cursor.part) = (number, 0);
                }
                Ok(vec![Frame::dropped(first, number.saturating_sub(first), Reason::Slow)])
            }
            Due::Lost { cursor, number } => Ok(self.lost(cursor, number)),
            Due::Media { cursor, piece } => {
                let Some(frames) = self.fetched(app, cursor, &piece).await else {
                    return Ok(self.lost(cursor, piece.number));
                };
                if let Some(cursor) = self.cursors.get_mut(cursor) {
                    cursor.init = Some((cursor.name.clone(), piece.epoch));
                    (cursor.number, cursor.part) = match piece.then {
                        Some(part) => (piece.number, part),
                        None => (piece.number + 1, 0),
                    };
                }
                Ok(frames)
            }
        }
    }

    fn lost(&mut self, cursor: usize, number: u64) -> Vec<Frame> {
        let Some(cursor) = self.cursors.get_mut(cursor) else { return vec![] };
        let mut dropped = Frame::dropped(number, 1, Reason::Lost);
        dropped.header.track = Some(cursor.kind);
        (cursor.number, cursor.part) = (number + 1, 0);
        vec![dropped]
    }

    /// Media, with the init segment it needs where the viewer has another; `None` where it cannot be had.
    async fn fetched(&self, app: &App, cursor: usize, piece: &Piece) -> Option<Vec<Frame>> {
        let cursor = self.cursors.get(cursor)?;
        let mut frames = vec![];
        let init = (cursor.name.clone(), piece.epoch);
        if cursor.init.as_ref() != Some(&init) {
            frames.push(self.init(app, piece).await?);
        }
        frames.push(Frame { header: piece.header.clone(), body: self.get(app, &piece.file).await? });
        Some(frames)
    }

    async fn init(&self, app: &App, piece: &Piece) -> Option<Frame> {
        let told = &piece.header;
        let (kind, name, codecs) = (told.track?, told.quality.as_deref()?, told.codecs.as_deref()?);
        let file = LiveFile::Init { track: name.to_owned(), epoch: piece.epoch };
        let header = Header::of(FrameKind::Init, kind, name, codecs);
        Some(Frame { header, body: self.get(app, &file).await? })
    }

    async fn get(&self, app: &App, file: &LiveFile) -> Option<Bytes> {
        self.following.get(app, file).await
    }

    /// A segment that was asked for by name, with the init segment it needs where the viewer has another.
    pub(super) async fn named(&mut self, app: &App, name: &str, number: u64) -> Answer<Option<Vec<Frame>>> {
        let found = self.following.look(|window| {
            let (place, track) = window.track(name)?;
            let segment = track.segment(number).filter(|segment| !segment.gap)?;
            let codecs = window.run(segment.epoch)?.codec(place)?;
            let kind = if name == AUDIO { Kind::Audio } else { Kind::Video };
            let header = Header {
                sequence: Some(number),
                duration: Some(segment.ticks as f64 / f64::from(track.timescale.max(1))),
                start: moment(window, track, segment.start),
                independent: Some(true),
                ..Header::of(FrameKind::Segment, kind, name, codecs)
            };
            let file = LiveFile::Segment { track: name.to_owned(), number };
            Some((kind, Piece { file, header, number, epoch: segment.epoch, then: None }))
        })?;
        let Some((kind, piece)) = found else { return Ok(None) };
        let Some(media) = self.get(app, &piece.file).await else { return Ok(None) };
        let mut frames = vec![];
        let init = (name.to_owned(), piece.epoch);
        let cursor = self.cursors.iter().position(|cursor| cursor.kind == kind);
        let cursor = cursor.and_then(|place| self.cursors.get(place));
        if cursor.is_none_or(|cursor| cursor.init.as_ref() != Some(&init)) {
            let Some(frame) = self.init(app, &piece).await else { return Ok(None) };
            frames.push(frame);
            if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.kind == kind) {
                cursor.init = Some(init);
            }
        }
        frames.push(Frame { header: piece.header, body: media });
        Ok(Some(frames))
    }
}

/// Where somebody begins who comes now: at the newest segment that can be sent.
fn begin(window: &Window, wishes: &Wishes) -> Option<Vec<Cursor>> {
    let rungs = abr::on_air(window);
    let main = wishes.rung(&rungs)?.name.clone();
    let number = newest(window, window.track(&main)?.1)?;
    let sound = window.track(AUDIO).filter(|_| main != AUDIO).map(|_| AUDIO.to_owned());
    let cursor = |name: String| Cursor {
        kind: if name == AUDIO { Kind::Audio } else { Kind::Video },
        name,
        number,
        part: 0,
        init: None,
    };
    Some([main].into_iter().chain(sound).map(cursor).collect())
}

/// The newest segment of a track of which something can be sent.
fn newest(window: &Window, track: &Track) -> Option<u64> {
    let open = track.open.as_ref().filter(|_| window.plan.low_latency);
    open.or(track.segments.back()).map(|segment| segment.number)
}

/// What comes next; `None` while there is nothing.
fn next(window: &Window, cursors: &[Cursor], wishes: &Wishes) -> Option<Due> {
    let main = cursors.first()?;
    if main.part == 0
        && let Some(rung) = wishes.rung(&abr::on_air(window))
        && rung.name != main.name
    {
        return Some(Due::Switch(rung.name.clone()));
    }
    let furthest = cursors.iter().filter_map(|it| newest(window, window.track(&it.name)?.1)).min();
    let last = cursors.iter().map(|cursor| cursor.number).min()?;
    if let Some(newest) = furthest
        && newest > last + u64::from(wishes.profile.buffer_segments())
    {
        return Some(Due::Jump(newest));
    }
    // Whoever is behind goes first, so that picture and sound come together.
    let mut order: Vec<usize> = (0..cursors.len()).collect();
    order.sort_by_key(|place| cursors.get(*place).map(|cursor| (cursor.number, cursor.part)));
    let found = order.into_iter().find_map(|place| piece(window, place, cursors.get(place)?));
    found.or_else(|| window.ended.then_some(Due::End))
}

/// What of a track comes next; `None` while there is nothing.
fn piece(window: &Window, place: usize, cursor: &Cursor) -> Option<Due> {
    let (index, track) = window.track(&cursor.name)?;
    let number = cursor.number;
    let Some(segment) = track.segment(number) else {
        // Numbers of one run follow each other, and what left the window is gone for who is not there yet.
        let later = track.segments.iter().chain(&track.open).any(|segment| segment.number > number);
        return later.then_some(Due::Lost { cursor: place, number });
    };
    if segment.gap {
        return Some(Due::Lost { cursor: place, number });
    }
    let whole = track.open.as_ref().is_none_or(|open| open.number != number);
    let codecs = window.run(segment.epoch)?.codec(index)?;
    let seconds = |ticks: u64| Some(ticks as f64 / f64::from(track.timescale.max(1)));
    let of = |kind| Header { sequence: Some(number), ..Header::of(kind, cursor.kind, &cursor.name, codecs) };
    if whole && cursor.part == 0 {
        let header = Header {
            duration: seconds(segment.ticks),
            start: moment(window, track, segment.start),
            independent: Some(true),
            ..of(FrameKind::Segment)
        };
        let file = LiveFile::Segment { track: cursor.name.clone(), number };
        let piece = Piece { file, header, number, epoch: segment.epoch, then: None };
        return Some(Due::Media { cursor: place, piece: Box::new(piece) });
    }
    if whole && cursor.part >= segment.part_count {
        // It ended earlier than was planned, when all of it had been sent.
        return piece(window, place, &Cursor { number: number + 1, part: 0, ..cursor.clone() });
    }
    if !window.plan.low_latency || (!whole && cursor.part >= segment.part_count) {
        return None;
    }
    let at = cursor.part as usize;
    let Some(part) = segment.parts.get(at) else { return Some(Due::Lost { cursor: place, number }) };
    let before: u64 = segment.parts.iter().take(at).map(|part| u64::from(part.ticks)).sum();
    let header = Header {
        part: Some(cursor.part),
        duration: seconds(part.ticks.into()),
        start: moment(window, track, segment.start + before),
        independent: Some(part.independent),
        ..of(FrameKind::Part)
    };
    let file = LiveFile::Part { track: cursor.name.clone(), number, part: cursor.part };
    let then = Some(cursor.part + 1).filter(|next| !whole || *next < segment.part_count);
    let piece = Piece { file, header, number, epoch: segment.epoch, then };
    Some(Due::Media { cursor: place, piece: Box::new(piece) })
}

/// When a tick of a track happened.
fn moment(window: &Window, track: &Track, ticks: u64) -> Option<DateTime<Utc>> {
    let micros = u128::from(ticks) * 1_000_000 / u128::from(track.timescale.max(1));
    DateTime::from_timestamp_micros(window.started.checked_add(i64::try_from(micros).ok()?)?)
}
