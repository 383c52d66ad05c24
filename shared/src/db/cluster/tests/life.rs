//! Starting and stopping, as root and as an ordinary user.

use super::*;

#[tokio::test]
async fn data_is_kept_from_start_to_start() {
    let dir = data_dir();
    let begun = Instant::now();
    let cluster = start(&dir).await;
    println!("first start: {:?}", begun.elapsed());
    add(&cluster, 1).await;
    assert_eq!(show(&cluster, "fsync").await, "off");
    assert_eq!(show(&cluster, "max_connections").await, "20");
    assert_eq!(show(&cluster, "server_encoding").await, "UTF8");
    assert_eq!(show(&cluster, "listen_addresses").await, "");

    // Both the general form of a URL and the one PostgreSQL's clients read.
    let url = cluster.url("my db/1");
    assert!(url.parse::<url::Url>().is_ok(), "{url}");
    assert_eq!(url.parse::<Config>().unwrap().get_dbname(), Some("my db/1"));

    let socket_dir = cluster.server.socket_dir().to_owned();
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(dir.path().join("postgres-password")).unwrap().mode() & 0o777, 0o600);
    let wrong = cluster.url("postgres").replace(&cluster.password, "wrong");
    assert!(tokio_postgres::connect(&wrong, NoTls).await.is_err(), "any password will do");

    let begun = Instant::now();
    cluster.stop().await.unwrap();
    println!("stop: {:?}", begun.elapsed());
    assert!(!socket_dir.exists());

    let begun = Instant::now();
    let cluster =
        Cluster::start(ClusterOptions { durable: true, max_connections: 8, ..options(dir.path()) }).await;
    let cluster = cluster.unwrap();
    println!("next start: {:?}", begun.elapsed());
    assert_eq!(kept(&cluster).await, [1]);
    assert_eq!(show(&cluster, "fsync").await, "on");
    assert_eq!(show(&cluster, "max_connections").await, "8");
    let begun = Instant::now();
    drop(connect(&cluster).await);
    println!("one connection: {:?}", begun.elapsed());
    cluster.stop().await.unwrap();
    let leftover =
        fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let mut leftover: Vec<String> = leftover.collect();
    leftover.sort();
    let expected = [
        "postgres",
        "postgres-location",
        "postgres-password",
        "postgres.lock",
        "postgres.log",
        "postgres.log.1",
    ];
    assert_eq!(leftover, expected);
}

#[tokio::test]
async fn the_server_is_unprivileged_and_in_its_own_process_group() {
    let dir = data_dir();
    let cluster = start(&dir).await;
    let pid = cluster.server.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> Vec<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert!(field("Uid:").iter().all(|uid| uid != "0"), "{status}");
    assert!(field("Gid:").iter().all(|gid| gid != "0"), "{status}");
    if geteuid().is_root() {
        assert_eq!(field("Groups:"), [""; 0], "root's supplementary groups were kept");
    }
    assert_eq!(nix::unistd::getpgid(Some(Pid::from_raw(pid))).unwrap(), Pid::from_raw(pid));
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("CARGO"), "our environment was handed on");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_running_cluster_belongs_to_one_process() {
    let dir = data_dir();
    let cluster = start(&dir).await;
    let error = Cluster::start(options(dir.path())).await.unwrap_err();
    assert!(
        matches!(&error, ClusterError::InUse { pid, .. } if *pid == std::process::id().to_string()),
        "{error}"
    );
    assert!(alive(cluster.server.pid()));
    add(&cluster, 1).await;
    cluster.stop().await.unwrap();
    start(&dir).await.stop().await.unwrap();
}

/// The same tests for an ordinary user, where root runs them.
#[test]
fn an_ordinary_user_has_the_same_cluster() {
    if !geteuid().is_root() {
        return;
    }
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    for test in [
        "life::data_is_kept_from_start_to_start",
        "life::the_server_is_unprivileged_and_in_its_own_process_group",
        "crashes::a_server_that_outlived_a_killed_process_is_replaced",
        "crashes::a_killed_server_is_noticed_and_recovers_though_a_session_lives_on",
        "crashes::a_stale_process_number_hurts_nobody",
    ] {
        let mut command = again(test);
        let output = match command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).output() {
            Ok(output) => output,
            // The build lies where that user cannot go.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{error}"),
        };
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        println!("{said}");
    }
}
