//! What is kept in memory of who watches.

use super::crowd::{AGAIN, GONE, OF_ONE_ADDRESS, PASSING};
use super::*;

fn visitor(address: &str) -> Visitor {
    Visitor { address: address.to_owned(), agent: "player".to_owned() }
}

fn report(session: &str, buffer_events: i32) -> Report {
    Report { session: session.to_owned(), buffer_events, latency: Some(1500), ..Report::default() }
}

/// Lets all that is known of a thing have happened so much earlier.
fn pass(audience: &Audience, watched: Watched, time: Duration) {
    for session in audience.crowds().get_mut(&watched).unwrap().sessions.values_mut() {
        session.first -= time;
        session.last -= time;
        session.written = session.written.map(|written| written - time);
    }
}

#[test]
fn who_comes_again_is_a_viewer_and_who_comes_once_is_not() {
    let (audience, id) = (Audience::new(), LivestreamId::new());
    audience.served(id, 1000, false, Some(&visitor("10.0.0.1")));
    audience.served(id, 1000, false, Some(&visitor("10.0.0.1")));
    assert_eq!(audience.due().len(), 0, "not yet");
    pass(&audience, Watched::Livestream(id), PASSING);
    audience.served(id, 1000, true, Some(&visitor("10.0.0.1")));
    let due = audience.due();
    assert_eq!(
        (due.len(), due[0].told_by, due[0].ip_address.as_deref()),
        (1, ToldBy::Edge, Some("10.0.0.1"))
    );
    assert_eq!(audience.due().len(), 0, "once in a while will do");
    pass(&audience, Watched::Livestream(id), AGAIN);
    assert_eq!(audience.due().len(), 0, "it was not seen since");
    audience.served(id, 1000, false, Some(&visitor("10.0.0.1")));
    assert_eq!(audience.due().len(), 1);
    let figures = audience.measured();
    assert_eq!((figures[0].bandwidth_usage, figures[0].error_count), (3200, 1));
    assert_eq!(audience.measured(), []);
    pass(&audience, Watched::Livestream(id), GONE);
    audience.due();
    assert!(audience.crowds().is_empty(), "nothing is kept of who is gone");
}

#[test]
fn players_tell_how_they_fare() {
    let (audience, id) = (Audience::new(), LivestreamId::new());
    let tell = |report| audience.heard(id, &visitor("10.0.0.1"), report);
    tell(report("a", 0));
    assert_eq!(audience.due().len(), 1, "who joins counts at once");
    for buffer_events in [0, 2, 2] {
        pass(&audience, Watched::Livestream(id), Duration::from_secs(10));
        tell(report("a", buffer_events));
        // Said at once again it is not heard.
        tell(report("a", buffer_events));
    }
    let figures = &audience.measured()[0];
    assert_eq!((figures.reports, figures.smooth_reports), (3, 2));
    assert_eq!((figures.latency_sum, figures.latency_count), (4500, 3));
    tell(Report { left: true, latency: None, ..report("a", 2) });
    let due = audience.due();
    assert!(due.len() == 1 && due[0].left);
    assert_eq!(audience.sessions(), (0, 0));
}

#[test]
fn who_tells_is_not_seen_besides() {
    let (audience, id) = (Audience::new(), LivestreamId::new());
    let ask = || audience.served(id, 1, false, Some(&visitor("10.0.0.1")));
    ask();
    pass(&audience, Watched::Livestream(id), PASSING);
    ask();
    assert_eq!(audience.due().len(), 1, "it was seen first");
    audience.heard(id, &visitor("10.0.0.1"), report("a", 0));
    pass(&audience, Watched::Livestream(id), AGAIN);
    ask();
    audience.heard(id, &visitor("10.0.0.1"), report("a", 0));
    let told: Vec<ToldBy> = audience.due().iter().map(|noted| noted.told_by).collect();
    assert_eq!(told, [ToldBy::Player]);
    audience.heard(id, &visitor("10.0.0.1"), Report { left: true, ..report("a", 0) });
    let due = audience.due();
    assert!(due.len() == 2 && due.iter().all(|noted| noted.left), "it is gone in both ways: {due:?}");
}

#[test]
fn one_address_is_no_crowd() {
    let (audience, id) = (Audience::new(), LivestreamId::new());
    for n in 0..1000 {
        audience.heard(id, &visitor("10.0.0.1"), report(&format!("bot-{n}"), 0));
    }
    audience.heard(id, &visitor("10.0.0.2"), report("somebody", 0));
    assert_eq!(audience.due().len(), usize::from(OF_ONE_ADDRESS) + 1);
    pass(&audience, Watched::Livestream(id), GONE);
    audience.due();
    audience.heard(id, &visitor("10.0.0.1"), report("later", 0));
    assert_eq!(audience.due().len(), 1, "there is room again");
}

fn at(session: &str, position: f64) -> Progress {
    Progress { session: session.to_owned(), position, duration: 100.0, playing: true, ..Progress::default() }
}

fn positions(noted: &Noted) -> Vec<f64> {
    noted.points.iter().map(|point| point.position).collect()
}

#[test]
fn each_place_of_a_recording_is_written_once_and_comes_back_in_order() {
    let (audience, id) = (Audience::new(), RecordingId::new());
    let tell = |progress| assert!(audience.progressed(id, Some(&visitor("10.0.0.1")), progress));
    tell(Progress { stalls: Some(3), startup_ms: Some(200), ..at("a", 0.0) });
    tell(Progress { stalls: Some(1), startup_ms: Some(900), ..at("a", 5.0) });
    let mut due = audience.due();
    assert_eq!((due.len(), due[0].told_by, positions(&due[0])), (1, ToldBy::Player, vec![0.0, 5.0]));
    assert_eq!((due[0].buffer_events, due[0].startup_ms), (Some(3), Some(200)), "counts only grow");
    assert_eq!((due[0].quality_changes, due[0].bytes), (None, None), "nobody told");
    assert_eq!(audience.due().len(), 0, "nothing is new");
    pass(&audience, Watched::Recording(id), AGAIN);
    assert_eq!(audience.due().len(), 0, "and who is silent stays as it is");
    // The database was away: what is told meanwhile comes behind.
    tell(at("a", 10.0));
    audience.crowds().get_mut(&Watched::Recording(id)).unwrap().take_back(due.remove(0));
    assert_eq!(positions(&audience.due()[0]), [0.0, 5.0, 10.0]);
    // Who has left is kept until that is written.
    tell(Progress { left: true, ..at("a", 12.0) });
    let mut due = audience.due();
    assert_eq!(audience.sessions(), (0, 0));
    audience.crowds().entry(Watched::Recording(id)).or_default().take_back(due.remove(0));
    let due = audience.due();
    assert!(due[0].left && positions(&due[0]) == [12.0]);
    assert!(audience.crowds().is_empty());
}

#[test]
fn what_waits_for_the_database_is_limited() {
    let (audience, id) = (Audience::new(), RecordingId::new());
    for n in 0..10_000 {
        audience.progressed(id, None, at("a", f64::from(n)));
    }
    let due = audience.due();
    assert!(due[0].points.len() <= 100 && due[0].points.last().unwrap().position == 9_999.0);
}

#[test]
fn machines_and_crowds_of_one_address_do_not_count_and_holders_of_keys_do() {
    let (audience, id) = (Audience::new(), RecordingId::new());
    let bot = Visitor { agent: "Googlebot/2.1".to_owned(), ..visitor("10.0.0.9") };
    audience.progressed(id, Some(&bot), at("bot", 0.0));
    audience.served(LivestreamId::new(), 1, false, Some(&bot));
    assert_eq!((audience.sessions(), audience.measured().len()), ((0, 0), 1));
    for n in 0..1000 {
        audience.progressed(id, Some(&visitor("10.0.0.1")), at(&format!("web-{n}"), 0.0));
        audience.progressed(id, None, at(&format!("key-{n}"), 0.0));
    }
    assert_eq!(audience.sessions(), (0, 1000 + usize::from(OF_ONE_ADDRESS)));
    pass(&audience, Watched::Recording(id), GONE);
    assert_eq!(audience.due().len(), 1000 + usize::from(OF_ONE_ADDRESS), "not one without being written");
    assert!(audience.crowds().is_empty());
}

#[test]
fn a_session_of_something_else_is_known_once_it_was_refused() {
    let (audience, id) = (Audience::new(), RecordingId::new());
    assert!(audience.progressed(id, None, at("a", 0.0)));
    audience.due();
    audience.crowds().get_mut(&Watched::Recording(id)).unwrap().refuse("a");
    assert!(!audience.progressed(id, None, at("a", 5.0)));
    assert_eq!(audience.due().len(), 0);
}
