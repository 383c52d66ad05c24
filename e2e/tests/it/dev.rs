//! `reelmill dev`: one command, everything on this machine, and nothing left behind.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_testkit::farm::binary;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, media};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::receiver::{Receiver, Reply, is_signed};
use crate::support::{answer, header, is_problem, text};

const START: Duration = Duration::from_secs(60);
/// Tasks get 25 s to finish; without any the end is a matter of closing the database.
const STOP: Duration = Duration::from_secs(12);

/// A farm in one process.
struct Dev {
    child: Child,
    data: PathBuf,
    said: PathBuf,
}

impl Dev {
    /// Starts it and does not wait. What it says goes to a file outside of the data directory.
    fn spawn(said: &Path, args: &[&str], env: &[(&str, &Path)]) -> Child {
        let file = File::create(said).unwrap();
        Command::new(binary("reelmill"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env.iter().copied())
            .args(["dev", "--port"])
            .args(args)
            .current_dir(said.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Starts it on a free port and waits for the greeting.
    async fn start(dir: &TempDir, data: &Path) -> Self {
        let said = dir.path().join(format!("said-{}", uuid::Uuid::now_v7().simple()));
        let child = Self::spawn(
            &said,
            &["0", "--data-dir", data.to_str().unwrap()],
            &[("REELMILL_LEASE_SECONDS", Path::new("4"))],
        );
        let mut dev = Self { child, data: data.to_owned(), said };
        dev.greeted().await;
        dev
    }

    async fn greeted(&mut self) {
        let said = self.said.clone();
        let child = &mut self.child;
        until("the greeting", START, move || {
            let said = std::fs::read_to_string(&said).unwrap();
            let over = child.try_wait().unwrap();
            assert!(over.is_none(), "it ended with {over:?} and said:\n{said}");
            // The last line of the greeting.
            std::future::ready(said.contains("-F file=@VIDEO").then_some(()))
        })
        .await;
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// A line of the greeting.
    fn line(&self, name: &str) -> String {
        let said = self.said();
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{said}")).trim().to_owned()
    }

    fn client(&self) -> Client {
        let key = std::fs::read_to_string(self.data.join("admin-key")).unwrap();
        Client::new(self.line("pages:").trim_end_matches('/'), key.trim())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().unwrap() as i32), signal).unwrap();
    }

    /// Ends it by a signal: well, soon, and with all it started.
    async fn ends_well(mut self, signal: Signal) {
        let family = descendants(self.child.id().unwrap());
        assert!(family.len() > 2, "PostgreSQL has several processes: {family:?}");
        self.signal(signal);
        let status = tokio::time::timeout(STOP, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{signal} did not end it:\n{}", self.said()));
        assert_eq!(status.unwrap().code(), Some(0), "{signal}:\n{}", self.said());
        let left: Vec<u32> = family.into_iter().filter(|pid| alive(*pid)).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        nothing_mentions(&self.data);
    }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; its parent has not looked yet.
    !stat.is_empty() && !stat.contains(") Z ")
}

/// All processes that came from this one.
fn descendants(root: u32) -> Vec<u32> {
    let mut parents = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(next) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == next).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// No process works in this directory or was started with it.
fn nothing_mentions(dir: &Path) {
    let own = std::process::id().to_string();
    let text = dir.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name().to_str() == Some(&own) {
            continue;
        }
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let found = command.contains(text) || cwd.starts_with(dir);
        assert!(!found, "process {:?} is left: {command} in {}", entry.file_name(), cwd.display());
    }
}

/// Ends by itself, not well, and says why.
async fn refuses(said: &Path, args: &[&str], says: &[&str]) {
    let mut child = Dev::spawn(said, args, &[]);
    let status = tokio::time::timeout(START, child.wait()).await.expect("it runs on").unwrap();
    let text = std::fs::read_to_string(said).unwrap();
    assert!(status.code().is_some_and(|code| code != 0), "{status}:\n{text}");
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    for words in says {
        assert!(last.contains(words), "the last line says nothing of {words:?}:\n{text}");
    }
}

#[tokio::test]
async fn dev_serves_stops_and_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let dev = Dev::start(&dir, &data).await;
    let api = dev.client();
    secrets_are_private(&data);
    the_login_link_works(&dev, &api).await;
    other_names_are_turned_away(&api).await;
    only_webhooks_reach_this_machine(&api).await;
    assert_eq!(dev.line("data:"), data.display().to_string());
    let clip = media::clip(dir.path(), 3, "320x180");
    // The directory it was started in is a root for files.
    let body = json!({ "input": { "url": format!("file://{}", clip.display()) }, "profile": "fast" });
    let recording = api.post("/recordings", &body).await;
    let job = api.wait_for(text(&recording, "job_id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    plays(&api, &recording).await;

    // A second one stands in nobody's way.
    let said = dir.path().join("second");
    refuses(
        &said,
        &["0", "--data-dir", data.to_str().unwrap()],
        &["in use by another reelmill", &dev.child.id().unwrap().to_string()],
    )
    .await;
    let port = api.base.rsplit(':').next().unwrap();
    let other = dir.path().join("other");
    refuses(
        &said,
        &[port, "--data-dir", other.to_str().unwrap()],
        &[&format!("127.0.0.1:{port}"), "in use", "--port"],
    )
    .await;
    nothing_mentions(&other);
    plays(&api, &recording).await;

    let key = api.key.clone();
    dev.ends_well(Signal::SIGINT).await;
    assert!(api.anonymous(Method::GET, "/livez").send().await.is_err(), "the port is free");
    // Again, with everything that was there.
    let dev = Dev::start(&dir, &data).await;
    let api = dev.client();
    assert_eq!(api.key, key);
    plays(&api, &recording).await;
    dev.ends_well(Signal::SIGTERM).await;
}

fn secrets_are_private(data: &Path) {
    for secret in ["admin-key", "secret-key", "login-url", "postgres-password"] {
        let mode = std::fs::metadata(data.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}: {mode:o}");
    }
    let mode = std::fs::metadata(data).unwrap().permissions().mode();
    assert_eq!(mode & 0o066, 0, "others may pass through, not look around: {mode:o}");
}

async fn the_login_link_works(dev: &Dev, api: &Client) {
    let link = dev.line("login:");
    assert_eq!(std::fs::read_to_string(dev.data.join("login-url")).unwrap().trim(), link);
    assert_eq!(std::fs::read_to_string(dev.data.join("server-url")).unwrap().trim(), api.base);
    let path = link.strip_prefix(&api.base).unwrap();
    let (status, headers, _) = answer(api.anonymous(Method::GET, path)).await;
    assert_eq!((status, header(&headers, "location")), (StatusCode::SEE_OTHER, "/"));
    let cookie = header(&headers, "set-cookie").split(';').next().unwrap().to_owned();
    let home = answer(api.anonymous(Method::GET, "/").header("cookie", cookie)).await;
    assert_eq!(home.0, StatusCode::OK);
    assert!(!dev.said().contains(&api.key), "the whole key stays in its file");
    let nobody = answer(api.anonymous(Method::GET, "/api/v1/jobs")).await;
    is_problem(&nobody, 401, "unauthorized");
}

/// A web page whose name was pointed at this machine.
async fn other_names_are_turned_away(api: &Client) {
    let port = api.base.rsplit(':').next().unwrap();
    for host in
        ["evil.example".to_owned(), format!("evil.example:{port}"), format!("127.0.0.1.evil.example:{port}")]
    {
        for path in ["/", "/login", "/api/v1/jobs"] {
            let refused = answer(api.request(Method::GET, path).header("host", &host)).await;
            is_problem(&refused, 421, "wrong-host");
        }
    }
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let host = format!("{host}:{port}");
        assert_eq!(
            answer(api.request(Method::GET, "/api/v1/jobs").header("host", &host)).await.0,
            StatusCode::OK,
            "{host}"
        );
    }
}

/// Who develops a receiver runs it here; but what is fetched would come back to whoever asked for it.
async fn only_webhooks_reach_this_machine(api: &Client) {
    let receiver = Receiver::start(|_, _| Reply::Status(200)).await;
    let body = json!({ "url": receiver.url("/hook"), "events": ["job.failed"] });
    let webhook = api.post("/webhooks", &body).await;
    let job = json!({ "kind": "probe", "input": { "url": receiver.url("/video.mp4") } });
    let job = api.wait_for(text(&api.post("/jobs", &job).await, "id")).await;
    assert!(text(&job["error"], "message").contains("REELMILL_NET_ALLOW"), "{}", job["error"]);
    assert!(receiver.at("/video.mp4").is_empty());
    let told = receiver.wait("/hook", 1).await;
    is_signed(text(&webhook, "secret"), &told);
    let private = json!({ "url": "http://10.0.0.1/" });
    is_problem(
        &answer(api.request(Method::POST, "/api/v1/webhooks").json(&private)).await,
        422,
        "validation",
    );
}

async fn plays(api: &Client, recording: &Value) {
    let id = text(recording, "id");
    let recording = api.get(&format!("/recordings/{id}")).await;
    assert_eq!(recording["status"], "ready");
    let url = api.play_url(id).await;
    let frames = reelmill_testkit::ffmpeg::ffmpeg(&["-i", &url, "-map", "0:v:0", "-f", "framecrc", "-"]);
    let frames = String::from_utf8(frames).unwrap();
    assert_eq!(frames.lines().filter(|line| !line.starts_with('#')).count(), 75, "{frames}");
}

/// Killed in the middle of a job, below a folder that only its user may enter.
#[tokio::test]
async fn dev_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let private = dir.path().join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    let data = private.join("data");
    let mut dev = Dev::start(&dir, &data).await;
    let clip = media::clip(dir.path(), 12, "640x360");
    let job = dev.client().submit(&clip, &json!("fast")).await;
    let path = format!("/jobs/{}", text(&job, "id"));
    let api = dev.client();
    until("the job to run", START, || async { (api.get(&path).await["status"] == "running").then_some(()) })
        .await;
    let family = descendants(dev.child.id().unwrap());
    dev.signal(Signal::SIGKILL);
    dev.child.wait().await.unwrap();
    // At once, while the old database may still be ending: the next start sees to that.
    let dev = Dev::start(&dir, &data).await;
    let left: Vec<u32> = family.into_iter().filter(|pid| alive(*pid)).collect();
    assert!(left.is_empty(), "still there after the next start: {left:?}");
    let job = dev.client().wait_for(text(&job, "id")).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let location = dev.data.join("postgres-location");
    let location = PathBuf::from(std::fs::read_to_string(location).unwrap().trim());
    dev.ends_well(Signal::SIGTERM).await;
    nothing_mentions(&location);
    // Where root may not keep a database for another user, it lies elsewhere; a test cleans up after itself.
    if !location.starts_with(dir.path()) && location.is_absolute() {
        assert!(location.starts_with("/var/lib/reelmill"), "{}", location.display());
        // A directory of this data directory alone, with nothing but the cluster in it.
        std::fs::remove_dir_all(&location).unwrap();
        std::fs::remove_dir(location.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn dev_ephemeral_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (here, temporary) = (dir.path().join("here"), dir.path().join("temporary"));
    for dir in [&here, &temporary] {
        std::fs::create_dir(dir).unwrap();
    }
    // The database's user has to get there.
    for dir in [dir.path(), temporary.as_path()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    let said = here.join("said");
    let child = Dev::spawn(&said, &["0", "--ephemeral"], &[("TMPDIR", &temporary)]);
    let mut dev = Dev { child, data: temporary.clone(), said };
    dev.greeted().await;
    dev.data = PathBuf::from(dev.line("data:"));
    assert!(dev.data.starts_with(&temporary), "{}", dev.data.display());
    let clip = media::clip(dir.path(), 2, "160x90");
    dev.client().transcode(&clip, &json!("fast")).await;
    dev.ends_well(Signal::SIGINT).await;
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let left: Vec<_> = std::fs::read_dir(&here).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["said"]);
}
