//! Segments on their way to viewers: so many at most, each to one api that can deliver it, and tried so often.

use std::time::Duration;

use futures::future::join_all;
use reelmill_shared::db::segment_deliveries::{
    self, NewSegmentDelivery, Outcomes, SegmentDelivery, SegmentDeliveryStatus as Status,
};
use reelmill_shared::db::streams::{self, Stream, StreamLimits};
use reelmill_shared::db::viewers::Watched;

use crate::fixture::Fixture;
use crate::viewing::recording;

const SOON: Duration = Duration::from_secs(30);

async fn queue(
    fixture: &Fixture,
    stream: &Stream,
    viewer: &str,
    priority: i16,
    keep: Duration,
) -> Option<SegmentDelivery> {
    let new = NewSegmentDelivery {
        viewer: Some(viewer),
        segment: "720p-1-0.m4s",
        priority,
        max_attempts: 2,
        timeout: Duration::from_secs(5),
        keep,
    };
    segment_deliveries::queue(&fixture.db, stream, &new, 6).await.unwrap()
}

#[tokio::test]
async fn segment_deliveries_are_claimed_once_tried_so_often_and_bounded() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let watched = Watched::Recording(recording(&fixture, project).await);
    let limits = StreamLimits { viewers: 10, bandwidth: 100_000_000, least_bitrate: 0 };
    let stream = streams::start(db, project, watched, limits).await.unwrap();
    for (viewer, priority) in [("ann", 10), ("ann", 90), ("bob", 99), ("ann", 50)] {
        assert!(queue(&fixture, &stream, viewer, priority, SOON).await.is_some());
    }
    // Six may wait, however many come at once.
    let more = join_all((0..4).map(|_| queue(&fixture, &stream, "cid", 0, SOON))).await;
    assert_eq!(more.iter().flatten().count(), 2);

    // Who has the socket gets it, what matters most first, and nobody else.
    let ann = [(stream.id, "ann".to_owned())];
    let claims = join_all((0..4).map(|_| segment_deliveries::claim(db, &ann, false, 1))).await;
    let mut claimed: Vec<SegmentDelivery> = claims.into_iter().flat_map(Result::unwrap).collect();
    claimed.sort_by_key(|delivery| -delivery.priority);
    assert_eq!(
        claimed.iter().map(|it| (it.priority, it.attempts)).collect::<Vec<_>>(),
        [(90, 1), (50, 1), (10, 1)]
    );
    assert!(segment_deliveries::claim(db, &[], true, 9).await.unwrap().is_empty(), "those are for viewers");

    assert!(segment_deliveries::delivered(db, &claimed[0]).await.unwrap());
    assert!(!segment_deliveries::delivered(db, &claimed[0]).await.unwrap(), "once is enough");
    let missed = |delivery: SegmentDelivery| async move {
        segment_deliveries::missed(db, &delivery, "no", Duration::ZERO).await.unwrap()
    };
    assert_eq!(missed(claimed[1].clone()).await, Some(Status::Queued));
    let again = segment_deliveries::claim(db, &ann, false, 9).await.unwrap();
    assert_eq!((again.len(), again[0].id, again[0].attempts), (1, claimed[1].id, 2));
    assert_eq!(missed(claimed[1].clone()).await, None, "that attempt has lost it");
    assert_eq!(missed(again[0].clone()).await, Some(Status::Failed));
    let told = segment_deliveries::find(db, project, again[0].id).await.unwrap().unwrap();
    assert_eq!(
        (told.status, told.error.as_deref(), told.finished_at.is_some()),
        (Status::Failed, Some("no"), true)
    );

    // Whoever claimed it and died is followed by another, until it is too late for anybody.
    fixture.execute("update segment_deliveries set leased_until = now() where status = 'delivering'").await;
    let taken = segment_deliveries::claim(db, &ann, false, 9).await.unwrap();
    assert_eq!((taken.len(), taken[0].attempts), (1, 2));
    assert_eq!(segment_deliveries::expire(db).await.unwrap(), 0);
    fixture.execute("update segment_deliveries set expires_at = now() where finished_at is null").await;
    assert_eq!(segment_deliveries::expire(db).await.unwrap(), 3, "not the one that is under way");
    assert!(segment_deliveries::delivered(db, &taken[0]).await.unwrap());
    let outcomes = segment_deliveries::outcomes(db, project, SOON).await.unwrap();
    assert_eq!(outcomes, Outcomes { delivered: 2, failed: 4, waiting: 0 });
    assert_eq!(streams::totals(db, project).await.unwrap().delivery_failures, 4);
    assert_eq!(segment_deliveries::delete_old(db, Duration::ZERO, 4).await.unwrap(), 4);
    assert_eq!(segment_deliveries::delete_old(db, SOON, 4).await.unwrap(), 0);

    streams::end(db, stream.id).await.unwrap();
    assert!(queue(&fixture, &stream, "ann", 0, SOON).await.is_none(), "it was closed");
    fixture.done().await;
}
