//! Events become deliveries once each; deliveries are sent in order, by one sender at a time, and nobody waits for another's
//! receiver.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use reelmill_shared::db::deliveries::{self, Claimed, Delivery, Failed, Report, Wanted};
use reelmill_shared::db::events::{EventType, Position, Span};
use reelmill_shared::db::fan_out::{self, Replayed};
use reelmill_shared::db::leader::{self, Leadership};
use reelmill_shared::db::webhooks::{self, Change, Created, NewWebhook};
use reelmill_shared::db::{DbError, events};
use reelmill_shared::ids::{DeliveryId, ProjectId, SchedulerId, WebhookId};
use reelmill_shared::job::plan;
use reelmill_shared::job::spec::JobSpec;
use reelmill_shared::webhook::{DeliveryState, HOLDS};
use reelmill_testkit::wait::until;
use uuid::Uuid;

use crate::fixture::{Fixture, spec};

const WAIT: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5 * 86_400);

/// What a scheduler would do, by hand.
struct Steward {
    fixture: Fixture,
    leadership: Leadership,
    project: ProjectId,
}

impl Steward {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let leadership = leader::acquire(&fixture.db, SchedulerId::new(), LEASE).await.unwrap().unwrap();
        let project = fixture.project("p").await;
        Self { fixture, leadership, project }
    }

    async fn webhook(&self, project: ProjectId, events: &[EventType]) -> WebhookId {
        self.insert(project, Some("https://example.com/hook"), events).await
    }

    async fn insert(&self, project_id: ProjectId, url: Option<&str>, events: &[EventType]) -> WebhookId {
        let id = WebhookId::new();
        let new = NewWebhook { id, project_id, url, description: "", events, secret: b"sealed" };
        assert!(matches!(webhooks::insert(&self.fixture.db, &new).await.unwrap(), Created::Now(_)));
        id
    }

    /// An event about this subject.
    async fn event(&self, kind: EventType, recording: Uuid) {
        let sql = format!(
            "insert into events (project_id, type, recording_id, data) values ('{}', '{kind}', '{recording}', '{{}}')",
            self.project
        );
        self.fixture.execute(&sql).await;
    }

    /// Makes deliveries of everything that is in the log now.
    async fn fan_out(&self) {
        let all = self.fixture.count("select count(*) from events").await;
        until("the log to be read", WAIT, || async {
            fan_out::advance(&self.fixture.db, &self.leadership).await.unwrap();
            let read = "select count(*) from events e, fan_out f where (e.xid, e.id) <= (f.xid, f.id)";
            (self.fixture.count(read).await == all).then_some(())
        })
        .await;
    }

    async fn claim(&self, doubtful: bool) -> Vec<Claimed> {
        let wanted = Wanted { doubtful, limit: 100, per_receiver: 4, lease: LEASE };
        deliveries::claim(&self.fixture.db, wanted).await.unwrap()
    }

    async fn log(&self, webhook: WebhookId) -> Vec<Delivery> {
        let mut rows = deliveries::list(&self.fixture.db, webhook, None, None, 1000).await.unwrap();
        rows.reverse();
        rows
    }

    async fn succeed(&self, claimed: &Claimed) -> bool {
        deliveries::succeed(&self.fixture.db, claimed, &Report { status: Some(200), ..Report::default() })
            .await
            .unwrap()
    }

    async fn fail(&self, claimed: &Claimed, failed: Failed) -> bool {
        let report = Report { status: Some(500), error: Some("answered 500".into()), ..Report::default() };
        deliveries::fail(&self.fixture.db, claimed, &report, failed, PATIENCE).await.unwrap()
    }
}

const SOON: Failed = Failed::Again { wait: Duration::ZERO, quiet: Duration::ZERO };
const LATER: Failed = Failed::Again { wait: Duration::from_secs(300), quiet: Duration::ZERO };

#[tokio::test]
async fn every_event_goes_once_to_every_webhook_that_wants_it() {
    let steward = Steward::new().await;
    let (project, fixture) = (steward.project, &steward.fixture);
    fixture.job(project, 50).await;
    let all = steward.webhook(project, &[]).await;
    let ends = steward.webhook(project, &[EventType::JobSucceeded, EventType::RecordingReady]).await;
    let other = steward.webhook(fixture.project("other").await, &[]).await;
    let callbacks = steward.insert(project, None, &[]).await;
    let off = steward.webhook(project, &[]).await;
    let change = Change { enabled: Some(false), ..Change::default() };
    webhooks::update(&fixture.db, project, off, &change).await.unwrap().unwrap();

    let recording = Uuid::now_v7();
    steward.event(EventType::RecordingPlayable, recording).await;
    steward.event(EventType::RecordingReady, recording).await;
    let named = |url: &str| JobSpec { callback_url: Some(url.parse().unwrap()), ..spec() };
    for url in ["https://a.example/1", "https://a.example/2", "https://b.example/1"] {
        let spec = named(url);
        let tasks = plan::opening(&spec, true);
        fixture.job_of(project, 50, spec, tasks).await;
    }
    steward.fan_out().await;
    // Read again from the start, as if the cursor had been lost.
    fixture.execute("update fan_out set xid = '0', id = 0").await;
    steward.fan_out().await;

    let kinds = |log: Vec<Delivery>| log.into_iter().map(|delivery| delivery.kind).collect::<Vec<_>>();
    let queued = "job.queued";
    assert_eq!(
        kinds(steward.log(all).await),
        ["recording.playable", "recording.ready", queued, queued, queued],
        "what was before it was made is not told"
    );
    assert_eq!(kinds(steward.log(ends).await), ["recording.ready"]);
    assert!(steward.log(other).await.is_empty() && steward.log(off).await.is_empty());
    let urls: Vec<_> = steward.log(callbacks).await.into_iter().filter_map(|delivery| delivery.url).collect();
    assert_eq!(urls, ["https://a.example/1", "https://a.example/2", "https://b.example/1"]);
    assert_eq!(
        fixture
            .count(&format!("select count(distinct lane) from deliveries where webhook_id = '{callbacks}'"))
            .await,
        2,
        "one for each server"
    );

    // A leader that was overtaken turns nothing into deliveries.
    fixture.execute("update leaders set epoch = epoch + 1").await;
    steward.event(EventType::RecordingReady, recording).await;
    let overtaken = until("the horizon to pass", WAIT, || async {
        fan_out::advance(&fixture.db, &steward.leadership).await.err()
    })
    .await;
    assert!(matches!(overtaken, DbError::NotLeader));
    steward.fixture.done().await;
}

#[tokio::test]
async fn a_delivery_has_one_sender_and_outlives_it() {
    let steward = Steward::new().await;
    let webhook = steward.webhook(steward.project, &[]).await;
    for _ in 0..40 {
        steward.event(EventType::RecordingReady, Uuid::now_v7()).await;
    }
    steward.fan_out().await;
    let wanted = Wanted { doubtful: false, limit: 40, per_receiver: 40, lease: LEASE };
    let claims = (0..12).map(|_| deliveries::claim(&steward.fixture.db, wanted));
    let claimed: Vec<Claimed> =
        futures::future::join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
    let distinct: HashSet<_> = claimed.iter().map(|claimed| claimed.id).collect();
    assert_eq!((claimed.len(), distinct.len()), (40, 40));
    let [first, second, ..] = claimed.as_slice() else { panic!() };

    // A sender that died: another one sends the same event, and the first one's word counts no more.
    steward.fixture.execute("update deliveries set leased_until = now() - interval '1 second'").await;
    let again = deliveries::claim(&steward.fixture.db, wanted).await.unwrap();
    assert_eq!(again.len(), 40);
    let repeated = again.iter().find(|claimed| claimed.id == first.id).unwrap();
    assert_eq!((repeated.event_id, &repeated.body, repeated.attempts), (first.event_id, &first.body, 2));
    assert!(!steward.succeed(first).await && !steward.fail(second, Failed::Dead).await);
    assert!(steward.succeed(repeated).await);
    // What has ended stays as it ended.
    assert!(!steward.succeed(repeated).await && !steward.fail(repeated, SOON).await);
    let log = steward.log(webhook).await;
    let delivered = log.iter().filter(|delivery| delivery.state == DeliveryState::Delivered);
    assert_eq!(delivered.map(|delivery| delivery.id).collect::<Vec<_>>(), [first.id]);
    steward.fixture.done().await;
}

#[tokio::test]
async fn what_is_about_one_recording_comes_in_order_until_one_has_failed_too_often() {
    let steward = Steward::new().await;
    let webhook = steward.webhook(steward.project, &[]).await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    for kind in [EventType::JobQueued, EventType::JobStarted, EventType::JobSucceeded] {
        steward.event(kind, one).await;
    }
    steward.event(EventType::JobQueued, two).await;
    steward.fan_out().await;
    let of = |claimed: &[Claimed], log: &[Delivery]| -> Vec<String> {
        let kind =
            |claimed: &Claimed| log.iter().find(|delivery| delivery.id == claimed.id).unwrap().kind.clone();
        let mut kinds: Vec<String> = claimed.iter().map(kind).collect();
        kinds.sort();
        kinds
    };
    let log = steward.log(webhook).await;
    let first = steward.claim(false).await;
    assert_eq!(of(&first, &log), ["job.queued", "job.queued"], "the first of each recording");
    assert!(steward.claim(false).await.is_empty());
    let head = first.iter().find(|claimed| claimed.event_id == log[0].event_id).unwrap();
    let apart = first.iter().find(|claimed| claimed.event_id == log[3].event_id).unwrap();
    assert!(steward.succeed(apart).await);
    assert!(steward.fail(head, LATER).await);
    // What happens now waits as long as what it follows.
    steward.event(EventType::RecordingReady, one).await;
    steward.fan_out().await;
    let waits = "select count(*) from deliveries where state = 'pending' and next_attempt_at > now() + interval '4 minutes'";
    assert_eq!(steward.fixture.count(waits).await, 4);

    // It has failed, so the endpoint is doubtful, and gets one at a time.
    for attempt in 2..=HOLDS {
        assert!(steward.claim(false).await.is_empty());
        steward.fixture.execute("update deliveries set next_attempt_at = now()").await;
        let again = steward.claim(true).await;
        assert_eq!(of(&again, &log), ["job.queued"]);
        assert_eq!(again[0].attempts, attempt);
        steward.fail(&again[0], LATER).await;
    }
    // Now the others go first, in their order.
    steward.fixture.execute("update deliveries set next_attempt_at = now() where attempts = 0").await;
    for kind in ["job.started", "job.succeeded", "recording.ready"] {
        let next = steward.claim(true).await;
        let next = if next.is_empty() { steward.claim(false).await } else { next };
        assert_eq!(of(&next, &steward.log(webhook).await), [kind]);
        assert!(steward.succeed(&next[0]).await);
    }
    steward.fixture.done().await;
}

#[tokio::test]
async fn a_receiver_takes_no_more_than_its_share() {
    let steward = Steward::new().await;
    let busy = steward.webhook(steward.project, &[EventType::JobQueued]).await;
    let quiet = steward.webhook(steward.project, &[EventType::JobFailed]).await;
    for _ in 0..300 {
        steward.event(EventType::JobQueued, Uuid::now_v7()).await;
    }
    steward.event(EventType::JobFailed, Uuid::now_v7()).await;
    steward.fan_out().await;
    // Though hundreds are older, the other one is among the first two.
    let wanted = Wanted { doubtful: false, limit: 2, per_receiver: 4, lease: LEASE };
    let claimed = deliveries::claim(&steward.fixture.db, wanted).await.unwrap();
    let to: HashSet<_> = claimed.iter().map(|claimed| claimed.webhook_id).collect();
    assert_eq!(to, HashSet::from([busy, quiet]));
    let more = steward.claim(false).await;
    assert_eq!(more.len(), 3, "four at a time, one of which is under way");
    // One that failed has one at a time, and none of the places of those that work.
    let failed = claimed.iter().find(|claimed| claimed.webhook_id == busy).unwrap();
    steward.fail(failed, LATER).await;
    for claimed in &more {
        assert!(steward.succeed(claimed).await);
    }
    assert_eq!(steward.claim(false).await.len(), 4, "it works again");
    steward.fixture.done().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_hopeless_is_left_alone_and_its_owner_told() {
    let steward = Steward::new().await;
    let (fixture, project) = (&steward.fixture, steward.project);
    let gone = steward.webhook(project, &[EventType::JobQueued]).await;
    let hopeless = steward.webhook(project, &[EventType::JobQueued]).await;
    let told = steward.webhook(project, &[EventType::WebhookDisabled]).await;
    for _ in 0..3 {
        steward.event(EventType::JobQueued, Uuid::now_v7()).await;
    }
    steward.fan_out().await;
    let claimed = steward.claim(false).await;
    let to = |id| claimed.iter().find(|claimed| claimed.webhook_id == id).unwrap();
    assert!(steward.fail(to(gone), Failed::Gone).await);
    let quiet = Failed::Again { wait: Duration::ZERO, quiet: Duration::from_secs(60) };
    assert!(steward.fail(to(hopeless), quiet).await);
    for left in claimed.iter().filter(|claimed| ![to(gone).id, to(hopeless).id].contains(&claimed.id)) {
        let ours = steward.fail(left, SOON).await;
        assert_eq!(ours, left.webhook_id == hopeless, "what was on its way to the other is dead");
    }
    assert!(steward.claim(true).await.is_empty(), "the receiver asked to be left alone for a minute");
    fixture.execute("update webhooks set quiet_until = now()").await;
    let again = steward.claim(true).await;
    assert_eq!(again.len(), 1);
    fixture
        .execute("update webhooks set failing_since = failing_since - interval '119 hours' where disabled_at is null")
        .await;
    steward.fail(&again[0], SOON).await;
    assert!(webhooks::get(&fixture.db, project, hopeless).await.unwrap().unwrap().disabled_at.is_none());
    fixture
        .execute(
            "update webhooks set failing_since = failing_since - interval '1 hour' where disabled_at is null",
        )
        .await;
    steward.fail(&steward.claim(true).await[0], SOON).await;

    for (id, reason) in
        [(gone, "its receiver answered 410 Gone"), (hopeless, "every attempt has failed for 5 days")]
    {
        let webhook = webhooks::get(&fixture.db, project, id).await.unwrap().unwrap();
        assert_eq!(webhook.disabled_reason.as_deref(), Some(reason));
        let log = steward.log(id).await;
        assert!(
            log.len() == 3 && log.iter().all(|delivery| delivery.state == DeliveryState::Dead),
            "{log:?}"
        );
    }
    steward.event(EventType::JobQueued, Uuid::now_v7()).await;
    steward.fan_out().await;
    assert_eq!(steward.log(gone).await.len(), 3);
    let log = steward.log(told).await;
    assert!(log.len() == 2 && log.iter().all(|delivery| delivery.kind == "webhook.disabled"), "{log:?}");
    steward.fixture.done().await;
}

#[tokio::test]
async fn what_was_missed_can_be_replayed_and_nothing_is_doubled() {
    let steward = Steward::new().await;
    let (fixture, project) = (&steward.fixture, steward.project);
    let webhook = steward.webhook(project, &[EventType::JobQueued]).await;
    steward.event(EventType::JobQueued, Uuid::now_v7()).await;
    steward.fan_out().await;
    let claimed = steward.claim(false).await.remove(0);
    let replay = |id| deliveries::replay(&fixture.db, project, id);
    assert_eq!(replay(claimed.id).await.unwrap().unwrap_err(), Replayed::Pending);
    assert!(steward.succeed(&claimed).await);
    let second = replay(claimed.id).await.unwrap().unwrap();
    assert!(second.replay && second.event_id == claimed.event_id && second.id != claimed.id);
    assert_eq!(replay(claimed.id).await.unwrap().unwrap_err(), Replayed::Pending);
    assert_eq!(replay(DeliveryId::new()).await.unwrap().unwrap_err(), Replayed::NotFound);
    let other = fixture.project("other").await;
    assert_eq!(
        deliveries::replay(&fixture.db, other, claimed.id).await.unwrap().unwrap_err(),
        Replayed::NotFound
    );

    let enable = |enabled| async move {
        let change = Change { enabled: Some(enabled), ..Change::default() };
        webhooks::update(&fixture.db, project, webhook, &change).await.unwrap().unwrap()
    };
    enable(false).await;
    assert_eq!(replay(claimed.id).await.unwrap().unwrap_err(), Replayed::Disabled);
    steward.event(EventType::JobQueued, Uuid::now_v7()).await;
    steward.event(EventType::JobFailed, Uuid::now_v7()).await;
    steward.fan_out().await;
    let day = TimeDelta::days(1);
    let span = |types: &[EventType]| Span {
        project,
        from: Utc::now() - day,
        to: Utc::now() + day,
        types: types.to_vec(),
    };
    let again = |span| async move { fan_out::replay_span(&fixture.db, webhook, &span).await.unwrap() };
    assert_eq!(again(span(&[])).await, Replayed::Disabled);
    enable(true).await;
    assert_eq!(again(span(&[])).await, Replayed::Now(2), "what it wants, and what it missed among it");
    assert_eq!(again(span(&[])).await, Replayed::Now(0), "they are on their way");
    assert_eq!(again(span(&[EventType::JobFailed])).await, Replayed::Now(1), "what was named, wanted or not");
    assert_eq!(again(Span { to: Utc::now() - day / 2, ..span(&[]) }).await, Replayed::Now(0));
    assert_eq!(again(Span { project: other, ..span(&[]) }).await, Replayed::NotFound);
    assert!(events::end(&fixture.db).await.unwrap() > Position::default());
    steward.fixture.done().await;
}
