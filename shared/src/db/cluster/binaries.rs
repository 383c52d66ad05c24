//! Finding PostgreSQL's programs, of the right version.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ClusterError, io_error};

/// The oldest major version that works: 14 knows `initdb --no-instructions`, and is the oldest still cared
/// for.
pub(super) const OLDEST: u32 = 14;

/// The programs of one installed version.
#[derive(Debug)]
pub(super) struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// The first ones found: those the user put in PATH are preferred.
    pub(super) fn any() -> Result<Self, ClusterError> {
        candidates().into_iter().find_map(Self::at).ok_or(ClusterError::NoBinaries)
    }

    /// Those of the version that made an existing cluster: another major version cannot read it.
    pub(super) fn for_cluster(cluster: &Path) -> Result<Self, ClusterError> {
        Self::of_version(cluster, candidates().into_iter().filter_map(Self::at))
    }

    fn of_version(cluster: &Path, installed: impl Iterator<Item = Self>) -> Result<Self, ClusterError> {
        let file = cluster.join("PG_VERSION");
        let text = fs::read_to_string(&file).map_err(io_error("read", &file))?;
        let wanted = text.trim().parse().unwrap_or(0);
        let mut others = Vec::new();
        for binaries in installed {
            if binaries.major == wanted {
                return Ok(binaries);
            }
            others.push(binaries.major.to_string());
        }
        others.dedup();
        match others.is_empty() {
            true => Err(ClusterError::NoBinaries),
            false => {
                Err(ClusterError::Version { cluster: cluster.to_owned(), wanted, found: others.join(", ") })
            }
        }
    }

    /// The programs in `dir`, if it has both and they are not too old.
    fn at(dir: PathBuf) -> Option<Self> {
        if !dir.is_absolute() {
            // A relative entry of PATH means another place wherever one stands; root must not run what lies
            // there.
            return None;
        }
        // PATH often holds links; the server looks for its other files beside the real program.
        let server = fs::canonicalize(dir.join("postgres")).ok()?;
        let dir = server.parent()?.to_owned();
        if !dir.join("initdb").is_file() {
            return None;
        }
        let said = Command::new(&server).arg("--version").output().ok()?;
        let major = major_version(&String::from_utf8_lossy(&said.stdout))?;
        (major >= OLDEST).then_some(Self { dir, major })
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }
}

/// `postgres (PostgreSQL) 15.13 (Debian …)` → 15; also `18beta1`.
fn major_version(said: &str) -> Option<u32> {
    let version = said.split("(PostgreSQL) ").nth(1)?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

/// Directories that may hold the programs, most wanted first.
fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    if let Ok(said) = Command::new("pg_config").arg("--bindir").output() {
        dirs.push(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()));
    }
    // Debian, Red Hat, Homebrew on Apple and on Intel, and a build from source.
    dirs.extend(newest_first("/usr/lib/postgresql", "", "bin"));
    dirs.extend(newest_first("/usr", "pgsql-", "bin"));
    dirs.extend(newest_first("/opt/homebrew/opt", "postgresql", "bin"));
    dirs.extend(newest_first("/usr/local/opt", "postgresql", "bin"));
    dirs.push(PathBuf::from("/usr/local/pgsql/bin"));
    dirs
}

/// `base/prefix*/leaf`, by the number in the name.
fn newest_first(base: &str, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.trim_start_matches('@');
            // Homebrew's plain `postgresql` comes last.
            Some((number.parse().unwrap_or(0), entry.path().join(leaf)))
        })
        .collect();
    found.sort_by_key(|(number, _)| Reverse(*number));
    found.into_iter().map(|(_, dir)| dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_server_says() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("postgres: command not found"), None);
    }

    #[test]
    fn newer_versions_come_first() {
        let base = tempfile::tempdir().unwrap();
        for name in ["postgresql@9", "postgresql@16", "postgresql", "redis"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        let found = newest_first(base.path().to_str().unwrap(), "postgresql", "bin");
        let expected: Vec<PathBuf> = ["postgresql@16", "postgresql@9", "postgresql"]
            .map(|name| base.path().join(name).join("bin"))
            .into();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_the_version_that_made_a_cluster_will_do() {
        let cluster = tempfile::tempdir().unwrap();
        let installed =
            || [17, 15].map(|major| Binaries { dir: PathBuf::from(format!("/{major}")), major }).into_iter();
        fs::write(cluster.path().join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(
            Binaries::of_version(cluster.path(), installed()).unwrap().initdb(),
            Path::new("/15/initdb")
        );
        fs::write(cluster.path().join("PG_VERSION"), "14\n").unwrap();
        let error = Binaries::of_version(cluster.path(), installed()).unwrap_err().to_string();
        assert!(error.contains("made by PostgreSQL 14, but only 17, 15 is installed"), "{error}");
        assert!(matches!(
            Binaries::of_version(cluster.path(), std::iter::empty()),
            Err(ClusterError::NoBinaries)
        ));
    }

    #[test]
    fn this_machine_has_usable_programs() {
        let found = Binaries::any().unwrap();
        assert!(found.postgres().is_file() && found.initdb().is_file());
        assert!(Binaries::at(PathBuf::from("relative/bin")).is_none());
        assert!(Binaries::at(PathBuf::from("/nowhere")).is_none());
    }
}
