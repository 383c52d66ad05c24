//! A small live HLS server: right in everything, but for one fault.

mod media;
mod playlists;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use media::Flaws;
use playlists::Wanted;
use timeline::{PART_FRAMES, Timeline};

/// What kind of stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    LowLatency,
    /// Live, without parts and blocking.
    Plain,
    Recording,
}

/// What happens while it is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Nothing,
    /// After some parts the publisher is gone for longer than requests are held, and another one comes.
    Reconnect,
    End,
}

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    SegmentMissing,
    SegmentCutOff,
    PartsTooLong,
    PartsTooShort,
    TargetChanges,
    PartHoldBackShort,
    HoldBackShort,
    SegmentsTooLong,
    SkipBoundaryNear,
    NoSkip,
    TwoSkips,
    DeltaLies,
    SkipTooMuch,
    OldVersion,
    SkipAfterEnd,
    BlocksAfterEnd,
    PartEarly,
    WholeEarly,
    BeyondEarly,
    BeyondRefused,
    OldRefused,
    OldHeld,
    PartAloneTaken,
    FarSegmentTaken,
    FarPartTaken,
    HeldForEver,
    GivenUpEarly,
    HintElsewhere,
    TwoHints,
    HintAfterEnd,
    HintRefused,
    HintCutOff,
    HintDribbles,
    UnknownTaken,
    NoReports,
    ReportsBehind,
    ReportsAhead,
    PartsDiffer,
    TimesJump,
    NoSync,
    TagsBehindParts,
    PartsStay,
    PartsGone,
    Bursts,
    BackAgain,
    Renames,
    RenditionsApart,
    DatesOff,
    NoGzip,
    NoCors,
    PlainKept,
    DirectedNotKept,
    MediaNotKept,
    Cookies,
}

/// The server; it stops when it is dropped.
pub struct StandIn {
    pub url: String,
    _tasks: JoinSet<()>,
}

struct Stream {
    form: Form,
    fault: Option<Fault>,
    /// Changes of the timeline so far, and what it is.
    now: watch::Receiver<(u64, Arc<Timeline>)>,
}

impl StandIn {
    /// Starts a stream of that form, in which that happens, with that fault.
    pub async fn start(form: Form, event: Event, fault: Option<Fault>) -> Self {
        let parts = if fault == Some(Fault::SegmentsTooLong) { 8 } else { 5 };
        let mut timeline = Timeline::new(parts);
        if form == Form::Recording {
            timeline.end();
        }
        let (sender, now) = watch::channel((0, Arc::new(timeline)));
        let stream = Arc::new(Stream { form, fault, now });
        let app = Router::new()
            .route("/live/master.m3u8", get(async || playlists::multivariant()))
            .route("/live/{file}", get(serve))
            .with_state(stream.clone())
            .layer(axum::middleware::from_fn_with_state(stream, finish));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/live/master.m3u8", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        if form != Form::Recording {
            tasks.spawn(broadcast(sender, event, fault));
        }
        Self { url, _tasks: tasks }
    }
}

/// Adds a part every 0.2 s.
async fn broadcast(sender: watch::Sender<(u64, Arc<Timeline>)>, event: Event, fault: Option<Fault>) {
    let burst = if fault == Some(Fault::Bursts) { 3 } else { 1 };
    let mut ticks = interval(Duration::from_millis(200 * burst));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 1_u64.. {
        ticks.tick().await;
        let change = |change: fn(&mut Timeline)| {
            sender.send_modify(|(version, timeline)| {
                let mut next = Timeline::clone(timeline);
                change(&mut next);
                (*version, *timeline) = (*version + 1, Arc::new(next));
            });
        };
        match event {
            Event::Reconnect if tick == 8 => {
                // The stall itself, which is what is being tested: somewhat longer than requests are held.
                sleep(Duration::from_millis(4200)).await;
                ticks.reset();
                change(Timeline::next_publisher);
                continue;
            }
            Event::End if tick == 8 => return change(Timeline::end),
            _ => {}
        }
        match burst {
            1 => change(Timeline::add_part),
            _ => change(|timeline| (0..3).for_each(|_| timeline.add_part())),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Directives {
    #[serde(rename = "_HLS_msn")]
    msn: Option<u64>,
    #[serde(rename = "_HLS_part")]
    part: Option<u64>,
    #[serde(rename = "_HLS_skip")]
    skip: Option<String>,
}

async fn serve(
    State(stream): State<Arc<Stream>>,
    Path(file): Path<String>,
    Query(directives): Query<Directives>,
    headers: HeaderMap,
) -> Response {
    let Some(rendition) = file.strip_suffix(".m3u8") else { return stream.media(&file).await };
    if !matches!(rendition, "v" | "a") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Err(status) = stream.wait(rendition, &directives).await {
        return status.into_response();
    }
    let (version, timeline) = stream.now.borrow().clone();
    let offered = stream.form == Form::LowLatency && stream.fault != Some(Fault::BackAgain);
    let ended = timeline.ended && stream.fault != Some(Fault::SkipAfterEnd);
    let skip = directives.skip.is_some() && offered && !ended;
    let text = playlists::media(
        &timeline,
        &Wanted { rendition, skip, form: stream.form, fault: stream.fault, version },
    );
    let age = match (stream.fault, directives.msn) {
        (Some(Fault::PlainKept), None) => "max-age=60",
        (Some(Fault::DirectedNotKept), Some(_)) => "no-cache",
        (_, None) => "max-age=1",
        (_, Some(_)) => "max-age=6",
    };
    let kind = (header::CONTENT_TYPE, "application/vnd.apple.mpegurl");
    let gzip = headers.get(header::ACCEPT_ENCODING).is_some_and(|value| value == "gzip");
    if gzip && stream.fault != Some(Fault::NoGzip) {
        let encoding = (header::CONTENT_ENCODING, "gzip");
        return ([kind, encoding, (header::CACHE_CONTROL, age)], media::gzip(text.as_bytes()))
            .into_response();
    }
    ([kind, (header::CACHE_CONTROL, age)], text).into_response()
}

/// What all answers have.
async fn finish(
    State(stream): State<Arc<Stream>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if stream.fault != Some(Fault::NoCors) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".parse().unwrap());
    }
    if stream.fault == Some(Fault::Cookies) {
        headers.insert(header::SET_COOKIE, "viewer=1".parse().unwrap());
    }
    response
}

impl Stream {
    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.now.borrow().1.clone()
    }

    /// Holds a request until it can be answered, or says why it cannot.
    async fn wait(&self, rendition: &str, directives: &Directives) -> Result<(), StatusCode> {
        let timeline = self.timeline();
        if self.form != Form::LowLatency {
            return Ok(());
        }
        if timeline.ended {
            // Those that were sent before anybody knew of the end are not meant.
            if self.is(Fault::BlocksAfterEnd) && directives.skip.is_some() {
                std::future::pending::<()>().await;
            }
            return Ok(());
        }
        let ahead = if self.is(Fault::RenditionsApart) && rendition == "a" { 3 } else { 0 };
        let open = timeline.open();
        let (msn, part) = match (directives.msn, directives.part) {
            (None, None) => return Ok(()),
            (None, Some(_)) if self.is(Fault::PartAloneTaken) => return Ok(()),
            (None, Some(_)) => return Err(StatusCode::BAD_REQUEST),
            (Some(msn), part) => (msn - ahead, part),
        };
        let full = timeline.parts_per_segment;
        if msn + 1 < open.msn {
            if self.is(Fault::OldRefused) {
                return Err(StatusCode::BAD_REQUEST);
            }
            if self.is(Fault::OldHeld) {
                sleep(Duration::from_millis(900)).await;
            }
        }
        if msn > open.msn + 1 {
            return if self.is(Fault::FarSegmentTaken) { Ok(()) } else { Err(StatusCode::BAD_REQUEST) };
        }
        if msn == open.msn && part.is_some_and(|part| part > open.parts + 15) {
            return if self.is(Fault::FarPartTaken) { Ok(()) } else { Err(StatusCode::BAD_REQUEST) };
        }
        match part {
            None if self.is(Fault::WholeEarly) && msn == open.msn => return Ok(()),
            Some(part) if self.is(Fault::PartEarly) && (msn, part) == (open.msn, open.parts) => return Ok(()),
            Some(part) if part >= full && self.is(Fault::BeyondEarly) => return Ok(()),
            Some(part) if part >= full && self.is(Fault::BeyondRefused) => {
                return Err(StatusCode::BAD_REQUEST);
            }
            _ => {}
        }
        let limit = match self.fault {
            Some(Fault::HeldForEver) => 3600.0,
            Some(Fault::GivenUpEarly) => 1.2,
            _ => 3.0,
        };
        let there = |timeline: &Timeline| {
            timeline.ended
                || match part {
                    None => timeline.open().msn > msn,
                    Some(part) => timeline.has_part(msn, part),
                }
        };
        self.until(Duration::from_secs_f64(limit), there)
            .await
            .then_some(())
            .ok_or(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Waits for something to come; false where it does not.
    async fn until(&self, limit: Duration, there: impl Fn(&Timeline) -> bool) -> bool {
        let mut now = self.now.clone();
        timeout(limit, now.wait_for(|(_, timeline)| there(timeline))).await.is_ok_and(|found| found.is_ok())
    }

    /// `v-init-0.mp4`, `v-101.m4s`, or `v-101.2.m4s`.
    async fn media(&self, file: &str) -> Response {
        let hinted = {
            let timeline = self.timeline();
            file.ends_with(&format!("-{}.{}.m4s", timeline.open().msn, timeline.open().parts))
        };
        let found = match file.split_once("-init-") {
            Some(_) => Some(media::init()),
            None => self.frames(file).await,
        };
        let Some(bytes) = found else {
            let taken = self.is(Fault::UnknownTaken) && file.starts_with("no-such");
            return if taken {
                "here you are".into_response()
            } else {
                StatusCode::NOT_FOUND.into_response()
            };
        };
        let age = if self.is(Fault::MediaNotKept) { "no-cache" } else { "max-age=3600, immutable" };
        let body = match self.fault {
            Some(Fault::HintDribbles) if hinted => slowly(bytes),
            _ => Body::from(bytes),
        };
        ([(header::CACHE_CONTROL, age)], body).into_response()
    }

    async fn frames(&self, file: &str) -> Option<Bytes> {
        let (rendition, numbers) = file.strip_suffix(".m4s")?.split_once('-')?;
        let ahead = match rendition {
            "v" => 0,
            "a" if self.is(Fault::RenditionsApart) => 3,
            "a" => 0,
            _ => return None,
        };
        let (msn, part) = match numbers.split_once('.') {
            Some((msn, part)) => (msn, Some(part.parse::<u64>().ok()?)),
            None => (numbers, None),
        };
        let msn = msn.parse::<u64>().ok()?.checked_sub(ahead)?;
        let timeline = self.timeline();
        if let Some(part) = part {
            return self.part(&timeline, msn, part).await;
        }
        let segment = timeline.segment(msn).filter(|segment| segment.whole && !segment.gap)?;
        if self.is(Fault::SegmentMissing) && msn.is_multiple_of(2) {
            return None;
        }
        let flaws = Flaws { other: false, ..self.flaws(msn) };
        let bytes =
            media::frames(segment.first_frame, segment.parts * PART_FRAMES, segment.first_frame, flaws);
        let cut = self.is(Fault::SegmentCutOff) && msn.is_multiple_of(2);
        Some(if cut { bytes.slice(..bytes.len() - 10) } else { bytes })
    }

    async fn part(&self, timeline: &Timeline, msn: u64, part: u64) -> Option<Bytes> {
        let open = timeline.open();
        let hinted = !timeline.has_part(msn, part) && (msn, part) == (open.msn, open.parts);
        if hinted {
            if self.is(Fault::HintRefused) {
                return None;
            }
            self.until(Duration::from_secs(10), |timeline| timeline.has_part(msn, part)).await;
        }
        let timeline = self.timeline();
        // Parts stay for three target durations after they have left the playlist, and a little more.
        let kept = if self.is(Fault::PartsGone) { 0 } else { 4 };
        let segment = timeline.segment(msn).filter(|segment| part < segment.parts && !segment.gap)?;
        if msn + kept < playlists::first_with_parts(&timeline) && !self.is(Fault::PartsStay) {
            return None;
        }
        let first = segment.first_frame + part * PART_FRAMES;
        let bytes = media::frames(first, PART_FRAMES, segment.first_frame, self.flaws(msn));
        let cut = self.is(Fault::HintCutOff) && hinted;
        Some(if cut { bytes.slice(..bytes.len() / 2) } else { bytes })
    }

    fn flaws(&self, msn: u64) -> Flaws {
        let odd = msn.is_multiple_of(2);
        Flaws {
            jump: if self.is(Fault::TimesJump) && odd { 90_000 } else { 0 },
            no_sync: self.is(Fault::NoSync) && odd,
            other: self.is(Fault::PartsDiffer) && odd,
        }
    }
}

/// A body in two halves, the second one late.
fn slowly(bytes: Bytes) -> Body {
    let (first, second) = (bytes.slice(..100), bytes.slice(100..));
    let stream = futures::stream::unfold(0, move |step| {
        let (first, second) = (first.clone(), second.clone());
        async move {
            match step {
                0 => Some((Ok::<_, std::io::Error>(first), 1)),
                1 => {
                    sleep(Duration::from_millis(150)).await;
                    Some((Ok(second), 2))
                }
                _ => None,
            }
        }
    });
    Body::from_stream(stream)
}
