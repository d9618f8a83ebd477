//! The gathered sets of trade ids, from which gaps are found, against the slices that they are gathered from.

use btc_ingest_kit::sql::{execute, texts};
use btc_ingest_kit::ticks::Random;
use postgres::Client;

use crate::quality_fixture::QualityFixture;

/// Holes by the sets.
const BY_SETS: &str = "SELECT concat_ws(' ', asset, first_trade_id, last_trade_id) FROM btc_ingest_internal.id_holes()
                        ORDER BY asset, first_trade_id";
/// Holes by the slices themselves.
const BY_SLICES: &str = "
    SELECT concat_ws(' ', a.asset, lower(h.ids), upper(h.ids) - 1)
      FROM (SELECT s.asset, range_agg(CASE WHEN s.missing_ids > 0 AND s.ids IS NOT NULL THEN s.ids
                                           ELSE int8multirange(int8range(s.first_trade_id, s.last_trade_id, '[]')) END)
                            AS ids
              FROM ingestion.object_slices s GROUP BY s.asset) AS a
     CROSS JOIN LATERAL unnest(int8multirange(range_merge(a.ids)) - a.ids) AS h (ids)
     ORDER BY a.asset, lower(h.ids)";

#[track_caller]
fn must_agree(client: &mut Client, what: &str) {
    assert_eq!(texts(client, BY_SETS), texts(client, BY_SLICES), "{what}");
}

/// Returns a statement that writes some slices of one of a few assets.
fn insert(random: &mut Random, writer: usize, step: usize) -> String {
    let asset = random.below(3);
    let rows: Vec<String> = (0..1 + random.below(3))
        .map(|row| {
            let first = random.below(200) as i64;
            let last = first + random.below(20) as i64;
            let ids = match random.below(3) {
                0 if last > first + 1 => {
                    format!("'{{[{first},{}),[{last},{})}}', {}", first + 1, last + 1, last - first - 1)
                }
                1 => format!("NULL, {}", random.below(2)),
                _ => format!("'{{[{first},{})}}', 0", last + 1),
            };
            format!(
                "('{writer}', '{step}', '2024-08-08 12:00Z'::timestamptz + {row} * interval '5 minutes', 'A{asset}',
                      1, {first}, {last}, '2024-08-08 12:00Z', '2024-08-08 12:00Z', {ids})"
            )
        })
        .collect();
    format!(
        "INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                              first_event_time, last_event_time, ids, missing_ids)
         VALUES {}",
        rows.join(", ")
    )
}

/// Returns a statement that changes or deletes some of the writer's own slices.
fn change(random: &mut Random, writer: usize) -> String {
    let which = format!("s3_uri = '{writer}' AND hashtext(etag || bucket_5m) % 4 = {}", random.below(4));
    match random.below(4) {
        0 => format!("DELETE FROM ingestion.object_slices WHERE {which}"),
        1 => format!("UPDATE ingestion.object_slices SET last_trade_id = last_trade_id + 5 WHERE {which}"),
        2 => {
            format!("UPDATE ingestion.object_slices SET first_trade_id = last_trade_id, missing_ids = 0 WHERE {which}")
        }
        _ => format!("UPDATE ingestion.object_slices SET ids = NULL, asset = 'A1' WHERE {which}"),
    }
}

#[test]
fn the_sets_hold_what_the_slices_hold_while_sessions_write_and_merge_at_the_same_time() {
    let fixture = QualityFixture::new();
    let mut reader = fixture.db.client();
    let mut writers: Vec<(Client, bool)> = (0..4).map(|_| (fixture.db.client(), false)).collect();
    for (client, _) in &mut writers {
        // A note of a hole waits for that of another session.
        execute(client, "SET lock_timeout = '50ms'");
    }
    let mut random = Random(7);
    let mut merged = 0;
    for step in 0..600 {
        let writer = random.below(writers.len() as u64) as usize;
        let (client, open) = &mut writers[writer];
        let sql = match random.below(10) {
            _ if !*open => "BEGIN".to_owned(),
            0..=3 => insert(&mut random, writer, step),
            4..=5 => change(&mut random, writer),
            6 => "SELECT btc_ingest.report_gaps()".to_owned(),
            7..=8 => "COMMIT".to_owned(),
            _ => "ROLLBACK".to_owned(),
        };
        match client.batch_execute(&sql) {
            Ok(()) => {
                merged += usize::from(sql.contains("report_gaps"));
                *open = !matches!(sql.as_str(), "COMMIT" | "ROLLBACK");
            }
            Err(error) => {
                assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "{sql}: {error:?}");
                execute(client, "ROLLBACK");
                *open = false;
            }
        }
        must_agree(client, &format!("step {step}, as writer {writer} sees it after {sql}"));
        must_agree(&mut reader, &format!("step {step}, as another session sees it after {sql}"));
    }
    assert!(merged > 20, "{merged}");
    drop(writers);
    execute(&mut reader, "SELECT btc_ingest.report_gaps()");
    let kinds = "SELECT concat_ws(' ', asset, count(*), min(kind)) FROM ingestion.id_sets GROUP BY asset ORDER BY 1";
    assert_eq!(texts(&mut reader, kinds), ["A0 1 held", "A1 1 held", "A2 1 held"]);
    must_agree(&mut reader, "at the end");
    execute(&mut reader, "TRUNCATE ingestion.object_slices");
    must_agree(&mut reader, "after TRUNCATE");
}

#[test]
fn an_asset_with_too_many_ranges_is_read_from_its_slices() {
    let fixture = QualityFixture::new();
    let mut client = fixture.db.client();
    let fill = |first: i64, count: i64, asset: &str| {
        format!(
            "INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                                  first_event_time, last_event_time)
             SELECT 's3://landing/' || i, 'e', timestamptz '2024-08-08 12:00Z' + i * interval '5 minutes', '{asset}', 1,
                    2 * i, 2 * i, '2024-08-08 12:00Z', '2024-08-08 12:00Z'
               FROM generate_series({first}, {first} + {count} - 1) AS i"
        )
    };
    execute(&mut client, &fill(1, 100_001, "EVEN"));
    execute(&mut client, &fill(1, 3, "FEW"));
    execute(&mut client, "SELECT btc_ingest.report_gaps()");
    // One set is not merged.
    execute(&mut client, &fill(200_000, 1, "EVEN"));
    execute(&mut client, &fill(10, 1, "FEW"));
    execute(&mut client, "SELECT btc_ingest.report_gaps()");
    let kinds = "SELECT concat_ws(' ', asset, kind, ids) FROM ingestion.id_sets ORDER BY 1";
    assert_eq!(texts(&mut client, kinds), ["EVEN sparse", "FEW held {[2,3),[4,5),[6,7),[20,21)}"]);
    execute(&mut client, &fill(300_000, 1, "EVEN"));
    assert_eq!(texts(&mut client, kinds).len(), 2, "nothing is added to it");
    let count = "SELECT count(*)::text FROM btc_ingest_internal.id_holes() WHERE asset = 'EVEN'";
    assert_eq!(texts(&mut client, count), ["100002"]);
}

#[test]
fn sets_are_gathered_anew_where_a_trigger_was_missing() {
    let fixture = QualityFixture::new();
    let mut client = fixture.db.client();
    let mut random = Random(3);
    execute(&mut client, &insert(&mut random, 0, 0));
    execute(&mut client, "DROP EXTENSION btc_ingest");
    for step in 1..20 {
        execute(&mut client, &insert(&mut random, 0, step));
    }
    execute(&mut client, "CREATE EXTENSION btc_ingest");
    must_agree(&mut client, "after CREATE EXTENSION");
    assert!(texts(&mut client, BY_SETS).len() > 2);
}
