//! A publisher that takes over at another worker, while the one before is on air.

use std::time::Duration;

use reelmill_testkit::wait::until;
use serde_json::json;

use crate::live::{Checker, Publisher, becomes, farm, footage, livestream, numbers, playlist, watch};
use crate::support::text;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn live_nothing_is_lost_when_another_worker_takes_over() {
    let farm = farm().processes(1, 2, 1).start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let master = watch(&farm, id).await;
    let first = Publisher::start(&farm, 0, key, &footage(&farm));
    becomes(&farm, id, "live").await;
    let newest = async |what: &str, number: u64| {
        until(what, PATIENCE, || async {
            let list = playlist(&master, "240p").await;
            (numbers(&list).last() >= Some(&number)).then_some(list)
        })
        .await
    };
    newest("segments", 2).await;
    let checker = Checker::start(&master, 18);
    newest("more segments", 4).await;
    let second = Publisher::start(&farm, 1, key, &footage(&farm));
    first.ended().await;
    let list = until("segments of the other", PATIENCE, || async {
        let list = playlist(&master, "240p").await;
        let behind = list.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
        (numbers(behind).len() >= 4).then(|| list.clone())
    })
    .await;
    assert!(!list.contains("#EXT-X-GAP"), "nothing was lost: {list}");
    let all = numbers(&list);
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{list}");

    checker.finds_nothing().await;
    second.kill().await;
    farm.stop().await;
}
