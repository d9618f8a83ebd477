//! A VACUUM that stands still in the middle of an index as long as a test wants it.
//!
//! A VACUUM waits until no other session holds a page of an index that it has come to. An index-only scan holds the
//! page that it has come to, and a cursor does so until it is closed.

use std::thread::JoinHandle;

use btc_ingest_kit::sql::{execute, number, texts, wait_until_true};
use postgres::Client;

use crate::fill_fixture::FillFixture;

/// A session that holds a page of an index, and one whose VACUUM waits for it.
pub struct PausedVacuum {
    holder: Client,
    vacuum: JoinHandle<()>,
    /// The block that the VACUUM waits for.
    pub block: u64,
}

impl PausedVacuum {
    /// Starts a VACUUM of a chunk that has dead rows, and returns when it waits for the page of `index` on which the
    /// entries of a symbol begin. `columns` are those of the index.
    pub fn start(fixture: &mut FillFixture, chunk: &str, index: &str, columns: &str, symbol: &str) -> PausedVacuum {
        execute(&mut fixture.client, "CREATE EXTENSION IF NOT EXISTS pg_buffercache");
        let mut holder = fixture.db.session();
        execute(&mut holder, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; BEGIN");
        let order = columns.trim_matches(['(', ')']);
        let names = order.replace(" DESC", "");
        let sql = format!("SELECT {names} FROM ONLY {chunk} WHERE symbol = '{symbol}' ORDER BY {order}");
        let plan = texts(&mut holder, &format!("EXPLAIN {sql}")).join(" ");
        assert!(plan.contains("Index Only Scan"), "{plan}");
        execute(&mut holder, &format!("DECLARE held CURSOR FOR {sql}; FETCH 1 FROM held"));
        let held = format!(
            "SELECT relblocknumber::bigint FROM pg_buffercache
              WHERE pinning_backends > 0 AND relfilenode = pg_relation_filenode('{index}')"
        );
        let block = number(&mut fixture.client, &held) as u64;

        let mut session = fixture.db.session();
        let vacuum = format!("VACUUM (INDEX_CLEANUP on, PARALLEL 0) {chunk}");
        let vacuum = std::thread::spawn(move || execute(&mut session, &vacuum));
        let waits = "EXISTS (SELECT FROM pg_stat_progress_vacuum JOIN pg_stat_activity USING (pid)
                              WHERE phase = 'vacuuming indexes' AND wait_event = 'BufferPin')";
        wait_until_true(&mut fixture.client, "the VACUUM waits for the page", waits);
        PausedVacuum { holder, vacuum, block }
    }

    /// Lets the VACUUM go on, and waits for its end.
    pub fn end(mut self) {
        execute(&mut self.holder, "CLOSE held; COMMIT");
        self.vacuum.join().expect("the VACUUM");
    }
}
