//! Webhooks by Standard Webhooks (<https://www.standardwebhooks.com>): secrets and signatures, what a body holds, when to try
//! again, and one attempt at a delivery. Which deliveries there are is in `db::deliveries`.

mod body;
mod retry;
mod secret;
mod send;

pub use body::{TEST_EVENT, body};
pub use retry::{HOLDS, granted, wait};
pub use secret::{BadSecret, Secret, Unverified, verify};
pub use send::{Answer, Message, Sender, Verdict};

use url::Url;

use crate::job::state::words;
use crate::net::{NetError, NetPolicy, check_target};

/// Bytes of an address that events are sent to.
const LONGEST_URL: usize = 2048;

words! {
    /// Where a delivery stands. Only `Pending` is not final.
    DeliveryState("delivery state") {
        Pending = "pending",
        Delivered = "delivered",
        Dead = "dead",
    }
}

impl DeliveryState {
    /// States a delivery may be in to become `self`. An UPDATE to `self` says `state = ANY(these)`.
    pub fn predecessors(self) -> &'static [DeliveryState] {
        match self {
            Self::Pending => &[],
            Self::Delivered | Self::Dead => &[Self::Pending],
        }
    }
}

words! {
    /// What events are sent to.
    WebhookKind("webhook kind") {
        /// One address, which gets the project's events.
        Endpoint = "endpoint",
        /// The addresses that jobs name as their `callback_url`: each gets the events of its job.
        Callbacks = "callbacks",
    }
}

/// Reads an address that events are to be sent to. A name is not looked up: what it stands for may change, and is checked at
/// every attempt.
///
/// # Errors
/// What is wrong with it, in words that follow the field's name.
pub fn receiver(policy: &NetPolicy, text: &str) -> Result<Url, String> {
    if text.len() > LONGEST_URL {
        return Err(format!("may have at most {LONGEST_URL} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password: receivers know us by the signature".to_owned());
    }
    match check_target(policy, &url) {
        Ok(()) => Ok(url),
        Err(NetError::Scheme(scheme)) => {
            Err(format!("the scheme {scheme:?} is not supported; use https, or http"))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_web_servers_at_public_addresses() {
        let closed = NetPolicy::default();
        for good in ["https://example.com/hook?x=1", "http://8.8.8.8:9000/"] {
            receiver(&closed, good).unwrap();
        }
        let long = format!("https://example.com/{}", "a".repeat(LONGEST_URL));
        for bad in [
            "",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://u:p@example.com/",
            "http://127.0.0.1/",
            "http://[::1]:80/",
            "http://10.1.2.3/",
            "http://169.254.169.254/latest",
            &long,
        ] {
            assert!(receiver(&closed, bad).is_err(), "{bad}");
        }
        assert!(receiver(&"127.0.0.0/8".parse().unwrap(), "http://127.0.0.1/").is_ok());
    }

    #[test]
    fn what_has_ended_stays_so() {
        for state in DeliveryState::ALL {
            assert!(state.predecessors().iter().all(|before| *before == DeliveryState::Pending), "{state}");
        }
    }
}
