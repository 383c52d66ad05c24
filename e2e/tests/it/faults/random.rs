//! Everything at once, by a schedule that a seed decides: `REELMILL_SOAK_SEED`, for `REELMILL_SOAK_SECONDS`. `scripts/soak` does it for hours.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use reelmill_testkit::farm::Part;
use reelmill_testkit::relay::Mode;
use reelmill_testkit::s3::Trouble;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use reqwest::Method;
use serde_json::{Value, json};

use super::checker::{CALLBACK, Checker, ENDPOINT, Ends};
use super::processes::children;
use crate::receiver::{Receiver, Reply};
use crate::support::text;
use crate::webhooks::webhook;

/// As long as this runs where nobody says otherwise.
const SECONDS: u64 = 60;
/// Jobs that are under way at once, about.
const AT_ONCE: usize = 6;
/// With everything mended, all that was accepted is over after this.
const SETTLES: Duration = Duration::from_secs(240);

/// Numbers from a seed (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014: SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Inputs of which something is made, and one that is none; and whom half of the jobs name to be told.
struct Inputs {
    good: Vec<String>,
    bad: String,
    callback: String,
}

async fn inputs(farm: &Farm, receiver: &Receiver) -> Inputs {
    let mut good = vec![];
    for (seconds, size) in [(2, "320x180"), (5, "320x180"), (9, "640x360")] {
        good.push(farm.client.upload(&media::clip(farm.dir.path(), seconds, size)).await);
    }
    if let Some(footage) = media::footage() {
        good.push(farm.client.upload(&footage.join("cars-432p12.5-h264-aac.mp4")).await);
    }
    let bad = farm.dir.path().join("bad.mp4");
    std::fs::write(&bad, "this is no video at all").unwrap();
    Inputs { good, bad: farm.client.upload(&bad).await, callback: receiver.url(CALLBACK) }
}

/// Submits until the farm answers; the key makes that one job.
async fn submit(
    farm: &Farm,
    chance: &mut Chance,
    inputs: &Inputs,
    number: usize,
    checker: &mut Checker,
) -> Option<String> {
    let is_bad = chance.below(12) == 0;
    let upload = if is_bad { &inputs.bad } else { &inputs.good[chance.below(inputs.good.len())] };
    let rung = json!({ "name": "only", "width": 320, "height": 180, "crf": 30, "max_bitrate": 400_000 });
    let body = json!({
        "kind": "transcode", "input": { "upload_id": upload }, "priority": chance.below(101), "force": true,
        "callback_url": number.is_multiple_of(2).then_some(&inputs.callback),
        "profile": { "preset": "veryfast", "segment_duration": 2, "rungs": [rung], "audio": { "bitrate": 64_000 } },
    });
    let apis = farm.processes.iter().filter(|process| process.part == Part::Api).count();
    let started = Instant::now();
    while started.elapsed() < SETTLES {
        let client = farm.api(chance.below(apis));
        let key = format!("job-{number}");
        let request = client.request(Method::POST, "/api/v1/jobs").header("idempotency-key", key).json(&body);
        let answer = tokio::time::timeout(Duration::from_secs(20), request.send()).await;
        let Ok(Ok(response)) = answer else { continue };
        if response.status().is_success()
            && let Ok(job) = response.json::<Value>().await
        {
            let id = text(&job, "id").to_owned();
            checker.expect(&id, if is_bad { Ends::Badly } else { Ends::Survives });
            return Some(id);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// One thing that breaks, and what it was.
async fn break_something(farm: &mut Farm, chance: &mut Chance) -> &'static str {
    let of = |farm: &Farm, part: Part| -> Vec<String> {
        farm.processes
            .iter()
            .filter(|process| process.part == part)
            .map(|process| process.name.clone())
            .collect()
    };
    let pick = |chance: &mut Chance, names: Vec<String>| names[chance.below(names.len())].clone();
    match chance.below(12) {
        0..=2 => {
            let (part, what) = [
                (Part::Worker, "worker killed"),
                (Part::Scheduler, "scheduler killed"),
                (Part::Api, "api killed"),
            ][chance.below(3)];
            let victim = pick(chance, of(farm, part));
            farm.process(&victim).signal(Signal::SIGKILL);
            farm.process(&victim).ended(Duration::from_secs(10)).await;
            farm.processes.retain(|process| process.name != victim);
            farm.add(part).await;
            farm.ready().await;
            what
        }
        3 => {
            let victim = pick(chance, of(farm, Part::Worker));
            farm.process(&victim).signal(Signal::SIGTERM);
            farm.process(&victim).ended(Duration::from_secs(60)).await;
            farm.processes.retain(|process| process.name != victim);
            farm.add(Part::Worker).await;
            farm.ready().await;
            "worker told to end"
        }
        4 | 5 => {
            let part = if chance.below(3) == 0 { Part::Scheduler } else { Part::Worker };
            let victim = pick(chance, of(farm, part));
            farm.process(&victim).signal(Signal::SIGSTOP);
            // Its lease runs out on the clock of the database, and somebody else has what it had.
            let db = farm.database.connect().await;
            let _ = db.execute("select pg_sleep(4 + random() * 3)", &[]).await;
            farm.process(&victim).signal(Signal::SIGCONT);
            if part == Part::Worker {
                "worker halted beyond its lease"
            } else {
                "scheduler halted beyond its lead"
            }
        }
        6 => {
            for worker in farm.processes.iter().filter(|process| process.part == Part::Worker) {
                for child in children(worker.pid()) {
                    let _ = kill(child, Signal::SIGKILL);
                }
            }
            "every FFmpeg killed"
        }
        7 => {
            farm.database.crash().await;
            "database killed"
        }
        8 => {
            farm.database.relay.as_ref().unwrap().lose_commits(1 + chance.below(3) as u32);
            "replies to commits lost"
        }
        9 => {
            let relay = farm.database.relay.as_ref().unwrap();
            relay.set(Mode::Refuse);
            relay.set(Mode::Through);
            "every session of the database ended"
        }
        10 => {
            let Some(broker) = &farm.broker else { return "no broker to break" };
            let mode = [Mode::Refuse, Mode::Hang, Mode::Through][chance.below(3)];
            broker.set(mode);
            match mode {
                Mode::Refuse => "broker gone",
                Mode::Hang => "broker hangs",
                Mode::Through => "broker back",
            }
        }
        _ => {
            let Some(store) = &farm.s3 else { return "no store to break" };
            let (trouble, what) = [
                (Some(Trouble::Error), "store answers 500"),
                (Some(Trouble::Slow), "store slow"),
                (Some(Trouble::Reset), "store breaks off"),
            ][chance.below(3)];
            let before = store.felt();
            store.set(trouble);
            // Felt now and then, not until no attempt is left.
            let started = Instant::now();
            until("the trouble to be felt", SETTLES, || async {
                (store.felt() > before + 1 || started.elapsed() > Duration::from_secs(2)).then_some(())
            })
            .await;
            store.set(None);
            what
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_by_chance_lose_nothing_and_do_nothing_twice() {
    let seconds = Duration::from_secs(setting("REELMILL_SOAK_SECONDS").unwrap_or(SECONDS));
    let seed = setting("REELMILL_SOAK_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
    println!("seed {seed}: REELMILL_SOAK_SEED={seed} gives the same schedule of faults");
    let mut chance = Chance(seed);
    let mut farm = Farm::builder()
        .breakable()
        .s3()
        .processes(2, 2, 2)
        .set("REELMILL_WORKER_SLOTS", 1)
        .set("REELMILL_CHUNK_SECONDS", 4)
        .set("REELMILL_LEASE_SECONDS", 3)
        .set("REELMILL_DRAIN_SECONDS", 1)
        .set("REELMILL_STALL_SECONDS", 5)
        .set("REELMILL_NET_ALLOW", "127.0.0.1/32")
        .start()
        .await;
    let mut checker = Checker::watch(&farm).await;
    // Refuses one in five.
    let receiver = Receiver::start(|_, before| Reply::Status(if before % 5 == 3 { 500 } else { 200 })).await;
    webhook(&farm.client, &receiver.url(ENDPOINT), &["job.succeeded", "job.failed", "job.cancelled"]).await;
    let inputs = inputs(&farm, &receiver).await;
    let started = Instant::now();
    let (mut submitted, mut told): (usize, std::collections::BTreeMap<&str, usize>) = (0, Default::default());
    while started.elapsed() < seconds {
        checker.reconnect(&farm).await;
        while checker.open().await < AT_ONCE {
            let accepted = submit(&farm, &mut chance, &inputs, submitted, &mut checker).await;
            assert!(accepted.is_some(), "the farm accepted nothing for {SETTLES:?}");
            submitted += 1;
        }
        let what = break_something(&mut farm, &mut chance).await;
        println!("{:7.1} s: {what}", started.elapsed().as_secs_f64());
        *told.entry(what).or_default() += 1;
    }
    // Everything is mended.
    if let Some(broker) = &farm.broker {
        broker.set(Mode::Through);
    }
    farm.database.relay.as_ref().unwrap().lose_commits(0);
    checker.reconnect(&farm).await;
    let mended = Instant::now();
    // The first one may have been killed.
    farm.client = farm.api(0);
    checker.settle(&farm.client, SETTLES).await;
    println!("all over {:.1} s after the last fault", mended.elapsed().as_secs_f64());
    let counts = checker.verify(&farm).await;
    checker.ends_are_delivered(&receiver).await;
    println!("faults: {told:?}");
    println!("{counts:?}");
    assert_eq!(counts.jobs, submitted);
    farm.stop().await;
}
