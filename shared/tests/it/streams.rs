//! Places in streams: so many viewers, and so many bits per second of all of them together.

use futures::future::join_all;
use reelmill_shared::db::streams::{self, Joined, Served, Stream, StreamLimits, StreamViewer};
use reelmill_shared::db::viewers::Watched;
use reelmill_shared::media::abr::BitrateProfile::{self, High, Low, Medium, VeryLow};

use crate::fixture::Fixture;
use crate::viewing::recording;

struct Opened {
    fixture: Fixture,
    stream: Stream,
}

impl Opened {
    async fn new(bandwidth: u64, least_bitrate: u64) -> Self {
        let fixture = Fixture::new().await;
        let project = fixture.project("p").await;
        let watched = Watched::Recording(recording(&fixture, project).await);
        let limits = StreamLimits { viewers: 100, bandwidth, least_bitrate };
        let stream = streams::start(&fixture.db, project, watched, limits).await.unwrap();
        Self { fixture, stream }
    }

    async fn join(&self, viewer: &str, bitrate: BitrateProfile) -> Option<BitrateProfile> {
        let session = format!("session of {viewer}");
        match streams::join(&self.fixture.db, &self.stream, viewer, &session, bitrate).await.unwrap() {
            Joined::In(viewer) => Some(viewer.bitrate),
            Joined::Busy => None,
            other => panic!("{other:?}"),
        }
    }

    async fn adapt(&self, viewer: &str, health: f32) -> StreamViewer {
        streams::adapt(&self.fixture.db, self.stream.id, viewer, health).await.unwrap().unwrap()
    }

    /// Edges gave a viewer so much, who joined so many seconds ago.
    async fn gave(&self, viewer: &str, bytes: u64, seconds: i32) {
        let session = format!("session of {viewer}");
        let served = Served { watched: self.stream.watched, session, bytes, segments: 1 };
        streams::serve(&self.fixture.db, &[served]).await.unwrap();
        let earlier =
            "update viewer_sessions set joined_at = now() - make_interval(secs => $2) where user_id = $1";
        let client = self.fixture.db.get().await.unwrap();
        client.execute(earlier, &[&viewer, &f64::from(seconds)]).await.unwrap();
    }

    async fn bandwidth(&self) -> u64 {
        let Stream { project, watched, .. } = self.stream;
        streams::find(&self.fixture.db, project, watched.id()).await.unwrap().unwrap().bandwidth
    }
}

#[tokio::test]
async fn streams_give_what_is_left_once_however_many_ask_at_once() {
    let opened = Opened::new(2_500_000, 0).await;
    let names: Vec<String> = (0..6).map(|n| format!("viewer {n}")).collect();
    let mut got = join_all(names.iter().map(|name| opened.join(name, Medium))).await;
    got.sort();
    assert_eq!(got, [None, None, None, None, Some(VeryLow), Some(Medium)]);

    // Two may want more at once where there is room for one of them.
    let opened = Opened::new(1_600_000, 0).await;
    for name in ["ann", "bob"] {
        assert_eq!(opened.join(name, VeryLow).await, Some(VeryLow));
    }
    let rises = join_all(["ann", "bob"].map(|name| opened.adapt(name, 95.0))).await;
    let mut got: Vec<BitrateProfile> = rises.into_iter().map(|viewer| viewer.bitrate).collect();
    got.sort();
    assert_eq!(got, [VeryLow, Low]);
    assert_eq!(opened.bandwidth().await, 1_500_000);
}

#[tokio::test]
async fn streams_count_what_viewers_are_given() {
    let opened = Opened::new(9_800_000, 0).await;
    assert_eq!(opened.join("ann", Low).await, Some(Low));
    // A minute of it is what the player has ahead: 8 Mbit/s for ten minutes.
    opened.gave("ann", 660_000_000, 600).await;
    let counted = opened.bandwidth().await;
    assert!((7_900_000..=8_000_000).contains(&counted), "{counted}");
    assert_eq!(opened.join("bob", High).await, Some(Low), "there is no room for two more");
    assert_eq!(opened.adapt("bob", 95.0).await.bitrate, Low);
    assert_eq!(opened.adapt("ann", 95.0).await.bitrate, Medium, "one's own part is no hindrance");

    // Nobody takes the places of others by asking for more than can be played.
    opened.gave("ann", 1 << 50, 600).await;
    assert_eq!(opened.bandwidth().await, 16_000_000 + 1_000_000);
}

#[tokio::test]
async fn streams_let_in_as_many_as_their_lowest_rung_allows() {
    let opened = Opened::new(10_000_000, 4_500_000).await;
    let limits = opened.stream.limits;
    assert_eq!([VeryLow, High].map(|profile| limits.fit(profile)), [2, 2]);
    let got =
        [opened.join("ann", VeryLow).await, opened.join("bob", Low).await, opened.join("cid", VeryLow).await];
    assert_eq!(got, [Some(VeryLow), Some(Low), None]);
    assert_eq!(opened.adapt("ann", 95.0).await.bitrate, Low, "it is the same rung");
}
