//! What is planted is found, each exactly once and nothing else, in any order of the loads.

use btc_ingest_kit::fixture::backfill::BackfillFixture;
use btc_ingest_kit::fixture::chunks::chunk_fixture;
use btc_ingest_kit::fixture::{ServerFixture, loaded};
use btc_ingest_kit::sql::{Session, execute, number, texts};
use btc_ingest_kit::ticks::Random;
use btc_ingest_kit::{ParquetFile, TestDb};
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

#[test]
fn chunks_that_are_built_as_a_whole_have_the_same_gaps() {
    let Some(mut fixture) = chunk_fixture() else { return };
    let planted = Planted::new(9);
    put(&fixture, &planted.first);
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
