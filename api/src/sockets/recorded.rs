//! A recording, played out at its own pace.

use std::time::Duration;

use reelmill_shared::db::recordings;
use reelmill_shared::db::sets::{self, Rendition, SetReference, TrackKind};
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::state::RecordingStatus;
use tokio::time::{Instant, sleep, sleep_until};

use super::frame::{Frame, FrameKind, Header, Kind, Reason};
use super::wishes::Wishes;
use crate::abr;
use crate::media::MediaFile;
use crate::playback::{active_set, renditions, set_again, stored, visible};
use crate::problem::{self, Answer, Problem};
use crate::state::App;
use crate::transport::read;

/// How often it is looked whether a recording has grown.
const GROWTH: Duration = Duration::from_millis(500);

/// What is played of a recording: one segment of all its tracks after the other.
pub(super) struct Recorded {
    recording: RecordingId,
    set: SetReference,
    /// The next segment, and the second it begins at.
    next: u32,
    start: f64,
    clock: Clock,
    /// Which init segments the viewer has of picture and sound.
    inits: [Option<String>; 2],
}

/// What comes next.
pub(super) enum Due {
    Segment {
        /// The picture first; the sound alone where there is none.
        tracks: Vec<Rendition>,
    },
    /// The viewer is behind: it goes on at another segment.
    Jump {
        next: u32,
        start: f64,
    },
    End,
}

/// The second that somebody sees who plays without a break.
#[derive(Debug, Clone, Copy)]
struct Clock {
    at: f64,
    /// `None` while it stands still.
    since: Option<Instant>,
}

impl Clock {
    fn position(&self) -> f64 {
        self.at + self.since.map_or(0.0, |since| since.elapsed().as_secs_f64())
    }

    fn set(&mut self, at: f64) {
        *self = Self { at, since: self.since.map(|_| Instant::now()) };
    }

    fn run(&mut self, running: bool) {
        if running != self.since.is_some() {
            *self = Self { at: self.position(), since: running.then(Instant::now) };
        }
    }

    /// When it shows this.
    fn when(&self, position: f64) -> Option<Instant> {
        let wait = Duration::try_from_secs_f64((position - self.at).max(0.0)).ok()?;
        self.since?.checked_add(wait)
    }
}

impl Recorded {
    /// From a second of the recording on.
    pub(super) async fn new(app: &App, recording: RecordingId, position: f64) -> Answer<Self> {
        let nothing =
            || Problem::new(problem::Kind::NotReady, "there is nothing to play of this recording yet");
        let set = active_set(app, recording).await?.ok_or_else(nothing)?;
        let mut new = Self {
            recording,
            set,
            next: 0,
            start: 0.0,
            clock: Clock { at: position, since: Some(Instant::now()) },
            inits: [None, None],
        };
        let all = renditions(app, &new.set).await?;
        let main = all.first().ok_or_else(nothing)?;
        (new.next, new.start) = new.at(app, main, position).await?;
        new.clock.set(new.start.max(position));
        Ok(new)
    }

    pub(super) fn run(&mut self, running: bool) {
        self.clock.run(running);
    }

    /// The segment that is played at a second.
    async fn at(&self, app: &App, main: &Rendition, position: f64) -> Answer<(u32, f64)> {
        let timescale = f64::from(main.timescale.max(1));
        let ticks = (position * timescale) as u64;
        let visible = visible(app, &self.set, &main.rung).await?;
        let below = visible.and_then(|visible| i32::try_from(visible).ok());
        let found = sets::segment_at(&app.db, self.set.set_id, &main.rung, ticks, below).await?;
        Ok(found.map_or((0, 0.0), |(number, start)| (number, start as f64 / timescale)))
    }

    /// Waits until something is to be sent. Nothing is lost where that is given up.
    pub(super) async fn due(&mut self, app: &App, wishes: &Wishes) -> Answer<Due> {
        let segment = self.set.target_duration.map_or(6.0, f64::from);
        let ahead = f64::from(wishes.profile.buffer_segments()) * segment;
        loop {
            let Some(set) = set_again(app, self.recording, self.set.set_id).await? else {
                return Err(Problem::new(problem::Kind::Gone, "the recording was deleted"));
            };
            self.set = set;
            let all = renditions(app, &self.set).await?;
            let rungs = abr::recorded(&all);
            let main = wishes.rung(&rungs).and_then(|rung| all.iter().find(|it| it.rung == rung.name));
            let sound = all.iter().filter(|it| it.kind == TrackKind::Audio).min_by_key(|it| it.position);
            let sound = sound.filter(|sound| main.is_none_or(|main| main.rung != sound.rung));
            let tracks: Vec<Rendition> = main.into_iter().chain(sound).cloned().collect();
            if self.is_there(app, &tracks).await? {
                let position = self.clock.position();
                if position > self.start + segment + ahead
                    && let Some(main) = tracks.first()
                {
                    let (next, start) = self.at(app, main, position).await?;
                    if next > self.next {
                        return Ok(Due::Jump { next, start });
                    }
                }
                match self.clock.when(self.start - ahead) {
                    Some(when) => sleep_until(when).await,
                    None => std::future::pending().await,
                }
                return Ok(Due::Segment { tracks });
            }
            if self.set.is_finished() {
                return Ok(Due::End);
            }
            let found = recordings::find(&app.db, self.recording).await?;
            if found.is_none_or(|recording| recording.status == RecordingStatus::Failed) {
                return Ok(Due::End);
            }
            sleep(GROWTH).await;
            // Nobody is late for what was not there.
            if self.clock.position() > self.start {
                self.clock.set(self.start);
            }
        }
    }

    async fn is_there(&self, app: &App, tracks: &[Rendition]) -> Answer<bool> {
        for track in tracks {
            let there = match visible(app, &self.set, &track.rung).await? {
                Some(visible) => (self.next as usize) < visible,
                None => sets::segment(&app.db, self.set.set_id, &track.rung, self.next).await?.is_some(),
            };
            if there {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is to be sent, and goes on behind it.
    pub(super) async fn take(&mut self, app: &App, due: Due) -> Answer<Vec<Frame>> {
        let tracks = match due {
            Due::End => return Ok(vec![Frame::end()]),
            Due::Jump { next, start } => {
                let dropped = Frame::dropped(self.next.into(), (next - self.next).into(), Reason::Slow);
                (self.next, self.start) = (next, start);
                return Ok(vec![dropped]);
            }
            Due::Segment { tracks } => tracks,
        };
        let mut frames = vec![];
        let mut lasts = None;
        let mut lost = false;
        for track in &tracks {
            let Some(segment) = sets::segment(&app.db, self.set.set_id, &track.rung, self.next).await? else {
                continue;
            };
            let duration = segment.duration_ticks as f64 / f64::from(track.timescale.max(1));
            // That of the picture, where it has one.
            lasts.get_or_insert(duration);
            if segment.key.is_empty() {
                lost = true;
                continue;
            }
            let kind = kind_of(track);
            frames.extend(self.init(app, track, kind).await?);
            let header = Header {
                sequence: Some(self.next.into()),
                duration: Some(duration),
                position: Some(self.start),
                independent: Some(true),
                ..Header::of(FrameKind::Segment, kind, &track.rung, &track.codec)
            };
            let file = MediaFile { key: segment.key, bytes: segment.bytes };
            frames.push(Frame { header, body: read(app, &file).await? });
        }
        if lost {
            frames.push(Frame::dropped(self.next.into(), 1, Reason::Lost));
        }
        self.next += 1;
        self.start += lasts.unwrap_or_default();
        Ok(frames)
    }

    /// The init segment of a rendition, unless the viewer has it.
    async fn init(&mut self, app: &App, rendition: &Rendition, kind: Kind) -> Answer<Option<Frame>> {
        let [picture, sound] = &mut self.inits;
        let had = if kind == Kind::Video { picture } else { sound };
        if had.as_ref() == Some(&rendition.rung) {
            return Ok(None);
        }
        let file = MediaFile { key: rendition.init_key.clone(), bytes: rendition.init_bytes };
        let header = Header::of(FrameKind::Init, kind, &rendition.rung, &rendition.codec);
        let frame = Frame { header, body: read(app, &file).await? };
        *had = Some(rendition.rung.clone());
        Ok(Some(frame))
    }

    /// A segment that was asked for by name, with the init segment it needs where the viewer has another.
    pub(super) async fn named(
        &mut self,
        app: &App,
        ordinal: i32,
        rung: &str,
        number: u32,
    ) -> Answer<Option<Vec<Frame>>> {
        if ordinal != self.set.ordinal {
            return Ok(None);
        }
        let all = renditions(app, &self.set).await?;
        let Some(rendition) = all.iter().find(|it| it.rung == rung && it.kind != TrackKind::Text) else {
            return Ok(None);
        };
        let Some(file) = stored(app, self.set.set_id, rung, number).await? else { return Ok(None) };
        let kind = kind_of(rendition);
        // First: an init segment that was read is taken for sent.
        let body = read(app, &file).await?;
        let mut frames = vec![];
        frames.extend(self.init(app, rendition, kind).await?);
        let header = Header {
            sequence: Some(number.into()),
            independent: Some(true),
            ..Header::of(FrameKind::Segment, kind, rung, &rendition.codec)
        };
        frames.push(Frame { header, body });
        Ok(Some(frames))
    }
}

fn kind_of(rendition: &Rendition) -> Kind {
    if rendition.kind == TrackKind::Video { Kind::Video } else { Kind::Audio }
}
