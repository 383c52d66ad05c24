//! Others' queues: fetched from npm and PyPI at fixed versions into the target directory, and run in programs of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{PAUSE_MS, Pickups};

const GRAPHILE: [(&str, &str); 3] = [
    ("package.json", include_str!("../../peers/graphile-worker/package.json")),
    ("package-lock.json", include_str!("../../peers/graphile-worker/package-lock.json")),
    ("peer.mjs", include_str!("../../peers/graphile-worker/peer.mjs")),
];
const CELERY: [(&str, &str); 2] = [
    ("requirements.txt", include_str!("../../peers/celery/requirements.txt")),
    ("peer.py", include_str!("../../peers/celery/peer.py")),
];

/// Both of them.
pub(super) struct Peers {
    graphile: PathBuf,
    celery: PathBuf,
    amqp: String,
}

impl Peers {
    /// Installs them where they are not yet, beside this program, and says what they are.
    pub(super) fn install(amqp: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let home = program.parent().and_then(Path::parent).context("this program lies in no folder")?;
        let home = home.join("bench-peers");
        let (graphile, celery) = (home.join("graphile-worker"), home.join("celery"));
        let new = lay_out(&graphile, &GRAPHILE)?;
        if new || !graphile.join("node_modules").is_dir() {
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&graphile))?;
        }
        let new = lay_out(&celery, &CELERY)?;
        if new || !celery.join("venv/bin/celery").is_file() {
            run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&celery))?;
            let install = ["install", "--quiet", "--requirement", "requirements.txt"];
            run(Command::new("venv/bin/pip").args(install).current_dir(&celery))?;
        }
        let lock: Value = serde_json::from_str(GRAPHILE[1].1)?;
        let graphile_version = &lock["packages"]["node_modules/graphile-worker"]["version"];
        let node = run(Command::new("node").arg("--version"))?;
        let python = run(Command::new(celery.join("venv/bin/python")).arg("--version"))?;
        let celery_version =
            CELERY[0].1.lines().find(|line| line.starts_with("celery==")).unwrap_or_default();
        println!(
            "peers: graphile-worker {} on Node {}; {celery_version} on {}",
            graphile_version.as_str().unwrap_or_default(),
            node.trim(),
            python.trim()
        );
        Ok(Self { graphile, celery, amqp: amqp.to_owned() })
    }

    /// Tasks per second.
    pub(super) fn graphile_rate(
        &self,
        database: &str,
        tasks: usize,
        clients: usize,
        variant: &str,
    ) -> anyhow::Result<f64> {
        let (count, clients) = (tasks.to_string(), clients.to_string());
        let answer = self.graphile(&["throughput", database, &count, &clients, variant])?;
        rate(tasks, &answer)
    }

    pub(super) fn graphile_pickup(&self, database: &str, samples: usize) -> anyhow::Result<Pickups> {
        pickups(&self.graphile(&["pickup", database, &samples.to_string(), &PAUSE_MS.to_string()])?)
    }

    /// Tasks per second, with Celery's own number of processes: one a core.
    pub(super) fn celery_rate(&self, tasks: usize, variant: &str) -> anyhow::Result<f64> {
        rate(tasks, &self.celery(&["throughput", &self.amqp, &tasks.to_string(), variant])?)
    }

    pub(super) fn celery_pickup(&self, samples: usize) -> anyhow::Result<Pickups> {
        pickups(&self.celery(&["pickup", &self.amqp, &samples.to_string(), &PAUSE_MS.to_string()])?)
    }

    fn graphile(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        last_line(run(Command::new("node").arg("peer.mjs").args(arguments).current_dir(&self.graphile))?)
    }

    fn celery(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let python = self.celery.join("venv/bin/python");
        last_line(run(Command::new(python).arg("peer.py").args(arguments).current_dir(&self.celery))?)
    }
}

/// Writes what differs. True where something did that is installed from.
fn lay_out(dir: &Path, files: &[(&str, &str)]) -> anyhow::Result<bool> {
    std::fs::create_dir_all(dir)?;
    let mut changed = false;
    for (name, text) in files {
        let path = dir.join(name);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(*text) {
            std::fs::write(path, text)?;
            changed |= !name.starts_with("peer.");
        }
    }
    Ok(changed)
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("could not start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn last_line(text: String) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(text.lines().last().context("a peer said nothing")?)?)
}

fn rate(tasks: usize, answer: &Value) -> anyhow::Result<f64> {
    Ok(tasks as f64 / answer["seconds"].as_f64().context("a peer tells its seconds")?)
}

fn pickups(answer: &Value) -> anyhow::Result<Pickups> {
    let list = |name: &str| -> anyhow::Result<Vec<f64>> {
        let values = answer[name].as_array().context("a peer tells its pick-ups")?;
        Ok(values.iter().filter_map(Value::as_f64).collect())
    };
    Ok(Pickups { from_call: list("from_call")?, from_commit: list("from_commit")? })
}
