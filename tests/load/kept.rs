//! What a session keeps of one load for the next one: its reading thread and the connections to S3.

use std::time::Duration;

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{loaded, refused, session};
use btc_ingest_kit::process::{descriptors, is_running, threads};
use btc_ingest_kit::rows::{moved, must_hold, ticks_of};
use btc_ingest_kit::sql::execute;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, ServerFixture, TestDb, Tick, When};
use postgres::Client;

const SOON: Duration = Duration::from_secs(20);
/// Ticks of a slice.
const TICKS: i64 = 50;

/// A session and a proxy between it and S3.
struct KeptFixture {
    db: TestDb<'static>,
    proxy: FaultProxy,
    client: Client,
    pid: u32,
    ticks: Vec<Tick>,
    slices: i64,
}

impl KeptFixture {
    fn new(idle_timeout: &str) -> KeptFixture {
        let server = ServerFixture::shared();
        let proxy = FaultProxy::before(&server.s3);
        let db = server.db();
        let mut client = session(&db, &proxy.endpoint(), &[("btc_ingest.s3_idle_timeout", idle_timeout)]);
        let pid = backend_pid(&mut client);
        KeptFixture { db, proxy, client, pid, ticks: Vec::new(), slices: 0 }
    }

    /// Loads the next slice.
    #[track_caller]
    fn load(&mut self) {
        let ticks = ticks_of("BTCUSDT", 1 + self.slices * TICKS, TICKS as usize);
        let ticks: Vec<Tick> = ticks.iter().map(|tick| moved(tick, self.slices)).collect();
        let key = format!("{}/{}.parquet", self.db.name(), self.slices);
        let uri = ServerFixture::shared().put(&key, ParquetFile::new().bytes(&ticks));
        self.slices += 1;
        self.ticks.extend(ticks);
        assert_eq!(loaded(&mut self.client, &uri, "").inserted, TICKS);
        must_hold(&mut self.client, &self.ticks);
    }

    #[track_caller]
    fn must_have_kept(&self, what: bool) {
        if what {
            assert!(threads(self.pid) > 1, "no thread is kept");
        } else {
            wait_until("the threads to go", SOON, || threads(self.pid) == 1);
        }
    }
}

#[test]
fn a_session_loads_again_by_the_thread_and_over_the_connection_that_it_has() {
    let mut session = KeptFixture::new("10min");
    session.load();
    let held = (threads(session.pid), descriptors(session.pid));
    (0..5).for_each(|_| session.load());
    assert_eq!(session.proxy.served(), 1, "connections");
    assert_eq!((threads(session.pid), descriptors(session.pid)), held);
}

#[test]
fn an_idle_timeout_of_zero_keeps_nothing() {
    let mut session = KeptFixture::new("0");
    for loads in 1..=3 {
        session.load();
        session.must_have_kept(false);
        assert_eq!(session.proxy.served(), loads);
    }
}

#[test]
fn what_is_kept_goes_when_the_idle_timeout_has_passed() {
    let mut session = KeptFixture::new("0");
    session.load();
    session.must_have_kept(false);
    let held = descriptors(session.pid);
    execute(&mut session.client, "SET btc_ingest.s3_idle_timeout = '1s'");
    session.load();
    session.must_have_kept(false);
    assert_eq!(descriptors(session.pid), held);
    session.load();
}

#[test]
fn a_load_that_fails_takes_along_what_was_kept() {
    let mut session = KeptFixture::new("10min");
    session.load();
    session.must_have_kept(true);
    refused(&mut session.client, "s3://landing/kept/gone.parquet", "", "S3004");
    session.must_have_kept(false);
    session.load();
}

#[test]
fn a_kept_connection_that_breaks_is_made_anew() {
    let mut session = KeptFixture::new("10min");
    session.load();
    session.proxy.on(When::get().nth(1), Fault::Drop);
    session.load();
    assert_eq!(session.proxy.served(), 2, "connections");
}

#[test]
fn a_session_ends_with_what_it_has_kept() {
    for end in ["pg_terminate_backend", "the client's own"] {
        let mut session = KeptFixture::new("10min");
        session.load();
        session.must_have_kept(true);
        let KeptFixture { db, client, pid, .. } = session;
        let mut other = db.client();
        match end {
            "pg_terminate_backend" => execute(&mut other, &format!("SELECT pg_terminate_backend({pid})")),
            _ => drop(client),
        }
        wait_until("the process to go", SOON, || !is_running(pid));
    }
}
