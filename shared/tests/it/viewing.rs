//! What is played of recordings: counted once, however it is told and by however many apis.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::db::viewers::{self, Noted, Point, ToldBy, Watched};
use reelmill_shared::db::{Db, DbError, leader, recordings, viewing};
use reelmill_shared::ids::{ProjectId, RecordingId, SchedulerId};
use uuid::Uuid;

use crate::fixture::Fixture;

/// A recording of 100 s.
pub(crate) async fn recording(fixture: &Fixture, project: ProjectId) -> RecordingId {
    let job = fixture.job(project, 50).await;
    let client = fixture.db.get().await.unwrap();
    let row = client
        .query_one(
            "update recordings r set duration_seconds = 100 from jobs j
             where j.id = $1 and r.id = j.recording_id returning r.id",
            &[&job.0],
        )
        .await
        .unwrap();
    RecordingId(row.get::<_, Uuid>(0))
}

fn noted(recording: RecordingId, session: &str, points: Vec<Point>) -> Noted {
    Noted {
        watched: Watched::Recording(recording),
        session: session.to_owned(),
        told_by: ToldBy::Player,
        watcher: Some(viewers::watcher("10.0.0.1", "player")),
        ip_address: Some("10.0.0.1".to_owned()),
        user_agent: Some("player".to_owned()),
        user_id: None,
        resolution: None,
        device_type: None,
        location: None,
        buffer_events: None,
        quality_changes: None,
        stalled_seconds: None,
        startup_ms: None,
        buffered_seconds: None,
        bytes: None,
        segments: None,
        duration_seconds: Some(100.0),
        points,
        left: false,
    }
}

/// What happened so many seconds before `now`.
fn point(now: Instant, ago: f64, position: f64, playing: bool) -> Point {
    Point { at: now - Duration::from_secs_f64(ago), position, playing }
}

/// Played seconds, to tenths; how far it reached; the hundredths that were touched; whether that is all.
async fn played(db: &Db, session: &str) -> (f64, f64, String, bool) {
    let row = db
        .get()
        .await
        .unwrap()
        .query_one(
            "select round(played_seconds::numeric, 1)::float8, furthest_seconds, watched::text, completed
             from viewer_sessions where id = $1",
            &[&session],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

fn touched(spans: &[(usize, usize)]) -> String {
    (0..100)
        .map(|n| if spans.iter().any(|(from, to)| (*from..*to).contains(&n)) { '1' } else { '0' })
        .collect()
}

#[tokio::test]
async fn a_path_counts_the_same_wherever_it_is_cut() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let id = recording(&fixture, project).await;
    let now = Instant::now();
    // It plays, pauses, jumps, plays on to the end. What is written apart is told apart by seconds: a busy machine is late by parts of one.
    let path = [
        point(now, 97.0, 0.0, true),
        point(now, 87.0, 10.0, true),
        point(now, 77.0, 20.0, false),
        point(now, 67.0, 20.0, true),
        point(now, 62.0, 25.0, false),
        point(now, 60.0, 60.0, true),
        point(now, 50.0, 70.0, true),
        point(now, 40.0, 80.0, true),
        point(now, 20.0, 100.0, false),
    ];
    let expected = (65.0, 100.0, touched(&[(0, 25), (60, 100)]), true);
    for cuts in 0..1_u32 << (path.len() - 1) {
        let session = format!("cut-{cuts}");
        let mut pieces = vec![vec![path[0]]];
        for (n, point) in path.iter().enumerate().skip(1) {
            if cuts >> (n - 1) & 1 == 1 {
                pieces.push(vec![]);
            }
            pieces.last_mut().unwrap().push(*point);
        }
        for piece in pieces {
            viewers::note(db, &[noted(id, &session, piece)]).await.unwrap();
        }
        assert_eq!(played(db, &session).await, expected, "cut at {cuts:b}");
    }
    // What was written, although nobody heard so, is written again with what came since.
    viewers::note(db, &[noted(id, "again", path[..6].to_vec())]).await.unwrap();
    viewers::note(db, &[noted(id, "again", path.to_vec())]).await.unwrap();
    viewers::note(db, &[noted(id, "again", path.to_vec())]).await.unwrap();
    assert_eq!(played(db, "again").await, expected);
    fixture.done().await;
}

#[tokio::test]
async fn nobody_plays_faster_than_time_goes() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let id = recording(&fixture, project).await;
    let now = Instant::now();
    let tell = async |session: &str, points: &[(f64, f64)]| {
        let points = points.iter().map(|(ago, position)| point(now, *ago, *position, true)).collect();
        viewers::note(db, &[noted(id, session, points)]).await.unwrap();
    };
    // Four times as fast is the most; what is ahead of that is a jump.
    tell("fast", &[(20.0, 0.0), (10.0, 40.0)]).await;
    tell("jumps", &[(20.0, 0.0), (10.0, 60.0), (5.0, 0.0)]).await;
    tell("silent", &[(300.0, 0.0), (100.0, 50.0)]).await;
    assert_eq!(played(db, "fast").await.0, 40.0);
    assert_eq!(played(db, "jumps").await, (0.0, 0.0, touched(&[]), false));
    assert_eq!(played(db, "silent").await.0, 0.0);
    // The same place over and over, by two apis at once.
    for _ in 0..50 {
        tokio::join!(tell("replayed", &[(20.0, 0.0), (10.0, 10.0)]), tell("replayed", &[(10.0, 10.0)]));
    }
    assert_eq!(played(db, "replayed").await.0, 10.0);
    // Late news of what is known to have gone on changes nothing.
    tell("late", &[(30.0, 0.0), (10.0, 20.0)]).await;
    let gone = Noted { left: true, ..noted(id, "late", vec![point(now, 20.0, 10.0, false)]) };
    viewers::note(db, &[gone]).await.unwrap();
    assert_eq!(played(db, "late").await.0, 20.0);
    assert_eq!(fixture.count("select count(*) from viewer_sessions where left_at is not null").await, 0);
    // Counts only grow, and nobody waits longer than there is time.
    let count = |stalls, stalled| Noted {
        buffer_events: Some(stalls),
        stalled_seconds: Some(stalled),
        ..noted(id, "late", vec![point(now, 0.0, 30.0, true)])
    };
    viewers::note(db, &[count(7, 5.0)]).await.unwrap();
    viewers::note(db, &[count(2, 1e6)]).await.unwrap();
    let client = db.get().await.unwrap();
    let told = "select buffer_events, stalled_seconds, extract(epoch from seen_at - joined_at)::float8 from viewer_sessions where id = 'late'";
    let row = client.query_one(told, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    assert!(row.get::<_, f64>(1) <= row.get::<_, f64>(2) && row.get::<_, f64>(2) < 60.0);
    drop(client);
    fixture.done().await;
}

#[tokio::test]
async fn a_session_belongs_to_what_it_watches() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let (one, other) = (recording(&fixture, project).await, recording(&fixture, project).await);
    let now = Instant::now();
    let all = |id| [noted(id, "a", vec![point(now, 1.0, 0.0, true)])];
    let written = viewers::note(db, &all(one)).await.unwrap();
    assert_eq!((written.rows, written.statements, written.refused), (1, 1, vec![]));
    let written = viewers::note(db, &all(other)).await.unwrap();
    assert_eq!((written.rows, written.refused), (0, vec![(Watched::Recording(other), "a".to_owned())]));
    let nothing = RecordingId::new();
    assert_eq!(viewers::note(db, &all(nothing)).await.unwrap().rows, 0);
    // Many at once, in whatever order two apis have them.
    let crowd: Vec<Noted> =
        (0..500).map(|n| noted(one, &format!("s-{n}"), vec![point(now, 1.0, 0.0, true)])).collect();
    let mut backwards = crowd.clone();
    backwards.reverse();
    for _ in 0..10 {
        let (first, second) = tokio::join!(viewers::note(db, &crowd), viewers::note(db, &backwards));
        assert_eq!((first.unwrap().rows, second.unwrap().rows), (500, 500));
    }
    let listed = viewers::list(db, Watched::Recording(one), true, None, 1000).await.unwrap();
    assert_eq!(listed.len(), 501);
    fixture.done().await;
}

/// Sessions of a day and what they sum up to: three, of two viewers, on two devices.
async fn a_day_of(fixture: &Fixture, id: RecordingId, day: &str) {
    fixture
        .execute(&format!(
            "insert into viewer_sessions (project_id, recording_id, id, told_by, user_id, watcher, device_type, buffer_events,
                                          stalled_seconds, startup_ms, played_seconds, furthest_seconds, watched, completed,
                                          joined_at, seen_at, quality_changes)
             select project_id, r.id, s.id || r.id::text, 'player', s.user_id, gen_random_uuid(), s.device, s.stalls, s.stalled, s.startup,
                    s.played, s.played, rpad(repeat('1', s.played), 100, '0')::bit(100), s.played >= 95,
                    {day} + s.at, {day} + s.at + interval '1 min', null
             from recordings r, (values
                 ('a', 'ann', 'tv', 2, 10.0, 500, 90, interval '1 hour'), ('b', 'ann', null, null, null, null, 10, interval '1 hour'),
                 ('c', null, 'tv', 1, 0.0, 1500, 100, interval '5 hours'))
                 as s (id, user_id, device, stalls, stalled, startup, played, at)
             where r.id = '{id}'"
        ))
        .await;
}

#[tokio::test]
async fn sums_tell_what_the_sessions_told() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let (id, other) = (recording(&fixture, project).await, recording(&fixture, project).await);
    let leader = leader::acquire(db, SchedulerId::new(), Duration::from_secs(600)).await.unwrap().unwrap();
    let today = viewing::Step::Day.of(Utc::now());
    let day = today - TimeDelta::days(5);
    for id in [id, other] {
        a_day_of(&fixture, id, &format!("'{day}'::timestamptz")).await;
    }
    let (from, to) = (day, day + TimeDelta::days(1));
    let told = viewing::totals(db, id, from, to).await.unwrap();
    let sum = &told.sum;
    assert_eq!((sum.sessions, sum.viewers, sum.completed, sum.played_seconds), (3, 2, 1, 200.0));
    assert_eq!((sum.stalled_seconds, sum.timed_seconds), (Some(10.0), Some(190.0)));
    assert_eq!((sum.startup_ms, sum.startups, sum.stalls, sum.switches), (Some(2000), 2, Some(3), None));
    assert_eq!((told.heat[0], told.heat[9], told.heat[10], told.heat[89], told.heat[90]), (3, 3, 2, 2, 1));
    assert_eq!(told.names.device, [("tv".into(), (2, 190.0)), (String::new(), (1, 10.0))].into());
    assert_eq!(told.names.country, [(String::new(), (3, 200.0))].into());
    let hours = viewing::series(db, id, from, to, viewing::Step::Hour).await.unwrap();
    let counts = |steps: &[(DateTime<Utc>, viewing::Sum)]| -> Vec<(i64, i64, i64)> {
        steps.iter().map(|(at, sum)| ((*at - from).num_hours(), sum.sessions, sum.viewers)).collect()
    };
    assert_eq!(counts(&hours), [(1, 2, 1), (5, 1, 1)]);

    // Nothing goes before it is summed up, and what is summed up again is the same.
    assert_eq!(viewers::delete_old(db, Duration::ZERO, 100).await.unwrap(), 0);
    assert_eq!(viewing::sum_up(db, &leader).await.unwrap(), 6, "two hours and a day of each");
    assert_eq!(viewing::sum_up(db, &leader).await.unwrap(), 0);
    let rows = async || {
        let all = "select jsonb_agg(to_jsonb(s) order by recording_id, span, at) from viewing_sums s";
        fixture.db.get().await.unwrap().query_one(all, &[]).await.unwrap().get::<_, serde_json::Value>(0)
    };
    let first = rows().await;
    fixture.execute(&format!("update viewing_summed set until = '{to}'")).await;
    assert_eq!(viewing::sum_up(db, &leader).await.unwrap(), 6);
    assert_eq!(rows().await, first);
    fixture.execute("update leaders set epoch = epoch + 1; update viewing_summed set until = until - interval '1 day'").await;
    assert!(matches!(viewing::sum_up(db, &leader).await, Err(DbError::NotLeader)));
    fixture.execute("update viewing_summed set until = until + interval '1 day'").await;

    // Two months later there are the sums.
    assert_eq!(viewers::delete_old(db, Duration::ZERO, 100).await.unwrap(), 6);
    fixture.execute("update viewing_sums set at = at - interval '60 days'").await;
    let (from, to) = (from - TimeDelta::days(60), to - TimeDelta::days(60));
    assert_eq!(
        viewing::totals(db, id, from + TimeDelta::hours(3), Utc::now()).await.unwrap(),
        told,
        "whole days"
    );
    assert_eq!(viewing::totals(db, id, to, Utc::now()).await.unwrap(), viewing::Totals::default());
    let later = viewing::series(db, id, from, to, viewing::Step::Hour).await.unwrap();
    assert_eq!(
        later.iter().map(|(_, sum)| sum).collect::<Vec<_>>(),
        hours.iter().map(|(_, sum)| sum).collect::<Vec<_>>()
    );
    // Old and new are added up.
    a_day_of(&fixture, id, "now() - interval '1 day'").await;
    let both = viewing::totals(db, id, from, Utc::now()).await.unwrap();
    assert_eq!((both.sum.sessions, both.sum.viewers, both.heat[0]), (6, 4, 6));
    assert_eq!(both.names.device["tv"], (4, 380.0));
    assert_eq!(viewing::delete_old_hours(db, TimeDelta::days(10), 100).await.unwrap(), 4);

    // Who watched goes with what they watched.
    recordings::delete(db, project, id).await.unwrap();
    recordings::discard(db, id).await.unwrap();
    assert_eq!(fixture.count("select count(*) from viewer_sessions").await, 0);
    assert_eq!(fixture.count("select count(*) from viewing_sums").await, 1, "the other's day");
    fixture.done().await;
}
