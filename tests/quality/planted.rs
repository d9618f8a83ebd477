//! What is planted is found, each exactly once and nothing else, in any order of the loads.

use btc_ingest_kit::cluster::try_client;
use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::fixture::chunks::{chunk_fixture, chunk_fixture_alone};
use btc_ingest_kit::fixture::{ServerFixture, loaded};
use btc_ingest_kit::sql::{Session, execute, number, texts};
use btc_ingest_kit::ticks::Random;
use btc_ingest_kit::wait::{SOON, wait_for};
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, TestDb, When};
use postgres::Client;

use crate::planted_fixture::{HOLES, Object, Planted, shuffle};

const GAPS: &str = "SELECT format('%s %s-%s %s %s', asset, first_trade_id, last_trade_id, missing, state)
                      FROM btc_ingest.gaps";
/// Everything that conditions() says, but for the times of the loads.
const CONDITIONS: &str = "SELECT concat_ws(' ', asset, day, condition, ticks, open_gaps, explained_gaps, missing_ids,
    missing_slices, waiting, quarantined, rejected, conflicting, out_of_order, max_time_skew)
    FROM btc_ingest.conditions() ORDER BY 1";

/// Stores objects in a random order and loads each.
fn load(server: &ServerFixture, folder: &str, client: &mut Client, objects: &[Object], random: &mut Random) {
    let mut order: Vec<&Object> = objects.iter().collect();
    shuffle(&mut order, random);
    for (name, rows) in order {
        let uri = server.put(&format!("{folder}/{name}.parquet"), ParquetFile::new().bytes(rows));
        loaded(client, &uri, "");
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn every_planted_hole_is_found_once_in_any_order_of_the_loads() {
    let planted = Planted::new(7);
    assert_eq!(planted.before().len(), HOLES);
    let server = ServerFixture::shared();
    let mut conditions: Option<Vec<String>> = None;
    for seed in 1..=10 {
        let db = server.db();
        let mut client = db.client();
        let mut random = Random(seed);
        load(server, db.name(), &mut client, &planted.first, &mut random);
        load(server, db.name(), &mut client, &planted.replaced, &mut random);
        assert_eq!(sorted(texts(&mut client, GAPS)), planted.before(), "order {seed}");
        assert_eq!(number(&mut client, "SELECT btc_ingest.report_gaps()"), HOLES as i64);
        assert_eq!(number(&mut client, "SELECT btc_ingest.report_gaps()"), 0);
        execute(&mut client, &planted.explanations());
        load(server, db.name(), &mut client, &planted.late, &mut random);
        assert_eq!(sorted(texts(&mut client, GAPS)), planted.after(), "order {seed}");
        // A filled hole names the object that filled it.
        let wrong = "SELECT count(*) FROM btc_ingest.gaps g
                      WHERE (g.state = 'filled') IS DISTINCT FROM
                            coalesce(g.filled_by LIKE '%' || g.asset || '-late-%', false)
                         OR (g.state = 'filled') IS DISTINCT FROM (g.filled_at IS NOT NULL)";
        assert_eq!(number(&mut client, wrong), 0, "order {seed}");
        let found = texts(&mut client, CONDITIONS);
        assert_eq!(conditions.get_or_insert_with(|| found.clone()), &found, "order {seed}");
    }
}

#[test]
fn a_crash_in_the_middle_changes_nothing() {
    let planted = Planted::new(8);
    let server = ServerFixture::start();
    let db = TestDb::with_extension(&server.cluster);
    let mut random = Random(1);
    let (half, rest) = planted.first.split_at(planted.first.len() / 2);
    let mut client = db.client();
    load(&server, db.name(), &mut client, half, &mut random);
    // A load that is cut off in the middle of its transaction.
    execute(&mut client, "BEGIN");
    load(&server, db.name(), &mut client, &rest[..3], &mut random);
    server.cluster.kill();
    server.cluster.start();
    let mut client = db.client();
    load(&server, db.name(), &mut client, &planted.first, &mut random);
    load(&server, db.name(), &mut client, &planted.replaced, &mut random);
    assert_eq!(sorted(texts(&mut client, GAPS)), planted.before());
    number(&mut client, "SELECT btc_ingest.report_gaps()");
    execute(&mut client, &planted.explanations());
    load(&server, db.name(), &mut client, &planted.late, &mut random);
    assert_eq!(sorted(texts(&mut client, GAPS)), planted.after());
}

/// Stores objects under the prefix of a backfill.
fn put(fixture: &BackfillFixture, objects: &[Object]) {
    for (name, rows) in objects {
        fixture.put(&format!("planted/{name}.parquet"), rows);
    }
}

/// Takes up to `most` of the objects that are left, stores them, and loads what is new in mode chunk.
fn build(fixture: &BackfillFixture, left: &mut Vec<&Object>, most: usize) {
    left.drain(..most.min(left.len())).for_each(|object| put(fixture, std::slice::from_ref(object)));
    fixture.done(&[fixture.prefix("planted/")], "mode => 'chunk'");
}

#[test]
fn chunks_that_are_built_as_a_whole_have_the_same_gaps_in_any_order() {
    let planted = Planted::new(9);
    let mut conditions: Option<Vec<String>> = None;
    for seed in 1..=10 {
        let Some(mut fixture) = chunk_fixture() else { return };
        let mut random = Random(seed);
        // A chunk is built of what is there at first. What comes later finds it built.
        let mut left: Vec<&Object> = planted.first.iter().collect();
        shuffle(&mut left, &mut random);
        let first = 1 + random.below(left.len() as u64) as usize;
        build(&fixture, &mut left, first);
        build(&fixture, &mut left, usize::MAX);
        build(&fixture, &mut planted.replaced.iter().collect(), usize::MAX);
        assert_eq!(sorted(fixture.texts(GAPS)), planted.before(), "order {seed}");
        fixture.run("SELECT btc_ingest.report_gaps()");
        fixture.run(&planted.explanations());
        build(&fixture, &mut planted.late.iter().collect(), usize::MAX);
        assert_eq!(sorted(fixture.texts(GAPS)), planted.after(), "order {seed}");
        let found = fixture.texts(CONDITIONS);
        assert_eq!(conditions.get_or_insert_with(|| found.clone()), &found, "order {seed}");
    }
}

#[test]
fn a_crash_while_a_chunk_is_built_changes_nothing() {
    let Some(mut fixture) = chunk_fixture_alone() else { return };
    let planted = Planted::new(10);
    put(&fixture, &planted.first);
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.through(&proxy);
    proxy.on(When::get().key("SOLUSDT-4."), Fault::Hang);
    let call = fixture.begin(&[fixture.prefix("planted/")], "mode => 'chunk', parallel => 1");
    proxy.wait_until_stalled(SOON);
    fixture.server.cluster.kill();
    assert!(call.join().unwrap().refusal.is_some());
    proxy.clear();
    proxy.release();
    fixture.server.cluster.start();
    fixture.client = wait_for("the server", SOON, || try_client(&fixture.db.connection_string()));
    let prefixes = [fixture.prefix("planted/")];
    fixture.done(&prefixes, "mode => 'chunk'");
    put(&fixture, &planted.replaced);
    fixture.done(&prefixes, "mode => 'chunk'");
    assert_eq!(sorted(fixture.texts(GAPS)), planted.before());
    fixture.run("SELECT btc_ingest.report_gaps()");
    fixture.run(&planted.explanations());
    put(&fixture, &planted.late);
    fixture.done(&prefixes, "mode => 'chunk'");
    assert_eq!(sorted(fixture.texts(GAPS)), planted.after());
}
