//! One hop of a request: where it may go, what it may carry there, and how its address is written into logs.

use std::net::IpAddr;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::{Host, Position, Url};

use super::error::NetError;
use super::policy::NetPolicy;

/// Headers that belong to the connection or are written by the client. A caller's (in the end: a user's) own
/// values could make two servers disagree about where a request ends, or choose another site on a permitted
/// address.
const NOT_FOR_CALLERS: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
];

/// What still goes along to another origin. Everything else may be a secret meant for the first one only,
/// under whatever name (`Authorization`, `Cookie`, `X-Auth-Token` …).
const FOR_OTHER_ORIGINS: [HeaderName; 8] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::USER_AGENT,
];

/// The URL as it may be logged or shown: without credentials, and with only a sign of its query and fragment,
/// where signatures and tokens are.
#[must_use]
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    // Neither can fail where there is something to hide: only a URL with a host has credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}{query}", &shown[..Position::AfterPath])
}

/// Checks what can be said of a URL before connecting: the scheme, and the address where the host is one. The
/// connector asks the resolver, which checks, for names only.
///
/// # Errors
/// [`NetError::Scheme`] and [`NetError::Refused`].
pub fn check_target(policy: &NetPolicy, url: &Url) -> Result<(), NetError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(NetError::Scheme(url.scheme().to_owned()));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        // `Url` has already turned every spelling of an IPv4 address into the first variant. Should one slip
        // through, the connector would still parse it and skip the resolver.
        Some(Host::Domain(name)) => name.trim_end_matches('.').parse().ok(),
        None => None,
    };
    match literal {
        Some(ip) if !policy.permits(ip) => {
            Err(NetError::Refused { host: url.host_str().unwrap_or_default().to_owned(), ip })
        }
        _ => Ok(()),
    }
}

/// Where a redirect from `from` leads.
pub(super) fn next_hop(policy: &NetPolicy, from: &Url, location: &HeaderValue) -> Result<Url, NetError> {
    let bad = |reason: String| NetError::BadRedirect { url: redacted(from), reason };
    // Some servers send raw UTF-8 here; the URL parser escapes it.
    let location = String::from_utf8_lossy(location.as_bytes());
    let to = from.join(&location).map_err(|error| bad(format!("its address is not valid ({error})")))?;
    check_target(policy, &to)?;
    if from.scheme() == "https" && to.scheme() == "http" && !policy.permits_https_downgrade() {
        return Err(bad("it would leave https for plain http".to_owned()));
    }
    Ok(to)
}

/// The caller's headers without those that are not theirs to set.
pub(super) fn callers(mut headers: HeaderMap) -> HeaderMap {
    for name in &NOT_FOR_CALLERS {
        headers.remove(name);
    }
    headers
}

/// What of `headers` goes along from one hop to the next.
pub(super) fn carried(headers: HeaderMap, from: &Url, to: &Url) -> HeaderMap {
    // The same host on TLS is the same site: a redirect to https must not lose what was sent without it.
    let upgraded = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host() == to.host()
        && (from.port(), to.port()) == (None, None);
    if from.origin() == to.origin() || upgraded {
        return headers;
    }
    let mut kept = HeaderMap::new();
    for name in FOR_OTHER_ORIGINS {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn secrets_are_not_shown() {
        for (given, shown) in [
            ("https://u:p@example.com/a/b.mp4?X-Amz-Signature=s#f", "https://example.com/a/b.mp4?…"),
            ("http://token@example.com:8080", "http://example.com:8080/"),
            ("https://example.com/#frag", "https://example.com/"),
            ("ftp://u:p@example.com/x", "ftp://example.com/x"),
            ("data:text/plain,hi", "data:text/plain,hi"),
        ] {
            assert_eq!(redacted(&url(given)), shown);
        }
    }

    #[test]
    fn every_spelling_of_a_local_address_is_refused() {
        let policy = NetPolicy::default();
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0/",
            "http://0.0.0.0/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/",
            "http://10.0.0.1:8080/",
            "http://１２７.０.０.１/",
            "http://127。0。0。1/",
            "http://%31%32%37.0.0.1/",
            "http://user@127.0.0.1/",
        ] {
            let error = check_target(&policy, &url(text)).unwrap_err();
            assert!(matches!(error, NetError::Refused { .. }), "{text}: {error:?}");
            assert!(!error.retryable());
        }
        for fine in ["http://8.8.8.8/", "https://[2606:4700::1111]/", "https://example.com/"] {
            check_target(&policy, &url(fine)).unwrap();
        }
    }

    #[test]
    fn only_http_and_https() {
        for text in
            ["file:///etc/passwd", "ftp://example.com/", "data:,x", "gopher://example.com/", "rtmp://h/a"]
        {
            let error = check_target(&NetPolicy::default(), &url(text)).unwrap_err();
            assert!(matches!(error, NetError::Scheme(_)), "{text}: {error:?}");
        }
    }

    #[test]
    fn redirects_lead_only_where_requests_may_go() {
        let policy = NetPolicy::default();
        let hop = |from: &str, to: &str| next_hop(&policy, &url(from), &HeaderValue::from_str(to).unwrap());
        assert_eq!(hop("https://a.example/x/y?q", "z").unwrap().as_str(), "https://a.example/x/z");
        assert_eq!(hop("https://a.example/x", "//b.example/").unwrap().as_str(), "https://b.example/");
        assert_eq!(hop("http://a.example/", "https://a.example/").unwrap().as_str(), "https://a.example/");
        for to in ["http://169.254.169.254/", "//127.0.0.1/", "http://[::1]/"] {
            assert!(matches!(hop("http://a.example/", to), Err(NetError::Refused { .. })), "{to}");
        }
        assert!(matches!(hop("http://a.example/", "file:///etc/passwd"), Err(NetError::Scheme(_))));
        assert!(matches!(hop("http://a.example/", "http://"), Err(NetError::BadRedirect { .. })));
        let to = HeaderValue::from_static("http://a.example/");
        let error = next_hop(&policy, &url("https://a.example/"), &to).unwrap_err();
        assert!(error.to_string().contains("plain http"), "{error}");
        next_hop(&policy.clone().with_https_downgrade(), &url("https://a.example/"), &to).unwrap();
    }

    #[test]
    fn other_origins_learn_no_secrets() {
        let mut given = HeaderMap::new();
        for name in ["authorization", "cookie", "x-auth-token", "range", "host", "transfer-encoding"] {
            given.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let own = callers(given);
        assert_eq!(own.len(), 4, "{own:?}");
        let after = |from: &str, to: &str| {
            let kept = carried(own.clone(), &url(from), &url(to));
            (
                kept.contains_key("authorization"),
                kept.contains_key("x-auth-token"),
                kept.contains_key("range"),
            )
        };
        assert_eq!(after("https://a.example/", "https://a.example/b"), (true, true, true));
        assert_eq!(after("http://a.example/", "https://a.example/"), (true, true, true));
        for to in
            ["https://b.example/", "https://a.example:8443/", "http://a.example/", "https://sub.a.example/"]
        {
            assert_eq!(after("https://a.example/", to), (false, false, true), "{to}");
        }
    }
}
