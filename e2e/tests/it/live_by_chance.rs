//! One broadcast through faults by a schedule that a seed decides: `REELMILL_SOAK_SEED`, for `REELMILL_SOAK_SECONDS`.
//! `scripts/soak live` does it for hours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use reelmill_testkit::Farm;
use reelmill_testkit::farm::Part;
use reelmill_testkit::wait::until;
use serde_json::json;

use crate::faults::processes::children;
use crate::faults::random::{Chance, setting};
use crate::live::{Checker, Publisher, becomes, farm, footage, livestream, numbers, playlist, watch};
use crate::support::text;

/// As long as this runs where nobody says otherwise.
const SECONDS: u64 = 60;
/// A fault is over, and viewers have something new, within this.
const MENDS: Duration = Duration::from_secs(90);
/// The last fault lies so long before the checker's end, that it sees what comes of it.
const QUIET: Duration = Duration::from_secs(10);
const RUNG: &str = "240p";

/// Who publishes, and to which worker.
struct OnAir {
    publisher: Publisher,
    worker: String,
}

fn workers(farm: &Farm) -> Vec<String> {
    let workers = farm.processes.iter().filter(|process| process.part == Part::Worker);
    workers.map(|process| process.name.clone()).collect()
}

fn publish(farm: &Farm, worker: &str, key: &str) -> OnAir {
    let place = workers(farm).iter().position(|name| name == worker).unwrap();
    OnAir { publisher: Publisher::start(farm, place, key, &footage(farm)), worker: worker.to_owned() }
}

/// Kills a process, and starts another in its place.
async fn replace(farm: &mut Farm, victim: &str) {
    let part = farm.process(victim).part;
    farm.process(victim).signal(Signal::SIGKILL);
    farm.process(victim).ended(MENDS).await;
    farm.processes.retain(|process| process.name != victim);
    farm.add(part).await;
    farm.ready().await;
}

/// One thing that breaks, and what it was. Somebody publishes when it is over.
async fn break_something(
    farm: &mut Farm,
    chance: &mut Chance,
    key: &str,
    on_air: OnAir,
) -> (OnAir, &'static str) {
    let OnAir { publisher, worker } = on_air;
    let other = |farm: &Farm| workers(farm).into_iter().find(|name| *name != worker).unwrap();
    match chance.below(6) {
        0 => {
            publisher.kill().await;
            (publish(farm, &worker, key), "publisher killed")
        }
        1 => {
            publisher.kill().await;
            let other = other(farm);
            (publish(farm, &other, key), "publisher moved")
        }
        2 => {
            let worker = if chance.below(2) == 0 { worker.clone() } else { other(farm) };
            let next = publish(farm, &worker, key);
            // The one before is sent away.
            publisher.ended().await;
            (next, "taken over")
        }
        3 => {
            farm.process(&worker).signal(Signal::SIGKILL);
            publisher.kill().await;
            let other = other(farm);
            let next = publish(farm, &other, key);
            replace(farm, &worker).await;
            (next, "worker killed")
        }
        4 => {
            for child in children(farm.process(&worker).pid()) {
                let _ = kill(child, Signal::SIGKILL);
            }
            publisher.ended().await;
            (publish(farm, &worker, key), "its FFmpeg killed")
        }
        _ => {
            let part = [Part::Api, Part::Scheduler][chance.below(2)];
            // The first api is the one that is watched.
            let of_part = farm.processes.iter().filter(|process| process.part == part);
            let victim = of_part.last().unwrap().name.clone();
            replace(farm, &victim).await;
            (OnAir { publisher, worker }, if part == Part::Api { "api killed" } else { "scheduler killed" })
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: scripts/soak live"]
async fn live_by_chance_viewers_go_on_and_nothing_is_hidden() {
    let seconds = setting("REELMILL_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = setting("REELMILL_SOAK_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
    println!("seed {seed}: REELMILL_SOAK_SEED={seed} gives the same schedule of faults");
    let mut chance = Chance(seed);
    let mut farm = farm().processes(2, 2, 1).start().await;
    let stream = livestream(&farm, json!({ "dvr_enabled": true, "dvr_window": 600 })).await;
    let (id, key) = (text(&stream, "id").to_owned(), text(&stream, "stream_key").to_owned());
    let master = watch(&farm, &id).await;
    let first = workers(&farm)[0].clone();
    let mut on_air = publish(&farm, &first, &key);
    becomes(&farm, &id, "live").await;
    let newest = async || numbers(&playlist(&master, RUNG).await).last().copied().unwrap_or(0);
    until("segments", MENDS, || async { (newest().await >= 2).then_some(()) }).await;

    let checker = Checker::start(&master, seconds);
    let started = Instant::now();
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    while started.elapsed() + QUIET < Duration::from_secs(seconds) {
        let at = newest().await;
        let what;
        (on_air, what) = break_something(&mut farm, &mut chance, &key, on_air).await;
        *told.entry(what).or_default() += 1;
        println!("{:6.1} s: {what}, at segment {at}", started.elapsed().as_secs_f64());
        until(&format!("more after: {what}"), MENDS, || async { (newest().await >= at + 3).then_some(()) })
            .await;
    }
    println!("{told:?}");
    checker.finds_nothing().await;

    // All of it was one broadcast, and its recording has whatever was published.
    on_air.publisher.kill().await;
    let live = playlist(&master, RUNG).await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    let recordings = until("the books to be closed", MENDS, || async {
        let list = farm.client.get(&format!("/livestreams/{id}/recordings")).await;
        (list["recordings"][0]["status"] == "available").then_some(list)
    })
    .await;
    let [recording] = &recordings["recordings"].as_array().unwrap()[..] else { panic!("{recordings}") };
    let whole = master.replace("master.m3u8", &format!("recordings/{}/master.m3u8", text(recording, "id")));
    for track in ["360p", RUNG, "audio"] {
        let list = playlist(&whole, track).await;
        let all = numbers(&list);
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{track}: {list}");
        let gaps = gaps(&list);
        for number in all.iter().filter(|number| !gaps.contains(number)) {
            let url = whole.replace("master.m3u8", &format!("{track}-{number}.m4s"));
            let status = reqwest::get(&url).await.unwrap().status();
            assert!(status.is_success(), "{track}-{number} is listed, and cannot be had: {status}");
        }
        println!("{track}: {} segments, {} gaps", all.len(), gaps.len());
    }
    // What viewers were shown of it is in it.
    let kept = playlist(&whole, RUNG).await;
    let lost: Vec<u64> = numbers(&live)
        .into_iter()
        .filter(|it| !gaps(&live).contains(it) && gaps(&kept).contains(it))
        .collect();
    assert!(lost.is_empty(), "{lost:?} were listed as there, and then were not");
    farm.stop().await;
}

/// The numbers of the segments that are marked as gaps.
fn gaps(playlist: &str) -> Vec<u64> {
    playlist.split("#EXT-X-GAP\n").skip(1).filter_map(|rest| numbers(rest).first().copied()).collect()
}
