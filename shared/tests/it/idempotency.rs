//! Kept answers.

use reelmill_shared::db::idempotency::{self, Answer, Begun};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_key_means_one_request_of_one_project() {
    let fixture = Fixture::new().await;
    let (mine, other) = (fixture.project("mine").await, fixture.project("other").await);
    let db = &fixture.db;
    assert!(matches!(idempotency::begin(db, mine, "k", b"a").await.unwrap(), Begun::First));
    assert!(matches!(idempotency::begin(db, mine, "k", b"a").await.unwrap(), Begun::InFlight));
    assert!(matches!(idempotency::begin(db, mine, "k", b"b").await.unwrap(), Begun::Mismatch));
    assert!(matches!(idempotency::begin(db, other, "k", b"b").await.unwrap(), Begun::First));
    let answer =
        Answer { status: 201, content_type: None, location: Some("/x".into()), body: b"{}".to_vec() };
    idempotency::complete(db, mine, "k", &answer).await.unwrap();
    let Begun::Replay(replayed) = idempotency::begin(db, mine, "k", b"a").await.unwrap() else { panic!() };
    assert_eq!((replayed.status, replayed.body), (201, b"{}".to_vec()));
    // The first request's server died: after a while the key is free again.
    fixture.execute("update idempotency_keys set created_at = now() - interval '10 minutes'").await;
    assert!(matches!(idempotency::begin(db, other, "k", b"c").await.unwrap(), Begun::First));
    assert!(matches!(idempotency::begin(db, mine, "k", b"a").await.unwrap(), Begun::Replay(_)));
    fixture.done().await;
}
