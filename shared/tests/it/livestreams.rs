//! Livestreams as their owners see them: made, listed, changed, and brought to rest.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reelmill_shared::db::livestream_events::{self, EntryFilter, NewEntry};
use reelmill_shared::db::livestream_figures::{self, EdgeFigures, IngestFigures, Steps};
use reelmill_shared::db::livestreams::{
    self, KeptKey, LivestreamFilter, Page, Paused, Room, Sealed, Stopped, Terms,
};
use reelmill_shared::db::projects::Deleted;
use reelmill_shared::db::viewers::{self, Noted, Sighting, ToldBy, Watched};
use reelmill_shared::db::{DbError, broadcasts, events, projects};
use reelmill_shared::ids::{BroadcastId, LivestreamId, ProjectId, SetId, WorkerId};
use reelmill_shared::live::event::{LiveEventType, Severity};
use reelmill_shared::live::key::StreamKey;
use reelmill_shared::live::latency;
use reelmill_shared::live::spec::LiveSpec;
use reelmill_shared::live::state::{BroadcastStatus, LiveStatus};
use reelmill_testkit::wait::until;
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Fixture, horizon};

const WAIT: Duration = Duration::from_secs(30);
const PAGE: Page = Page { after: None, offset: 0, limit: 100 };

fn terms(title: &str, user: Option<&str>) -> Terms {
    Terms {
        title: title.into(),
        description: None,
        user_id: user.map(str::to_owned),
        spec: LiveSpec::default(),
        source: None,
        metadata: json!({ "room": 1 }),
    }
}

async fn made(fixture: &Fixture, project: ProjectId, terms: &Terms) -> LivestreamId {
    let (id, hash) = (LivestreamId::new(), StreamKey::generate().hash());
    let key = KeptKey { hash: &hash, sealed: b"sealed" };
    livestreams::create(&fixture.db, project, id, terms, &key).await.unwrap();
    id
}

/// Brings a livestream to where a worker has it on air.
async fn on_air(fixture: &Fixture, project: ProjectId, id: LivestreamId) -> BroadcastId {
    let (broadcast, set, worker) = (BroadcastId::new(), SetId::new(), WorkerId::new());
    fixture
        .execute(&format!(
            "insert into sets (id, project_id) values ('{set}', '{project}');
             insert into broadcasts (id, livestream_id, project_id, set_id, plan, started_at, heard_at, recorded, bytes)
             values ('{broadcast}', '{id}', '{project}', '{set}', '{{\"codec\": \"h264\"}}', now() - interval '90 s', now(), true, 5);
             update livestreams set status = 'live', epoch = epoch + 1, broadcast_id = '{broadcast}', started_at = now()
             where id = '{id}';
             insert into live_leases (livestream_id, project_id, worker_id, epoch, origin, pass, expires_at)
             select id, project_id, '{worker}', epoch, 'http://127.0.0.1:1', 'p', now() + interval '6 s'
             from livestreams where id = '{id}'"
        ))
        .await;
    broadcast
}

async fn leases(fixture: &Fixture) -> i64 {
    fixture.count("select count(*) from live_leases").await
}

#[tokio::test]
async fn a_livestream_is_read_back_as_it_was_made_and_by_nobody_else() {
    let fixture = Fixture::new().await;
    let (mine, other) = (fixture.project("mine").await, fixture.project("other").await);
    let wanted = Terms { source: Some(b"sealed source".to_vec()), ..terms("a", Some("u")) };
    let id = made(&fixture, mine, &wanted).await;
    // The same request once more.
    let again = KeptKey { hash: &StreamKey::generate().hash(), sealed: b"another" };
    livestreams::create(&fixture.db, mine, id, &terms("b", None), &again).await.unwrap();
    let read = livestreams::get(&fixture.db, mine, id).await.unwrap().unwrap();
    assert_eq!((read.terms, read.status, read.epoch), (wanted, LiveStatus::Idle, 0));
    assert_eq!(read.key_sealed, b"sealed");
    assert!(read.on_air.is_none() && read.armed_at.is_none() && read.error.is_none());

    let db = &fixture.db;
    assert!(livestreams::get(db, other, id).await.unwrap().is_none());
    assert!(livestreams::list(db, other, LivestreamFilter::default(), PAGE).await.unwrap().is_empty());
    assert!(livestreams::arm(db, other, id).await.unwrap().is_none());
    assert_eq!(livestreams::stop(db, other, id).await.unwrap(), Stopped::NotFound);
    assert!(!livestreams::delete(db, other, id).await.unwrap());
    assert!(!livestreams::rotate_key(db, other, id, &again).await.unwrap());
    let edited = livestreams::update(db, other, id, |_| Ok::<_, DbError>(terms("stolen", None))).await;
    assert!(edited.unwrap().is_none());
    assert!(matches!(livestreams::pause_recording(db, other, id, true).await.unwrap(), Paused::NotFound));
    assert_eq!(livestreams::get(db, mine, id).await.unwrap().unwrap().terms.title, "a");
    fixture.done().await;
}

#[tokio::test]
async fn lists_are_newest_first_by_cursor_and_by_offset() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let mut ids = vec![];
    for n in 0..5 {
        let user = if n % 2 == 0 { "even" } else { "odd" };
        ids.push(made(&fixture, project, &terms(&n.to_string(), Some(user))).await);
    }
    ids.reverse();
    on_air(&fixture, project, ids[1]).await;
    let list = async |filter, page| {
        let rows = livestreams::list(&fixture.db, project, filter, page).await.unwrap();
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let all = LivestreamFilter::default();
    assert_eq!(list(all, PAGE).await, ids);
    assert_eq!(list(all, Page { limit: 2, ..PAGE }).await, ids[..2]);
    assert_eq!(list(all, Page { limit: 2, after: Some(ids[1]), offset: 0 }).await, ids[2..4]);
    assert_eq!(list(all, Page { limit: 2, after: None, offset: 3 }).await, ids[3..]);
    assert_eq!(list(LivestreamFilter { user_id: Some("odd"), ..all }, PAGE).await, [ids[1], ids[3]]);
    assert_eq!(list(LivestreamFilter { status: Some(LiveStatus::Live), ..all }, PAGE).await, [ids[1]]);
    // What only a newer program understands does not hide the others.
    fixture
        .execute(&format!(
            "update livestreams set spec = '{{\"source\": \"telepathy\"}}' where id = '{}'",
            ids[0]
        ))
        .await;
    assert_eq!(list(all, PAGE).await, ids[1..]);
    fixture.done().await;
}

#[tokio::test]
async fn two_edits_at_once_both_count() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = made(&fixture, project, &terms("a", None)).await;
    let edits = (0..8).map(|_| {
        livestreams::update(&fixture.db, project, id, |before| {
            let mut after = before.terms.clone();
            after.spec.dvr_window += 1;
            Ok::<_, DbError>(after)
        })
    });
    let edited = futures::future::try_join_all(edits).await.unwrap();
    assert!(edited.iter().all(Option::is_some));
    let read = livestreams::get(&fixture.db, project, id).await.unwrap().unwrap();
    assert_eq!(read.terms.spec.dvr_window, LiveSpec::default().dvr_window + 8);

    let refused = livestreams::update(&fixture.db, project, id, |_| Err::<Terms, _>(DbError::Gone)).await;
    assert!(matches!(refused, Err(DbError::Gone)));
    assert_eq!(livestreams::get(&fixture.db, project, id).await.unwrap().unwrap().terms, read.terms);
    fixture.done().await;
}

#[tokio::test]
async fn a_stop_ends_all_there_is_and_is_told_once() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = made(&fixture, project, &terms("a", None)).await;
    let broadcast = on_air(&fixture, project, id).await;
    let stops = (0..8).map(|_| livestreams::stop(&fixture.db, project, id));
    let stopped = futures::future::try_join_all(stops).await.unwrap();
    assert_eq!(stopped.iter().filter(|one| **one == Stopped::Now(Some(broadcast))).count(), 1);
    assert_eq!(stopped.iter().filter(|one| **one == Stopped::Idle).count(), 7);

    let read = livestreams::get(&fixture.db, project, id).await.unwrap().unwrap();
    assert_eq!((read.status, read.epoch), (LiveStatus::Idle, 2), "who had it held epoch 1");
    assert!(read.on_air.is_none() && read.ended_at.is_some());
    assert_eq!(leases(&fixture).await, 0);
    let over = broadcasts::recorded(&fixture.db, id, broadcast).await.unwrap().unwrap();
    assert_eq!(over.status, BroadcastStatus::Finalizing);
    assert_eq!(over.end_reason.as_deref(), Some("stopped"));
    assert!(over.ended_at.is_some() && (over.duration_seconds - 90.0).abs() < 1.0, "{over:?}");

    horizon(&fixture.db).await;
    let told = events::of_project_after(&fixture.db, project, Default::default(), 100).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].kind.as_str(), told[0].livestream_id), ("livestream.ended", Some(id)));
    assert_eq!(
        told[0].data,
        json!({
            "livestream_id": id, "broadcast_id": broadcast, "message": "the livestream was stopped", "reason": "stopped",
        })
    );
    let log = livestream_events::list(&fixture.db, id, EntryFilter::default(), None, 10).await.unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].kind, log[0].broadcast_id), (LiveEventType::StreamEnded, Some(broadcast)));
    fixture.done().await;
}

/// Whoever takes a stream at this moment holds its row. The stop waits, and must then see what was put on air meanwhile.
#[tokio::test]
async fn a_stop_sees_what_went_on_air_while_it_waited() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = made(&fixture, project, &terms("a", None)).await;
    let (broadcast, set) = (BroadcastId::new(), SetId::new());
    let taking = fixture.database.connect().await;
    taking
        .batch_execute(&format!("begin; select 1 from livestreams where id = '{id}' for update"))
        .await
        .unwrap();
    let stopping = tokio::spawn({
        let db = fixture.db.clone();
        async move { livestreams::stop(&db, project, id).await }
    });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    until("the stop to wait for the lock", WAIT, || async {
        assert!(!stopping.is_finished(), "it must wait for the lock");
        (fixture.count(waiting).await > 0).then_some(())
    })
    .await;
    taking
        .batch_execute(&format!(
            "insert into sets (id, project_id) values ('{set}', '{project}');
             insert into broadcasts (id, livestream_id, project_id, set_id, plan, started_at, recorded)
             values ('{broadcast}', '{id}', '{project}', '{set}', '{{}}', now(), false);
             update livestreams set status = 'starting', epoch = 1, broadcast_id = '{broadcast}' where id = '{id}';
             commit"
        ))
        .await
        .unwrap();
    assert_eq!(stopping.await.unwrap().unwrap(), Stopped::Now(Some(broadcast)));
    let finalizing = "select count(*) from broadcasts where status = 'finalizing'";
    assert_eq!(fixture.count(finalizing).await, 1);
    assert!(
        broadcasts::recorded(&fixture.db, id, broadcast).await.unwrap().is_none(),
        "it was not to be kept"
    );
    fixture.done().await;
}

#[tokio::test]
async fn arming_forgets_a_failure_and_stopping_disarms() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = made(&fixture, project, &terms("a", None)).await;
    let failure = json!({ "reason": "unreachable", "message": "no route", "retryable": true });
    fixture
        .execute(&format!(
            "update livestreams set status = 'failed', failures = 3, retry_at = now() + interval '1 h', error = '{failure}'"
        ))
        .await;
    let failed = livestreams::get(&fixture.db, project, id).await.unwrap().unwrap();
    assert_eq!(failed.error.unwrap().message, "no route");
    let armed = livestreams::arm(&fixture.db, project, id).await.unwrap().unwrap();
    assert_eq!((armed.status, armed.error.is_none()), (LiveStatus::Idle, true));
    assert_eq!(
        fixture.count("select count(*) from livestreams where retry_at is null and failures = 0").await,
        1
    );
    let again = livestreams::arm(&fixture.db, project, id).await.unwrap().unwrap();
    assert_eq!(again.armed_at, armed.armed_at);
    assert!(again.armed_at.is_some());

    assert_eq!(livestreams::stop(&fixture.db, project, id).await.unwrap(), Stopped::Idle);
    assert!(livestreams::get(&fixture.db, project, id).await.unwrap().unwrap().armed_at.is_none());
    // One that never got anywhere has nothing to end, and nothing is told.
    fixture.execute("update livestreams set status = 'starting', epoch = 4").await;
    assert_eq!(livestreams::stop(&fixture.db, project, id).await.unwrap(), Stopped::Now(None));
    assert_eq!(fixture.count("select count(*) from events").await, 0);
    assert_eq!(livestreams::get(&fixture.db, project, id).await.unwrap().unwrap().epoch, 5);
    fixture.done().await;
}

#[tokio::test]
async fn a_new_key_leaves_who_publishes_alone() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = made(&fixture, project, &terms("a", None)).await;
    on_air(&fixture, project, id).await;
    let hash = StreamKey::generate().hash();
    let key = KeptKey { hash: &hash, sealed: b"new" };
    assert!(livestreams::rotate_key(&fixture.db, project, id, &key).await.unwrap());
    let read = livestreams::get(&fixture.db, project, id).await.unwrap().unwrap();
    assert_eq!((read.status, read.epoch, read.key_sealed.as_slice()), (LiveStatus::Live, 1, &b"new"[..]));
    assert_eq!(leases(&fixture).await, 1);
    let found = format!("select count(*) from livestreams where key_hash = '\\x{}'", hex::encode(&hash));
    assert_eq!(fixture.count(&found).await, 1);
    fixture.done().await;
}

#[tokio::test]
async fn what_is_deleted_is_stopped_first_and_has_no_secrets_left() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let wanted = Terms { source: Some(b"sealed source".to_vec()), ..terms("a", None) };
    let id = made(&fixture, project, &wanted).await;
    let broadcast = on_air(&fixture, project, id).await;
    assert!(livestreams::delete(&fixture.db, project, id).await.unwrap());
    assert!(!livestreams::delete(&fixture.db, project, id).await.unwrap());
    assert!(livestreams::find(&fixture.db, id).await.unwrap().is_none());
    assert_eq!(leases(&fixture).await, 0);
    let over = broadcasts::recorded(&fixture.db, id, broadcast).await.unwrap().unwrap();
    assert_eq!(over.end_reason.as_deref(), Some("deleted"));
    let secrets = "select count(*) from livestreams where source is not null or key_sealed <> '' or length(key_hash) > 16";
    assert_eq!(fixture.count(secrets).await, 0);
    assert_eq!(projects::delete(&fixture.db, project).await.unwrap(), Deleted::InUse("livestreams"));
    fixture.done().await;
}

#[tokio::test]
async fn recording_is_paused_only_on_air_and_until_the_end() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = made(&fixture, project, &terms("a", None)).await;
    let pause = async |paused| match livestreams::pause_recording(&fixture.db, project, id, paused).await {
        Ok(Paused::Now(livestream)) => Some(livestream.recording_paused_at),
        Ok(Paused::Idle) => None,
        other => panic!("{other:?}"),
    };
    assert!(pause(true).await.is_none());
    on_air(&fixture, project, id).await;
    let since = pause(true).await.unwrap();
    assert!(since.is_some());
    assert_eq!(pause(true).await.unwrap(), since);
    assert_eq!(pause(false).await.unwrap(), None);
    pause(true).await;
    livestreams::stop(&fixture.db, project, id).await.unwrap();
    let read = livestreams::get(&fixture.db, project, id).await.unwrap().unwrap();
    assert!(read.recording_paused_at.is_none());
    fixture.done().await;
}

#[tokio::test]
async fn streams_on_air_are_counted_against_the_projects_limit() {
    let fixture = Fixture::new().await;
    let (project, other) = (fixture.project("p").await, fixture.project("other").await);
    let room = async || {
        let client = fixture.db.get().await.unwrap();
        livestreams::room(&client, project).await.unwrap().unwrap()
    };
    assert_eq!(room().await, Room { busy: 0, most: 100 });
    for status in ["idle", "starting", "live", "reconnecting", "failed"] {
        let id = made(&fixture, project, &terms("a", None)).await;
        fixture.execute(&format!("update livestreams set status = '{status}' where id = '{id}'")).await;
    }
    let foreign = made(&fixture, other, &terms("a", None)).await;
    on_air(&fixture, other, foreign).await;
    let change = projects::Change { max_concurrent_streams: Some(3), ..Default::default() };
    projects::update(&fixture.db, project, change).await.unwrap().unwrap();
    assert_eq!(room().await, Room { busy: 3, most: 3 });
    fixture.done().await;
}

#[tokio::test]
async fn recordings_and_events_are_listed_newest_first() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let (id, other) =
        (made(&fixture, project, &terms("a", None)).await, made(&fixture, project, &terms("b", None)).await);
    let mut all = vec![];
    for _ in 0..3 {
        all.insert(0, on_air(&fixture, project, id).await);
        livestreams::stop(&fixture.db, project, id).await.unwrap();
    }
    let db = &fixture.db;
    let list = async |status, after, limit| {
        let rows = broadcasts::list_recorded(db, id, status, after, limit).await.unwrap();
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 10).await, all);
    assert_eq!(list(None, Some(all[0]), 1).await, all[1..2]);
    assert_eq!(list(Some(BroadcastStatus::Available), None, 10).await, []);
    assert!(broadcasts::recorded(db, other, all[0]).await.unwrap().is_none(), "of another livestream");

    let client = db.get().await.unwrap();
    for severity in [Severity::Warning, Severity::Critical] {
        let entry = NewEntry {
            broadcast_id: None,
            kind: LiveEventType::FrameDrop,
            severity,
            message: "frames were dropped",
            details: json!({ "frames": 3 }),
        };
        livestream_events::append(&client, id, &entry).await.unwrap();
    }
    let log = async |filter, after| livestream_events::list(db, id, filter, after, 100).await.unwrap();
    let entries = log(EntryFilter::default(), None).await;
    assert_eq!(entries.len(), 5);
    assert_eq!(entries[0].severity, Severity::Critical);
    assert_eq!(log(EntryFilter::default(), Some(entries[3].id)).await.len(), 1);
    let drops = EntryFilter { kind: Some(LiveEventType::FrameDrop), ..Default::default() };
    assert_eq!(log(drops, None).await.len(), 2);
    let warnings = EntryFilter { severity: Some(Severity::Warning), ..drops };
    assert_eq!(log(warnings, None).await[0].details, json!({ "frames": 3 }));
    let late = EntryFilter { from: Some(entries[0].created_at), ..Default::default() };
    assert_eq!(log(late, None).await.len(), 1);
    let early = EntryFilter { to: Some(entries[0].created_at), ..Default::default() };
    assert_eq!(log(early, None).await.len(), 4);
    fixture.done().await;
}

#[tokio::test]
async fn figures_add_up_whoever_measured_them_and_are_nothing_where_nobody_did() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let id = made(&fixture, project, &terms("a", None)).await;
    let unheard = made(&fixture, project, &terms("b", None)).await;
    let from: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
    let at = |second| from + TimeDelta::seconds(second);
    let worker = WorkerId::new();
    let ingest = |ingest_bitrate, dropped_frames, speed| IngestFigures {
        livestream: id,
        ingest_bitrate,
        dropped_frames,
        frames: 250,
        keyframe_interval: Some(2.0),
        audio_video_sync: None,
        speed,
    };
    viewers::track(db, project, id, &Sighting { session: "one", ..Sighting::default() }).await.unwrap();
    livestream_figures::add_ingest(db, worker, at(0), &[ingest(1000, 5, Some(1.0))]).await.unwrap();
    livestream_figures::add_ingest(db, worker, at(10), &[ingest(3000, 20, Some(0.5))]).await.unwrap();
    // Told twice it is the same.
    livestream_figures::add_ingest(db, worker, at(10), &[ingest(9000, 9, None)]).await.unwrap();
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let edge = |bandwidth_usage, latencies: &[u32]| {
        let mut classes = vec![0; latency::CLASSES];
        latencies.iter().for_each(|milliseconds| classes[latency::class(*milliseconds)] += 1);
        EdgeFigures {
            livestream: id,
            bandwidth_usage,
            error_count: 1,
            reports: 4,
            smooth_reports: 3,
            latency_sum: latencies.iter().map(|milliseconds| i64::from(*milliseconds)).sum(),
            latency_count: latencies.len() as i32,
            latencies: classes,
            media_requests: 4,
            media_hits: 3,
        }
    };
    let gone = EdgeFigures { livestream: LivestreamId::new(), ..edge(7, &[]) };
    livestream_figures::add_edge(db, one, at(0), &[edge(2_000_000, &[1000; 18]), gone]).await.unwrap();
    livestream_figures::add_edge(db, other, at(0), &[edge(1_000_000, &[3000, 3000])]).await.unwrap();

    let steps = |step, to| Steps { from, to: at(to), step: Duration::from_secs(step) };
    let told = livestream_figures::read_steps(db, id, steps(20, 40)).await.unwrap();
    let [both] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((both.at, both.viewer_count), (from, Some(1.0)));
    assert_eq!((both.ingest_bitrate, both.dropped_frames, both.speed), (Some(2000.0), Some(25), Some(0.75)));
    // Three megabits in the first half, nothing in the second.
    assert_eq!((both.bandwidth_usage, both.error_count), (Some(1_500_000.0), Some(2)));
    assert_eq!(
        (both.keyframe_interval, both.audio_video_sync, both.cdn_hit_ratio),
        (Some(2.0), None, Some(0.75))
    );
    assert_eq!((both.buffer_health, both.average_latency), (Some(75.0), Some(1200.0)));
    let p95 = both.p95_latency.unwrap();
    assert!((2500.0..3600.0).contains(&p95), "{p95}");
    assert_eq!(both.quality_score, Some((1.0 - 25.0 / 500.0) * 0.75 * 75.0));
    let told = livestream_figures::read_steps(db, id, steps(10, 20)).await.unwrap();
    assert_eq!(told.iter().map(|it| it.ingest_bitrate).collect::<Vec<_>>(), [Some(1000.0), Some(3000.0)]);
    assert_eq!((told[1].bandwidth_usage, told[1].buffer_health, told[1].quality_score), (None, None, None));
    assert_eq!(livestream_figures::read_steps(db, unheard, steps(10, 40)).await.unwrap(), []);

    assert!(livestream_figures::delete_old(db, Duration::from_secs(30 * 86_400), 1).await.unwrap() == 1);
    assert!(livestream_figures::delete_old(db, Duration::from_secs(30 * 86_400), 100).await.unwrap() == 3);
    fixture.done().await;
}

#[tokio::test]
async fn a_player_counts_once_however_many_tell_of_it() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let id = made(&fixture, project, &terms("a", None)).await;
    let noted = |session: &str, told_by, address: &str| Noted {
        watched: Watched::Livestream(id),
        session: session.to_owned(),
        told_by,
        watcher: Some(viewers::watcher(address, "player")),
        ip_address: Some(address.to_owned()),
        user_agent: Some("player".to_owned()),
        user_id: None,
        resolution: None,
        device_type: None,
        location: None,
        buffer_events: Some(0),
        quality_changes: Some(0),
        stalled_seconds: None,
        startup_ms: None,
        buffered_seconds: None,
        bytes: None,
        segments: None,
        duration_seconds: None,
        points: vec![],
        left: false,
    };
    let watched = async || livestreams::get(db, project, id).await.unwrap().unwrap().viewer_count;
    // Two edges see three players, one of them both.
    let first = [noted("edge-1", ToldBy::Edge, "10.0.0.1"), noted("edge-2", ToldBy::Edge, "10.0.0.2")];
    let second = [noted("edge-2", ToldBy::Edge, "10.0.0.2"), noted("edge-3", ToldBy::Edge, "10.0.0.3")];
    viewers::note(db, &first).await.unwrap();
    viewers::note(db, &second).await.unwrap();
    assert_eq!(watched().await, 3);
    // Two behind the first address tell of themselves.
    let told = [noted("web-1", ToldBy::Player, "10.0.0.1"), noted("web-2", ToldBy::Player, "10.0.0.1")];
    viewers::note(db, &told).await.unwrap();
    assert_eq!(watched().await, 4);
    // A backend tells of one of the others, without its address; then of one with it.
    let by_key = |session, watcher| Sighting { session, watcher, ..Sighting::default() };
    viewers::track(db, project, id, &by_key("key-1", None)).await.unwrap();
    assert_eq!(watched().await, 4);
    viewers::track(db, project, id, &by_key("key-2", Some(viewers::watcher("10.0.0.3", "player"))))
        .await
        .unwrap();
    assert_eq!(watched().await, 4);
    // Nobody who has no key changes what was told with one, nor a session of another livestream.
    let elsewhere = made(&fixture, project, &terms("b", None)).await;
    let thief = Noted { left: true, ..noted("key-1", ToldBy::Player, "10.9.9.9") };
    let stray = Noted {
        watched: Watched::Livestream(elsewhere),
        left: true,
        ..noted("web-1", ToldBy::Player, "10.0.0.1")
    };
    viewers::note(db, &[thief]).await.unwrap();
    viewers::note(db, &[stray]).await.unwrap();
    assert_eq!(watched().await, 4);
    let gone = Noted { left: true, ..noted("web-1", ToldBy::Player, "10.0.0.1") };
    viewers::note(db, &[gone]).await.unwrap();
    assert_eq!(watched().await, 3);
    let stream = livestreams::get(db, project, id).await.unwrap().unwrap();
    assert_eq!(stream.peak_viewer_count, 4);
    fixture.done().await;
}

#[tokio::test]
async fn viewers_come_stay_and_go() {
    let fixture = Fixture::new().await;
    let (project, other) = (fixture.project("p").await, fixture.project("other").await);
    let id = made(&fixture, project, &terms("a", None)).await;
    let second = made(&fixture, project, &terms("b", None)).await;
    let foreign = made(&fixture, other, &terms("c", None)).await;
    let db = &fixture.db;
    let seen = |session| Sighting { session, ..Default::default() };
    for session in ["one", "two", "three"] {
        viewers::track(db, project, id, &seen(session)).await.unwrap().unwrap();
    }
    // The same word in another project is another session; on another livestream of this one it is nobody's.
    assert!(viewers::track(db, other, foreign, &seen("one")).await.unwrap().is_some());
    assert!(viewers::track(db, project, second, &seen("one")).await.unwrap().is_none());

    let counts = async || {
        let read = livestreams::get(db, project, id).await.unwrap().unwrap();
        (read.viewer_count, read.peak_viewer_count)
    };
    assert_eq!(counts().await, (3, 3));
    fixture.execute("update viewer_sessions set seen_at = now() - interval '10 s', joined_at = now() - interval '20 s' where id = 'one'").await;
    let told =
        Sighting { user_id: Some("u"), buffer_events: Some(4), quality_changes: Some(1), ..seen("one") };
    let one = viewers::track(db, project, id, &told).await.unwrap().unwrap();
    assert_eq!((one.user_id.as_deref(), one.buffer_events), (Some("u"), Some(4)));
    assert!(one.seen_at - one.joined_at >= TimeDelta::seconds(19));
    // At once again: nothing is written.
    let hasty = Sighting { buffer_events: Some(9), ..seen("one") };
    let unheard = viewers::track(db, project, id, &hasty).await.unwrap().unwrap();
    assert_eq!((unheard.buffer_events, unheard.seen_at), (Some(4), one.seen_at));
    // A farewell always counts, and what is left out stays.
    let left = Sighting { left: true, buffer_events: Some(3), ..seen("one") };
    let gone = viewers::track(db, project, id, &left).await.unwrap().unwrap();
    assert!(gone.left_at.is_some());
    assert_eq!((gone.user_id.as_deref(), gone.buffer_events), (Some("u"), Some(4)), "counts only grow");
    assert_eq!(counts().await, (2, 3));
    let back = viewers::track(db, project, id, &seen("one")).await.unwrap().unwrap();
    assert!(back.left_at.is_none());
    fixture.execute("update viewer_sessions set seen_at = now() - interval '2 min' where id = 'two'").await;
    assert_eq!(counts().await, (2, 3), "who is not heard of does not count");

    fixture.execute("update viewer_sessions set joined_at = '2026-01-01' where id in ('two', 'three')").await;
    let list = async |watching, after: Option<&viewers::ViewerSession>| {
        let place = after
            .map(|row| viewers::Place { joined_at: row.joined_at, session: row.id.clone() })
            .map(|place| place.to_string().parse().unwrap());
        viewers::list(db, Watched::Livestream(id), watching, place.as_ref(), 10).await.unwrap()
    };
    let ids = |rows: &[viewers::ViewerSession]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    let all = list(false, None).await;
    assert_eq!(ids(&all), ["one", "two", "three"]);
    assert_eq!(ids(&list(false, Some(&all[0])).await), ["two", "three"]);
    assert_eq!(ids(&list(false, Some(&all[1])).await), ["three"]);
    assert_eq!(ids(&list(true, None).await), ["one", "three"]);
    fixture.done().await;
}

#[tokio::test]
async fn what_was_sealed_anew_takes_the_place_of_what_it_was_made_from_only() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let wanted = Terms { source: Some(b"source".to_vec()), ..terms("a", None) };
    let ids = [made(&fixture, project, &wanted).await, made(&fixture, project, &terms("b", None)).await];
    let db = &fixture.db;
    let all = livestreams::all_sealed(db, None, 1).await.unwrap();
    let old = Sealed { id: ids[0], key: b"sealed".to_vec(), source: Some(b"source".to_vec()) };
    assert_eq!(all, std::slice::from_ref(&old));
    assert_eq!(livestreams::all_sealed(db, Some(ids[0]), 10).await.unwrap()[0].id, ids[1]);
    // Somebody rotates the key meanwhile.
    let hash = StreamKey::generate().hash();
    livestreams::rotate_key(db, project, ids[0], &KeptKey { hash: &hash, sealed: b"rotated" }).await.unwrap();
    let new = Sealed { key: b"anew".to_vec(), source: Some(b"anew too".to_vec()), ..old.clone() };
    livestreams::replace_sealed(db, &old, &new).await.unwrap();
    let read = livestreams::get(db, project, ids[0]).await.unwrap().unwrap();
    assert_eq!((read.key_sealed, read.terms.source), (b"rotated".to_vec(), Some(b"anew too".to_vec())));
    fixture.done().await;
}
