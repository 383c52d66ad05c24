//! Programs that start before the schema they need, or after a later one.

use std::process::{Output, Stdio};
use std::time::Duration;

use reelmill_testkit::database::TestDatabase;
use reelmill_testkit::farm::binary;
use reelmill_testkit::wait::until;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);

/// A scheduler of this database that says its log on stderr.
fn scheduler(database: &TestDatabase, flag: &str) -> Command {
    let mut command = Command::new(binary("reelmill-scheduler"));
    command.arg(flag).env_clear().env("REELMILL_DATABASE_URL", &database.url);
    command.env("REELMILL_STORAGE_URL", "file:///tmp");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn ended(child: Child) -> Output {
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap()
}

/// Several at once, as where a hook is repeated; and once more when all is done.
#[tokio::test]
async fn migrating_ends_well_however_often_and_at_once() {
    let database = TestDatabase::new().await;
    for _ in 0..2 {
        let children: Vec<Child> =
            (0..4).map(|_| scheduler(&database, "--migrate").spawn().unwrap()).collect();
        for child in children {
            let output = ended(child).await;
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let db = database.connect().await;
    let counts =
        "select count(*), count(distinct version), max(version)::bigint from refinery_schema_history";
    let row = db.query_one(counts, &[]).await.unwrap();
    let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(counts, [counts[2]; 3]);
    database.drop().await;
}

/// A schema that no migration makes fit is refused at once, in words.
#[tokio::test]
async fn a_schema_of_another_line_is_refused() {
    let database = TestDatabase::new().await;
    let output = ended(scheduler(&database, "--migrate").spawn().unwrap()).await;
    assert!(output.status.success());
    let db = database.connect().await;
    db.batch_execute("update refinery_schema_history set checksum = '1' where version = 2").await.unwrap();
    for flag in ["--migrate", "--no-migrate"] {
        let mut command = scheduler(&database, flag);
        command.env("REELMILL_SECRET_KEY", reelmill_testkit::farm::SECRET_KEY);
        let output = ended(command.spawn().unwrap()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("not one of this program's") && said.contains("V2__chunks"), "{said}");
    }
    database.drop().await;
}

/// A program that comes before its schema waits, says what for, and goes on when it is there.
#[tokio::test]
async fn a_program_waits_for_its_schema_and_says_so() {
    let database = TestDatabase::new().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = scheduler(&database, "--no-migrate");
    command.env("REELMILL_SECRET_KEY", reelmill_testkit::farm::SECRET_KEY);
    command.stderr(std::fs::File::create(&log).unwrap());
    let _waits = command.spawn().unwrap();
    let says = async |what: &str| {
        until(what, PATIENCE, || async {
            std::fs::read_to_string(&log).unwrap().contains(what).then_some(())
        })
        .await;
    };
    says("reelmill-scheduler --migrate").await;
    let output = ended(scheduler(&database, "--migrate").spawn().unwrap()).await;
    assert!(output.status.success());
    says("\"leading\"").await;
    database.drop().await;
}
