//! One socket, from its first message to its last.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use reelmill_shared::auth::token::Verified;
use reelmill_shared::db::streams::StreamViewer;
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::ids::{KeyId, StreamId};
use reelmill_shared::media::abr::BitrateProfile;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Ticket;
use super::desk::{Push, PushError, Seat};
use super::doubt::doubt;
use super::frame::{Frame, FrameKind};
use super::on_air::OnAir;
use super::recorded::Recorded;
use super::wishes::Wishes;
use crate::audience::Visitor;
use crate::problem::{Answer, Kind, Problem};
use crate::segment_deliveries::Wanted;
use crate::state::App;

/// How often a viewer is asked whether they are there, and how long they may say nothing at all.
const PING: Duration = Duration::from_secs(15);
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// How long a viewer may take for one message: a long segment at a very low rate.
const SEND: Duration = Duration::from_secs(60);
/// How long the other side may take to close after us, where it does not matter what it has not read yet.
const GOODBYE: Duration = Duration::from_secs(2);

/// What is watched by whom, and what allows it.
pub(crate) struct Terms {
    pub(crate) watched: Watched,
    pub(crate) right: Right,
    /// Who joined a stream by name.
    pub(crate) viewer: Option<Viewer>,
    /// Who watches, where they may be a viewer like those of playlists.
    pub(crate) visitor: Option<Visitor>,
}

/// What allows to watch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right {
    Key(KeyId),
    /// A token, which ends then.
    Token(Verified),
}

/// Somebody with a place in a stream.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) stream: StreamId,
    pub(crate) name: String,
    pub(crate) session: String,
    pub(crate) bitrate: BitrateProfile,
}

impl Viewer {
    pub(crate) fn new(stream: StreamId, viewer: StreamViewer) -> Self {
        Self { stream, name: viewer.viewer, session: viewer.session, bitrate: viewer.bitrate }
    }
}

/// What is played.
pub(super) enum Source {
    Recorded(Box<Recorded>),
    OnAir(Box<OnAir>),
}

/// What is to be sent next.
enum Due {
    Recorded(super::recorded::Due),
    OnAir(super::on_air::Due),
}

impl Source {
    fn run(&mut self, running: bool) {
        if let Self::Recorded(recorded) = self {
            recorded.run(running);
        }
    }

    async fn due(&mut self, app: &App, wishes: &Wishes) -> Answer<Due> {
        match self {
            Self::Recorded(recorded) => recorded.due(app, wishes).await.map(Due::Recorded),
            Self::OnAir(on_air) => on_air.due(wishes).await.map(Due::OnAir),
        }
    }

    async fn take(&mut self, app: &App, due: Due) -> Answer<Vec<Frame>> {
        match (self, due) {
            (Self::Recorded(recorded), Due::Recorded(due)) => recorded.take(app, due).await,
            (Self::OnAir(on_air), Due::OnAir(due)) => on_air.take(app, due).await,
            // Each gives its own.
            _ => Ok(vec![]),
        }
    }

    /// A segment that somebody asked for, with what is needed to decode it; `None` where there is none.
    async fn named(&mut self, app: &App, wanted: &Wanted) -> Answer<Option<Vec<Frame>>> {
        match (self, wanted) {
            (Self::Recorded(recorded), Wanted::Recorded { rung, ordinal, number }) => {
                recorded.named(app, *ordinal, rung, *number).await
            }
            (Self::OnAir(on_air), Wanted::OnAir { track, number }) => on_air.named(app, track, *number).await,
            _ => Ok(None),
        }
    }
}

/// Why a socket closes.
pub(super) enum Ending {
    /// All was sent.
    Over,
    /// The viewer closed it, or is gone.
    Left,
    /// They may not watch any more, or said what nobody understands.
    Refused(String),
    /// This process goes away.
    Leaving,
    /// It cannot go on here now.
    Trouble(&'static str),
}

impl Ending {
    fn close(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Left => return None,
            Self::Over => (close_code::NORMAL, "this was all".to_owned()),
            Self::Leaving => (close_code::AWAY, "this server goes away; connect again".to_owned()),
            Self::Refused(reason) => (close_code::POLICY, reason),
            Self::Trouble(reason) => (close_code::AGAIN, reason.to_owned()),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

impl From<Problem> for Ending {
    fn from(problem: Problem) -> Self {
        match problem.kind() {
            Kind::Gone | Kind::NotFound => Self::Refused(problem.detail().to_owned()),
            _ => Self::Trouble("this cannot be had now; connect again"),
        }
    }
}

/// Sends until it is over, for whatever reason.
pub(super) async fn play(
    app: App,
    socket: WebSocket,
    terms: Terms,
    wishes: Wishes,
    mut source: Source,
    ticket: Ticket,
) {
    let (mut sink, mut stream) = socket.split();
    let (wishes, _) = watch::channel(wishes);
    let heard = watch::Sender::new(Instant::now());
    let mut seat = terms.viewer.as_ref().map(|viewer| app.sockets.desk.seat(viewer.stream, &viewer.name));
    let ending = tokio::select! {
        ending = listen(&mut stream, &wishes, &heard) => ending,
        ending = send(&app, &terms, &wishes, &mut source, &mut seat, &mut sink) => ending,
        ending = doubt(&app, &terms, &wishes, &heard) => ending,
        () = ticket.leaving.cancelled() => Ending::Leaving,
    };
    // Who has something for the viewer need not wait for the goodbye.
    drop(seat);
    // Much of what was sent may still be on its way to who is slow.
    let patience = if matches!(ending, Ending::Over) { SEND } else { GOODBYE };
    let Some(frame) = ending.close() else { return };
    tracing::debug!(code = frame.code, reason = frame.reason.as_str(), "a socket is closed");
    let closing = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            // A connection that is cut before the other side has read all of it may lose the end.
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    let _ = timeout(patience, closing).await;
}

/// Hears what the viewer says.
async fn listen(
    stream: &mut SplitStream<WebSocket>,
    wishes: &watch::Sender<Wishes>,
    heard: &watch::Sender<Instant>,
) -> Ending {
    while let Some(message) = stream.next().await {
        heard.send_replace(Instant::now());
        let text = match message {
            Ok(Message::Text(text)) => text,
            Ok(Message::Binary(_)) => return Ending::Refused("send text".to_owned()),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) | Err(_) => return Ending::Left,
        };
        let mut told = wishes.borrow().clone();
        if let Err(wrong) = told.take(text.as_str()) {
            return Ending::Refused(wrong.to_owned());
        }
        wishes.send_if_modified(|wishes| {
            let other = *wishes != told;
            *wishes = told;
            other
        });
    }
    Ending::Left
}

/// Sends what is due, and asks whether anybody is there.
async fn send(
    app: &App,
    terms: &Terms,
    wishes: &watch::Sender<Wishes>,
    source: &mut Source,
    seat: &mut Option<Seat>,
    sink: &mut SplitSink<WebSocket, Message>,
) -> Ending {
    let mut wanted = wishes.subscribe();
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = wanted.borrow_and_update().clone();
        source.run(!now.paused);
        let due = tokio::select! {
            // What is played may always be due.
            biased;
            _ = ping.tick() => match sent(sink, Message::Ping(Bytes::new())).await {
                Ok(()) => continue,
                Err(ending) => return ending,
            },
            _ = wanted.changed() => continue,
            push = pushed(seat) => match hand(app, terms, source, push, sink).await {
                Ok(()) => continue,
                Err(ending) => return ending,
            },
            due = source.due(app, &now), if !now.paused => due,
        };
        let frames = match due {
            Ok(due) => source.take(app, due).await,
            Err(problem) => Err(problem),
        };
        let frames = match frames {
            Ok(frames) => frames,
            Err(problem) => return problem.into(),
        };
        for frame in frames {
            let is_end = frame.header.kind == FrameKind::End;
            if let Err(ending) = give(app, terms, sink, frame).await {
                return ending;
            }
            if is_end {
                return Ending::Over;
            }
        }
    }
}

/// What is to be sent besides what is played.
async fn pushed(seat: &mut Option<Seat>) -> Push {
    if let Some(seat) = seat
        && let Some(push) = seat.next().await
    {
        return push;
    }
    std::future::pending().await
}

/// Sends a segment that somebody asked for, and says what came of it.
async fn hand(
    app: &App,
    terms: &Terms,
    source: &mut Source,
    push: Push,
    sink: &mut SplitSink<WebSocket, Message>,
) -> Result<(), Ending> {
    let Push { delivery, wanted, done } = push;
    if done.is_closed() {
        return Ok(());
    }
    let outcome = match source.named(app, &wanted).await {
        Ok(Some(mut frames)) => {
            if let Some(segment) = frames.last_mut() {
                segment.header.delivery_id = Some(delivery);
            }
            for frame in frames {
                give(app, terms, sink, frame).await?;
            }
            Ok(())
        }
        Ok(None) => Err(PushError::NoSegment),
        Err(problem) => {
            tracing::debug!(detail = problem.detail(), "a segment that was asked for could not be had");
            Err(PushError::Trouble)
        }
    };
    // Whoever asked may have given up.
    let _ = done.send(outcome);
    Ok(())
}

/// Sends a message, and counts it.
async fn give(
    app: &App,
    terms: &Terms,
    sink: &mut SplitSink<WebSocket, Message>,
    frame: Frame,
) -> Result<(), Ending> {
    let (kind, is_media, bytes) = (frame.header.kind, frame.is_media(), frame.body.len() as u64);
    // One copy of the media, however long it takes to be sent.
    let message = frame.message().map_err(|error| {
        tracing::error!(%error, "a header could not be written");
        Ending::Trouble("an internal error")
    })?;
    sent(sink, message).await?;
    metrics::counter!("reelmill_socket_sent_bytes_total").increment(bytes);
    if let Watched::Livestream(id) = terms.watched {
        metrics::counter!("reelmill_live_sent_bytes_total").increment(bytes);
        if kind == FrameKind::Part {
            metrics::counter!("reelmill_live_parts_total").increment(1);
        }
        app.audience.served(id, bytes, false, terms.visitor.as_ref().filter(|_| is_media));
    }
    if let Some(viewer) = &terms.viewer {
        app.audience.gave(terms.watched, &viewer.session, bytes, is_media);
    }
    Ok(())
}

async fn sent(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> Result<(), Ending> {
    match timeout(SEND, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ending::Left),
        Err(_) => Err(Ending::Refused("nothing was taken for a minute".to_owned())),
    }
}
