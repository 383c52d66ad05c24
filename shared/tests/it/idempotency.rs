//! Kept answers.

use reelmill_shared::db::idempotency::{self, Answer, Begun};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_key_means_one_request_of_one_project() {
    let fixture = Fixture::new().await;
    let (mine, other) = (fixture.project("mine").await, fixture.project("other").await);
    let db = &fixture.db;
    assert!(matches!(idempotency::begin(db, mine, "k", b"a").await.unwrap(), Begun::First(_)));
    assert!(matches!(idempotency::begin(db, mine, "k", b"a").await.unwrap(), Begun::InFlight));
    assert!(matches!(idempotency::begin(db, mine, "k", b"b").await.unwrap(), Begun::Mismatch));
    assert!(matches!(idempotency::begin(db, other, "k", b"b").await.unwrap(), Begun::First(_)));
    let answer =
        Answer { status: 201, content_type: None, location: Some("/x".into()), body: b"{}".to_vec() };
    idempotency::complete(db, mine, "k", &answer).await.unwrap();
    let Begun::Replay(replayed) = idempotency::begin(db, mine, "k", b"a").await.unwrap() else { panic!() };
    assert_eq!((replayed.status, replayed.body), (201, b"{}".to_vec()));
    // The first request's server died: after a while the key is free again.
    fixture.execute("update idempotency_keys set created_at = now() - interval '10 minutes'").await;
    assert!(matches!(idempotency::begin(db, other, "k", b"c").await.unwrap(), Begun::First(_)));
    assert!(matches!(idempotency::begin(db, mine, "k", b"a").await.unwrap(), Begun::Replay(_)));
    fixture.done().await;
}

#[tokio::test]
async fn a_repetition_of_what_may_have_gone_well_gets_the_same_id() {
    let fixture = Fixture::new().await;
    let (db, project) = (&fixture.db, fixture.project("p").await);
    let begin =
        async |fingerprint: &[u8]| match idempotency::begin(db, project, "k", fingerprint).await.unwrap() {
            Begun::First(reserved) => reserved,
            other => panic!("{other:?}"),
        };
    let first = begin(b"a").await;
    idempotency::abandon(db, project, "k").await.unwrap();
    assert_eq!(begin(b"a").await, first, "nobody knows whether it was done");
    // Its server went down.
    fixture.execute("update idempotency_keys set created_at = now() - interval '3 minutes'").await;
    assert_eq!(begin(b"a").await, first);
    idempotency::abandon(db, project, "k").await.unwrap();
    let other = begin(b"b").await;
    assert_ne!(other, first, "another request makes something else");
    idempotency::forget(db, project, "k").await.unwrap();
    assert_ne!(begin(b"b").await, other, "that one did nothing");
    fixture.done().await;
}

#[tokio::test]
async fn a_job_that_was_made_and_nobody_learnt_of_is_found_again() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let id = fixture.job(project, 50).await;
    let spec = crate::fixture::spec();
    let again = reelmill_shared::db::jobs::NewJob {
        id,
        new_source: true,
        ..crate::fixture::new_job(reelmill_shared::ids::RecordingId::new(), spec, vec![])
    };
    let again = reelmill_shared::db::jobs::NewJob {
        new_recording: Some(reelmill_shared::db::recordings::NewRecording {
            id: again.recording_id.unwrap(),
            title: "again".into(),
            access: reelmill_shared::job::state::Access::Private,
            source_id: Some(again.spec.source),
            metadata: serde_json::json!({}),
        }),
        ..again
    };
    let found = reelmill_shared::db::jobs::submit(&fixture.db, project, &again).await.unwrap();
    assert_eq!(found.id, id);
    assert_eq!(
        fixture.count("select count(*) from recordings").await,
        1,
        "nothing of the second try is left"
    );
    let stranger = fixture.project("stranger").await;
    assert!(reelmill_shared::db::jobs::submit(&fixture.db, stranger, &again).await.is_err());
    fixture.done().await;
}
