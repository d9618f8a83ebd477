//! The S3 server and the primary are lost and come back, without an operator.

use btc_ingest_kit::fixture::{ACCESS, BUCKET, SECRET, server};
use btc_ingest_kit::janitor::ScratchDir;
use btc_ingest_kit::wait::{wait_for, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, S3Server, When};

use crate::outage_fixture::{SOON, builder, client, count, must_hold, put_slices, register, start, wait_until_loaded};

/// Counts the processes of btc_ingest on the whole server.
const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'btc\\_ingest%'";

#[test]
fn an_s3_server_that_was_stopped_and_started_again_needs_no_operator() {
    let scratch = ScratchDir::new("btc_ingest-s3-").unwrap();
    let serve = |port| S3Server::over(scratch.path(), port, ACCESS, SECRET).ok();
    let server = serve(0).unwrap();
    server.create_bucket(BUCKET);
    let port = server.port();
    let impatient = builder(&server.endpoint()).setting("btc_ingest.max_attempts", "2");
    let cluster = start(impatient.setting("btc_ingest.s3_max_attempts", "1"));
    let mut client = client(&cluster);
    let slices = put_slices(&server, 60);
    register(&mut client, &slices[..20]);
    wait_until_loaded(&mut client, 20);

    drop(server);
    register(&mut client, &slices[20..]);
    wait_until("looks at S3", SOON, || {
        let sql = "SELECT count(*) FROM btc_ingest.outages WHERE probes > 10";
        client.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 1
    });
    let sql = "SELECT string_agg(DISTINCT sqlstate, ' ') FROM ingestion.load_history WHERE outcome = 'failed'";
    assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, &str>(0), "S3007");

    let _server = wait_for("the port", SOON, || serve(port));
    wait_until_loaded(&mut client, 60);
    must_hold(&mut client, &slices);
    let sql = "SELECT max(attempts) FROM ingestion.objects";
    assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, i32>(0), 1);
}

#[test]
fn a_promoted_standby_goes_on_with_what_is_registered_by_itself() {
    let s3 = server();
    let (there, here) = (FaultProxy::before(&s3), FaultProxy::before(&s3));
    let mut primary = start(builder(&there.endpoint()));
    let standby = primary.standby();
    let endpoint = format!("LOAD 'btc_ingest'; ALTER SYSTEM SET btc_ingest.s3_endpoint = '{}'", here.endpoint());
    standby.psql("postgres", &endpoint).unwrap();
    standby.psql("postgres", "SELECT pg_reload_conf()").unwrap();

    // The primary stops in the middle: every later read hangs.
    let slices = put_slices(&s3, 300);
    there.on(When::get().from(120), Fault::Hang);
    register(&mut client(&primary), &slices);
    there.wait_until_stalled(SOON);
    let mut follower = client(&standby);
    wait_until("the middle, on the standby", SOON, || count(&mut follower, "loaded") >= 60);
    assert!(count(&mut follower, "loaded") < 300, "the middle is over");
    // A standby does nothing.
    assert_eq!(follower.query_one(OURS, &[]).unwrap().get::<_, i64>(0), 0);
    assert_eq!(here.requests().len(), 0, "requests of the standby");
    drop(follower);

    primary.kill();
    standby.promote();
    primary = standby;
    let mut client = client(&primary);
    wait_until_loaded(&mut client, 300);
    must_hold(&mut client, &slices);
    assert!(here.count("GET") >= 300 - 120, "{} reads after the promotion", here.count("GET"));
    // Each was inserted once, and only the objects in work when the primary died were tried twice.
    let sql = "SELECT concat_ws(' ', sum(attempts) BETWEEN 300 AND 302, count(*) FILTER (WHERE attempts > 2),
                      (SELECT sum(rows_inserted) = (SELECT count(*) FROM market_data.btc_ticks)
                          FROM ingestion.load_history))
                 FROM ingestion.objects";
    assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, &str>(0), "t 0 t");
    there.release();
}

#[test]
fn an_outage_is_said_and_forgotten() {
    let s3 = server();
    let proxy = FaultProxy::before(&s3);
    let cluster = start(builder(&proxy.endpoint()).setting("btc_ingest.max_attempts", "1"));
    let mut client = client(&cluster);
    proxy.refuse_connections(true);
    let slices = put_slices(&s3, 1);
    register(&mut client, &slices);
    let failing =
        "SELECT concat_ws(' ', q.last_sqlstate, t.sqlstate, t.uri = q.uri, t.next_probe_at < now() + interval '2 s')
                     FROM btc_ingest.queue q, btc_ingest.outages t";
    let said = wait_for("the failure", SOON, || client.query_opt(failing, &[]).unwrap());
    assert_eq!(said.get::<_, &str>(0), "S3007 S3007 t t");
    proxy.refuse_connections(false);
    wait_until_loaded(&mut client, 1);
    let sql = "SELECT last_error IS NULL AND next_attempt_at IS NULL FROM ingestion.objects";
    assert!(client.query_one(sql, &[]).unwrap().get::<_, bool>(0));
    must_hold(&mut client, &slices);
}
