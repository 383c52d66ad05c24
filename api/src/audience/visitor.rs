//! Who asks, as far as a request tells.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::state::App;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) address: String,
    pub(crate) agent: String,
}

/// User agents are not kept longer.
const AGENT: usize = 512;

/// What programs call themselves that fetch pages for nobody who looks at them, beside what ends in "bot".
const MACHINES: [&str; 6] =
    ["crawler", "spider", "slurp", "facebookexternalhit", "mediapartners", "bytespider"];
/// A make of telephones.
const NO_BOT: &str = "cubot";

impl Visitor {
    /// It says of itself that nobody watches.
    pub(super) fn is_machine(&self) -> bool {
        let agent = self.agent.to_ascii_lowercase();
        let mut words = agent.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| {
            let bot = word.ends_with("bot") || word.ends_with("bots");
            bot && word != NO_BOT || MACHINES.iter().any(|name| word.contains(name))
        })
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let address = forwarded(&parts.headers, app.config.proxies).or(peer);
        let agent =
            parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        Ok(Self {
            address: address
                .map_or_else(|| "unknown".to_owned(), |address| address.to_canonical().to_string()),
            agent: agent.chars().take(AGENT).collect(),
        })
    }
}

/// The address that the first of so many proxies of ours saw; `None` where there are none, or they did not tell.
fn forwarded(headers: &HeaderMap, proxies: u8) -> Option<IpAddr> {
    let nth = usize::from(proxies).checked_sub(1)?;
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    // What stands before was said by whoever came to it, and may be anything.
    lines.iter().flat_map(|line| line.split(',')).rev().nth(nth)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_proxies_are_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.7".parse().unwrap());
        let seen = |proxies| forwarded(&headers, proxies).map(|address| address.to_string());
        assert_eq!(seen(0), None);
        assert_eq!(seen(1).as_deref(), Some("10.0.0.7"));
        assert_eq!(seen(2).as_deref(), Some("1.2.3.4"));
        assert_eq!(seen(9), None);
    }

    #[test]
    fn machines_that_say_so_are_told_from_people() {
        let is_machine =
            |agent: &str| Visitor { address: String::new(), agent: agent.to_owned() }.is_machine();
        for machine in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "AdsBot-Google (+http://www.google.com/adsbot.html)",
            "Mozilla/5.0 (compatible; bingbot/2.0)",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 (compatible; Baiduspider/2.0)",
        ] {
            assert!(is_machine(machine), "{machine}");
        }
        for person in [
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
            "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36",
            "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/140.0",
            "AppleCoreMedia/1.0.0 (Apple TV; U; CPU OS 17_0 like Mac OS X)",
            "",
        ] {
            assert!(!is_machine(person), "{person}");
        }
    }
}
