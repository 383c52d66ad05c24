//! Who gets which task.

use std::collections::HashSet;
use std::sync::Arc;

use reelmill_shared::db::tasks::{self, Hold};
use reelmill_shared::db::{leases, progress};
use reelmill_shared::ids::JobId;
use reelmill_shared::job::task::TaskKind;

use crate::fixture::{Fixture, LEASE, claimant};

#[tokio::test]
async fn a_project_with_many_tasks_does_not_delay_another_with_one() {
    let fixture = Fixture::new().await;
    let (crowd, single) = (fixture.project("crowd").await, fixture.project("single").await);
    for _ in 0..50 {
        fixture.job(crowd, 100).await;
    }
    let claimant = claimant();
    for _ in 0..3 {
        assert_eq!(fixture.claim(&claimant).await.unwrap().project_id, crowd);
    }
    // Submitted last and with the least priority: priority ranks within a project, never between them.
    let late = fixture.job(single, 0).await;
    assert_eq!(fixture.claim(&claimant).await.unwrap().job_id, late);
    // Weight counts: three running of weight four are less than one of weight one.
    fixture.execute("update projects set weight = 4 where name = 'crowd'").await;
    fixture.job(single, 100).await;
    assert_eq!(fixture.claim(&claimant).await.unwrap().project_id, crowd);
    fixture.done().await;
}

#[tokio::test]
async fn priority_goes_first_but_waiting_counts() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let old = fixture.job(project, 50).await;
    let urgent = fixture.job(project, 80).await;
    let ancient = fixture.job(project, 0).await;
    // Two hours of waiting outweigh the whole scale.
    let shift = format!(
        "update tasks set ready_at = ready_at - interval '2 hours', ready_key = ready_key - interval '2 hours'
         where job_id = '{ancient}'"
    );
    fixture.execute(&shift).await;
    let claimant = claimant();
    let mut order: Vec<JobId> = vec![];
    while let Some(claimed) = fixture.claim(&claimant).await {
        order.push(claimed.job_id);
    }
    assert_eq!(order, [ancient, urgent, old]);
    fixture.done().await;
}

#[tokio::test]
async fn projects_with_even_shares_take_turns_whatever_their_priorities() {
    let fixture = Fixture::new().await;
    let (loud, quiet) = (fixture.project("loud").await, fixture.project("quiet").await);
    for _ in 0..40 {
        fixture.job(loud, 100).await;
        fixture.job(quiet, 0).await;
    }
    let mut quiet_first = 0;
    for _ in 0..40 {
        let claimed = fixture.claim(&claimant()).await.unwrap();
        quiet_first += usize::from(claimed.project_id == quiet);
        // Nothing runs when the next one is chosen: shares are even.
        fixture.execute("delete from task_leases").await;
    }
    // One chance in a million to fall outside.
    assert!((5..=35).contains(&quiet_first), "{quiet_first} of 40");
    fixture.done().await;
}

#[tokio::test]
async fn where_slots_are_fewer_than_projects_weight_says_how_often_each_has_its_turn() {
    let fixture = Fixture::new().await;
    let (heavy, light) = (fixture.project("heavy").await, fixture.project("light").await);
    fixture.execute("update projects set weight = 4 where name = 'heavy'").await;
    for _ in 0..100 {
        fixture.job(heavy, 50).await;
        fixture.job(light, 50).await;
    }
    let mut of_heavy = 0;
    for _ in 0..100 {
        let claimed = fixture.claim(&claimant()).await.unwrap();
        of_heavy += usize::from(claimed.project_id == heavy);
        // The only slot: nothing runs when the next one is chosen.
        fixture.execute("delete from task_leases").await;
    }
    // Eighty are expected; six standard deviations to either side.
    assert!((56..=99).contains(&of_heavy), "{of_heavy} of 100");
    fixture.done().await;
}

#[tokio::test]
async fn what_becomes_due_gets_its_priority_back() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    let plain = fixture.job(project, 50).await;
    let urgent = fixture.job(project, 90).await;
    let later = "update tasks set deferred = true, ready_at = now() + interval '1 hour',
                     ready_key = now() + interval '1 hour' where job_id = ";
    fixture.execute(&format!("{later}'{urgent}'")).await;
    assert_eq!(tasks::promote_due(&fixture.db, 10).await.unwrap(), 0);
    let due = "update tasks set ready_at = now(), ready_key = now() where job_id = ";
    fixture.execute(&format!("{due}'{urgent}'")).await;
    assert_eq!(tasks::promote_due(&fixture.db, 10).await.unwrap(), 1);
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, urgent);
    assert_eq!(fixture.claim(&claimant()).await.unwrap().job_id, plain);
    fixture.done().await;
}

#[tokio::test]
async fn only_what_is_proven_and_due_is_claimed() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    fixture.job(project, 50).await;
    let mut claimant = claimant();
    fixture.execute("update tasks set class = 'h264_nvenc'").await;
    assert!(fixture.claim(&claimant).await.is_none());
    claimant.capabilities.push("h264_nvenc".into());
    fixture.execute("update tasks set ready_at = now() + interval '1 minute'").await;
    assert!(fixture.claim(&claimant).await.is_none());
    fixture.execute("update tasks set ready_at = now()").await;
    let claimed = fixture.claim(&claimant).await.unwrap();
    assert_eq!((claimed.spec.kind(), claimed.attempt, claimed.hold.epoch), (TaskKind::Probe, 1, 1));
    assert!(fixture.claim(&claimant).await.is_none());
    fixture.done().await;
}

#[tokio::test]
async fn sixty_four_claimers_never_share_a_task() {
    let fixture = Arc::new(Fixture::new().await);
    for name in ["a", "b", "c"] {
        let project = fixture.project(name).await;
        for _ in 0..40 {
            fixture.job(project, 50).await;
        }
    }
    let claimers = (0..64).map(|_| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            let claimant = claimant();
            let mut mine = vec![];
            while let Some(claimed) = fixture.claim(&claimant).await {
                mine.push(claimed.hold);
            }
            mine
        })
    });
    let mut all: Vec<Hold> = vec![];
    for claimer in claimers.collect::<Vec<_>>() {
        all.extend(claimer.await.unwrap());
    }
    // A claimer that finds every head locked leaves; the rest is found at its next look.
    while let Some(claimed) = fixture.claim(&claimant()).await {
        all.push(claimed.hold);
    }
    let distinct: HashSet<_> = all.iter().map(|hold| hold.task_id).collect();
    assert_eq!((all.len(), distinct.len()), (120, 120));
    assert!(all.iter().all(|hold| hold.epoch == 1));
    assert_eq!(fixture.count("select count(*) from jobs where status = 'running'").await, 120);
    assert_eq!(fixture.count("select count(*) from events where type = 'job.started'").await, 120);
    Arc::into_inner(fixture).unwrap().done().await;
}

#[tokio::test]
async fn a_beat_renews_only_what_still_stands() {
    let fixture = Fixture::new().await;
    let project = fixture.project("p").await;
    fixture.job(project, 50).await;
    fixture.job(project, 50).await;
    let claimant = claimant();
    let (a, b) = (fixture.claim(&claimant).await.unwrap(), fixture.claim(&claimant).await.unwrap());
    fixture.execute(&format!("update task_leases set epoch = 2 where task_id = '{}'", b.hold.task_id)).await;
    let standing = leases::renew(&fixture.db, claimant.worker_id, &[a.hold, b.hold], LEASE).await.unwrap();
    assert_eq!(standing, HashSet::from([a.hold]));
    let figures =
        tasks::Progress { progress: 0.5, phase: "x".into(), fps: None, speed: None, eta_seconds: None };
    assert!(progress::put(&fixture.db, a.job_id, a.hold, &figures).await.unwrap());
    assert!(!progress::put(&fixture.db, b.job_id, b.hold, &figures).await.unwrap());
    fixture.done().await;
}
