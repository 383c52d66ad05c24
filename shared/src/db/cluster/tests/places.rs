//! Where clusters lie, and what happens when something there is missing.

use super::*;

#[tokio::test]
async fn a_killed_first_start_leaves_nothing_half() {
    let dir = data_dir();
    let half = dir.path().join("postgres.init-00000000/made");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    let cluster = start(&dir).await;
    assert!(!half.exists());
    add(&cluster, 1).await;
    cluster.stop().await.unwrap();
    // Killed between the rename and the record.
    fs::remove_file(dir.path().join("postgres-location")).unwrap();
    let cluster = start(&dir).await;
    assert_eq!(kept(&cluster).await, [1]);
    cluster.stop().await.unwrap();
}

/// As a program that another thread starts in the very moment has it.
#[test]
fn a_lock_ends_though_somebody_has_its_file_open() {
    let dir = data_dir();
    let data = DataDir::open(dir.path()).unwrap();
    let lock = data.lock().unwrap();
    assert!(matches!(data.lock(), Err(ClusterError::InUse { .. })));
    let copy = lock.file().try_clone().unwrap();
    drop(lock);
    drop(data.lock().unwrap());
    drop(copy);
}

#[tokio::test]
async fn what_is_missing_is_said_and_not_replaced() {
    let dir = data_dir();
    start(&dir).await.stop().await.unwrap();
    let start = || Cluster::start(options(dir.path()));
    let (cluster, aside) = (dir.path().join("postgres"), dir.path().join("aside"));

    fs::rename(&cluster, &aside).unwrap();
    let error = start().await.unwrap_err();
    assert!(matches!(error, ClusterError::Lost { .. }), "{error}");
    assert!(!cluster.exists());
    fs::rename(&aside, &cluster).unwrap();

    let version = fs::read(cluster.join("PG_VERSION")).unwrap();
    fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let error = start().await.unwrap_err();
    assert!(matches!(error, ClusterError::Version { wanted: 9, .. }), "{error}");
    fs::write(cluster.join("PG_VERSION"), version).unwrap();

    let conf = cluster.join("postgresql.conf");
    let good = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{good}\nno_such_setting = 1\n")).unwrap();
    let error = start().await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
    fs::write(&conf, good).unwrap();

    fs::write(dir.path().join("postgres-password"), "wrong\n").unwrap();
    let error = start().await.unwrap_err().to_string();
    assert!(error.contains("password authentication failed"), "{error}");

    fs::remove_file(dir.path().join("postgres-password")).unwrap();
    let error = start().await.unwrap_err();
    assert!(matches!(error, ClusterError::PasswordMissing { .. }), "{error}");
}

#[tokio::test]
async fn a_private_folder_of_root_keeps_only_the_record() {
    if !geteuid().is_root() {
        return;
    }
    let (home, shared) = (data_dir(), data_dir());
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let data = home.path().join("films/.reelmill");
    let (base, record) = (shared.path().join("reelmill"), data.join("postgres-location"));
    let start = || Cluster::start_sharing(options(&data), &base);

    // A first start that was killed half-way is taken up where it was.
    let begun = base.join("0123456789abcdef");
    fs::create_dir_all(begun.join("postgres.init-00000000")).unwrap();
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("postgres-location.new"), begun.join("postgres").to_str().unwrap()).unwrap();
    let cluster = start().await.unwrap();
    assert_eq!(cluster.location(), begun.join("postgres"));
    assert_eq!(fs::read_dir(&begun).unwrap().count(), 1);
    cluster.stop().await.unwrap();
    fs::remove_dir_all(&data).unwrap();

    // The deleted data directory's cluster does not come back.
    let cluster = start().await.unwrap();
    let location = cluster.location().to_owned();
    assert!(location.starts_with(&base) && location != begun.join("postgres"), "{location:?}");
    assert_eq!(fs::read_to_string(&record).unwrap().trim(), location.to_str().unwrap());
    assert!(!data.join("postgres").exists() && !data.join("postgres-location.new").exists());
    let parent = fs::metadata(location.parent().unwrap()).unwrap();
    assert_eq!((parent.uid(), parent.mode() & 0o777), (0, 0o755));
    let own = fs::metadata(&location).unwrap();
    assert_eq!((own.uid() != 0, own.mode() & 0o777), (true, 0o700));
    add(&cluster, 1).await;
    cluster.stop().await.unwrap();

    // It is kept, also once the server could enter the data directory.
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cluster = start().await.unwrap();
    assert_eq!(kept(&cluster).await, [1]);
    cluster.stop().await.unwrap();

    fs::remove_dir_all(location.parent().unwrap()).unwrap();
    let error = start().await.unwrap_err();
    assert!(matches!(error, ClusterError::Lost { .. }), "{error}");
    assert!(error.to_string().contains(record.to_str().unwrap()), "{error}");
    // As the error says, deleting the record begins anew.
    fs::remove_file(&record).unwrap();
    start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_became_unreachable_is_not_replaced() {
    if !geteuid().is_root() {
        return;
    }
    let home = data_dir();
    let data = home.path().join("data");
    Cluster::start(options(&data)).await.unwrap().stop().await.unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let error = Cluster::start(options(&data)).await.unwrap_err();
    assert!(matches!(error, ClusterError::CannotEnter { .. }), "{error}");
}

#[tokio::test]
async fn a_cluster_may_be_moved_behind_a_link() {
    let (dir, disk) = (data_dir(), data_dir());
    start(&dir).await.stop().await.unwrap();
    let (cluster, moved) = (dir.path().join("postgres"), disk.path().join("moved"));
    fs::rename(&cluster, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &cluster).unwrap();
    let cluster = start(&dir).await;
    assert_eq!(cluster.location(), moved);
    cluster.stop().await.unwrap();
}
