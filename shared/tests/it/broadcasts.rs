//! What is kept of what was on air, and what is not.

use std::time::Duration;

use chrono::Utc;
use reelmill_shared::db::broadcasts::{self, Broadcast};
use reelmill_shared::db::leader::{self, Leadership};
use reelmill_shared::db::live::{self, Carrier, Claim, LiveHold, LiveSegment, NewBroadcast, NewRun, OnAir};
use reelmill_shared::db::livestreams::{self, KeptKey, Paused, Terms};
use reelmill_shared::db::retention;
use reelmill_shared::db::sets::{Rendition, TrackKind};
use reelmill_shared::ids::{LivestreamId, ProjectId, SchedulerId, WorkerId};
use reelmill_shared::job::retention::{Age, Kept};
use reelmill_shared::live::key::StreamKey;
use reelmill_shared::live::spec::LiveSpec;
use reelmill_shared::live::state::BroadcastStatus;
use reelmill_shared::media::codec::Codec;
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::live::cadence::{Cadence, Wanted};
use reelmill_shared::media::live::manifest::manifest;
use reelmill_shared::media::live::plan::{LivePlan, LiveRung};
use reelmill_shared::media::live::playlist::{Form, media};
use reelmill_shared::media::tracks::Role;
use reelmill_shared::storage::keys;
use serde_json::json;

use crate::fixture::Fixture;

/// One rung in segments of two seconds, ten of them listed.
fn plan() -> LivePlan {
    let rate = Rate { num: 25, den: 1 };
    let wanted =
        Wanted { rate, sample_rate: None, keyframe_interval: 2, segment_duration: 2, part_duration_ms: 500 };
    LivePlan {
        cadence: Cadence::new(wanted),
        frame_rate: (25, 1),
        codec: Codec::H264,
        rungs: vec![LiveRung { name: "360p".into(), width: 640, height: 360, bitrate: 1, buffer: 1 }],
        audio: None,
        low_latency: false,
        window_seconds: 20,
    }
}

fn rendition() -> Rendition {
    Rendition {
        rung: "360p".into(),
        position: 0,
        kind: TrackKind::Video,
        codec: "avc1.64001e".into(),
        width: Some(640),
        height: Some(360),
        frame_rate: Some((25, 1)),
        sample_rate: None,
        channels: None,
        language: None,
        label: None,
        role: Role::Main,
        timescale: plan().timescale("360p").unwrap(),
        init_key: "init".into(),
        init_bytes: 1,
        text: None,
        peak_bandwidth: 1,
        average_bandwidth: 1,
        iframe_bandwidth: None,
        duration_ticks: 0,
    }
}

/// A livestream on air.
struct Stage {
    fixture: Fixture,
    project: ProjectId,
    livestream: LivestreamId,
    hold: LiveHold,
    on_air: OnAir,
    next: u64,
    leadership: Leadership,
}

impl Stage {
    async fn new(recorded: bool, retention_days: Option<u32>) -> Self {
        let fixture = Fixture::new().await;
        let project = fixture.project("p").await;
        let livestream = LivestreamId::new();
        let hash = StreamKey::generate().hash();
        let mut spec = LiveSpec::default();
        spec.settings.record = Some(recorded);
        spec.settings.retention_days = retention_days;
        let terms = Terms {
            title: "Stage".into(),
            description: None,
            user_id: None,
            spec,
            source: None,
            metadata: json!({}),
        };
        let key = KeptKey { hash: &hash, sealed: b"sealed" };
        livestreams::create(&fixture.db, project, livestream, &terms, &key).await.unwrap();
        let carrier = Carrier {
            worker: WorkerId::new(),
            origin: "http://127.0.0.1:1".into(),
            pass: "p".into(),
            lease: Duration::from_secs(60),
        };
        let hold = live::take(&fixture.db, Claim::Key(&hash), &carrier).await.unwrap().unwrap().hold;
        let new = NewBroadcast { plan: &plan(), started_at: Utc::now(), recorded };
        let on_air = live::begin_broadcast(&fixture.db, hold, project, new).await.unwrap();
        let run = NewRun {
            worker: carrier.worker,
            first_number: 1,
            publisher: None,
            renditions: &[rendition()],
            dropped: None,
        };
        live::reserve(&fixture.db, hold, 3).await.unwrap();
        live::begin_run(&fixture.db, hold, &on_air, run).await.unwrap();
        let leadership = leader::acquire(&fixture.db, SchedulerId::new(), Duration::from_secs(600))
            .await
            .unwrap()
            .unwrap();
        Self { fixture, project, livestream, hold, on_air, next: 1, leadership }
    }

    fn segment(&self, number: u64) -> LiveSegment {
        let ticks = 2 * u64::from(rendition().timescale);
        let prefix = keys::live_prefix(&keys::broadcast(self.project, self.on_air.id), 1);
        LiveSegment {
            track: "360p".into(),
            number,
            epoch: 1,
            key: keys::live_segment(&prefix, "360p", number),
            bytes: 10,
            start_ticks: (number - 1) * ticks,
            ticks,
            gap: false,
        }
    }

    /// Publishes so many segments, one after the other; the next one grows already.
    async fn grow(&mut self, segments: u64) {
        for _ in 0..segments {
            let segment = self.segment(self.next);
            live::publish(&self.fixture.db, &self.on_air, &[segment]).await.unwrap();
            self.next += 1;
            live::reserve(&self.fixture.db, self.hold, self.next + 2).await.unwrap();
        }
    }

    async fn pause(&self, paused: bool) {
        let now = livestreams::pause_recording(&self.fixture.db, self.project, self.livestream, paused).await;
        assert!(matches!(now, Ok(Paused::Now(_))));
    }

    async fn end(&self) {
        live::end(&self.fixture.db, self.hold, &self.on_air, "over", true).await.unwrap();
    }

    /// Sweeps as the scheduler does; gives the numbers that went.
    async fn sweep(&self) -> Vec<i32> {
        let gone = live::outdated(&self.fixture.db, 1000).await.unwrap();
        live::forget(&self.fixture.db, &self.leadership, &gone).await.unwrap();
        assert_eq!(live::outdated(&self.fixture.db, 1000).await.unwrap(), []);
        gone.iter().map(|segment| segment.number).collect()
    }

    async fn read(&self) -> Option<Broadcast> {
        broadcasts::recorded(&self.fixture.db, self.livestream, self.on_air.id).await.unwrap()
    }

    async fn segments(&self) -> i64 {
        self.fixture.count("select count(*) from segments").await
    }

    async fn garbage(&self) -> Vec<String> {
        let rows = self.fixture.db.get().await.unwrap();
        let rows = rows.query("select prefix from garbage order by id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn due(&self, days: f64) -> Vec<uuid::Uuid> {
        let age = Some(Age::days(days).unwrap());
        let list = retention::due(&self.fixture.db, self.project, Kept::Broadcasts, age, 10).await.unwrap();
        list.items.iter().map(|due| due.id).collect()
    }

    async fn delete(&self, days: f64) -> u64 {
        let age = Some(Age::days(days).unwrap());
        retention::delete_due(&self.fixture.db, self.project, Kept::Broadcasts, age, 10).await.unwrap()
    }
}

#[tokio::test]
async fn what_left_the_window_of_an_unrecorded_stream_goes_while_it_is_on_air_and_the_rest_after_it() {
    let mut stage = Stage::new(false, None).await;
    stage.grow(21).await;
    assert!(stage.sweep().await.is_empty(), "it may be asked for still");
    stage.grow(4).await;
    // A window of ten, as much again, and its own length.
    assert_eq!(stage.sweep().await, [1, 2, 3]);
    assert_eq!(stage.segments().await, 22);
    stage.end().await;
    assert_eq!(live::over(&stage.fixture.db, 10).await.unwrap(), [], "viewers still see its end");
    stage.fixture.execute("update broadcasts set ended_at = now() - interval '2 hours'").await;
    assert_eq!(live::over(&stage.fixture.db, 10).await.unwrap(), [stage.on_air.id]);
    assert!(broadcasts::expire(&stage.fixture.db, stage.on_air.id, false).await.unwrap());
    assert!(!broadcasts::expire(&stage.fixture.db, stage.on_air.id, false).await.unwrap());
    assert_eq!(stage.segments().await, 0);
    assert_eq!(stage.garbage().await, [keys::broadcast(stage.project, stage.on_air.id)]);
    stage.fixture.done().await;
}

#[tokio::test]
async fn a_recording_goes_by_its_age_unless_somebody_watches_it() {
    let mut stage = Stage::new(true, None).await;
    stage.grow(40).await;
    assert!(stage.sweep().await.is_empty());
    stage.end().await;
    let read = stage.read().await.unwrap();
    assert_eq!((read.status, read.duration_seconds), (BroadcastStatus::Available, 80.0));
    assert_eq!(read.retention_until, None, "the farm's word counts");
    stage.fixture.execute("update broadcasts set ended_at = now() - interval '9 days'").await;
    assert!(stage.due(10.0).await.is_empty());
    assert_eq!(stage.due(8.0).await, [stage.on_air.id.0]);
    let until = Utc::now() + chrono::TimeDelta::hours(1);
    broadcasts::keep(&stage.fixture.db, stage.livestream, stage.on_air.id, until).await.unwrap();
    assert!(stage.due(8.0).await.is_empty());
    assert_eq!(stage.delete(8.0).await, 0);
    stage.fixture.execute("update broadcasts set kept_until = now() - interval '1 s'").await;
    assert_eq!(stage.delete(8.0).await, 1);
    assert_eq!(stage.read().await.unwrap().status, BroadcastStatus::Expired);
    assert_eq!(stage.segments().await, 0);
    assert_eq!(stage.delete(8.0).await, 0);
    stage.fixture.done().await;
}

#[tokio::test]
async fn a_livestreams_own_age_stands_above_all_others() {
    let mut stage = Stage::new(true, Some(7)).await;
    stage.grow(1).await;
    stage.end().await;
    let read = stage.read().await.unwrap();
    assert_eq!(read.retention_until.unwrap() - read.ended_at.unwrap(), chrono::TimeDelta::days(7));
    stage.fixture.execute("update broadcasts set retention_until = now() - interval '1 hour'").await;
    assert_eq!(stage.due(30.0).await, [stage.on_air.id.0]);
    stage.fixture.done().await;
}

#[tokio::test]
async fn a_pause_is_left_out_of_the_recording_and_swept_once_viewers_have_seen_it() {
    let mut stage = Stage::new(true, None).await;
    stage.grow(3).await;
    // Number 4 grows, and is left out with all that is published until number 7 begins to grow, and that too.
    stage.pause(true).await;
    stage.pause(true).await;
    stage.grow(3).await;
    stage.pause(false).await;
    stage.grow(4).await;
    let of = async |stage: &Stage| {
        let stored = live::recorded(&stage.fixture.db, &stage.on_air).await.unwrap();
        let (mut window, lost) = live::listed(&stage.on_air, String::new(), &stored, None);
        assert_eq!(lost, [], "nothing was lost");
        window.whole = true;
        let manifest = manifest(&window, Utc::now()).unwrap();
        assert_eq!(manifest.periods.len(), 2, "segments of a period are counted through");
        let numbers: Vec<u64> = window.tracks[0].segments.iter().map(|segment| segment.number).collect();
        (numbers, media(&window, "360p", Form::Full).unwrap())
    };
    let (numbers, playlist) = of(&stage).await;
    assert_eq!(numbers, [1, 2, 3, 9, 10]);
    let seam = playlist.find("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(playlist.find("360p-3.m4s").unwrap() < seam && seam < playlist.find("360p-9.m4s").unwrap());
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    assert!(!playlist.contains("GAP"));
    // Viewers have all of it, and later it goes.
    let all = live::window(&stage.fixture.db, &stage.on_air, u32::MAX).await.unwrap();
    assert_eq!(all.segments.len(), 10);
    assert!(stage.sweep().await.is_empty());
    stage.grow(18).await;
    assert_eq!(stage.sweep().await, [4, 5, 6]);
    stage.grow(2).await;
    assert_eq!(stage.sweep().await, [7, 8]);
    assert_eq!(stage.fixture.count("select count(*) from broadcast_pauses where swept").await, 1);
    // Paused to its end.
    stage.pause(true).await;
    stage.grow(2).await;
    stage.end().await;
    let (numbers, _) = of(&stage).await;
    assert_eq!(numbers.len(), 30 - 5);
    assert_eq!(stage.read().await.unwrap().duration_seconds, 50.0);
    let read = livestreams::get(&stage.fixture.db, stage.project, stage.livestream).await.unwrap().unwrap();
    assert!(read.recording_paused_at.is_none());
    stage.fixture.execute("update broadcasts set ended_at = now() - interval '2 minutes'").await;
    assert_eq!(stage.sweep().await, [31, 32]);
    assert_eq!(stage.fixture.count("select count(*) from broadcast_pauses where not swept").await, 0);
    stage.fixture.done().await;
}

#[tokio::test]
async fn an_object_that_nobody_refers_to_is_handed_to_the_sweeper() {
    let mut stage = Stage::new(true, None).await;
    stage.grow(2).await;
    let gap = LiveSegment { gap: true, key: String::new(), bytes: 0, ..stage.segment(3) };
    live::publish(&stage.fixture.db, &stage.on_air, &[gap]).await.unwrap();
    // Stored again, and stored after it was told as lost.
    let (again, late) = (stage.segment(2), stage.segment(3));
    live::publish(&stage.fixture.db, &stage.on_air, &[again, late.clone()]).await.unwrap();
    assert_eq!(stage.garbage().await, [late.key]);
    stage.end().await;
    let after = stage.segment(4);
    assert!(live::publish(&stage.fixture.db, &stage.on_air, std::slice::from_ref(&after)).await.is_err());
    assert_eq!(stage.garbage().await.last(), Some(&after.key));
    stage.fixture.done().await;
}

#[tokio::test]
async fn what_was_lost_is_as_long_as_it_was_and_ends_before_who_follows() {
    let mut stage = Stage::new(true, None).await;
    stage.grow(3).await;
    let stored = live::window(&stage.fixture.db, &stage.on_air, 20).await.unwrap();
    let lost_until = |came| {
        let follower = live::Follower { next_sequence: 6, came };
        let (window, lost) = live::listed(&stage.on_air, String::new(), &stored, Some(follower));
        assert_eq!(lost.len(), 2);
        let scale = f64::from(rendition().timescale);
        let segments = window.tracks[0].segments.iter().skip(3);
        segments.map(|gap| (gap.number, gap.ticks as f64 / scale)).collect::<Vec<_>>()
    };
    assert_eq!(lost_until(30.0), [(4, 2.0), (5, 2.0)]);
    assert_eq!(lost_until(8.5), [(4, 2.0), (5, 0.5)]);
    let [(4, first), (5, second)] = lost_until(5.0)[..] else { panic!() };
    assert!(first > 0.0 && second > 0.0 && first + second < 0.001, "{first} {second}");
    stage.fixture.done().await;
}
