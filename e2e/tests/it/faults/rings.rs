//! The broker says too much, nonsense, or nothing.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use reelmill_testkit::broker::TestBroker;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::json;

use super::checker::{Checker, Ends};
use super::processes::PATIENCE;
use crate::support::text;

/// Each of a farm's rings so many times.
const TIMES: usize = 100;

/// A connection to the broker of a farm, and a channel of it.
async fn connect(farm: &Farm) -> (Connection, Channel) {
    let url = farm.setting("REELMILL_AMQP_URL").expect("a broker: run this by scripts/with-services");
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Rings a hundred times over, in any order, for tasks long over and for none, and what is no ring at all: everything is done once.
#[tokio::test]
async fn faults_rings_without_number_and_nonsense_start_nothing_twice() {
    let farm = Farm::builder().processes(1, 2, 1).set("REELMILL_WORKER_SLOTS", 2).start().await;
    let mut checker = Checker::watch(&farm).await;
    let (_connection, channel) = connect(&farm).await;
    let prefix = farm.setting("REELMILL_AMQP_PREFIX").unwrap().to_owned();
    let queues = ["base", "libx264"].map(|bell| format!("{prefix}.work.cpu.{bell}"));
    let upload = farm.client.upload(&media::clip(farm.dir.path(), 3, "320x180")).await;
    let mut tasks = vec![];
    let mut published = 0;
    for n in 0..6 {
        let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast", "force": true });
        let job = farm.client.post("/jobs", &body).await;
        let id = text(&job, "id").to_owned();
        checker.expect(&id, Ends::Well);
        tasks.push((id.clone(), text(&job["tasks"][0], "id").to_owned()));
        // Those of earlier jobs, which may be over, among them, the oldest last.
        for (job, task) in tasks.iter().rev() {
            let ring = json!({ "pool": "cpu", "class": "base", "job_id": job, "task_id": task }).to_string();
            let nowhere =
                json!({ "pool": "cpu", "class": "libx264", "job_id": uuid::Uuid::new_v4() }).to_string();
            let garbage: [&[u8]; 5] =
                [b"", b"\xff\xfe\x00", b"{", b"{\"pool\":\"moon\",\"class\":\"base\"}", &[b'['; 9000]];
            for time in 0..TIMES {
                for body in [ring.as_bytes(), nowhere.as_bytes(), garbage[(n + time) % garbage.len()]] {
                    let queue = queues[published % queues.len()].as_str();
                    let properties = BasicProperties::default();
                    let options = BasicPublishOptions::default();
                    channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
                    published += 1;
                }
            }
        }
    }
    checker.settle(&farm.client, PATIENCE).await;
    // All of them were heard, and nothing came of it.
    until("the queues to be empty", PATIENCE, || async {
        let mut left = 0;
        for queue in &queues {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            left += channel
                .queue_declare(queue.as_str().into(), passive, FieldTable::default())
                .await
                .unwrap()
                .message_count();
        }
        (left == 0).then_some(())
    })
    .await;
    let counts = checker.verify(&farm).await;
    println!("{published} rings, {counts:?}");
    assert_eq!((counts.lost, counts.released), (0, 0));
    let db = farm.database.connect().await;
    let idle: i64 = db
        .query_one("select count(*) from attempts where attempt > 1 or outcome <> 'succeeded'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(idle, 0, "attempts that nobody needed");
    farm.stop().await;
}

/// The broker's memory alarm: it takes nothing from anybody, and says nothing. Jobs are accepted and done as if it were not there.
#[tokio::test]
async fn faults_a_broker_out_of_memory_costs_the_time_of_a_look() {
    let mut broker = TestBroker::start().await;
    let farm = Farm::builder()
        .processes(1, 2, 1)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_AMQP_URL", &broker.url)
        .start()
        .await;
    let mut checker = Checker::watch(&farm).await;
    let upload = farm.client.upload(&media::clip(farm.dir.path(), 2, "320x180")).await;
    let submit = async || {
        let body = json!({ "kind": "transcode", "input": { "upload_id": upload }, "profile": "fast", "force": true });
        text(&farm.client.post("/jobs", &body).await, "id").to_owned()
    };
    let before = submit().await;
    checker.expect(&before, Ends::Well);
    farm.client.wait_for(&before).await;
    broker.alarm(true).await;
    let (connection, channel) = connect(&farm).await;
    until("the broker to take nothing", PATIENCE, || async {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        // Waits for ever once the broker has said that it is blocked.
        let publishing = channel.basic_publish("".into(), "nobody".into(), options, b"?", properties);
        let _ = tokio::time::timeout(Duration::from_millis(200), publishing).await;
        connection.status().blocked().then_some(())
    })
    .await;
    for _ in 0..4 {
        let job = submit().await;
        checker.expect(&job, Ends::Well);
        farm.client.wait_for(&job).await;
    }
    assert!(connection.status().blocked(), "the alarm stood all the time");
    let db = farm.database.connect().await;
    // A look every second, give or take half; all else is this machine.
    let slow = "select max(extract(epoch from a.started_at - t.created_at))::float8
                from tasks t join attempts a on a.task_id = t.id where t.kind = 'probe'";
    let slowest: f64 = db.query_one(slow, &[]).await.unwrap().get(0);
    println!("the slowest waited {slowest:.2} s to be begun");
    assert!(slowest < 1.5 + 2.5, "{slowest} s");
    broker.alarm(false).await;
    until("the broker to take messages again", PATIENCE, || async {
        (!connection.status().blocked()).then_some(())
    })
    .await;
    let after = submit().await;
    checker.expect(&after, Ends::Well);
    checker.settle(&farm.client, PATIENCE).await;
    checker.verify(&farm).await;
    farm.stop().await;
    broker.stop().await;
}
