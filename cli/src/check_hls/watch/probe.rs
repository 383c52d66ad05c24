//! Other viewers of a rendition, who ask for what players rarely do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use super::{Rendition, Request, SOON, Watch, patience};
use crate::check_hls::http::{Ask, PLAYLIST_LIMIT};
use crate::check_hls::observation::{
    Asked, DeltaSeen, Fetched, Kind, Observation, Outcome, Place, Seen, Transport,
};
use crate::check_hls::playlist::{Media, Playlist};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(800);
/// How far beyond any limit a part is asked for: more than come while the request is on its way.
const FAR: u64 = 20;
/// For what should be refused at once.
const REFUSAL: Duration = Duration::from_secs(3);

/// Asks until the rendition has ended.
pub(super) async fn probe(watch: &Watch, rendition: &Rendition) {
    tokio::join!(
        rounds(watch, rendition),
        waits(watch, rendition, whole_segment),
        waits(watch, rendition, beyond_last_part),
        waits(watch, rendition, parts_ahead),
    );
}

/// Questions that are answered at once.
async fn rounds(watch: &Watch, rendition: &Rendition) {
    let mut first = true;
    loop {
        let seen = rendition.latest();
        plain(watch, rendition, &seen).await;
        if std::mem::take(&mut first)
            && watch.renditions.first().is_some_and(|other| other.name == rendition.name)
        {
            two_viewers(watch).await;
        }
        if seen.media.end {
            return;
        }
        if seen.media.control.can_block {
            odd_requests(watch, rendition, &seen).await;
        }
        if seen.media.part_target.is_some() {
            unknown_part(watch, rendition, &seen).await;
        }
        if seen.media.control.can_skip_until.is_some() {
            delta_update(watch, rendition).await;
        }
        sleep(PAUSE).await;
    }
}

/// The playlist as a player that knows no low latency reads it, plain and compressed.
async fn plain(watch: &Watch, rendition: &Rendition, seen: &Seen) {
    let (name, url, target_duration) = (&rendition.name, &rendition.url, seen.media.target_duration);
    let request = Request { directives: &[], timeout: SOON, must_come: true };
    if let Some((Outcome::Playlist(_), took)) = watch.playlist(name, url, target_duration, &request).await {
        watch.took(took);
    }
    // Its content is not looked into: it was just read.
    let ask = Ask { range: None, gzip: true, timeout: SOON, limit: PLAYLIST_LIMIT };
    let got = watch.http.get(url, ask).await;
    let mut fetched = Fetched {
        place: rendition.place(),
        kind: Kind::Plain { live: !seen.media.end },
        target_duration,
        status: got.as_ref().map(|got| got.status).map_err(ToString::to_string),
        transport: got.as_ref().map(|got| got.transport.clone()).unwrap_or_default(),
        unreadable: None,
    };
    // The first bytes of a gzip file (RFC 1952, 2.3.1).
    if fetched.transport.gzip == Some(true) && got.is_ok_and(|got| !got.body.starts_with(&[0x1f, 0x8b])) {
        fetched.unreadable = Some("it says that it is compressed with gzip, and is not".to_owned());
    }
    watch.observe(&Observation::Fetched(&fetched));
}

/// The multivariant playlist once more.
async fn two_viewers(watch: &Watch) {
    let Some((url, first)) = &watch.multivariant else { return };
    let Ok(got) = watch.get(url, SOON, false).await else { return };
    let text = std::str::from_utf8(&got.body).ok();
    if let Some(Playlist::Multivariant(second)) = text.and_then(|text| Playlist::parse(text).ok()) {
        watch.observe(&Observation::Viewers { first, second: &second, url });
    }
}

/// What is there already, what makes no sense, and what is too far away.
async fn odd_requests(watch: &Watch, rendition: &Rendition, seen: &Seen) {
    let media = &seen.media;
    let oldest = media.media_sequence;
    let old = |msn, part| Asked::Old { msn, part };
    let parts = media.part_target.is_some();
    // A stream that has just begun lists the segment that is being made: that one is waited for.
    if media.last_whole() >= Some(oldest) {
        watch.ask(rendition, old(oldest, None), SOON).await;
    }
    watch.ask(rendition, old(oldest.saturating_sub(5), parts.then_some(0)), SOON).await;
    watch.ask(rendition, Asked::PartAlone, REFUSAL).await;
    // Two more may come while the request is on its way.
    let msn = rendition.latest().media.open.msn + 5;
    watch.ask(rendition, Asked::FarSegment { msn }, REFUSAL).await;
    if parts {
        let latest = rendition.latest();
        let (msn, part) = latest.media.next();
        let part = part + advance_limit(&latest.media) + FAR;
        // Where its segment ends meanwhile, the first of the next is waited for.
        let timeout = patience(&latest, watch.usual());
        watch.ask(rendition, Asked::FarPart { msn, part }, timeout).await;
    }
}

/// The advance part limit: how many parts ahead may be asked for (6.2.5.2).
fn advance_limit(media: &Media) -> u64 {
    match media.part_target {
        Some(target) if target < 1.0 => (3.0 / target.max(0.001)).ceil() as u64,
        _ => 3,
    }
}

/// A part of a name that no part has, beside those that there are.
async fn unknown_part(watch: &Watch, rendition: &Rendition, seen: &Seen) {
    let Some((.., part)) = seen.media.parts_after(None).last() else { return };
    let Ok(mut url) = seen.base.join(&part.uri) else { return };
    let name =
        url.path_segments().and_then(|mut path| path.next_back().map(|name| format!("no-such-{name}")));
    let (Some(name), Ok(mut path)) = (name, url.path_segments_mut()) else { return };
    path.pop().push(&name);
    drop(path);
    let ask = Ask { range: None, gzip: false, timeout: REFUSAL, limit: PLAYLIST_LIMIT };
    let got = watch.http.get(&url, ask).await;
    watch.observe(&Observation::Fetched(&Fetched {
        place: Place { url: url.into(), ..rendition.place() },
        kind: Kind::Unknown,
        target_duration: seen.media.target_duration,
        status: got.map(|got| got.status).map_err(|miss| miss.to_string()),
        transport: Transport::default(),
        unreadable: None,
    }));
}

/// The next playlist as a delta update and whole, asked for at the same moment.
async fn delta_update(watch: &Watch, rendition: &Rendition) {
    let before = rendition.latest();
    let media = &before.media;
    let date_ranges = media.control.can_skip_date_ranges;
    let skip = ("_HLS_skip", if date_ranges { "v2" } else { "YES" }.to_owned());
    let mut directives = vec![];
    if media.control.can_block {
        let (msn, part) = media.next();
        directives.push(("_HLS_msn", msn.to_string()));
        if media.part_target.is_some() {
            directives.push(("_HLS_part", part.to_string()));
        }
    }
    let with_skip: Vec<_> = directives.iter().cloned().chain([skip]).collect();
    let timeout = patience(&before, watch.usual());
    let ask = |directives| async move {
        let request = Request { directives, timeout, must_come: false };
        watch.playlist(&rendition.name, &rendition.url, media.target_duration, &request).await
    };
    let (delta, full) = tokio::join!(ask(&with_skip), ask(&directives));
    let (Some((Outcome::Playlist(delta), _)), Some((Outcome::Playlist(full), _))) = (delta, full) else {
        return;
    };
    // After the end there are none.
    if !delta.media.end {
        let seen = DeltaSeen { before: before.clone(), delta: *delta, full: *full, date_ranges };
        watch.observe(&Observation::Delta(&seen));
    }
}

/// Asks again and again for something that is to come, as soon as `what` knows something to ask for.
async fn waits(watch: &Watch, rendition: &Rendition, what: fn(&Media) -> Option<Asked>) {
    let mut changes = rendition.changes();
    loop {
        let seen: Arc<Seen> = changes.borrow_and_update().clone();
        if seen.media.end {
            return;
        }
        match what(&seen.media).filter(|_| seen.media.control.can_block) {
            Some(asked) => {
                let outcome = watch.ask(rendition, asked, patience(&seen, watch.usual())).await;
                // Whatever is answered at once is not asked as fast as that again.
                if !matches!(&outcome, Some(Outcome::Playlist(answer)) if answer.media.last() > seen.media.last())
                {
                    sleep(PAUSE).await;
                }
            }
            None => {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn whole_segment(media: &Media) -> Option<Asked> {
    Some(Asked::Whole { msn: media.open.msn })
}

/// How many parts a segment has, as far as those before tell.
fn usual_parts(media: &Media) -> Option<u64> {
    media.part_target?;
    media.segments.iter().map(|segment| segment.parts.len() as u64).max().filter(|usual| *usual > 0)
}

/// The part after the last one.
fn beyond_last_part(media: &Media) -> Option<Asked> {
    let (usual, (msn, next)) = (usual_parts(media)?, media.next());
    // Near the end of the segment, since from afar it would be refused.
    (usual.saturating_sub(next) + 2 < advance_limit(media))
        .then_some(Asked::BeyondLastPart { msn, part: usual })
}

/// Not the next part, but one that is as far as players pipeline.
fn parts_ahead(media: &Media) -> Option<Asked> {
    let (usual, (msn, next)) = (usual_parts(media)?, media.next());
    (advance_limit(media) > 3 && next + 2 < usual).then_some(Asked::Part { msn, part: next + 2 })
}

/// Where a URI of a playlist leads.
pub(super) fn resolve(seen: &Seen, uri: &str) -> Option<Url> {
    seen.base.join(uri).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}
