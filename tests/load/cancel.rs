//! A call ends when it is told to, wherever it waits, and leaves no thread, no descriptor and no row, nor what the
//! session has kept of the load before.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{BUCKET, Refusal, load, loaded, session, stored, traces};
use btc_ingest_kit::process::{descriptors, is_running, threads};
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::wait::wait_until;
use btc_ingest_kit::{Fault, FaultProxy, Generator, ParquetFile, ServerFixture, Sums, TestDb, Tick, When};
use parquet::basic::Compression;
use postgres::Client;

/// The limit is 200 ms; the rest is for a machine that runs other tests at the same time.
const PROMPT: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(20);
/// How often each end is measured.
const TIMES: usize = 5;
/// Small, so that an object of a few megabytes is read by ranges and inserted in many batches.
const SMALL_MEMORY: (&str, &str) = ("btc_ingest.memory_limit", "8MB");
const KEEPS_NOTHING: (&str, &str) = ("btc_ingest.s3_idle_timeout", "0");

fn ticks(seed: u64, slices: usize) -> Vec<Tick> {
    Generator::new(seed, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).next_slices(slices)
}

/// A session that has loaded and keeps what its next load needs, a proxy between it and S3, and a second session that
/// watches.
struct CancelFixture {
    db: TestDb<'static>,
    proxy: FaultProxy,
    client: Client,
    watcher: Client,
    pid: u32,
    /// Its descriptors while it keeps nothing.
    held: BTreeMap<String, usize>,
    warm_up: Sums,
}

impl CancelFixture {
    fn new(name: &str) -> CancelFixture {
        let mut fixture = Self::without_kept(name);
        fixture.client.batch_execute("SET btc_ingest.s3_idle_timeout = '10min'").unwrap();
        let warm_up = format!("s3://{BUCKET}/cancel/{name}/warm-up.parquet");
        loaded(&mut fixture.client, &warm_up, "force => true");
        assert!(threads(fixture.pid) > 1, "no thread is kept");
        fixture
    }

    /// Returns the fixture of a session that keeps nothing.
    fn without_kept(name: &str) -> CancelFixture {
        let server = ServerFixture::shared();
        let proxy = FaultProxy::before(&server.s3);
        let db = server.db();
        let mut client = session(&db, &proxy.endpoint(), &[SMALL_MEMORY, KEEPS_NOTHING]);
        let pid = backend_pid(&mut client);
        let first = Generator::new(99, "WARMUP", time_us("2024-08-08T12:00:00Z"), 1).per_second(1.0).next_slice();
        let uri = server.put(&format!("cancel/{name}/warm-up.parquet"), ParquetFile::new().bytes(&first));
        loaded(&mut client, &uri, "");
        let watcher = db.client();
        wait_until("the first load's threads to go", SOON, || threads(pid) == 1);
        let held = descriptors(pid);
        CancelFixture { db, proxy, client, watcher, pid, held, warm_up: Sums::of(&first) }
    }

    /// Stores an object of several megabytes and returns its uri.
    fn object(&self, name: &str) -> (String, Sums) {
        let ticks = ticks(1, 4);
        let bytes = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).bytes(&ticks);
        (ServerFixture::shared().put(&format!("cancel/{name}/ticks.parquet"), bytes), Sums::of(&ticks))
    }

    /// Calls `end` once the load waits, and returns its error and how long it took from then on.
    fn ends(
        &mut self,
        uri: &str,
        waits: impl FnOnce(&mut Client),
        end: &str,
    ) -> (Result<(), postgres::Error>, Duration) {
        let (client, watcher, pid) = (&mut self.client, &mut self.watcher, self.pid);
        std::thread::scope(|scope| {
            let (sender, ended) = channel();
            scope.spawn(move || {
                let result = load(client, uri, "").map(drop);
                sender.send((result, Instant::now())).unwrap();
            });
            waits(watcher);
            must_wait(&ended);
            let start = Instant::now();
            assert!(watcher.query_one(&format!("SELECT {end}({pid})"), &[]).unwrap().get::<_, bool>(0));
            let (result, at) = ended.recv_timeout(SOON).unwrap_or_else(|_| panic!("{end} did not end the call"));
            (result, at - start)
        })
    }

    /// Removes the faults and waits for the stalls to end, because the next call would be taken for stalled.
    fn calm(&self) {
        self.proxy.clear();
        self.proxy.release();
        wait_until("the stalls to end", SOON, || self.proxy.stalled() == 0);
    }

    /// Checks that nothing is left of the ended call, and that the session still works.
    #[track_caller]
    fn must_be_as_before(&mut self, uri: &str, sums: &Sums) {
        let pid = self.pid;
        wait_until("the threads to go", Duration::from_millis(500), || threads(pid) == 1);
        assert_eq!(descriptors(pid), self.held, "descriptors");
        stored(&mut self.client).must_be(&self.warm_up, "after the cancelled call");
        for (table, rows) in traces(&mut self.watcher) {
            let of_it = format!("SELECT count(*) FROM {table} AS t WHERE to_jsonb(t)::text LIKE '%{uri}%'");
            assert_eq!(self.watcher.query_one(&of_it, &[]).unwrap().get::<_, i64>(0), 0, "{table} ({rows} rows)");
        }
        self.calm();
        let (keeps, nothing) = KEEPS_NOTHING;
        self.client.batch_execute(&format!("SET {keeps} = '{nothing}'")).unwrap();
        let report = loaded(&mut self.client, uri, "");
        assert_eq!((report.inserted as u64, report.outcome.as_str()), (sums.rows, "loaded"));
        wait_until("the next load's threads to go", SOON, || threads(pid) == 1);
        assert_eq!(descriptors(pid), self.held, "descriptors after the next load");
    }
}

/// Checks that the load has not ended by itself.
#[track_caller]
fn must_wait<T>(ended: &Receiver<T>) {
    assert!(ended.try_recv().is_err(), "the load ended before it was told to");
}

/// Prints what was measured and compares it with the limit.
#[track_caller]
fn must_be_prompt(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {median:?}, longest {longest:?} of {}", times.len());
    assert!(median < PROMPT, "{what}: {times:?}");
}

/// Cancels several times where `fault` lets the load wait, then checks that nothing is left.
fn cancel_where(name: &str, when: When, fault: Fault) {
    let mut fixture = CancelFixture::new(name);
    let (uri, sums) = fixture.object(name);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        fixture.proxy.on(when.clone(), fault.clone());
        let proxy = std::mem::replace(&mut fixture.proxy, FaultProxy::before(&ServerFixture::shared().s3));
        let (result, time) = fixture.ends(&uri, |_| proxy.wait_until_stalled(SOON), "pg_cancel_backend");
        fixture.proxy = proxy;
        let refusal = Refusal::from(result.unwrap_err());
        assert_eq!(refusal.sqlstate, "57014", "{refusal:?}");
        assert!(refusal.message.contains("user request"), "{refusal:?}");
        times.push(time);
        fixture.calm();
    }
    must_be_prompt(&format!("cancelled while {name}"), times);
    fixture.must_be_as_before(&uri, &sums);
}

#[test]
fn a_call_that_waits_for_the_first_answer_can_be_cancelled() {
    cancel_where("asking for the object", When::get().nth(1), Fault::Hang);
}

#[test]
fn a_call_that_waits_for_the_footer_can_be_cancelled() {
    cancel_where("reading the footer", When::get().nth(2), Fault::StallAfter(1000));
}

#[test]
fn a_call_that_waits_for_a_column_can_be_cancelled() {
    cancel_where("reading a column", When::get().nth(3), Fault::StallAfter(1000));
}

#[test]
fn a_call_that_waits_with_half_the_ticks_inserted_can_be_cancelled() {
    cancel_where("reading what remains", When::get().nth(25), Fault::StallAfter(1000));
}

#[test]
fn a_statement_timeout_ends_a_call_whose_body_stalls() {
    let mut fixture = CancelFixture::new("statement timeout");
    let (uri, sums) = fixture.object("statement timeout");
    let mut times = Vec::new();
    let limit = Duration::from_millis(400);
    for _ in 0..TIMES {
        fixture.proxy.on(When::get().nth(2), Fault::StallAfter(1000));
        fixture.client.batch_execute(&format!("SET statement_timeout = {}", limit.as_millis())).unwrap();
        let start = Instant::now();
        let refusal = Refusal::from(load(&mut fixture.client, &uri, "").unwrap_err());
        times.push(start.elapsed() - limit);
        assert_eq!(refusal.sqlstate, "57014", "{refusal:?}");
        assert!(refusal.message.contains("statement timeout"), "{refusal:?}");
        fixture.client.batch_execute("RESET statement_timeout").unwrap();
        fixture.calm();
    }
    must_be_prompt("past statement_timeout", times);
    fixture.must_be_as_before(&uri, &sums);
}

#[test]
fn a_call_can_be_cancelled_while_a_connection_hangs_in_accept() {
    let mut fixture = CancelFixture::new("accept");
    let (uri, sums) = fixture.object("accept");
    // The kernel completes the connection; no process accepts it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let hang = format!("SET btc_ingest.s3_endpoint = 'http://{}'", listener.local_addr().unwrap());
    let mut times = Vec::new();
    for _ in 0..TIMES {
        fixture.client.batch_execute(&hang).unwrap();
        // The two sockets of the wake-up pair, and the connection to S3.
        let (pid, before) = (fixture.pid, fixture.held["socket:"]);
        let connected = |_: &mut Client| wait_until("a connection", SOON, || descriptors(pid)["socket:"] > before + 2);
        let (result, time) = fixture.ends(&uri, connected, "pg_cancel_backend");
        assert_eq!(Refusal::from(result.unwrap_err()).sqlstate, "57014");
        times.push(time);
    }
    must_be_prompt("cancelled while a connection hangs in accept", times);
    let back = format!("SET btc_ingest.s3_endpoint = '{}'", fixture.proxy.endpoint());
    fixture.client.batch_execute(&back).unwrap();
    fixture.must_be_as_before(&uri, &sums);
}

#[test]
fn a_call_that_waits_for_another_load_of_its_object_can_be_cancelled() {
    let mut fixture = CancelFixture::without_kept("lock");
    let (uri, sums) = fixture.object("lock");
    let stalling = FaultProxy::before(&ServerFixture::shared().s3);
    stalling.on(When::get(), Fault::StallAfter(1000));
    let mut other = session(&fixture.db, &stalling.endpoint(), &[]);
    let other_pid = backend_pid(&mut other);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| load(&mut other, &uri, ""));
        stalling.wait_until_stalled(SOON);
        let pid = fixture.pid as i32;
        for _ in 0..TIMES {
            let blocked = |watcher: &mut Client| {
                wait_until("the lock", SOON, || {
                    let sql = "SELECT pg_blocking_pids($1)";
                    watcher.query_one(sql, &[&pid]).unwrap().get::<_, Vec<i32>>(0) == [other_pid as i32]
                });
            };
            let (result, time) = fixture.ends(&uri, blocked, "pg_cancel_backend");
            assert_eq!(Refusal::from(result.unwrap_err()).sqlstate, "57014");
            times.push(time);
        }
        // The holder can be cancelled as well, which releases the lock.
        fixture.watcher.query_one(&format!("SELECT pg_cancel_backend({other_pid})"), &[]).unwrap();
        assert_eq!(Refusal::from(first.join().unwrap().unwrap_err()).sqlstate, "57014");
    });
    must_be_prompt("cancelled while waiting for another load", times);
    fixture.must_be_as_before(&uri, &sums);
}

#[test]
fn a_terminated_backend_ends_while_the_body_stalls() {
    let mut times = Vec::new();
    for n in 0..3 {
        let mut fixture = CancelFixture::new(&format!("terminate {n}"));
        let (uri, sums) = fixture.object(&format!("terminate {n}"));
        fixture.proxy.on(When::get().nth(3), Fault::StallAfter(1000));
        let proxy = std::mem::replace(&mut fixture.proxy, FaultProxy::before(&ServerFixture::shared().s3));
        let (result, time) = fixture.ends(&uri, |_| proxy.wait_until_stalled(SOON), "pg_terminate_backend");
        // The client may see the closed connection before the error.
        result.unwrap_err();
        assert!(fixture.db.log().contains("terminating connection due to administrator command"));
        times.push(time);
        let pid = fixture.pid;
        let start = Instant::now();
        wait_until("the process to go", SOON, || !is_running(pid));
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        stored(&mut fixture.watcher).must_be(&fixture.warm_up, "after the terminated call");
        let report = loaded(&mut fixture.db.client(), &uri, "");
        assert_eq!(report.inserted as u64, sums.rows);
    }
    must_be_prompt("terminated while the body stalls", times);
}

/// The reading thread is ahead of the backend then and waits for room, which no process will make.
#[test]
fn a_terminated_backend_ends_while_it_inserts_and_the_reader_is_ahead() {
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let mut fixture = CancelFixture::new(end);
        let (uri, _) = fixture.object(end);
        // Another transaction holds a tick of the first batch, so that the unique index lets the load wait.
        let first = ticks(1, 1).remove(0);
        let mut other = fixture.db.client();
        let mut transaction = other.transaction().unwrap();
        let sql = "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id)
                   SELECT date_bin('5 minutes', t, 'epoch'), t, 'BTCUSDT', $2 FROM to_timestamp($1::bigint / 1e3) AS t";
        transaction.execute(sql, &[&(first.event_time_us / 1000), &first.trade_id]).unwrap();
        let (pid, proxy) = (fixture.pid as i32, &FaultProxy::before(&ServerFixture::shared().s3));
        fixture.client.batch_execute(&format!("SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint())).unwrap();
        let blocked = |watcher: &mut Client| {
            let sql = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1";
            let waits = |client: &mut Client| client.query_one(sql, &[&pid]).unwrap().get::<_, Option<bool>>(0);
            wait_until("the other transaction's tick", SOON, || waits(watcher) == Some(true));
            // When no more requests come, the reader has two batches ready and no room for a third.
            let mut asked = (0, Instant::now());
            wait_until("the reader to be ahead", SOON, || {
                let now = proxy.requests().len();
                if now != asked.0 {
                    asked = (now, Instant::now());
                }
                asked.1.elapsed() > Duration::from_millis(500)
            });
        };
        let (result, time) = fixture.ends(&uri, blocked, end);
        println!("{end} while the reader is ahead: {time:?}");
        assert!(result.is_err());
        let pid = fixture.pid;
        if end == "pg_terminate_backend" {
            wait_until("the process to go", SOON, || !is_running(pid));
        }
        transaction.rollback().unwrap();
    }
}
