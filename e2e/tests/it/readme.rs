//! What the README and docs/VIEWERS.md tell people to type, typed: its shell blocks between `<!-- try -->` and `<!-- /try -->`, in order and in one
//! shell, against `reelmill dev` with an empty data directory.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reelmill_testkit::farm::binary;
use reelmill_testkit::wait::until;
use reelmill_testkit::{Client, ffmpeg, media};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A first start makes a database cluster.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
/// All blocks together.
const TRY: Duration = Duration::from_secs(180);
const CLIP_SECONDS: u32 = 3;

#[tokio::test]
async fn the_readmes_examples_work_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let clip = media::clip(dir.path(), CLIP_SECONDS, "320x180");
    std::fs::rename(clip, dir.path().join("clip.mp4")).unwrap();
    let data = dir.path().join("data");
    let mut dev = start_dev(&data, dir.path());
    let key = until("the farm to greet", START, || async {
        // The prefix of what it says when it gives up.
        let said = log(dir.path());
        assert!(!said.contains("reelmill dev:"), "{said}");
        // Written last, when the api listens.
        std::fs::read_to_string(data.join("login-url")).ok()?;
        std::fs::read_to_string(data.join("admin-key")).ok()
    })
    .await;
    let url = std::fs::read_to_string(data.join("server-url")).unwrap();
    let (url, key) = (url.trim(), key.trim());

    let mut blocks = tried(include_str!("../../../README.md"));
    assert!(!blocks.is_empty(), "the README has nothing to try");
    // Read after the README, and typed into the same shell.
    let more = tried(include_str!("../../../docs/VIEWERS.md"));
    assert!(!more.is_empty(), "nothing of what viewers need is tried");
    // The README's last recording is another one by then.
    blocks.insert(1, more.join("\n"));
    let typed = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &blocks.join("\n")])
        .env("REELMILL_URL", url)
        .env("REELMILL_KEY", key)
        .env("no_proxy", "*")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(TRY, typed).await.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        log(dir.path())
    );

    let play = std::fs::read_to_string(dir.path().join("play-url.txt")).unwrap();
    ffmpeg::ffmpeg(&["-i", play.trim(), "-map", "0:v", "-map", "0:a", "-f", "null", "-"]);
    let shown = ffmpeg::probe(&["-show_entries", "format=duration"], play.trim());
    let seconds: f64 = shown["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!((seconds - f64::from(CLIP_SECONDS)).abs() < 0.1, "{seconds} s");

    // The second block's job must come to a good end too.
    let client = Client::new(url, key);
    for job in client.get("/jobs").await["jobs"].as_array().unwrap() {
        let job = client.wait_for(job["id"].as_str().unwrap()).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    }

    kill(Pid::from_raw(dev.id().unwrap() as i32), Signal::SIGTERM).unwrap();
    let status = timeout(STOP, dev.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}: {}", log(dir.path()));
}

fn start_dev(data: &Path, dir: &Path) -> Child {
    // Free a moment ago. Where somebody took it meanwhile, `dev` says so and the test shows it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = std::fs::File::create(dir.join("dev.log")).unwrap();
    Command::new(binary("reelmill"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .arg("--data-dir")
        .arg(data)
        .args(["dev", "--port", &port.to_string()])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("dev.log")).unwrap_or_default()
}

/// The text of all ```sh blocks between the marks.
fn tried(readme: &str) -> Vec<String> {
    let mut blocks: Vec<String> = vec![];
    let (mut marked, mut fenced) = (false, false);
    for line in readme.lines() {
        match line {
            "<!-- try -->" => marked = true,
            "<!-- /try -->" => marked = false,
            "```sh" if marked => {
                fenced = true;
                blocks.push(String::new());
            }
            "```" => fenced = false,
            _ if fenced => {
                let block = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    assert!(!marked && !fenced, "a mark or a fence is not closed");
    blocks
}
