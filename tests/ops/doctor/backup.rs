//! doctor() on backups and the archive of the write-ahead log.

use std::fs::File;
use std::time::{Duration, SystemTime};

use btc_ingest_kit::sql::execute;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Cluster, TestDb};
use postgres::Client;

use super::doctor;
use super::doctor_fixture::{Check, SOON};

const DAY: u64 = 24 * 3600;

fn backup(client: &mut Client) -> Check {
    doctor(client).remove("backup").expect("a line about backups")
}

/// Makes all files of a directory with this ending look as old as that. Returns how many there are.
fn age(cluster: &Cluster, directory: &str, ending: &str, seconds: u64) -> usize {
    let directory = cluster.data_dir().join(directory);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|file| file.to_str().unwrap().ends_with(ending)).collect();
    for file in &files {
        let file = File::options().append(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }
    files.len()
}

#[test]
fn a_missing_or_an_old_backup_is_a_finding_where_pgbackrest_archives() {
    let archive = Cluster::builder().setting("archive_mode", "on").setting("archive_command", "true pgbackrest");
    let cluster = archive.start();
    let db = TestDb::with_extension(&cluster);
    let mut client = db.client();
    let check = backup(&mut client);
    assert!(!check.ok && check.detail.contains("last backup: never"), "{check:?}");

    execute(&mut client, "SELECT pg_backup_start('by a test')");
    execute(&mut client, "SELECT pg_backup_stop(false)");
    let check = backup(&mut client);
    assert!(check.ok && check.detail.contains("last backup: ") && check.detail.contains(" s ago"), "{check:?}");

    assert_eq!(age(&cluster, "pg_wal", ".backup", 9 * DAY), 1);
    let check = backup(&mut client);
    assert!(!check.ok && check.detail.contains("no backup in the last 8 days"), "{check:?}");
    assert!(check.detail.contains("last backup: 9 d 0 h ago"), "{check:?}");
}

#[test]
fn an_archive_that_stands_still_is_a_finding_also_if_its_command_hangs() {
    // A command that neither ends nor fails, until the test lets it.
    let command = "until [ -e go ]; do sleep 0.1; done";
    let cluster = Cluster::builder().setting("archive_mode", "on").setting("archive_command", command).start();
    let db = TestDb::with_extension(&cluster);
    let mut client = db.client();
    execute(&mut client, "SELECT pg_switch_wal()");
    wait_until("a segment that waits", SOON, || age(&cluster, "pg_wal/archive_status", ".ready", 16 * 60) > 0);
    let check = backup(&mut client);
    assert!(!check.ok && check.detail.contains("stands still: a segment has waited for 16 min"), "{check:?}");

    // The server runs its command in the data directory.
    File::create(cluster.data_dir().join("go")).unwrap();
    wait_until("progress", SOON, || backup(&mut client).ok);
    // Snapshots of disks are backups that a server does not see.
    assert!(backup(&mut client).hint.contains("snapshots"), "{:?}", backup(&mut client));
}
