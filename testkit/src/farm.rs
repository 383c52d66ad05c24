//! A farm of real processes: the binaries under test, started on free ports, ended and looked after by their pids.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::client::Client;
use crate::database::TestDatabase;
use crate::relay::{Relay, Target};
use crate::s3::S3Server;
use crate::wait::until;

/// What a farm is made of.
#[derive(Debug, Clone)]
pub struct FarmBuilder {
    apis: usize,
    workers: usize,
    schedulers: usize,
    s3: bool,
    broker: bool,
    breakable: bool,
    variables: Vec<(String, String)>,
}

impl Default for FarmBuilder {
    fn default() -> Self {
        Self {
            apis: 1,
            workers: 1,
            schedulers: 1,
            s3: false,
            broker: true,
            breakable: false,
            variables: vec![],
        }
    }
}

impl FarmBuilder {
    /// How many processes of each.
    pub fn processes(mut self, apis: usize, workers: usize, schedulers: usize) -> Self {
        (self.apis, self.workers, self.schedulers) = (apis, workers, schedulers);
        self
    }

    /// Media in an S3 store instead of a directory.
    pub fn s3(mut self) -> Self {
        self.s3 = true;
        self
    }

    /// No broker at all.
    pub fn without_broker(mut self) -> Self {
        self.broker = false;
        self
    }

    /// A database of its own that can be killed, and relays before database and broker.
    pub fn breakable(mut self) -> Self {
        self.breakable = true;
        self
    }

    /// A setting for all processes.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> Farm {
        Farm::start(self).await
    }
}

/// Which server a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Api,
    Worker,
    Scheduler,
}

impl Part {
    fn program(self) -> &'static str {
        match self {
            Self::Api => "reelmill-api",
            Self::Worker => "reelmill-worker",
            Self::Scheduler => "reelmill-scheduler",
        }
    }
}

/// One process of a farm.
pub struct Process {
    pub part: Part,
    /// Distinguishes processes of a kind; a worker's is its name.
    pub name: String,
    /// Known once the farm was waited for.
    pub address: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.id().map_or(0, |pid| pid as i32)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if self.pid() > 0 {
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// Waits for its end and gives its exit code.
    pub async fn ended(&mut self, most: Duration) -> Option<i32> {
        tokio::time::timeout(most, self.child.wait())
            .await
            .ok()
            .and_then(Result::ok)
            .and_then(|status| status.code())
    }

    /// Where it listens, once it has said so: it was free to choose, because a port that was free a moment ago may be taken.
    pub fn listens_at(&self) -> Option<String> {
        self.log().lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["address"].as_str()?.to_owned())
        })
    }

    /// Where a worker takes publishers of live streams, once it has said so.
    pub fn rtmp(&self) -> Option<String> {
        self.log().lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(line["rtmp"].as_str()?.to_owned())
        })
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A running farm. Dropping it kills everything; [`Farm::stop`] ends it properly.
pub struct Farm {
    pub client: Client,
    /// Before the directory, so that what a failed test shows of their logs is still there.
    pub processes: Vec<Process>,
    /// How many processes there have been: each has a name of its own.
    started: usize,
    pub database: TestDatabase,
    pub dir: TempDir,
    /// Of a breakable farm that has a broker.
    pub broker: Option<Relay>,
    variables: Vec<(String, String)>,
    pub s3: Option<S3Server>,
}

/// Key of every test farm.
const ADMIN_KEY: &str = "rm_dev_test_key_0123456789abcdef";
/// Shared by all processes of a farm; tests are no secret.
pub const SECRET_KEY: &str = "test-secret-0123456789-0123456789-0123456789";
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(40);

impl Farm {
    /// A farm of one process each.
    pub fn builder() -> FarmBuilder {
        FarmBuilder::default()
    }

    async fn start(builder: FarmBuilder) -> Self {
        let database =
            if builder.breakable { TestDatabase::killable().await } else { TestDatabase::new().await };
        let dir = tempfile::tempdir().unwrap();
        let mut variables: Vec<(String, String)> = [
            ("REELMILL_DATABASE_URL", database.url.clone()),
            ("REELMILL_DATABASE_POOL_SIZE", "8".to_owned()),
            ("REELMILL_ADMIN_KEY", ADMIN_KEY.to_owned()),
            ("REELMILL_SECRET_KEY", SECRET_KEY.to_owned()),
            ("REELMILL_SCRATCH_DIR", dir.path().join("scratch").display().to_string()),
            ("REELMILL_CACHE_DIR", dir.path().join("cache").display().to_string()),
            ("REELMILL_WORKER_SLOTS", "2".to_owned()),
            // Long enough for a database that has to share its core with encodes.
            ("REELMILL_LEASE_SECONDS", "10".to_owned()),
            ("REELMILL_POLL_SECONDS", "1".to_owned()),
            ("REELMILL_SWEEP_SECONDS", "0.5".to_owned()),
            ("REELMILL_LEADER_LEASE_SECONDS", "2".to_owned()),
            ("REELMILL_AMQP_PREFIX", format!("test-{}", Uuid::now_v7().simple())),
            // One node is all a test has: a quorum of one only costs.
            ("REELMILL_AMQP_QUEUE_TYPE", "classic".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let mut relay = None;
        if let Some(url) = std::env::var("REELMILL_TEST_AMQP_URL").ok().filter(|_| builder.broker) {
            let mut url = url::Url::parse(&url).unwrap();
            if builder.breakable {
                let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
                let to_broker = Relay::to(Target::Tcp(target)).await;
                let (_, port) = to_broker.address.rsplit_once(':').unwrap();
                url.set_host(Some("127.0.0.1")).unwrap();
                url.set_port(port.parse().ok()).unwrap();
                relay = Some(to_broker);
            }
            variables.push(("REELMILL_AMQP_URL".to_owned(), url.into()));
        }
        let s3 = if builder.s3 {
            let server = S3Server::start(&dir.path().join("s3")).await;
            variables.extend(server.variables());
            Some(server)
        } else {
            let objects = format!("file://{}", dir.path().join("objects").display());
            variables.push(("REELMILL_STORAGE_URL".to_owned(), objects));
            None
        };
        variables.extend(builder.variables);
        let client = Client::new("http://127.0.0.1:0", ADMIN_KEY);
        let mut farm =
            Self { client, database, dir, processes: vec![], started: 0, broker: relay, variables, s3 };
        for (part, count) in [
            (Part::Scheduler, builder.schedulers),
            (Part::Api, builder.apis),
            (Part::Worker, builder.workers),
        ] {
            for _ in 0..count {
                farm.add(part).await;
            }
        }
        farm.ready().await;
        if let Some(api) = farm.processes.iter().find(|process| process.part == Part::Api) {
            farm.client = Client::new(&format!("http://{}", api.address), ADMIN_KEY);
        }
        farm
    }

    /// A setting for the processes that are started from now on, in place of any of that name.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_string()));
    }

    /// What a setting is for the processes that are started from now on.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Starts one more process; wait for it with [`Farm::ready`].
    pub async fn add(&mut self, part: Part) {
        self.add_under(part, &[]).await;
    }

    /// The same, begun by a command that in the end becomes the program it is given.
    pub async fn add_under(&mut self, part: Part, command: &[&str]) {
        let name = format!("{}-{}", part.program(), self.started);
        self.started += 1;
        let log = self.dir.path().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let listen = match part {
            Part::Api => "REELMILL_API_LISTEN",
            Part::Worker => "REELMILL_WORKER_LISTEN",
            Part::Scheduler => "REELMILL_SCHEDULER_LISTEN",
        };
        let program = binary(part.program());
        let mut words = command.iter().map(OsStr::new).chain([program.as_os_str()]);
        let child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", std::env::var("REELMILL_TEST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .env("RUST_BACKTRACE", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env(listen, "127.0.0.1:0")
            .env("REELMILL_WORKER_NAME", &name)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", part.program()));
        self.processes.push(Process { part, name, address: String::new(), child, log });
    }

    /// Waits until every new process answers that it is ready.
    pub async fn ready(&mut self) {
        // What was ready before may be halted by now.
        for process in self.processes.iter_mut().filter(|process| process.address.is_empty()) {
            process.address =
                until(&format!("{} to listen", process.name), START, || async { process.listens_at() }).await;
            let probe = Client::new(&format!("http://{}", process.address), "");
            until(&format!("{} to be ready", process.name), START, || async {
                let answer = probe.anonymous(reqwest::Method::GET, "/readyz").send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await;
        }
        let workers = self.processes.iter().filter(|process| process.part == Part::Worker);
        for worker in workers {
            until(&format!("{} to claim", worker.name), START, || async {
                worker.log().contains("worker ready").then_some(())
            })
            .await;
        }
    }

    /// A client of the n-th api process.
    pub fn api(&self, n: usize) -> Client {
        let api = self.processes.iter().filter(|process| process.part == Part::Api).nth(n).unwrap();
        Client::new(&format!("http://{}", api.address), &self.client.key)
    }

    /// The process with this name, to be signalled or waited for.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name == name).unwrap()
    }

    /// Ends all processes with SIGTERM and drops the database. Every process must end well.
    pub async fn stop(mut self) {
        for process in &self.processes {
            process.signal(Signal::SIGTERM);
        }
        for process in &mut self.processes {
            if process.pid() == 0 {
                continue;
            }
            let code = process.ended(STOP).await;
            assert_eq!(code, Some(0), "{} did not end well:\n{}", process.name, process.log());
        }
        self.processes.clear();
        let Self { database, .. } = self;
        database.drop().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("---- the end of {}'s log:", self.name);
            lines.iter().rev().take(40).rev().for_each(|line| println!("{line}"));
        }
    }
}

/// A binary under test: from `REELMILL_BIN_DIR`, else beside this test.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("REELMILL_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().find(|dir| dir.join(name).is_file()).map(Path::to_owned).unwrap_or_else(|| {
            panic!("{name} is not built: run cargo build --workspace --bins, or set REELMILL_BIN_DIR")
        })
    });
    dir.join(name)
}
