//! Sessions: what is asked for, found and kept, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use reelmill_shared::db::livestreams::Livestream;
use reelmill_shared::db::playback::{self, PlaybackFormat, PlaybackKind, Session, Source, Stretch};
use reelmill_shared::ids::{PlaybackSessionId, ProjectId};
use reelmill_shared::media::footage::{Picked, stitch};

use super::Known;
use crate::problem::{Answer, Kind, Problem};
use crate::shared_cache::{Kept, Place};
use crate::state::App;

/// Places that are looked into at the same time.
const AT_ONCE: usize = 4;
/// A session of what was recorded lasts so long where nothing else is said, and one of what is on air.
const RECORDED: TimeDelta = TimeDelta::hours(1);
pub(crate) const LIVE: TimeDelta = TimeDelta::hours(24);
/// No session is extended further than that from when it began.
pub(crate) const LONGEST: TimeDelta = TimeDelta::days(7);
/// The longest span that one session plays.
const SPAN: TimeDelta = TimeDelta::days(31);
/// The most segments of one session: a month of two seconds each has 1.3 million.
const SEGMENTS: u32 = 200_000;

/// Digits of a second that the database keeps.
const MICROS: u16 = 6;

/// What somebody wants to play.
pub(crate) struct Wanted {
    pub(crate) livestream: Livestream,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) exact: bool,
}

/// Finds the footage and opens a session for it.
pub(crate) async fn start(app: &App, project: ProjectId, wanted: Wanted) -> Answer<Arc<Session>> {
    let Wanted { livestream, from, to, exact } = wanted;
    if to <= from {
        return Err(Problem::field("/end_time", "is not after start_time"));
    }
    let now = Utc::now().trunc_subsecs(MICROS);
    if from > now {
        return Err(Problem::field("/start_time", "lies in the future"));
    }
    if to > now {
        return Err(Problem::field(
            "/end_time",
            "lies in the future; POST /playback/live plays what is on air",
        ));
    }
    if to - from > SPAN {
        return Err(Problem::field(
            "/end_time",
            format!("is more than {} days after start_time", SPAN.num_days()),
        ));
    }
    let stretches = find_stretches(app, &livestream, from, to).await?;
    let count: u64 = stretches.iter().map(|stretch| u64::from(stretch.len())).sum();
    if count > u64::from(SEGMENTS) {
        let detail =
            format!("these are {count} segments; a session plays at most {SEGMENTS}: ask for less time");
        return Err(Problem::field("/end_time", detail));
    }
    let session = Session {
        id: PlaybackSessionId::new(),
        project,
        livestream: livestream.id,
        kind: PlaybackKind::Recorded,
        format: PlaybackFormat::Hls,
        span: Some((from, to)),
        exact,
        stretches,
        url: None,
        path: None,
        created_at: now,
        expires_at: now + RECORDED,
    };
    playback::keep(&app.db, &session).await?;
    playback::create(&app.db, &session).await?;
    Ok(Arc::new(session))
}

async fn find_stretches(
    app: &App,
    livestream: &Livestream,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Answer<Vec<Stretch>> {
    let sources = playback::sources(&app.db, livestream.id, from, to).await?;
    let (start, end) = (from.timestamp_micros(), to.timestamp_micros());
    let reading: Vec<_> = sources.iter().map(|source| playback::shots(&app.db, source, start, end)).collect();
    let shots: Vec<_> = stream::iter(reading).buffered(AT_ONCE).try_collect().await?;
    let picked = stitch(&shots, start, end);
    // What nobody has is no footage.
    let there = shots.iter().flatten().any(|shot| !shot.gap && shot.end > start && shot.start < end);
    if !there {
        return Err(nothing(app, livestream, from, to).await?);
    }
    let stretch = |Picked { source, first, until }: Picked| {
        let Source { broadcast, set, started, recording } = sources.get(source)?;
        Some(Stretch {
            broadcast: *broadcast,
            set: *set,
            started: *started,
            first,
            until,
            recording: *recording,
        })
    };
    Ok(picked.into_iter().filter_map(stretch).collect())
}

/// Says that there is nothing, and where there is something.
async fn nothing(
    app: &App,
    livestream: &Livestream,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Answer<Problem> {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (before, after) = playback::nearest(&app.db, livestream.id, from).await?;
    let known = [
        before.map(|at| format!("what was recorded before ends at {}", time(at))),
        after.map(|at| format!("what comes next begins at {}", time(at))),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    let rest = if known.is_empty() { "nothing ever was".to_owned() } else { known.join(", ") };
    let (from, to) = (time(from), time(to));
    Ok(Problem::new(Kind::NotFound, format!("nothing was recorded from {from} to {to}; {rest}")))
}

/// What is on air, as somebody wants to see it.
pub(crate) struct WantedLive {
    pub(crate) livestream: Livestream,
    pub(crate) format: PlaybackFormat,
    /// Of a media server: the address, and what it calls it.
    pub(crate) served: Option<(String, String)>,
}

/// Opens a session of what is on air.
pub(crate) async fn start_live(
    app: &App,
    project: ProjectId,
    id: PlaybackSessionId,
    wanted: WantedLive,
) -> Answer<Arc<Session>> {
    let now = Utc::now().trunc_subsecs(MICROS);
    let (url, path) = wanted.served.unzip();
    let session = Session {
        id,
        project,
        livestream: wanted.livestream.id,
        kind: PlaybackKind::Live,
        format: wanted.format,
        span: None,
        exact: false,
        stretches: vec![],
        url,
        path,
        created_at: now,
        expires_at: now + LIVE,
    };
    playback::create(&app.db, &session).await?;
    Ok(Arc::new(session))
}

/// For so long a session may be played after it was ended, whoever says that there is one: counted from before the database was asked.
const BELIEVED: Duration = Duration::from_secs(3);

/// A session as another api keeps it, else as the database has it.
async fn known(app: &App, id: PlaybackSessionId) -> Answer<Known> {
    let name = id.to_string();
    let place = Place { kept: Kept::Session, name: &name, field: "session" };
    if let Some((session, left)) = app.shared.get::<Session>(place).await {
        return Ok(Known { session: Some(Arc::new(session)), lives: left.min(BELIEVED) });
    }
    let asked = Instant::now();
    let session = playback::find(&app.db, id).await?.map(Arc::new);
    let lives = BELIEVED.saturating_sub(asked.elapsed());
    // Where a media server has one is nobody else's to know.
    if let Some(session) = session.as_deref().filter(|session| session.url.is_none()) {
        app.shared.put(place, session, lives).await;
    }
    Ok(Known { session, lives })
}

/// A session that is not over. Any api process knows it.
pub(crate) async fn find(app: &App, id: PlaybackSessionId) -> Answer<Arc<Session>> {
    let sessions = &app.caches.footage.sessions;
    let found = sessions.try_get_with(id, known(app, id)).await;
    let found = found.map_err(|problem: Arc<Problem>| Problem::clone(&problem))?;
    let session = found.session.ok_or_else(|| Problem::not_found("playback session", id))?;
    if session.expires_at <= Utc::now() {
        let ended = session.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        return Err(Problem::new(
            Kind::Gone,
            format!("the playback session ended at {ended}; start another"),
        ));
    }
    Ok(session)
}

/// Lets a session last for so long from now.
pub(crate) async fn extend(app: &App, session: &Session, by: TimeDelta) -> Answer<Arc<Session>> {
    let until = (Utc::now() + by).min(session.created_at + LONGEST);
    let extended = playback::extend(&app.db, session.id, until).await?;
    let extended = extended.ok_or_else(|| Problem::new(Kind::Gone, "the playback session has ended"))?;
    playback::keep(&app.db, &extended).await?;
    app.caches.footage.sessions.invalidate(&session.id).await;
    app.shared.forget(Kept::Session, &session.id.to_string()).await;
    Ok(Arc::new(extended))
}

/// Ends a session, and lets go of what was made for it.
pub(crate) async fn end(app: &App, id: PlaybackSessionId) -> Answer<Option<Session>> {
    let ended = playback::end(&app.db, id).await?;
    app.caches.footage.forget(id).await;
    app.shared.forget(Kept::Session, &id.to_string()).await;
    app.shared.forget(Kept::Footage, &id.to_string()).await;
    Ok(ended)
}
