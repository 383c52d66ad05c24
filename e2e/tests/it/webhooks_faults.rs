//! Receivers that fail in every way: what they miss comes again, what they do to themselves nobody else feels.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, Farm};
use serde_json::{Value, json};

use crate::receiver::{Received, Receiver, Reply, is_signed};
use crate::support::text;
use crate::webhooks::{deliveries, webhook};

const WAIT: Duration = Duration::from_secs(90);

/// A job that waits for ever, is cancelled, and so has two events.
async fn cancelled_job(api: &Client) -> String {
    let job =
        api.post("/jobs", &json!({ "kind": "probe", "input": { "url": "https://media.invalid/a" } })).await;
    let id = text(&job, "id").to_owned();
    api.post_empty(format!("/jobs/{id}/cancel")).await;
    id
}

#[tokio::test]
async fn webhooks_faults() {
    let farm = Farm::builder()
        .processes(1, 0, 1)
        .set("REELMILL_NET_ALLOW", "127.0.0.1/32")
        .set("REELMILL_WEBHOOK_TIMEOUT_SECONDS", 2)
        .start()
        .await;
    let elsewhere = Receiver::start(|_, _| Reply::Status(200)).await;
    let target = elsewhere.url("/target");
    let receiver = Receiver::start(move |request, before| match (request.path.as_str(), before) {
        ("/flaky", 0) => Reply::Status(500),
        ("/gone", _) => Reply::Status(410),
        ("/hang", _) => Reply::Hang,
        ("/moved", _) => Reply::Redirect(target.clone()),
        ("/endless", _) => Reply::Endless,
        ("/later", 0) => Reply::RetryAfter(503, 8),
        _ => Reply::Status(200),
    })
    .await;
    let api = &farm.client;
    let mut hooks = vec![];
    for path in ["/hang", "/flaky", "/gone", "/moved", "/endless", "/later"] {
        hooks.push(webhook(api, &receiver.url(path), &["job.queued", "job.cancelled"]).await);
    }
    let [hang, flaky, gone, moved, endless, later] = hooks.as_slice() else { panic!() };
    let (fine, _) = webhook(api, &receiver.url("/fine"), &[]).await;
    let (closed, _) = webhook(api, &receiver.url("/closed"), &["job.queued"]).await;
    // As if its name stood for another address by now.
    let database = farm.database.connect().await;
    let sql = format!("update webhooks set url = 'http://10.0.0.1/' where id = '{closed}'");
    database.batch_execute(&sql).await.unwrap();

    let began = Instant::now();
    let job = cancelled_job(api).await;
    let told = receiver.wait("/fine", 2).await;
    assert!(began.elapsed() < Duration::from_secs(30), "others' receivers hang, not this one");
    // It hears of the webhook that is gone, too, sooner or later.
    let told: Vec<&Received> = told.iter().filter(|request| request.kind().starts_with("job.")).collect();
    assert_eq!(
        told.iter().map(|request| request.kind()).collect::<Vec<_>>(),
        ["job.queued", "job.cancelled"]
    );

    in_order_after_a_failure(&receiver, flaky).await;
    what_is_gone_is_left_alone(api, &receiver, &gone.0, &fine).await;
    let failed = failed_once(api, &hang.0).await;
    assert!(text(&failed, "error").contains("waited 2s"), "{failed}");
    assert!(failed["duration_ms"].as_u64().unwrap() < 8_000, "{failed}");
    let failed = failed_once(api, &moved.0).await;
    assert!(
        text(&failed, "error").contains("redirects are not followed") && failed["status"] == 307,
        "{failed}"
    );
    assert!(elsewhere.at("/target").is_empty());
    let dead = until("the refusal", WAIT, || async {
        deliveries(api, &closed).await.into_iter().find(|delivery| delivery["state"] == "dead")
    })
    .await;
    assert!(text(&dead, "error").contains("10.0.0.1 is not at a public address"), "{dead}");

    receiver.wait("/endless", 2).await;
    until("its report", WAIT, || async {
        let all = deliveries(api, &endless.0).await;
        all.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;
    let poured = receiver.poured.load(Ordering::SeqCst);
    assert!(poured < 64 << 20, "{poured} bytes of an answer were taken");

    let waited = receiver.wait("/later", 3).await;
    let pause = waited[1].at - waited[0].at;
    assert!(pause >= Duration::from_secs(8), "asked to wait 8 s, came after {pause:?}");
    assert_eq!(waited[0].id(), waited[1].id());
    is_signed(&later.1, &waited);
    assert!(told.iter().all(|request| request.json()["data"]["job_id"] == job.as_str()));
    farm.stop().await;
}

/// The first one failed: the second one waits for it.
async fn in_order_after_a_failure(receiver: &Receiver, (_, secret): &(String, String)) {
    let sent = receiver.wait("/flaky", 3).await;
    let kinds: Vec<String> = sent.iter().map(Received::kind).collect();
    assert_eq!(kinds, ["job.queued", "job.queued", "job.cancelled"]);
    assert_eq!((sent[0].id(), &sent[0].body), (sent[1].id(), &sent[1].body));
    let pause = sent[1].at - sent[0].at;
    assert!(pause >= Duration::from_secs(4), "tried again after {pause:?}");
    is_signed(secret, &sent);
}

async fn what_is_gone_is_left_alone(api: &Client, receiver: &Receiver, gone: &str, fine: &str) {
    let told = until("the notice", WAIT, || async {
        let all = receiver.at("/fine");
        all.into_iter().find(|request| request.kind() == "webhook.disabled" && request.body.contains(gone))
    })
    .await;
    assert_eq!(told.json()["data"]["webhook_id"], gone);
    let webhook = api.get(&format!("/webhooks/{gone}")).await;
    assert_eq!(
        (&webhook["enabled"], text(&webhook, "disabled_reason")),
        (&json!(false), "its receiver answered 410 Gone")
    );
    let all = deliveries(api, gone).await;
    assert!(all.iter().all(|delivery| delivery["state"] == "dead"), "{all:?}");
    assert_eq!(receiver.at("/gone").len(), 1);
    assert!(api.get(&format!("/webhooks/{fine}")).await["failing_since"].is_null());
}

/// A delivery of a webhook that has failed and will be tried again.
async fn failed_once(api: &Client, id: &str) -> Value {
    until("a failed attempt", WAIT, || async {
        let all = deliveries(api, id).await;
        all.into_iter().find(|delivery| {
            delivery["state"] == "pending"
                && delivery["error"].is_string()
                && delivery["next_attempt_at"].is_string()
        })
    })
    .await
}

/// Killed while a receiver has the message but has not answered: it comes again, with the same id.
#[tokio::test]
async fn webhooks_sender_killed() {
    let mut farm = Farm::builder()
        .processes(1, 0, 1)
        .set("REELMILL_NET_ALLOW", "127.0.0.1/32")
        .set("REELMILL_WEBHOOK_TIMEOUT_SECONDS", 4)
        .start()
        .await;
    let receiver =
        Receiver::start(|_, before| if before == 0 { Reply::Hang } else { Reply::Status(200) }).await;
    let (id, secret) = webhook(&farm.client, &receiver.url("/hook"), &["job.queued", "job.cancelled"]).await;
    cancelled_job(&farm.client).await;
    receiver.wait("/hook", 1).await;
    let scheduler = farm.processes.iter_mut().find(|process| process.part == Part::Scheduler).unwrap();
    scheduler.signal(Signal::SIGKILL);
    scheduler.ended(WAIT).await;
    farm.processes.retain(|process| process.part != Part::Scheduler);
    // What happens while nobody sends is sent by the next one, after what was under way.
    cancelled_job(&farm.client).await;
    farm.add(Part::Scheduler).await;
    farm.ready().await;
    let sent = receiver.wait("/hook", 5).await;
    is_signed(&secret, &sent);
    let first: Vec<&Received> = sent.iter().filter(|request| request.id() == sent[0].id()).collect();
    assert_eq!(first.len(), 2, "the same event");
    assert_eq!(first[0].body, first[1].body);
    let listed = until("all reports", WAIT, || async {
        let all = deliveries(&farm.client, &id).await;
        all.iter().all(|delivery| delivery["state"] == "delivered").then_some(all)
    })
    .await;
    let attempts: Vec<i64> = listed.iter().map(|delivery| delivery["attempts"].as_i64().unwrap()).collect();
    assert_eq!(attempts, [2, 1, 1, 1]);
    farm.stop().await;
}
