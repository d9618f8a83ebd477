//! Outages of S3: what is due waits without an attempt, says why, and goes on by itself. An object that fails while S3
//! serves others is given up.

use btc_ingest_kit::sql::Session;
use btc_ingest_kit::{Fault, FaultProxy, When};

use crate::queue_fixture::{MOST_ATTEMPTS, QueueFixture, SOON, Slice, s3, wait_until_true};

/// Objects that are due while S3 is down.
const DUE: i64 = 2_000;
/// Objects and attempts that an outage must not have cost.
const LOST: &str = "SELECT concat_ws(' ', count(*) FILTER (WHERE status <> 'loaded'), min(attempts), max(attempts))
                      FROM ingestion.objects";

/// Waits until a prefix waits for S3, and returns what the view says of it.
fn wait_for_outage(queue: &mut QueueFixture) -> String {
    queue.wait_for("the outage", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 0)");
    queue.text("SELECT concat_ws(' ', prefix, sqlstate) FROM btc_ingest.outages")
}

/// Counts the lines of the log that say of this database's objects that loads wait.
fn said(queue: &QueueFixture) -> usize {
    let ours = format!("s3://landing/{}/", queue.db.name());
    let log = queue.server.cluster.log();
    log.lines().filter(|line| line.contains("wait until S3 answers") && line.contains(&ours)).count()
}

#[test]
fn six_hours_without_s3_cost_no_attempt_and_need_no_operator() {
    let proxy = FaultProxy::before(s3());
    // A thousandth of the defaults: nine attempts take about 1.3 s, and six hours 21.6 s.
    let compressed = [("retry_backoff", "5ms"), ("retry_backoff_max", "3600ms"), ("max_attempts", "9")];
    let mut queue = QueueFixture::through(&proxy, &compressed);
    proxy.refuse_connections(true);
    // Open connections would still work.
    proxy.on(When::any(), Fault::Drop);
    let slices: Vec<Slice> = (0..DUE).map(|n| queue.put("BTCUSDT", n)).collect();
    queue.run("BEGIN");
    slices.iter().for_each(|slice| queue.register(slice));
    queue.run("COMMIT");
    assert_eq!(wait_for_outage(&mut queue), "s3://landing/ S3007");
    wait_until_true(
        &mut queue.client,
        "six hours",
        "(SELECT clock_timestamp() - since > '21.6 seconds' FROM btc_ingest.outages)",
    );
    // An attempt that is under way is counted until it has failed.
    let cost = "SELECT concat_ws(' ', count(*) FILTER (WHERE status NOT IN ('pending', 'failed')), max(attempts) <= 1)
                  FROM ingestion.objects";
    assert_eq!(queue.text(cost), "0 t");
    assert_eq!(queue.text("SELECT paused::text FROM ingestion.control"), "false");
    assert_eq!(said(&queue), 1);
    let doctor = "SELECT concat_ws(' ', ok, detail LIKE '%s3://landing/%S3007%', hint LIKE '%by themselves%')
                    FROM btc_ingest.doctor() WHERE name = 'outages'";
    assert_eq!(queue.text(doctor), "f t t");

    proxy.clear();
    proxy.refuse_connections(false);
    queue.wait_loaded(&slices);
    assert_eq!(queue.text(LOST), "0 1 1");
    assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.outages"), 0);
    queue.must_hold(&slices);
}

#[test]
fn an_attempt_that_began_in_an_outage_and_fails_after_it_does_not_count() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[("s3_read_timeout", "10min")]);
    // The request is held. When it is released, the answer is an error that quarantines at once.
    let held = proxy.on(When::any().key("HELDUSDT"), Fault::Hang);
    let denied = proxy.on(When::any().key("HELDUSDT"), Fault::access_denied());
    let slow = queue.register_slices("HELDUSDT", 0..1);
    proxy.wait_until_stalled(SOON);
    let down = proxy.on(When::any(), Fault::slow_down());
    let others = queue.register_slices("BTCUSDT", 0..5);
    assert_eq!(wait_for_outage(&mut queue), "s3://landing/ S3009");
    proxy.remove(down);
    queue.wait_loaded(&others);
    queue.wait_for("the end of the outage", "NOT EXISTS (SELECT FROM btc_ingest.outages)");
    assert_eq!(queue.state(&slow[0].uri), "pending pending 1");

    proxy.remove(held);
    proxy.remove(denied);
    proxy.release();
    queue.wait_loaded(&slow);
    assert_eq!(queue.history(&slow[0].uri), "failed S3005, loaded");
    assert_eq!(queue.text(LOST), "0 1 1");
    assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.outages"), 0, "S3 answers");

    // The same error in an attempt that began after the outage is the object's own.
    proxy.on(When::any().key("HELDUSDT/00001"), Fault::access_denied());
    let bad = queue.register_slices("HELDUSDT", 1..2);
    queue.wait_status(&bad[0].uri, "quarantined");
    queue.must_hold(&[slow, others].concat());
}

#[test]
fn every_fault_that_strikes_a_whole_prefix_makes_it_wait() {
    let faults = [
        (Fault::slow_down(), "S3009"),
        (Fault::access_denied(), "S3005"),
        (Fault::expired_token(), "S3017"),
        (Fault::answer(403, "RequestTimeTooSkewed"), "S3018"),
        (Fault::moved_to("eu-west-1"), "S3006"),
        (Fault::answer(404, "NoSuchBucket"), "S3003"),
        (Fault::answer(400, "InvalidRequest"), "S3010"),
        (Fault::Drop, "S3007"),
        (Fault::Hang, "S3008"),
    ];
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let mut all = Vec::new();
    for (n, (fault, sqlstate)) in (0..).zip(faults) {
        let hangs = matches!(fault, Fault::Hang);
        if hangs {
            queue.set(&[("s3_read_timeout", "300ms")]);
        }
        proxy.on(When::any(), fault);
        let slices = queue.register_slices("BTCUSDT", n * 10..n * 10 + 10);
        let outage = wait_for_outage(&mut queue);
        assert!(
            outage == format!("s3://landing/ {sqlstate}") || outage == "s3://landing/ S3012",
            "{sqlstate}: {outage}"
        );
        if hangs {
            // A busy machine may take longer than that for what does not hang.
            queue.set(&[("s3_read_timeout", "20s")]);
            let last = queue.number("SELECT probes FROM btc_ingest.outages");
            let more = format!("(SELECT probes > {last} FROM btc_ingest.outages)");
            queue.wait_for("the end of the last look with the old setting", &more);
            proxy.wait_until_stalled(SOON);
        }
        proxy.clear();
        proxy.release();
        queue.wait_loaded(&slices);
        queue.wait_for("the end of the outage", "NOT EXISTS (SELECT FROM btc_ingest.outages)");
        assert_eq!(queue.text(LOST), "0 1 1", "{sqlstate}");
        all.extend(slices);
    }
    queue.must_hold(&all);
}

#[test]
fn good_objects_pass_one_that_always_fails_and_one_that_stalls_and_only_those_are_given_up() {
    let proxy = FaultProxy::before(s3());
    proxy.on(When::get().key("BADUSDT/00000"), Fault::slow_down());
    proxy.on(When::get().key("BADUSDT/00001"), Fault::Hang);
    let mut queue = QueueFixture::through(&proxy, &[("s3_read_timeout", "1s")]);
    let bad = queue.register_slices("BADUSDT", 0..2);
    let good = queue.register_slices("BTCUSDT", 0..400);
    queue.wait_loaded(&good);
    for (slice, sqlstate) in bad.iter().zip(["S3009", "S3008"]) {
        queue.wait_status(&slice.uri, "quarantined");
        assert_eq!(queue.state(&slice.uri), format!("quarantined quarantined {MOST_ATTEMPTS}"));
        let history = format!("failed {sqlstate}, failed {sqlstate}, quarantined {sqlstate}");
        assert_eq!(queue.history(&slice.uri), history);
    }
    assert_eq!(said(&queue), 0);
    queue.must_hold(&good);
    proxy.release();
}

#[test]
fn a_role_that_may_not_list_still_gives_up_what_is_bad_and_notices_the_end_of_an_outage() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    proxy.on(When::list(), Fault::access_denied());
    let bad = proxy.on(When::get().key("BADUSDT"), Fault::access_denied());
    let poisoned = queue.register_slices("BADUSDT", 0..2);
    // Nothing else was read yet, so it may be an outage.
    assert_eq!(wait_for_outage(&mut queue), "s3://landing/ S3005");
    let good = queue.register_slices("BTCUSDT", 0..20);
    queue.wait_loaded(&good);
    for slice in &poisoned {
        queue.wait_status(&slice.uri, "quarantined");
    }
    queue.wait_for("the end of the outage", "NOT EXISTS (SELECT FROM btc_ingest.outages)");
    let tried = proxy.requests().iter().filter(|seen| seen.path.contains("BADUSDT/0000")).count();
    assert!(tried >= 4, "{tried} requests for two objects");
    proxy.remove(bad);

    // Nothing can be read: each look tries another object.
    proxy.on(When::get().key("ETHUSDT"), Fault::access_denied());
    let more = queue.register_slices("ETHUSDT", 0..20);
    queue.wait_for("looks", "EXISTS (SELECT FROM btc_ingest.outages WHERE probes > 5)");
    let seen = proxy.requests();
    let mut tried: Vec<&str> = seen.iter().filter(|s| s.path.contains("ETHUSDT")).map(|s| s.path.as_str()).collect();
    tried.sort_unstable();
    tried.dedup();
    assert!(tried.len() > 4, "{tried:?}");
    proxy.clear();
    proxy.on(When::list(), Fault::access_denied());
    queue.wait_loaded(&more);
    queue.wait_for("the end of the outage", "NOT EXISTS (SELECT FROM btc_ingest.outages)");
    assert_eq!(queue.number("SELECT max(attempts)::bigint FROM ingestion.objects WHERE status = 'loaded'"), 1);
}

#[test]
fn one_prefix_that_is_denied_holds_up_no_other() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    let name = queue.db.name().to_owned();
    let allowed = format!("s3://landing/{name}/BTCUSDT/, s3://landing/{name}/ETHUSDT");
    queue.set(&[("allowed_prefixes", &allowed)]);
    proxy.on(When::any().key("ETHUSDT"), Fault::access_denied());
    let denied = queue.register_slices("ETHUSDT", 0..50);
    assert_eq!(wait_for_outage(&mut queue), format!("s3://landing/{name}/ETHUSDT/ S3005"));
    let free = queue.register_slices("BTCUSDT", 0..50);
    queue.wait_loaded(&free);
    let waiting = "SELECT count(*) FROM btc_ingest.queue";
    assert_eq!(queue.number(waiting), 50);
    proxy.clear();
    queue.wait_loaded(&denied);
    assert_eq!(queue.text(LOST), "0 1 1");
}

/// Nothing is tried again before an hour has passed.
const NO_WORKER: [(&str, &str); 3] = [("workers", "0"), ("retry_backoff", "1h"), ("retry_backoff_max", "1h")];

#[test]
fn a_sweep_without_workers_lets_a_prefix_wait_and_a_later_one_goes_on() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &NO_WORKER);
    queue.wait_for(
        "the loaders' end",
        "NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'btc_ingest loader'
                        AND datname = current_database())",
    );
    proxy.on(When::any(), Fault::slow_down());
    let slices = queue.register_slices("BTCUSDT", 0..30);
    queue.run("CALL btc_ingest.run_sweep()");
    assert_eq!(
        queue.text("SELECT concat_ws(' ', prefix, sqlstate, probes) FROM btc_ingest.outages"),
        "s3://landing/ S3009 1"
    );
    let asked = proxy.requests().len();
    // It is not time to look again.
    queue.run("CALL btc_ingest.run_sweep()");
    assert_eq!(queue.number("SELECT count(*) FROM btc_ingest.sweep()"), 0);
    assert_eq!(proxy.requests().len(), asked);
    assert!(asked < 10, "{asked} requests");

    proxy.clear();
    queue.run("UPDATE ingestion.outages SET next_probe_at = now()");
    queue.run("UPDATE ingestion.objects SET next_attempt_at = now() WHERE status = 'failed'");
    queue.run("CALL btc_ingest.run_sweep()");
    assert_eq!(queue.text(LOST), "0 1 1");
    queue.must_hold(&slices);
}

#[test]
fn an_outage_outlasts_a_restart_and_its_end_is_found_afterwards() {
    let proxy = FaultProxy::before(s3());
    let mut queue = QueueFixture::through(&proxy, &[]);
    proxy.on(When::any(), Fault::internal_error());
    let slices = queue.register_slices("BTCUSDT", 0..20);
    wait_for_outage(&mut queue);
    queue.server.cluster.restart();
    queue.client = queue.session();
    let again = "EXISTS (SELECT FROM btc_ingest.outages WHERE last_probe_at > pg_postmaster_start_time())";
    queue.wait_for("another look", again);
    proxy.clear();
    queue.wait_loaded(&slices);
    assert_eq!(queue.text(LOST), "0 1 1");
    queue.must_hold(&slices);
}
