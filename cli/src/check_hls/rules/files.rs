//! Files that are asked for: there, readable, or rightly not there.

use crate::check_hls::findings::Findings;
use crate::check_hls::observation::{Fetched, Kind, Observation};

fn told(fetched: &Fetched) -> String {
    match &fetched.status {
        Ok(status) => format!("status {status}"),
        Err(why) => why.clone(),
    }
}

/// 0a. Whatever a playlist names is there when it is named (6.2.1).
pub(super) fn fetchable(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Fetched(fetched) = observation else { return };
    if matches!(fetched.kind, Kind::Departed | Kind::Unknown) {
        return;
    }
    let ok = matches!(fetched.status, Ok(200 | 206));
    findings.check(ok, &fetched.place, || (told(fetched), "status 200".to_owned()));
}

/// 0b. And it is what it says it is.
pub(super) fn readable(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Fetched(fetched) = observation else { return };
    if !matches!(fetched.status, Ok(200 | 206)) || matches!(fetched.kind, Kind::Departed | Kind::Unknown) {
        return;
    }
    findings.check(fetched.unreadable.is_none(), &fetched.place, || {
        (fetched.unreadable.clone().unwrap_or_default(), "a file that can be read".to_owned())
    });
}

/// 24b. A part that has left the playlist is still there for players that are behind (6.2.2).
pub(super) fn departed(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Fetched(fetched) = observation else { return };
    if fetched.kind == Kind::Departed {
        let ok = matches!(fetched.status, Ok(200 | 206));
        findings.check(ok, &fetched.place, || {
            (told(fetched), format!("status 200 for {} s after it left", 3 * fetched.target_duration))
        });
    }
}

/// 20b. What does not exist is not waited for (6.2.6).
pub(super) fn unknown(observation: &Observation<'_>, findings: &mut Findings) {
    let Observation::Fetched(fetched) = observation else { return };
    if fetched.kind == Kind::Unknown {
        let ok = matches!(fetched.status, Ok(404 | 410));
        findings.check(ok, &fetched.place, || (told(fetched), "status 404 at once".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::rules::fixtures::{failures, fetched};

    #[test]
    fn files_are_there_and_can_be_read() {
        let judged = |rule, kind, status, unreadable: Option<&str>| {
            let mut fetched = fetched(kind);
            (fetched.status, fetched.unreadable) = (status, unreadable.map(str::to_owned));
            failures(rule, &Observation::Fetched(&fetched))
        };
        for kind in [Kind::Media, Kind::Directed, Kind::Plain { live: true }] {
            assert_eq!(judged(fetchable, kind, Ok(200), None), 0);
            assert_eq!(judged(fetchable, kind, Ok(404), None), 1);
            assert_eq!(judged(fetchable, kind, Err("no answer".to_owned()), None), 1);
            assert_eq!(judged(readable, kind, Ok(200), None), 0);
            assert_eq!(judged(readable, kind, Ok(200), Some("cut off")), 1);
        }
        assert_eq!(judged(fetchable, Kind::Unknown, Ok(404), None), 0);
        assert_eq!(
            (
                judged(departed, Kind::Departed, Ok(200), None),
                judged(departed, Kind::Departed, Ok(404), None)
            ),
            (0, 1)
        );
        assert_eq!(
            (judged(unknown, Kind::Unknown, Ok(404), None), judged(unknown, Kind::Unknown, Ok(200), None)),
            (0, 1)
        );
        assert_eq!(judged(unknown, Kind::Unknown, Err("no answer".to_owned()), None), 1);
    }
}
