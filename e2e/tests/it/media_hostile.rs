//! The inputs of an attacker, of `make-hostile`: each is refused or survived as its row says, and nothing is read or reached
//! that does not belong to the job.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use reelmill_testkit::media::{self, Derived};
use reelmill_testkit::{Client, Farm};
use reqwest::Method;
use serde_json::{Value, json};

use crate::judge::{Expected, Playback, failed_for_good, watch};

/// What may come of an input.
enum Right {
    /// Refused, for one of these reasons.
    Refused(&'static [&'static str]),
    Plays(Expected),
    /// As damaged input may: it plays like this, or is refused.
    Either(Expected, &'static [&'static str]),
}

/// A blink of 64x64.
fn tiny() -> Expected {
    Expected::video((5, 1), 5, &[("360p", 64, 64)])
}

fn right(name: &str) -> Right {
    match name {
        "playlist-file.mp4"
        | "playlist-http.mp4"
        | "playlist-concat.mp4"
        | "playlist-key.mp4"
        | "manifest-mpd.mp4"
        | "concat-script.mp4"
        | "image.svg"
        | "huge.png" => Right::Refused(&["not_media"]),
        "huge-in.mkv" => Right::Refused(&["limit_exceeded"]),
        "day-gap.mkv" => Right::Refused(&["limit_exceeded"]),
        "many-tracks.mkv" => Right::Refused(&["limit_exceeded"]),
        "wild-sar.mkv" | "title.mkv" | "-i.mkv" | "a%03d.mkv" => Right::Plays(tiny()),
        "flipped.mp4" => Right::Either(
            Expected::video((25, 1), 132, &[("720p", 1280, 720), ("360p", 640, 360)]).sound(48_000),
            &["not_media", "damaged"],
        ),
        other => panic!("{other} has no test"),
    }
}

#[tokio::test]
async fn media_hostile_files_reach_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // What belongs to somebody else: a video that was last read long ago, and a server on loopback.
    let secret = Secret::new(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let url = format!("http://{address}/secret.ts");
    let Some(hostile) = media::hostile_towards(&files, &secret.file, &url) else {
        return;
    };
    for [name, ..] in &hostile.rows {
        let bytes = std::fs::read(hostile.file(name)).unwrap();
        let names = |what: &str| bytes.windows(what.len()).any(|piece| piece == what.as_bytes());
        let secret = secret.file.to_str().unwrap();
        assert!(
            !matches!(name.as_str(), "playlist-file.mp4" | "concat-script.mp4") || names(secret),
            "{name} aims at the secret"
        );
        assert!(name != "playlist-http.mp4" || names(&url), "{name} aims at the server");
    }
    secret.touched_by_nobody();

    let farm = Farm::builder().set("REELMILL_ENCODE_THREADS", 1).start().await;
    let client = &farm.client;
    let mut jobs = vec![];
    for [name, ..] in &hostile.rows {
        jobs.push((name, client.submit(&hostile.file(name), &json!("fast")).await));
    }
    for (name, job) in jobs {
        println!("waiting for {name}");
        let job = client.wait_for(job["id"].as_str().unwrap()).await;
        nothing_of_the_name(&job, name);
        match right(name) {
            Right::Refused(reasons) => failed_for_good(client, &job, reasons).await,
            Right::Plays(expected) => {
                plays(client, &job, name, &expected).await;
            }
            Right::Either(_, reasons) if job["status"] == "failed" => {
                failed_for_good(client, &job, reasons).await
            }
            Right::Either(expected, _) => {
                plays(client, &job, name, &expected).await;
            }
        }
    }

    secret.touched_by_nobody();
    listener.set_nonblocking(true).unwrap();
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock, "nothing was fetched");
    // The listener would have told.
    let _caller = TcpStream::connect(address).unwrap();
    listener.set_nonblocking(false).unwrap();
    listener.accept().unwrap();
    assert!(!Path::new("/tmp/pwned").exists(), "no title was run");
    farm.stop().await;
}

pub async fn plays(client: &Client, job: &Value, name: &str, expected: &Expected) -> Playback {
    assert_eq!(job["status"], "succeeded", "{name}: {}", job["error"]);
    let path = format!("/recordings/{}", job["recording_id"].as_str().unwrap());
    let recording = client.get(&path).await;
    assert_eq!(recording["title"], name, "the name is text and nothing else");
    let playback = watch(client, &recording, expected).await;
    for track in playback.tracks() {
        let bytes = std::fs::read(&track.file).unwrap();
        assert!(
            !bytes.windows(5).any(|piece| piece == b"pwned"),
            "{name}: the container's title is in the output"
        );
    }
    playback
}

/// No name a user gave, and no URL, stands on a command line.
fn nothing_of_the_name(job: &Value, name: &str) {
    let mut commands = 0;
    for task in job["tasks"].as_array().unwrap() {
        let Some(command) = task["command"].as_array() else {
            continue;
        };
        commands += 1;
        for word in command {
            let word = word.as_str().unwrap();
            assert!(!word.contains(name) && !word.contains("http:"), "{command:?}");
        }
    }
    assert!(commands > 0, "{name}: the commands are told");
}

/// A file that nobody may read, and whether somebody did.
struct Secret {
    file: PathBuf,
    long_ago: SystemTime,
}

impl Secret {
    fn new(dir: &Path) -> Self {
        let long_ago = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
        let make = |name: &str| {
            let file = dir.join(name);
            std::fs::write(&file, b"#EXTM3U\n").unwrap();
            let times = std::fs::FileTimes::new().set_accessed(long_ago);
            std::fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
            file
        };
        let canary = make("canary.mp4");
        std::fs::read(&canary).unwrap();
        assert!(
            std::fs::metadata(&canary).unwrap().accessed().unwrap() > long_ago,
            "this file system does not say when a file was read; mount it with relatime"
        );
        Self { file: make("secret.mp4"), long_ago }
    }

    fn touched_by_nobody(&self) {
        let read = std::fs::metadata(&self.file).unwrap().accessed().unwrap();
        let later = read.duration_since(self.long_ago).unwrap_or_default();
        assert!(later < Duration::from_secs(1), "the secret file was opened");
    }
}

/// A title is text: in the API, on the pages, and nowhere else.
#[tokio::test]
async fn media_hostile_titles_are_text() {
    let Some(hostile) = media::hostile() else { return };
    let farm = Farm::builder().start().await;
    let client = &farm.client;
    let title = "a\"b'c\\\n;$(touch /tmp/pwned)\n%s%n</title><script>alert(1)</script>";
    let upload = client.upload(&hostile.file("title.mkv")).await;
    let body = json!({
        "title": title, "input": {"upload_id": upload}, "profile": "fast", "access": "public",
        "metadata": {"note": title},
    });
    let recording = client.post("/recordings", &body).await;
    let job = client.wait_for(recording["job_id"].as_str().unwrap()).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let id = recording["id"].as_str().unwrap();
    let recording = client.get(&format!("/recordings/{id}")).await;
    assert_eq!(recording["title"], title);
    assert_eq!(recording["metadata"]["note"], title);
    watch(client, &recording, &tiny()).await;

    let form = format!("key={}&next=/", client.key);
    let login = client
        .anonymous(Method::POST, "/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    for page in ["/".to_owned(), format!("/watch/{id}")] {
        let response = client.anonymous(Method::GET, &page).header("cookie", &cookie).send().await.unwrap();
        assert!(response.status().is_success(), "{page}: {}", response.status());
        let html = response.text().await.unwrap();
        assert!(html.contains("touch /tmp/pwned"), "{page} shows the title");
        for raw in ["<script>alert", "a\"b", "b'c", "</title><script>"] {
            assert!(!html.contains(raw), "{page} holds {raw} unescaped");
        }
    }
    assert!(!Path::new("/tmp/pwned").exists());
    farm.stop().await;
}

/// A picture of 250 megapixels in less than a megabyte is refused before memory is taken for it.
#[tokio::test]
async fn media_hostile_bombs_take_no_memory() {
    let Some(hostile) = media::hostile() else { return };
    let farm = Farm::builder().processes(1, 1, 1).start().await;
    let worker = farm.processes.last().unwrap();
    assert!(worker.name.contains("worker"));
    let peak = Peak::watch(worker.pid());
    refused(&farm.client, &hostile, "huge.png", &["not_media"]).await;
    refused(&farm.client, &hostile, "huge-in.mkv", &["limit_exceeded"]).await;
    let most = peak.end();
    assert!(most > 0, "no child was seen");
    // One plane of that picture alone has 250 MB.
    assert!(most < 150 << 20, "a child took {} MB", most >> 20);
    farm.stop().await;
}

async fn refused(client: &Client, hostile: &Derived, name: &str, reasons: &[&str]) {
    let job = client.submit(&hostile.file(name), &json!("fast")).await;
    let job = client.wait_for(job["id"].as_str().unwrap()).await;
    failed_for_good(client, &job, reasons).await;
}

/// The most memory any child of a process takes, looked at all the time.
struct Peak {
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    watcher: std::thread::JoinHandle<()>,
}

impl Peak {
    fn watch(parent: i32) -> Self {
        let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (Arc::clone(&most), Arc::clone(&over));
        let watcher = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                seen.fetch_max(children(parent).map(resident).max().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { most, over, watcher }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

/// Process ids of a process's children.
fn children(parent: i32) -> impl Iterator<Item = String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(move |pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in parentheses: state, then the parent.
        let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        parent_of.and_then(|pid| pid.parse().ok()) == Some(parent)
    })
}

/// The most a process has had in memory so far, in bytes; zero once it is gone.
fn resident(pid: String) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
