//! Address ranges: which addresses belong to the public Internet, and a small CIDR type for the exceptions.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A range of addresses in CIDR notation, such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IpNetError {
    /// The part before the slash is not an IP address.
    #[error("`{0}` is not an IP address or a range such as 10.0.0.0/8 or fd00::/8")]
    Address(String),
    /// The part after the slash is not a prefix length that the address can have.
    #[error("`{text}`: the prefix length must be a number from 0 to {max}")]
    Prefix {
        /// What was given.
        text: String,
        /// The longest prefix of this kind of address.
        max: u8,
    },
    /// The address has bits set beyond the prefix; which range was meant is unclear.
    #[error("`{text}` has bits set beyond its prefix; did you mean {meant}?")]
    HostBits {
        /// What was given.
        text: String,
        /// The range that contains the given address.
        meant: IpNet,
    },
}

impl IpNet {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix }
    }

    /// Whether `ip` lies in this range. IPv4 and IPv6 ranges never contain each other's addresses.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => mask_v4(ip, self.prefix) == net,
            (IpAddr::V6(net), IpAddr::V6(ip)) => mask_v6(ip, self.prefix) == net,
            _ => false,
        }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = IpNetError;

    /// Parses `address/prefix`; an address alone is the range of just that address.
    fn from_str(text: &str) -> Result<Self, IpNetError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| IpNetError::Address(text.to_owned()))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            // `u8::from_str` would take "+8".
            Some(digits) => Some(digits)
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|prefix| *prefix <= max)
                .ok_or_else(|| IpNetError::Prefix { text: text.to_owned(), max })?,
        };
        let start = match address {
            IpAddr::V4(ip) => IpAddr::V4(mask_v4(ip, prefix)),
            IpAddr::V6(ip) => IpAddr::V6(mask_v6(ip, prefix)),
        };
        if start != address {
            let meant = Self { address: start, prefix };
            return Err(IpNetError::HostBits { text: text.to_owned(), meant });
        }
        Ok(Self { address, prefix })
    }
}

fn mask_v4(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(ip.to_bits() & mask)
}

fn mask_v6(ip: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from_bits(ip.to_bits() & mask)
}

/// IPv4 that is not the public Internet (IANA's special-purpose registry, and one cloud's oddity).
const NOT_PUBLIC_V4: &[IpNet] = &[
    IpNet::v4(0, 0, 0, 0, 8),        // "this network"; Linux connects 0.0.0.0 to itself
    IpNet::v4(10, 0, 0, 0, 8),       // private
    IpNet::v4(100, 64, 0, 0, 10),    // carrier-grade NAT; Alibaba's metadata service
    IpNet::v4(127, 0, 0, 0, 8),      // loopback
    IpNet::v4(168, 63, 129, 16, 32), // Azure's host agent: a public number, but always the local host
    IpNet::v4(169, 254, 0, 0, 16),   // link-local; the clouds' metadata services
    IpNet::v4(172, 16, 0, 0, 12),    // private
    IpNet::v4(192, 0, 0, 0, 24),     // protocol assignments; Oracle's metadata service
    IpNet::v4(192, 0, 2, 0, 24),     // documentation
    IpNet::v4(192, 88, 99, 0, 24),   // 6to4 relays, withdrawn
    IpNet::v4(192, 168, 0, 0, 16),   // private
    IpNet::v4(198, 18, 0, 0, 15),    // benchmarking
    IpNet::v4(198, 51, 100, 0, 24),  // documentation
    IpNet::v4(203, 0, 113, 0, 24),   // documentation
    IpNet::v4(224, 0, 0, 0, 4),      // multicast
    IpNet::v4(240, 0, 0, 0, 4),      // reserved, and broadcast
];

/// The only part of IPv6 that is handed out for the public Internet. Everything outside is refused by this
/// one line: loopback, ULA, link-local, multicast, v4-compatible, local-use NAT64, and what is not assigned
/// yet.
const GLOBAL_UNICAST: IpNet = IpNet::v6(0x2000, 0, 0, 3);

/// Exceptions within [`GLOBAL_UNICAST`].
const NOT_PUBLIC_V6: &[IpNet] = &[
    IpNet::v6(0x2001, 0, 0, 23), // protocol assignments: Teredo, benchmarking, ORCHID …
    IpNet::v6(0x2001, 0xdb8, 0, 32), // documentation
    IpNet::v6(0x2002, 0, 0, 16), // 6to4: leads to any IPv4 address by way of a relay
    IpNet::v6(0x3fff, 0, 0, 20), // documentation
];

/// NAT64's well-known prefix. On a network with IPv6 only, DNS64 answers with it for every IPv4 site, so it
/// is judged by the IPv4 address it leads to instead of being refused.
const NAT64: IpNet = IpNet::v6(0x64, 0xff9b, 0, 96);

/// The address that a packet to `ip` reaches in the end: the IPv4 address inside a v4-mapped or NAT64 one.
pub(super) fn canonical(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if NAT64.contains(ip) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        other => other,
    }
}

/// Whether `ip` is an address of the public Internet, as opposed to this machine, its network or a reserved
/// range.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match canonical(ip) {
        ip @ IpAddr::V4(_) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(ip)),
        ip @ IpAddr::V6(_) => {
            GLOBAL_UNICAST.contains(ip) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(ip))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    /// First and last address of every refused range, and its public neighbours on both sides.
    #[test]
    fn every_special_ipv4_range_is_refused_exactly() {
        for (first, last, below, above) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("168.63.129.16", "168.63.129.16", Some("168.63.129.15"), Some("168.63.129.17")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "239.255.255.255", Some("223.255.255.255"), None),
            ("240.0.0.0", "255.255.255.255", None, None),
        ] {
            for refused in [first, last] {
                assert!(!public(refused), "{refused}");
                assert!(!public(&format!("::ffff:{refused}")), "mapped {refused}");
                assert!(!public(&format!("64:ff9b::{refused}")), "NAT64 {refused}");
                assert!(!public(&format!("::{refused}")), "v4-compatible {refused}");
            }
            for neighbour in [below, above].into_iter().flatten() {
                assert!(public(neighbour), "{neighbour}");
                assert!(public(&format!("::ffff:{neighbour}")), "mapped {neighbour}");
                assert!(public(&format!("64:ff9b::{neighbour}")), "NAT64 {neighbour}");
            }
        }
    }

    #[test]
    fn every_special_ipv6_range_is_refused() {
        for refused in [
            "::",
            "::1",
            "::ffff:0:0",
            "::8.8.8.8",
            "64:ff9a::1",
            "64:ff9b:0:0:0:1::",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "1fff::1",
            "2001::1",
            "2001:0:53aa:64c::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2001:db8:ffff::1",
            "2002::1",
            "2002:808:808::1",
            "2002:7f00:1::",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ffff::1",
        ] {
            assert!(!public(refused), "{refused}");
        }
        for fine in [
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert!(public(fine), "{fine}");
        }
    }

    #[test]
    fn ranges_parse_and_say_what_is_wrong() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::/8", "fd00::/8"),
        ] {
            assert_eq!(text.parse::<IpNet>().unwrap().to_string(), shown);
        }
        let error = |text: &str| text.parse::<IpNet>().unwrap_err().to_string();
        assert_eq!(
            error("10.1.2.3/8"),
            "`10.1.2.3/8` has bits set beyond its prefix; did you mean 10.0.0.0/8?"
        );
        assert_eq!(error("fd12::/8"), "`fd12::/8` has bits set beyond its prefix; did you mean fd00::/8?");
        assert_eq!(error("10.0.0.0/33"), "`10.0.0.0/33`: the prefix length must be a number from 0 to 32");
        for bad in ["::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(error(bad).contains("prefix length"), "{bad}");
        }
        for bad in ["", "localhost", "10.0.0/8", "010.0.0.0/8"] {
            assert!(error(bad).contains("is not an IP address"), "{bad}");
        }
    }

    #[test]
    fn a_range_contains_its_ends_and_nothing_else() {
        let net: IpNet = "10.8.0.0/13".parse().unwrap();
        for (ip, inside) in [
            ("10.8.0.0", true),
            ("10.15.255.255", true),
            ("10.7.255.255", false),
            ("10.16.0.0", false),
            ("::ffff:10.8.0.1", false),
        ] {
            assert_eq!(net.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        let everything: IpNet = "::/0".parse().unwrap();
        assert!(everything.contains("fe80::1".parse().unwrap()));
        assert!(!everything.contains("10.0.0.1".parse().unwrap()));
    }
}
