//! Clusters and databases.

use super::*;

#[test]
fn a_cluster_answers_with_timescaledb_and_with_the_settings_it_was_given() {
    let db = TestDb::new(cluster());
    let mut client = db.client();
    client.batch_execute("CREATE EXTENSION timescaledb").unwrap();
    assert_eq!(db.psql("SHOW work_mem").unwrap(), "7MB\n");
    let port: String = client.query_one("SHOW port", &[]).unwrap().get(0);
    assert_eq!(port, cluster().port().to_string());
    assert!(cluster().psql("postgres", "SELECT 1; SELECT 1/0;").unwrap_err().contains("division by zero"));
    assert!(db.log().contains("division by zero"));
}

#[test]
fn a_server_gets_the_environment_of_its_test_and_not_that_of_its_caller() {
    let read = |name: &str| {
        let bytes = std::fs::read(format!("/proc/{}/environ", cluster().pid())).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    assert_eq!(read("KIT_TEST").as_deref(), Some("1"));
    assert_eq!(read("AWS_EC2_METADATA_DISABLED").as_deref(), Some("true"));
    assert_eq!(read("HOME").as_deref(), cluster().dir().to_str());
}

#[test]
fn a_test_database_is_gone_after_its_test() {
    let name = TestDb::new(cluster()).name().to_owned();
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(cluster().psql("postgres", &sql).unwrap(), "0\n");
}

#[test]
fn memory_is_that_of_the_backend_alone() {
    let db = TestDb::new(cluster());
    let mut client = db.client();
    let pid = btc_ingest_kit::cluster::backend_pid(&mut client);
    let before = memory(pid).unwrap();
    let watch = MemoryWatch::start(pid);
    client.batch_execute("DO $$ BEGIN PERFORM length(repeat('x', 100000000)); END $$").unwrap();
    assert!(watch.peak().total() > before.total() + 50_000_000, "{:?} after {before:?}", watch.peak());
    assert_eq!(threads(pid), 1);
    assert!(descriptors(pid).values().sum::<usize>() > 3);
}

#[test]
fn nothing_is_left_of_a_dropped_cluster_and_it_survives_restart_and_crash_before() {
    let cluster = Cluster::builder().start();
    let (first, dir) = (cluster.pid(), cluster.dir().to_owned());
    cluster.set_env("KIT_TEST", "2");
    cluster.restart();
    assert!(!is_running(first));
    cluster.client("postgres").batch_execute("CREATE TABLE kept AS SELECT 1").unwrap();
    cluster.crash();
    assert_eq!(cluster.psql("postgres", "TABLE kept").unwrap(), "1\n");
    let last = cluster.pid();
    drop(cluster);
    assert!(!is_running(last));
    assert!(!dir.exists());
}

#[test]
fn nothing_is_left_of_a_process_that_was_killed() {
    // This test calls itself as the process to be killed.
    if let Ok(file) = std::env::var("KIT_VICTIM") {
        let cluster = Cluster::builder().start();
        let server = server();
        let text = format!("{}\n{}\n{}\n", cluster.pid(), cluster.dir().display(), server.root().display());
        std::fs::write(&file, text).unwrap();
        loop {
            std::thread::park();
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("victim");
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::nothing_is_left_of_a_process_that_was_killed"])
        .env("KIT_VICTIM", &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let complete = || std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 3);
    wait_until("the victim's cluster", Duration::from_secs(60), complete);
    victim.kill().unwrap();
    victim.wait().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let [pid, dirs @ ..] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let pid = pid.parse().unwrap();
    wait_until("the victim's cluster to go", SOON, || !is_running(pid));
    wait_until("the directories to go", SOON, || dirs.iter().all(|dir| !std::path::Path::new(dir).exists()));
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = Cluster::builder().start();
    let standby = primary.standby();
    primary.client("postgres").batch_execute("CREATE TABLE followed AS SELECT 1").unwrap();
    wait_until("the table on the standby", SOON, || standby.psql("postgres", "TABLE followed").is_ok());
    assert_eq!(standby.psql("postgres", "SELECT pg_is_in_recovery()").unwrap(), "t\n");
    standby.promote();
    assert_eq!(standby.psql("postgres", "SELECT pg_is_in_recovery()").unwrap(), "f\n");
}

#[test]
fn a_killed_server_is_gone_and_starts_again_with_what_was_committed() {
    let cluster = Cluster::builder().start();
    cluster.client("postgres").batch_execute("CREATE TABLE committed AS SELECT 1").unwrap();
    let mut session = cluster.client("postgres");
    let before = [vec![cluster.pid()], children(cluster.pid())].concat();
    assert!(before.contains(&backend_pid(&mut session)), "{before:?}");
    cluster.kill();
    assert!(!before.iter().any(|&pid| is_running(pid)));
    cluster.start();
    assert_eq!(cluster.psql("postgres", "TABLE committed").unwrap(), "1\n");
}
