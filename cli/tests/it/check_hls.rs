//! `reelmill check-hls` against a server that does everything right, and against the same with one fault at a time: then just the
//! rule about that fails.

use std::collections::BTreeMap;
use std::process::Stdio;

use axum::Router;
use axum::body::Body;
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use futures::future::join_all;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::stand_in::{Event, Fault, Form, StandIn};

/// What the program said.
struct Verdict {
    code: Option<i32>,
    document: Value,
    stderr: String,
}

impl Verdict {
    fn states(&self) -> BTreeMap<&str, &str> {
        let rules = self.document["rules"].as_array().unwrap_or_else(|| panic!("{}", self.stderr));
        rules.iter().map(|rule| (rule["rule"].as_str().unwrap(), rule["state"].as_str().unwrap())).collect()
    }

    /// The rules in that state.
    fn are(&self, state: &str) -> Vec<&str> {
        self.states().into_iter().filter(|(_, is)| *is == state).map(|(rule, _)| rule).collect()
    }

    fn faults(&self) -> String {
        let rules = self.document["rules"].as_array().into_iter().flatten();
        let failed: Vec<&Value> = rules.filter(|rule| rule["state"] == "failed").collect();
        format!("{failed:#?}")
    }
}

async fn check(url: &str, more: &[&str]) -> Verdict {
    let output = Command::new(env!("CARGO_BIN_EXE_reelmill"))
        .args(["check-hls", url, "-o", "json"])
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Verdict {
        code: output.status.code(),
        document,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Watches a stream for that many seconds.
async fn watch(form: Form, event: Event, fault: Option<Fault>, seconds: u32) -> Verdict {
    let server = StandIn::start(form, event, fault).await;
    check(&server.url, &["--seconds", &seconds.to_string()]).await
}

/// All at once, since each of them mostly waits.
async fn each_breaks_one_rule(event: Event, seconds: u32, faults: &[(Fault, &str)]) {
    let watched = faults.iter().map(|(fault, rule)| async move {
        let verdict = watch(Form::LowLatency, event, Some(*fault), seconds).await;
        let right = verdict.code == Some(1) && verdict.are("failed") == [*rule];
        (!right).then(|| format!("{fault:?} should break {rule}: {}{}", verdict.faults(), verdict.stderr))
    });
    let wrong: Vec<String> = join_all(watched).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_nothing_wrong_with_a_good_stream() {
    let verdict = watch(Form::LowLatency, Event::Nothing, None, 8).await;
    assert_eq!((verdict.code, verdict.are("failed")), (Some(0), vec![]), "{}", verdict.faults());
    // No stall, no end, no TLS.
    assert_eq!((verdict.are("not_seen"), verdict.are("not_applicable")), (vec!["11", "18"], vec!["T1"]));
    let renditions = verdict.document["renditions"].as_array().unwrap();
    let names: Vec<&str> = renditions.iter().map(|rendition| rendition["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sound", "v"]);
    for rendition in renditions {
        assert!(
            rendition["parts"].as_u64() > Some(20) && rendition["segments"].as_u64() > Some(4),
            "{rendition}"
        );
        assert_eq!((&rendition["part_target"], &rendition["part_hold_back"]), (&0.2.into(), &0.6.into()));
        let median = rendition["seconds_between_answers"]["p50"].as_f64().unwrap();
        assert!((0.1..0.4).contains(&median), "{rendition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_takes_a_publisher_that_comes_back_for_what_it_is() {
    let verdict = watch(Form::LowLatency, Event::Reconnect, None, 10).await;
    assert_eq!((verdict.code, verdict.are("failed")), (Some(0), vec![]), "{}", verdict.faults());
    assert_eq!(verdict.states()["18"], "passed");
    for rendition in verdict.document["renditions"].as_array().unwrap() {
        assert_eq!(
            (&rendition["discontinuities"], &rendition["gaps"]),
            (&1.into(), &1.into()),
            "{rendition}"
        );
        assert!(rendition["longest_wait_seconds"].as_f64() > Some(4.0), "{rendition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_watches_until_the_end() {
    let verdict = watch(Form::LowLatency, Event::End, None, 60).await;
    assert_eq!((verdict.code, verdict.are("failed")), (Some(0), vec![]), "{}", verdict.faults());
    assert_eq!(verdict.states()["11"], "passed");
    assert!(verdict.document["seconds"].as_f64() < Some(30.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_passes_nothing_that_does_not_apply() {
    let (plain, recording) = tokio::join!(
        watch(Form::Plain, Event::Nothing, None, 5),
        watch(Form::Recording, Event::Nothing, None, 60)
    );
    for verdict in [&plain, &recording] {
        assert_eq!((verdict.code, verdict.are("failed")), (Some(0), vec![]), "{}", verdict.faults());
        let states = verdict.states();
        for rule in ["1", "4", "7", "8", "12", "18", "19a", "20a", "21a", "22a", "23a", "24a"] {
            assert_eq!(states[rule], "not_applicable", "{rule}");
        }
        for rule in ["0a", "0b", "6", "22b", "25b", "25c", "T2", "T3", "T5"] {
            assert_eq!(states[rule], "passed", "{rule}");
        }
    }
    assert_eq!((plain.states()["25a"], recording.states()["25a"]), ("passed", "not_applicable"));
    assert!(recording.document["seconds"].as_f64() < Some(30.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_watches_one_rendition_and_says_what_it_cannot_watch() {
    let server = StandIn::start(Form::LowLatency, Event::Nothing, None).await;
    let one = check(&server.url, &["--seconds", "2", "--rendition", "sound"]).await;
    assert_eq!((one.code, one.states()["21a"], one.states()["25b"]), (Some(0), "passed", "not_applicable"));
    let media = check(&server.url.replace("master", "v"), &["--seconds", "2"]).await;
    assert_eq!(
        (media.code, media.states()["12"], media.states()["21a"]),
        (Some(0), "passed", "not_applicable")
    );
    let none = check(&server.url, &["--rendition", "other"]).await;
    assert!(none.code == Some(2) && none.stderr.contains("sound"), "{}", none.stderr);
    let nothing = check(&server.url.replace("master", "nothing"), &[]).await;
    assert!(nothing.code == Some(3) && nothing.stderr.contains("404"), "{}", nothing.stderr);
    let no_playlist = check(&server.url.replace("master.m3u8", "v-init-0.mp4"), &[]).await;
    assert_eq!(no_playlist.code, Some(3), "{}", no_playlist.stderr);
    drop(server);
    assert_eq!(check("http://127.0.0.1:9/x.m3u8", &[]).await.code, Some(3));
    assert_eq!(check("ftp://127.0.0.1/x.m3u8", &[]).await.code, Some(2));
}

/// What never ends, what leads nowhere, and what is longer than anything sensible.
#[tokio::test(flavor = "multi_thread")]
async fn check_hls_is_not_harmed_by_hostile_servers() {
    let endless = || async {
        let lines = Bytes::from("#EXT-X-GAP\n".repeat(1000));
        Body::from_stream(futures::stream::repeat_with(move || Ok::<_, std::io::Error>(lines.clone())))
    };
    let numbers = "#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-PART-INF:PART-TARGET=0.000001\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=0,PART-HOLD-BACK=1000000000\n\
        #EXT-X-MEDIA-SEQUENCE:9000000000000000000\n#EXT-X-SKIP:SKIPPED-SEGMENTS=200000000000000000\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"endless\"\n\
        #EXT-X-RENDITION-REPORT:URI=\"x\",LAST-MSN=18446744073709551615,LAST-PART=18446744073709551615\n\
        #EXT-X-PART:URI=\"endless\",DURATION=1000000000\n#EXTINF:1000000000,\nfile:///etc/passwd\n\
        #EXT-X-PART:URI=\"endless\",DURATION=0,BYTERANGE=\"18446744073709551615@0\"\n";
    let app = Router::new()
        .route("/endless", get(endless))
        .route("/numbers", get(move || async move { numbers }))
        .route("/circle", get(|| async { Redirect::temporary("/circle") }))
        .route("/away", get(|| async { Redirect::temporary("file:///etc/passwd") }))
        .route("/binary", get(|| async { vec![0xff_u8; 1000] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    for (path, said) in
        [("endless", "longer than"), ("circle", "redirects"), ("away", "file:"), ("binary", "UTF-8")]
    {
        let verdict = check(&format!("{base}/{path}"), &[]).await;
        assert!(verdict.code == Some(3) && verdict.stderr.contains(said), "{path}: {}", verdict.stderr);
    }
    let verdict = check(&format!("{base}/numbers"), &["--seconds", "3"]).await;
    assert_eq!(verdict.code, Some(1), "{}", verdict.stderr);
    assert!(verdict.are("failed").contains(&"1"), "{}", verdict.faults());
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_playlists_that_are_wrong() {
    each_breaks_one_rule(
        Event::Nothing,
        4,
        &[
            (Fault::PartsTooLong, "1"),
            (Fault::PartsTooShort, "2"),
            (Fault::TargetChanges, "3"),
            (Fault::PartHoldBackShort, "4"),
            (Fault::HoldBackShort, "5"),
            (Fault::SegmentsTooLong, "6"),
            (Fault::SkipBoundaryNear, "7"),
            (Fault::TwoHints, "19b"),
            (Fault::HintElsewhere, "19a"),
            (Fault::TagsBehindParts, "23b"),
            (Fault::PartsStay, "24a"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_delta_updates_and_renditions_that_are_wrong() {
    each_breaks_one_rule(
        Event::Nothing,
        4,
        &[
            (Fault::NoSkip, "8"),
            (Fault::TwoSkips, "8"),
            (Fault::DeltaLies, "9a"),
            (Fault::SkipTooMuch, "9b"),
            (Fault::OldVersion, "10"),
            (Fault::NoReports, "21a"),
            (Fault::ReportsBehind, "21b"),
            (Fault::ReportsAhead, "21b"),
            (Fault::BackAgain, "25a"),
            (Fault::Renames, "25a"),
            (Fault::RenditionsApart, "25b"),
            (Fault::DatesOff, "25c"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_answers_that_are_wrong() {
    each_breaks_one_rule(
        Event::Nothing,
        5,
        &[
            (Fault::PartEarly, "12"),
            (Fault::WholeEarly, "13"),
            (Fault::BeyondEarly, "14"),
            (Fault::BeyondRefused, "14"),
            (Fault::OldRefused, "15"),
            (Fault::OldHeld, "15"),
            (Fault::PartAloneTaken, "16"),
            (Fault::FarSegmentTaken, "17a"),
            (Fault::FarPartTaken, "17b"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_stalls_and_ends_that_are_wrong() {
    tokio::join!(
        each_breaks_one_rule(
            Event::Reconnect,
            10,
            &[(Fault::HeldForEver, "18"), (Fault::GivenUpEarly, "18")]
        ),
        each_breaks_one_rule(
            Event::End,
            30,
            &[(Fault::SkipAfterEnd, "11"), (Fault::BlocksAfterEnd, "11"), (Fault::HintAfterEnd, "19b")]
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_media_that_is_wrong() {
    each_breaks_one_rule(
        Event::Nothing,
        6,
        &[
            (Fault::SegmentMissing, "0a"),
            (Fault::SegmentCutOff, "0b"),
            (Fault::HintRefused, "20a"),
            (Fault::HintCutOff, "20a"),
            (Fault::HintDribbles, "20a"),
            (Fault::UnknownTaken, "20b"),
            (Fault::PartsDiffer, "22a"),
            (Fault::TimesJump, "22b"),
            (Fault::NoSync, "23a"),
            (Fault::PartsGone, "24b"),
            (Fault::Bursts, "24c"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_hls_finds_a_way_that_is_wrong() {
    each_breaks_one_rule(
        Event::Nothing,
        3,
        &[
            (Fault::NoGzip, "T2"),
            (Fault::NoCors, "T3"),
            (Fault::PlainKept, "T4"),
            (Fault::DirectedNotKept, "T4"),
            (Fault::MediaNotKept, "T4"),
            (Fault::Cookies, "T5"),
        ],
    )
    .await;
}
