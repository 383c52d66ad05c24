//! Whatever is killed, the next start works and nothing is lost.

use super::*;

/// Set for a copy of this test program that shall run a cluster until it is killed.
const RUN_IN: &str = "REELMILL_TEST_RUN_CLUSTER_IN";

#[tokio::test]
async fn a_dropped_cluster_ends_and_comes_back() {
    let dir = data_dir();
    let cluster = Cluster::start(durable(dir.path())).await.unwrap();
    add(&cluster, 1).await;
    let (pid, socket_dir) = (cluster.server.pid(), cluster.server.socket_dir().to_owned());
    let session = connect(&cluster).await;
    let begun = Instant::now();
    drop(cluster);
    println!("drop: {:?}", begun.elapsed());
    assert!(!alive(pid) && !socket_dir.exists());
    assert!(session.simple_query("SELECT 1").await.is_err());
    let cluster = start(&dir).await;
    assert_eq!(kept(&cluster).await, [1]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_recovers_though_a_session_lives_on() {
    let dir = data_dir();
    let mut cluster = Cluster::start(durable(dir.path())).await.unwrap();
    add(&cluster, 1).await;
    let busy = connect(&cluster).await;
    let session: i32 = busy.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    // It never waits for anything, so it does not notice that its postmaster is gone.
    tokio::spawn(async move { busy.batch_execute("DO $$ BEGIN LOOP END LOOP; END $$").await });
    let state = format!("SELECT 1 FROM pg_stat_activity WHERE pid = {session} AND state = 'active'");
    let watch = connect(&cluster).await;
    while watch.query(&state, &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kill(Pid::from_raw(cluster.server.pid()), Signal::SIGKILL).unwrap();
    let error = cluster.failed().await;
    assert!(matches!(error, ClusterError::Exited { .. }), "{error}");
    drop(cluster);
    assert!(alive(session), "the session ended by itself: this test shows nothing");
    let cluster = start(&dir).await;
    assert!(!alive(session));
    assert_eq!(kept(&cluster).await, [1]);
    cluster.stop().await.unwrap();
}

/// Not a test by itself: what [`run_until_killed`] runs.
#[tokio::test]
async fn runs_until_killed() {
    let Some(dir) = env::var_os(RUN_IN).map(PathBuf::from) else {
        return;
    };
    let cluster = Cluster::start(durable(&dir)).await.unwrap();
    add(&cluster, 7).await;
    fs::write(dir.join("running"), cluster.server.pid().to_string()).unwrap();
    std::future::pending::<()>().await;
}

fn run_until_killed(dir: &Path) -> (Child, i32) {
    let child = again("crashes::runs_until_killed").env(RUN_IN, dir).stdout(Stdio::null()).spawn().unwrap();
    let running = || fs::read_to_string(dir.join("running")).ok()?.parse().ok();
    wait_until("the cluster's start", || running().is_some());
    (child, running().unwrap())
}

#[tokio::test]
async fn a_server_that_outlived_a_killed_process_is_replaced() {
    let dir = data_dir();
    let (mut owner, orphan) = run_until_killed(dir.path());
    assert!(matches!(Cluster::start(options(dir.path())).await, Err(ClusterError::InUse { .. })));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(alive(orphan), "the server ended by itself: this test shows nothing");
    let old_socket = fs::read_to_string(dir.path().join("postgres/postmaster.pid")).unwrap();
    let old_socket = PathBuf::from(old_socket.lines().nth(4).unwrap());
    let begun = Instant::now();
    let cluster = start(&dir).await;
    println!("start over an orphan: {:?}", begun.elapsed());
    assert!(!alive(orphan) && !old_socket.exists());
    assert_eq!(kept(&cluster).await, [7]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn everything_killed_at_once_is_recovered_from() {
    let dir = data_dir();
    let (mut owner, server) = run_until_killed(dir.path());
    owner.kill().unwrap();
    owner.wait().unwrap();
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    wait_until("the server's end", || !alive(server));
    let cluster = start(&dir).await;
    assert_eq!(kept(&cluster).await, [7]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_process_number_hurts_nobody() {
    let dir = data_dir();
    start(&dir).await.stop().await.unwrap();
    // Another program has the number now, and runs as the very user of the server, where PostgreSQL itself
    // gives up.
    let owner = fs::metadata(dir.path().join("postgres")).unwrap();
    let mut bystander = Command::new("sleep");
    if geteuid().is_root() {
        bystander.uid(owner.uid()).gid(owner.gid());
    }
    let mut bystander = bystander.arg("60").spawn().unwrap();
    let stale =
        format!("{}\n{}\n1\n5432\n/tmp/nowhere\n", bystander.id(), dir.path().join("postgres").display());
    fs::write(dir.path().join("postgres/postmaster.pid"), stale).unwrap();
    let cluster = start(&dir).await;
    assert!(bystander.try_wait().unwrap().is_none(), "a bystander was killed");
    cluster.stop().await.unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}
