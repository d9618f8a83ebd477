//! What a load's commit waits for.

use std::time::Duration;

use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::sql::text;
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture};

/// Shorter than the pause of a WAL writer that no process wakes.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn most_of_what_a_load_logs_is_flushed_before_the_commit() {
    // A server of its own: commits of other tests would flush the log, too.
    let server = ServerFixture::start();
    let db = server.db();
    let (mut client, mut watcher) = (db.client(), db.client());
    watcher.batch_execute("ALTER SYSTEM SET wal_writer_delay = '10s'").unwrap();
    watcher.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until("the setting", SOON, || text(&mut db.client(), "SHOW wal_writer_delay") == "10s");

    // The first one makes the chunk; the other one, of some megabytes, is appended to it.
    let mut ticks = Generator::new(1, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(100.0);
    let [first, second] = [ticks.next_slice(), ticks.next_slice()];
    loaded(&mut client, &server.put("commit/first.parquet", ParquetFile::new().bytes(&first)), "");
    let uri = server.put("commit/second.parquet", ParquetFile::new().bytes(&second));
    let before = text(&mut watcher, "SELECT pg_current_wal_flush_lsn()::text");
    client.batch_execute("BEGIN").unwrap();
    assert_eq!(loaded(&mut client, &uri, "").inserted, second.len() as i64);

    let flushed = format!(
        "SELECT (pg_current_wal_flush_lsn() - '{before}' > (pg_current_wal_insert_lsn() - '{before}') / 2)::text"
    );
    wait_until("the WAL writer", SOON, || text(&mut watcher, &flushed) == "true");
    client.batch_execute("ROLLBACK").unwrap();
}
