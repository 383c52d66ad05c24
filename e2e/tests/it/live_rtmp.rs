//! RTMP at the level of its chunks: what publishers and passers-by do that no well-known program does on request.

use std::path::Path;
use std::time::Duration;

use reelmill_testkit::farm::Part;
use reelmill_testkit::ffmpeg::ffmpeg_log;
use reelmill_testkit::wait::until;
use serde_json::json;
use tokio::net::TcpStream;

use crate::live::{PATIENCE, becomes, farm, footage, listed, livestream, numbers, rtmp, watch};
use crate::rtmp_peer::{Message, Peer, enhanced, messages};
use crate::support::{reelmill, text};

/// The same messages later.
fn later(messages: &[Message], by: u32) -> Vec<Message> {
    // What describes the tracks was said.
    let media = messages.iter().filter(|message| message.data.get(1) != Some(&0));
    media.map(|message| Message { at: message.at + by, ..message.clone() }).collect()
}

#[tokio::test]
async fn live_rtmp_chunks_may_be_interleaved_and_a_publisher_may_be_silent() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let media = messages(&footage(&farm), farm.dir.path());
    let mut peer = Peer::publish(&rtmp(&farm, 0), &format!("{key}?user=1&token=2")).await.unwrap();
    peer.interleaved(&media).await.unwrap();
    becomes(&farm, id, "live").await;
    let master = watch(&farm, id).await;
    let before = listed(&master, "240p", "segments", |text| {
        let all = numbers(text);
        (all.len() >= 2).then(|| *all.last().unwrap())
    })
    .await;
    // The silence is what is tested: longer than the two and a half seconds that other servers wait.
    tokio::time::sleep(Duration::from_secs(4)).await;
    peer.interleaved(&later(&media, 9000)).await.unwrap();
    let list = listed(&master, "240p", "what came after the silence", |text| {
        (numbers(text).last()? > &(before + 3)).then(|| text.to_owned())
    })
    .await;
    assert!(!list.contains("#EXT-X-DISCONTINUITY\n"), "it is the same run: {list}");
    // It goes without a word: nothing is unpublished.
    drop(peer);
    becomes(&farm, id, "reconnecting").await;
    farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
    farm.stop().await;
}

/// Hundredths of a second that a process has worked.
fn worked(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn live_rtmp_passers_by_cost_nothing_and_who_guesses_keys_is_shut_out() {
    let farm = farm().start().await;
    let stream = livestream(&farm, json!({})).await;
    let address = rtmp(&farm, 0);
    for _ in 0..60 {
        drop(TcpStream::connect(&address).await.unwrap());
    }
    let worker = farm.processes.iter().find(|process| process.part == Part::Worker).unwrap();
    let before = worked(worker.pid());
    // A loop that spins on a closed connection takes all of this second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let took = worked(worker.pid()) - before;
    assert!(took < 50, "{took} hundredths of a second");

    for _ in 0..10 {
        let refused = Peer::publish(&address, "live_wrong").await.err().unwrap();
        assert!(refused.contains("no stream with this key"), "{refused}");
    }
    let shut_out = Peer::publish(&address, text(&stream, "stream_key")).await.err().unwrap();
    assert!(!shut_out.contains("key"), "unheard: {shut_out}");
    let metrics =
        reqwest::get(format!("http://{}/metrics", worker.address)).await.unwrap().text().await.unwrap();
    for reason in ["reason=\"key\"} 10", "reason=\"rate\"} 1"] {
        assert!(metrics.contains(&format!("reelmill_live_refused_total{{{reason}")), "{metrics}");
    }
    farm.stop().await;
}

/// Five seconds of a picture in another codec, a frame a fragment.
fn coded(dir: &Path, encoder: &[&str]) -> std::path::PathBuf {
    let path = dir.join("coded.mp4");
    let source =
        ["-loglevel", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=5"];
    let output = ["-pix_fmt", "yuv420p", "-movflags", "frag_every_frame+empty_moov+default_base_moof"];
    let log = ffmpeg_log(&[&source[..], encoder, &output, &[path.to_str().unwrap()]].concat());
    assert!(path.exists(), "{log}");
    path
}

#[tokio::test]
async fn live_rtmp_enhanced_publishers_are_read_whatever_the_codec() {
    let farm = farm().start().await;
    let x265 = "bframes=0:keyint=25:log-level=error";
    let hevc = coded(
        farm.dir.path(),
        &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", x265, "-tag:v", "hvc1"],
    );
    let hevc = enhanced(&hevc, b"hvc1", b"hvcC", 40);
    let svt = "pred-struct=1:keyint=25";
    let av1 = coded(farm.dir.path(), &["-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", svt]);
    let av1 = enhanced(&av1, b"av01", b"av1C", 40);
    let sound: Vec<Message> =
        messages(&footage(&farm), farm.dir.path()).into_iter().filter(|message| message.sound).collect();
    for picture in [hevc, av1] {
        assert!(picture.len() > 120, "{}", picture.len());
        let stream = livestream(&farm, json!({})).await;
        let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
        let mut peer = Peer::publish(&rtmp(&farm, 0), key).await.unwrap();
        let mut media = [picture.clone(), sound.clone()].concat();
        media.sort_by_key(|message| message.at);
        peer.interleaved(&media).await.unwrap();
        let on_air = becomes(&farm, id, "live").await;
        assert_eq!(
            (&on_air["variants"][0]["width"], &on_air["variants"][0]["frame_rate"]),
            (&json!(640), &json!(25.0))
        );
        let master = watch(&farm, id).await;
        listed(&master, "audio", "sound", |text| (!numbers(text).is_empty()).then_some(())).await;
        listed(&master, "240p", "segments", |text| (numbers(text).len() >= 2).then_some(())).await;
        let log = ffmpeg_log(&[
            "-loglevel",
            "error",
            "-live_start_index",
            "0",
            "-i",
            &master,
            "-map",
            "0",
            "-t",
            "3",
            "-f",
            "null",
            "-",
        ]);
        assert_eq!(log, "", "somebody else's player has nothing to complain about");
        farm.client.post_empty(format!("/livestreams/{id}/stop")).await;
        peer.waits_to_be_sent_away().await;
    }

    let stream = livestream(&farm, json!({})).await;
    let (id, key) = (text(&stream, "id"), text(&stream, "stream_key"));
    let mut peer = Peer::publish(&rtmp(&farm, 0), key).await.unwrap();
    let strange = Message { at: 0, sound: false, data: b"\x90xvid????".to_vec() };
    peer.interleaved(&[strange.clone(), sound[0].clone()]).await.unwrap();
    peer.waits_to_be_sent_away().await;
    until("why to be told", PATIENCE, || async {
        let events = farm.client.get(&format!("/livestreams/{id}/events")).await;
        events.to_string().contains("not taken here: xvid").then_some(())
    })
    .await;
    farm.stop().await;
}

#[tokio::test]
async fn live_a_worker_that_drains_lets_nobody_in_and_keeps_who_is_there() {
    let farm = farm().start().await;
    let srt = json!({ "source": { "type": "srt", "passphrase": "0123456789" } });
    let listened = livestream(&farm, srt).await;
    let (first, second) = (livestream(&farm, json!({})).await, livestream(&farm, json!({})).await);
    let media = messages(&footage(&farm), farm.dir.path());
    let mut peer = Peer::publish(&rtmp(&farm, 0), text(&first, "stream_key")).await.unwrap();
    peer.interleaved(&media).await.unwrap();
    becomes(&farm, text(&first, "id"), "live").await;
    let is_listened = async || {
        let stream = farm.client.get(&format!("/livestreams/{}", text(&listened, "id"))).await;
        stream["srt_ingest_url"].is_string()
    };
    until("somebody to listen", PATIENCE, || async { is_listened().await.then_some(()) }).await;

    let workers = farm.client.get("/workers").await;
    reelmill(&farm, &["worker", "drain", text(&workers["workers"][0], "id")]).await;
    until("newcomers to be refused", PATIENCE, || async {
        let came = Peer::publish(&rtmp(&farm, 0), text(&second, "stream_key")).await;
        came.err().filter(|refused| refused.contains("takes no more streams"))
    })
    .await;
    until("nobody to listen", PATIENCE, || async { (!is_listened().await).then_some(()) }).await;
    let stream = farm.client.get(&format!("/livestreams/{}", text(&first, "id"))).await;
    assert_eq!(stream["status"], "live", "who is there stays");
    drop(peer);
    farm.stop().await;
}
