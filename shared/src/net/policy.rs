//! Which addresses outgoing requests may reach.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use super::error::NetError;
use super::ranges::{IpNet, IpNetError, canonical, is_public};

/// Which addresses outgoing requests may reach: public ones, and the ranges an operator opened.
///
/// The default opens nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetPolicy {
    allow: Vec<IpNet>,
    allow_downgrade: bool,
}

/// What is wrong with a list of ranges: every bad entry, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl NetPolicy {
    /// Public addresses, and the given ranges as well.
    #[must_use]
    pub fn allowing(allow: Vec<IpNet>) -> Self {
        Self { allow, allow_downgrade: false }
    }

    /// Addresses of this machine itself as well.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        self.allow.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse::<IpNet>().ok()));
        self
    }

    /// Also follow redirects from `https` to `http`, which hand what was asked for in private to everyone on
    /// the way.
    #[must_use]
    pub fn with_https_downgrade(mut self) -> Self {
        self.allow_downgrade = true;
        self
    }

    /// Whether a redirect may lead from `https` to `http`.
    #[must_use]
    pub fn permits_https_downgrade(&self) -> bool {
        self.allow_downgrade
    }

    /// Whether a request may connect to this address.
    #[must_use]
    pub fn permits(&self, ip: IpAddr) -> bool {
        // Both forms are looked up in the allow-list, or `::ffff:127.0.0.1` would be refused where 127.0.0.1
        // is open.
        let reached = canonical(ip);
        self.allow.iter().any(|net| net.contains(ip) || net.contains(reached)) || is_public(ip)
    }

    /// Resolves a host (a name, or an address with or without brackets) to the addresses that may be
    /// connected to.
    ///
    /// Whoever connects must use these very addresses: asking the resolver a second time may bring another
    /// answer.
    ///
    /// # Errors
    /// [`NetError::Refused`] when there are addresses but none is permitted, [`NetError::Dns`] when there are
    /// none.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NetError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let found = tokio::net::lookup_host((bare, port)).await;
        let found = found.map_err(|source| NetError::Dns {
            host: host.to_owned(),
            retryable: is_temporary(&source),
            source,
        })?;
        // getaddrinfo answers once per socket type on some systems.
        let mut seen = HashSet::new();
        let found: Vec<SocketAddr> = found.filter(|addr| seen.insert(*addr)).collect();
        let Some(first) = found.first().map(SocketAddr::ip) else {
            let source = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
            return Err(NetError::Dns { host: host.to_owned(), retryable: false, source });
        };
        let permitted: Vec<SocketAddr> = found.into_iter().filter(|addr| self.permits(addr.ip())).collect();
        if permitted.is_empty() {
            return Err(NetError::Refused { host: host.to_owned(), ip: first });
        }
        Ok(permitted)
    }
}

impl FromStr for NetPolicy {
    type Err = PolicyError;

    /// Parses a comma-separated list of ranges, as in `REELMILL_NET_ALLOW`; an empty list opens nothing.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let (mut allow, mut errors) = (Vec::new(), Vec::new());
        for part in parts {
            match part.parse() {
                Ok(net) => allow.push(net),
                Err(error) => errors.push(IpNetError::to_string(&error)),
            }
        }
        if errors.is_empty() { Ok(Self::allowing(allow)) } else { Err(PolicyError(errors.join("; "))) }
    }
}

/// A failed look-up that may succeed soon. The standard library gives no kind for these, only getaddrinfo's
/// text; a name that does not exist is by far the most common permanent one, so only its texts (glibc, musl,
/// macOS) count as final.
fn is_temporary(error: &io::Error) -> bool {
    const FINAL: [&str; 5] = [
        "Name or service not known",
        "Name does not resolve",
        "nodename nor servname",
        "No address associated",
        "Name has no usable address",
    ];
    // An unusable name (a NUL inside) never reaches the resolver.
    let text = error.to_string();
    error.kind() != io::ErrorKind::InvalidInput && !FINAL.iter().any(|known| text.contains(known))
}

/// The resolver that reqwest connects through: it hands out permitted addresses only.
#[derive(Debug)]
pub(super) struct GuardedResolver(pub(super) Arc<NetPolicy>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            // Port 0 is replaced by the port of the URL.
            let permitted = policy.resolve(name.as_str(), 0).await?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_by_default() {
        let policy = NetPolicy::default();
        assert!(policy.permits("8.8.8.8".parse().unwrap()));
        for ip in ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fd00::1"] {
            assert!(!policy.permits(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_list_opens_its_ranges_in_every_spelling() {
        let policy: NetPolicy = " 10.0.0.0/8, 127.0.0.1/32 ,::1/128, ".parse().unwrap();
        for ip in ["10.255.0.1", "127.0.0.1", "::ffff:127.0.0.1", "::1", "64:ff9b::10.1.1.1", "8.8.8.8"] {
            assert!(policy.permits(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.2", "172.16.0.1", "::ffff:127.0.0.2", "fe80::1"] {
            assert!(!policy.permits(ip.parse().unwrap()), "{ip}");
        }
        assert_eq!("".parse::<NetPolicy>().unwrap(), NetPolicy::default());
    }

    #[test]
    fn this_machine_can_be_opened_by_itself() {
        let policy = NetPolicy::default().with_loopback();
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(policy.permits(ip.parse().unwrap()), "{ip}");
        }
        assert!(!policy.permits("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_bad_list_names_every_bad_entry() {
        let error = "10.0.0.0/8, nonsense, 10.0.0.1/8".parse::<NetPolicy>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`nonsense` is not an IP address or a range such as 10.0.0.0/8 or fd00::/8; \
             `10.0.0.1/8` has bits set beyond its prefix; did you mean 10.0.0.0/8?"
        );
    }

    #[tokio::test]
    async fn resolving_gives_permitted_addresses_or_says_why_not() {
        let refused = NetPolicy::default().resolve("localhost", 80).await.unwrap_err();
        assert!(matches!(&refused, NetError::Refused { host, .. } if host == "localhost"), "{refused:?}");
        assert!(!refused.retryable());
        let open: NetPolicy = "127.0.0.0/8,::1".parse().unwrap();
        let found = open.resolve("localhost", 80).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
        assert_eq!(open.resolve("[::1]", 1).await.unwrap(), ["[::1]:1".parse().unwrap()]);
        let unknown = open.resolve("nul\0inside", 80).await.unwrap_err();
        assert!(matches!(unknown, NetError::Dns { retryable: false, .. }), "{unknown:?}");
    }

    #[test]
    fn a_missing_name_is_final_and_a_silent_resolver_is_not() {
        let says = |text: &str| {
            is_temporary(&io::Error::other(format!("failed to lookup address information: {text}")))
        };
        assert!(says("Temporary failure in name resolution"));
        assert!(says("Try again"));
        assert!(!says("Name or service not known"));
        assert!(!says("nodename nor servname provided, or not known"));
    }
}
