//! Where the cluster lies, whose it is, and the small files about it in the data directory.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::{Uid, User, geteuid};
use tokio::process::Command;

use super::{ClusterError, io_error};

/// The farm's data directory, by its real path.
#[derive(Debug)]
pub(super) struct DataDir(PathBuf);

/// Keeps everybody else away from a data directory until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

#[cfg(test)]
impl Lock {
    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    /// Closing the file would not do: a program that another thread is just about to start has it open, too, until it runs.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Where a cluster is, or is going to be.
#[derive(Debug)]
pub(super) struct Place {
    /// The cluster's own directory.
    pub(super) cluster: PathBuf,
    /// Who has to run the server; `None` if that is simply who we are.
    pub(super) user: Option<ServerUser>,
    /// Whether the data directory's record names it already.
    recorded: bool,
}

/// The unprivileged user that root drops to for PostgreSQL, which refuses to run as root.
#[derive(Debug, Clone)]
pub(super) struct ServerUser {
    name: String,
    uid: u32,
    gid: u32,
}

impl DataDir {
    pub(super) fn open(path: &Path) -> Result<Self, ClusterError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        Ok(Self(fs::canonicalize(path).map_err(io_error("open", path))?))
    }

    /// Takes the directory for this process. Whoever holds the lock owns the server, so that a server that
    /// runs while nobody holds it is left over from a killed run, and never somebody's.
    pub(super) fn lock(&self) -> Result<Lock, ClusterError> {
        let path = self.0.join("postgres.lock");
        let failed = || io_error("lock", &path);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                return Err(ClusterError::InUse { data_dir: self.0.clone(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed()(source)),
        }
        let mut lock = Lock(file);
        lock.0.set_len(0).and_then(|()| writeln!(lock.0, "{}", std::process::id())).map_err(failed())?;
        Ok(lock)
    }

    /// The password of a place's cluster. It is kept before the cluster is made: a cluster without its
    /// password would be of no use.
    pub(super) fn password(&self, place: &Place) -> Result<String, ClusterError> {
        let file = self.0.join("postgres-password");
        match fs::read_to_string(&file) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("read", &file)(error));
            }
            _ if place.exists() => {
                return Err(ClusterError::PasswordMissing { cluster: place.cluster.clone(), file });
            }
            _ => {}
        }
        let password = hex::encode(rand::random::<[u8; 24]>());
        write_whole(&file, &password)?;
        Ok(password)
    }

    /// Writes down that the place now has a complete cluster, which is missed from then on.
    pub(super) fn record(&self, place: &Place) -> Result<(), ClusterError> {
        if place.recorded {
            return Ok(());
        }
        // Relative where it can be, so that the data directory may be moved.
        let shown = place.cluster.strip_prefix(&self.0).unwrap_or(&place.cluster);
        write_whole(&self.location(), &shown.to_string_lossy())?;
        let _ = fs::remove_file(self.intended());
        Ok(())
    }

    /// An empty log; the last run's is kept beside it, because it may say why that run ended.
    pub(super) fn fresh_log(&self) -> Result<(PathBuf, File), ClusterError> {
        let path = self.0.join("postgres.log");
        let _ = fs::rename(&path, self.0.join("postgres.log.1"));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        Ok((path.clone(), file.map_err(io_error("write", &path))?))
    }

    fn location(&self) -> PathBuf {
        self.0.join("postgres-location")
    }

    /// Names a place outside while its cluster is being made, so that a start that was killed is taken up
    /// again there instead of leaving it behind.
    fn intended(&self) -> PathBuf {
        self.0.join("postgres-location.new")
    }

    fn read(&self, file: &Path) -> Result<Option<PathBuf>, ClusterError> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(Some(self.0.join(text.trim()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", file)(error)),
        }
    }
}

impl Place {
    pub(super) fn exists(&self) -> bool {
        self.cluster.join("PG_VERSION").exists()
    }
}

impl ServerUser {
    /// Gives a file or directory to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), ClusterError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(io_error("change the owner of", path))
    }

    fn by_name() -> Option<Self> {
        let find = |name| User::from_name(name).ok().flatten();
        let user = find("postgres").or_else(|| find("nobody"))?;
        Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// Asks the kernel, since modes alone do not tell (access lists, network file systems, read-only roots).
    async fn can_enter(&self, dir: &Path) -> Result<bool, ClusterError> {
        let mut shell = command(Path::new("/bin/sh"), Some(self));
        shell.args(["-c", r#"cd -- "$1""#, "sh"]).arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
        let status = shell.status().await;
        Ok(status.map_err(|source| ClusterError::Spawn { program: "/bin/sh".into(), source })?.success())
    }
}

/// Finds the cluster of a data directory, or the place for a new one: inside if the server's user can enter
/// there, else a new directory in `shared`. Its name is random and only written down: a name made from the
/// data directory's path would bring an old cluster back after that directory was deleted.
pub(super) async fn locate(data: &DataDir, shared: &Path) -> Result<Place, ClusterError> {
    let record = data.location();
    if let Some(cluster) = data.read(&record)? {
        let place = existing(cluster, true).await?;
        return if place.exists() {
            Ok(place)
        } else {
            Err(ClusterError::Lost { cluster: place.cluster, record })
        };
    }
    let inside = data.0.join("postgres");
    if inside.exists() {
        // Complete (it gets this name only then), but the run was killed before it could be recorded.
        return existing(inside, false).await;
    }
    if !geteuid().is_root() {
        return Ok(Place { cluster: inside, user: None, recorded: false });
    }
    let user = ServerUser::by_name().ok_or(ClusterError::NoUser)?;
    let cluster =
        match data.read(&data.intended())?.filter(|cluster| cluster.parent().is_some_and(Path::is_dir)) {
            Some(begun) if begun.exists() => return existing(begun, false).await,
            Some(begun) => begun,
            None if user.can_enter(&data.0).await? => inside,
            None => {
                let own = shared.join(hex::encode(rand::random::<[u8; 8]>()));
                write_whole(&data.intended(), &own.join("postgres").to_string_lossy())?;
                for dir in [shared, &own] {
                    fs::create_dir_all(dir).map_err(io_error("create", dir))?;
                    // Whatever the umask says: others must be able to pass, and the cluster itself is private.
                    fs::set_permissions(dir, Permissions::from_mode(0o755))
                        .map_err(io_error("open up", dir))?;
                }
                fs::canonicalize(&own).map_err(io_error("open", &own))?.join("postgres")
            }
        };
    if !user.can_enter(cluster.parent().unwrap_or(&cluster)).await? {
        return Err(ClusterError::CannotEnter { user: user.name, cluster });
    }
    Ok(Place { cluster, user: Some(user), recorded: false })
}

/// A cluster that is there already (or should be) is run by its owner: the one root dropped to at the time,
/// or the ordinary user who made it.
async fn existing(cluster: PathBuf, recorded: bool) -> Result<Place, ClusterError> {
    let owner = match fs::metadata(&cluster) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Place { cluster, user: None, recorded });
        }
        Err(error) => return Err(io_error("look at", &cluster)(error)),
    };
    // Its processes are recognised by the real path, and somebody may have moved it to another disk behind a
    // link.
    let cluster = fs::canonicalize(&cluster).map_err(io_error("open", &cluster))?;
    if owner.uid() == 0 || !(geteuid().is_root() || geteuid().as_raw() == owner.uid()) {
        return Err(ClusterError::Owner { cluster, owner: owner.uid() });
    }
    if !geteuid().is_root() {
        return Ok(Place { cluster, user: None, recorded });
    }
    let name = User::from_uid(Uid::from_raw(owner.uid())).ok().flatten().map(|user| user.name);
    let name = name.unwrap_or_else(|| owner.uid().to_string());
    let user = ServerUser { name, uid: owner.uid(), gid: owner.gid() };
    if !user.can_enter(&cluster).await? {
        return Err(ClusterError::CannotEnter { user: user.name, cluster });
    }
    Ok(Place { cluster, user: Some(user), recorded })
}

/// A command as the server's user, who shall see as little of us as possible.
pub(super) fn command(program: &Path, user: Option<&ServerUser>) -> Command {
    let mut command = Command::new(program);
    // Our environment may hold secrets, and variables (PGPORT, PGDATA …) that change what PostgreSQL does.
    command.env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // English messages; and macOS' server does not start without a locale in the environment.
    command.env("LC_ALL", "C");
    // The user may not be able to enter the directory that we are in.
    command.current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        // The standard library also gives up root's supplementary groups when it changes the user; nothing is
        // put in their place, which the server does not need.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// A directory that nobody else may enter, new for certain, given to the server's user.
pub(super) fn private_dir(path: &Path, user: Option<&ServerUser>) -> Result<(), ClusterError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io_error("create", path))?;
    user.map_or(Ok(()), |user| user.own(path))
}

/// A private file that is there whole or not at all.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<(), ClusterError> {
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let write = || {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(io_error("write", path))
}
