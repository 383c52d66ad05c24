//! How files come: what players, browsers and caches need (B.1, and Apple's authoring specification).

use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{Fetched, Kind, Observation};

/// "For a long time", in seconds: longer than any player lags behind.
const LONG: u64 = 60;

/// A file that came.
fn came<'o>(observation: &Observation<'o>) -> Option<&'o Fetched> {
    match observation {
        Observation::Fetched(fetched)
            if fetched.kind != Kind::Unknown && matches!(fetched.status, Ok(200 | 206)) =>
        {
            Some(fetched)
        }
        _ => None,
    }
}

/// T1. Several requests wait at once, so they must share a connection.
pub(super) fn http2(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(fetched) = came(observation).filter(|fetched| fetched.transport.tls) else { return };
    findings.check(fetched.transport.http2, &fetched.place, || ("HTTP/1".to_owned(), "HTTP/2".to_owned()));
}

/// T2. Playlists come with every part; compressed they are a tenth (6.2.1).
pub(super) fn gzip(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(fetched) = came(observation) else { return };
    let Some(compressed) = fetched.transport.gzip else { return };
    findings.check(compressed, &fetched.place, || {
        ("no Content-Encoding: gzip".to_owned(), "gzip, which was asked for".to_owned())
    });
}

/// T3. Players run on other people's pages.
pub(super) fn cors(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(fetched) = came(observation) else { return };
    let origin = fetched.transport.allow_origin.as_deref();
    let ok = matches!(origin, Some("*" | super::super::http::ORIGIN));
    findings.check(ok, &fetched.place, || {
        let saw =
            origin.map_or("no Access-Control-Allow-Origin".to_owned(), |origin| format!("only {origin}"));
        (saw, "any origin".to_owned())
    });
}

/// T4. What cannot change may be kept, what may change barely.
pub(super) fn caching(observation: &Observation<'_>, findings: &mut Findings) {
    let Some(fetched) = came(observation) else { return };
    let header = fetched.transport.cache_control.as_deref();
    let age = header.and_then(|header| kept_for(header, fetched.transport.keyed));
    let (ok, wanted) = match fetched.kind {
        Kind::Plain { live: false } | Kind::Departed | Kind::Unknown => return,
        Kind::Plain { live: true } => {
            let most = fetched.target_duration.max(1);
            (age.is_some_and(|age| age <= most), format!("at most {most} s"))
        }
        Kind::Directed => (age.is_some_and(|age| age > 0), "a while: it names one version".to_owned()),
        Kind::Media => (age.is_some_and(|age| age >= LONG), format!("{LONG} s or more: it never changes")),
    };
    findings.check(ok, &fetched.place, || {
        let saw = header.map_or("no Cache-Control".to_owned(), |header| format!("Cache-Control: {header}"));
        (saw, wanted)
    });
}

/// How long a cache may keep an answer, in seconds; `None` where it is not told. What was asked for with a key is kept by
/// those who have it, everything else by caches that many share.
fn kept_for(header: &str, keyed: bool) -> Option<u64> {
    let directives = || header.split(',').map(|directive| directive.trim().to_ascii_lowercase());
    let never = |directive: String| match directive.as_str() {
        "no-store" | "no-cache" => true,
        "private" => !keyed,
        _ => false,
    };
    if directives().any(never) {
        return Some(0);
    }
    let age = |name: &str| {
        directives().find_map(|directive| directive.strip_prefix(name)?.trim_matches('"').parse().ok())
    };
    age("s-maxage=").or_else(|| age("max-age="))
}

/// T5. What is the same for all can be cached for all.
pub(super) fn for_everybody(observation: &Observation<'_>, findings: &mut Findings) {
    if let Some(fetched) = came(observation) {
        findings.check(!fetched.transport.sets_cookie, &fetched.place, || {
            ("Set-Cookie".to_owned(), "no cookies".to_owned())
        });
    }
    if let Observation::Viewers { first, second, url } = observation {
        let place = crate::check_hls::observation::Place { url: url.to_string(), ..Default::default() };
        findings.check(first == second, &place, || {
            ("other URLs for a second viewer".to_owned(), "the same URLs".to_owned())
        });
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::check_hls::observation::Transport;
    use crate::check_hls::playlist::{Listed, Multivariant};
    use crate::check_hls::rules::fixtures::{failures, fetched};

    fn judged(rule: fn(&Observation<'_>, &mut Findings), kind: Kind, transport: Transport) -> u64 {
        failures(rule, &Observation::Fetched(&Fetched { transport, ..fetched(kind) }))
    }

    #[test]
    fn the_way_is_right() {
        let of = |change: fn(&mut Transport)| {
            let mut transport = Transport::default();
            change(&mut transport);
            transport
        };
        assert_eq!(judged(http2, Kind::Media, of(|t| (t.tls, t.http2) = (true, true))), 0);
        assert_eq!(judged(http2, Kind::Media, of(|t| t.tls = true)), 1);
        assert_eq!(judged(http2, Kind::Media, of(|_| ())), 0);
        assert_eq!(judged(gzip, Kind::Directed, of(|t| t.gzip = Some(true))), 0);
        assert_eq!(judged(gzip, Kind::Directed, of(|t| t.gzip = Some(false))), 1);
        assert_eq!(judged(cors, Kind::Media, of(|t| t.allow_origin = Some("*".to_owned()))), 0);
        assert_eq!(judged(cors, Kind::Media, of(|t| t.allow_origin = Some("https://other".to_owned()))), 1);
        assert_eq!(judged(cors, Kind::Media, of(|_| ())), 1);
        assert_eq!(judged(for_everybody, Kind::Media, of(|_| ())), 0);
        assert_eq!(judged(for_everybody, Kind::Media, of(|t| t.sets_cookie = true)), 1);
    }

    #[test]
    fn each_kind_of_file_has_its_age() {
        let judged = |kind, header: &str| {
            judged(
                caching,
                kind,
                Transport { cache_control: Some(header.to_owned()), ..Transport::default() },
            )
        };
        let plain = Kind::Plain { live: true };
        assert_eq!(
            ["max-age=1", "no-cache", "public, max-age=2"].map(|header| judged(plain, header)),
            [0, 0, 1]
        );
        assert_eq!(judged(Kind::Plain { live: false }, "max-age=999"), 0);
        assert_eq!(
            ["max-age=6", "no-store", "max-age=0"].map(|header| judged(Kind::Directed, header)),
            [0, 1, 1]
        );
        let long =
            ["max-age=31536000, immutable", "max-age=5", "max-age=90, private", "max-age=5, s-maxage=100"];
        assert_eq!(long.map(|header| judged(Kind::Media, header)), [0, 1, 1, 0]);
        assert_eq!(
            [false, true].map(|keyed| super::kept_for("private, max-age=9", keyed)),
            [Some(0), Some(9)]
        );
        assert_eq!(super::kept_for("immutable", false), None);
    }

    #[test]
    fn viewers_get_the_same_addresses() {
        let list = |uri: &str| Multivariant {
            renditions: vec![Listed { name: None, uri: uri.to_owned(), i_frames: false }],
        };
        let url = Url::parse("http://host/x.m3u8").unwrap();
        let judged = |second: &str| {
            let (first, second) = (list("a"), list(second));
            failures(for_everybody, &Observation::Viewers { first: &first, second: &second, url: &url })
        };
        assert_eq!((judged("a"), judged("a?viewer=2")), (0, 1));
    }
}
