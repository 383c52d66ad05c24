//! Where the farm is and what opens it: from options, from the environment, or from the directory of a local farm.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::failure::Failure;
use super::output::Format;
use crate::dev::{ADMIN_KEY_FILE, SERVER_FILE};

// No doc comment on the struct: clap would make it the program's description.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// Address of the farm; where it is left out, the one a local farm left in the data directory
    #[arg(long, global = true, value_name = "URL", env = "REELMILL_SERVER", help_heading = "Connection")]
    server: Option<String>,
    /// API key; where it is left out, the one a local farm left in the data directory, else REELMILL_ADMIN_KEY
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "REELMILL_KEY",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    key: Option<Key>,
    /// Data directory of a local farm, where its address and key are found
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = ".reelmill",
        env = "REELMILL_DATA_DIR",
        help_heading = "Connection"
    )]
    data_dir: PathBuf,
    /// How data is printed; json is the API's own document
    #[arg(short = 'o', long = "format", global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

impl Connection {
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// Finds the farm.
    pub(crate) fn resolve(&self) -> Result<Address, Failure> {
        Found {
            server: self.server.clone(),
            key: self.key.clone(),
            admin_key: std::env::var("REELMILL_ADMIN_KEY").ok().map(Key),
            file_server: read(&self.data_dir.join(SERVER_FILE))?,
            file_key: read(&self.data_dir.join(ADMIN_KEY_FILE))?.map(Key),
        }
        .choose(&self.data_dir)
    }
}

/// An API key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// For the one header it goes into.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

// Infallible, because clap shows a value it cannot parse.
impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A farm's address and what opens it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address {
    /// Ends in a slash.
    pub(crate) base: Url,
    pub(crate) key: Key,
    /// True where it came from the data directory: then the farm may simply not be running.
    pub(crate) local: bool,
}

impl Address {
    /// True for this machine. Proxies have no business between us and it.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }
}

/// What was found where.
#[derive(Default)]
struct Found {
    server: Option<String>,
    key: Option<Key>,
    admin_key: Option<Key>,
    file_server: Option<String>,
    file_key: Option<Key>,
}

impl Found {
    fn choose(self, data_dir: &Path) -> Result<Address, Failure> {
        // An empty variable is one that is not set.
        let text = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
        let secret = |key: Option<Key>| key.filter(|key| !key.0.trim().is_empty());
        let (given, kept) = (text(self.server), text(self.file_server));
        let kept = kept.map(|url| parse(&url)).transpose()?;
        let (base, local) = match (&given, &kept) {
            (Some(given), _) => (parse(given)?, false),
            (None, Some(kept)) => (kept.clone(), true),
            (None, None) => {
                return Err(Failure::Unreachable(format!(
                    "no farm found in {}: start one with `reelmill dev`, or give --server and --key",
                    data_dir.display()
                )));
            }
        };
        // The key of the farm in the data directory goes to that farm only.
        let own = kept.as_ref().is_some_and(|kept| same_farm(kept, &base));
        let kept_key = secret(self.file_key).filter(|_| own);
        let key = secret(self.key).or(kept_key).or_else(|| secret(self.admin_key));
        let key = key.ok_or_else(|| {
            Failure::NoKey(format!(
                "no key for {base}: give --key, or set REELMILL_KEY (see `reelmill help`)"
            ))
        })?;
        Ok(Address { base, key: Key(key.0.trim().to_owned()), local })
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Failure::Usage(format!("cannot read {}: {error}", path.display())))
        }
        // No such directory, or not one of ours.
        Err(_) => Ok(None),
    }
}

fn parse(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("the server's address {why}"));
    let mut url = Url::parse(text.trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| wrong("must begin with http:// or https://"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a user or password; the key goes into --key"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must not hold a query or fragment"));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn same_farm(a: &Url, b: &Url) -> bool {
    let port = a.port_or_known_default() == b.port_or_known_default();
    // `localhost` and 127.0.0.1 are one farm.
    a.scheme() == b.scheme() && port && (a.host() == b.host() || is_loopback(a) && is_loopback(b))
}

/// True for an address of this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn key(text: &str) -> Option<Key> {
        Some(Key(text.to_owned()))
    }

    fn local() -> Found {
        Found { file_server: some("http://127.0.0.1:8080"), file_key: key("file"), ..Found::default() }
    }

    fn chosen(found: Found) -> (String, String) {
        let address = found.choose(Path::new("d")).unwrap();
        (address.base.to_string(), address.key.0)
    }

    fn code(found: Found) -> u8 {
        found.choose(Path::new("d")).unwrap_err().exit_code()
    }

    #[test]
    fn a_local_farm_is_found_by_its_files() {
        assert_eq!(chosen(local()), ("http://127.0.0.1:8080/".into(), "file".into()));
        assert_eq!(chosen(Found { server: some(""), key: key(""), ..local() }).1, "file");
        // What the file says wins over a variable that is meant for another farm.
        assert_eq!(chosen(Found { admin_key: key("admin"), ..local() }).1, "file");
        assert_eq!(chosen(Found { key: key("mine"), ..local() }).1, "mine");
    }

    #[test]
    fn a_local_key_is_not_sent_elsewhere() {
        assert_eq!(code(Found { server: some("https://farm.example"), ..local() }), 4);
        assert_eq!(code(Found { server: some("http://127.0.0.1:9090"), ..local() }), 4);
        assert_eq!(chosen(Found { server: some("http://localhost:8080"), ..local() }).1, "file");
        let found = Found { server: some("https://farm.example/x"), admin_key: key("admin"), ..local() };
        assert_eq!(chosen(found), ("https://farm.example/x/".into(), "admin".into()));
    }

    #[test]
    fn nothing_found_and_nonsense_say_so() {
        let error = Found::default().choose(Path::new("some/dir")).unwrap_err();
        assert!(error.to_string().contains("reelmill dev"), "{error}");
        assert_eq!(error.exit_code(), 3);
        for bad in ["127.0.0.1:80", "localhost:8080", "ftp://x", "http://u:p@x", "http://x/?q", "http://"] {
            assert_eq!(code(Found { server: some(bad), key: key("k"), ..Found::default() }), 2, "{bad}");
        }
    }

    #[test]
    fn keys_do_not_show() {
        assert!(!format!("{:?}", local().file_key).contains("file"));
    }

    #[test]
    fn this_machine_is_known() {
        for here in ["http://localhost:1", "http://127.3.4.5", "http://[::1]:80", "http://x.localhost"] {
            assert!(is_loopback(&Url::parse(here).unwrap()), "{here}");
        }
        for there in ["http://10.0.0.1", "http://localhost.example"] {
            assert!(!is_loopback(&Url::parse(there).unwrap()), "{there}");
        }
    }
}
