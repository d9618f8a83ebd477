//! Objects of several batches.

use super::*;

/// Covers all cases over several batches of 65,536 rows: shuffled rows, rows stored before with other values, rows
/// twice in the object and in batches far apart.
#[test]
fn many_batches_of_shuffled_rows_are_stored_exactly() {
    for args in [KEEP, REPLACE] {
        let mut fixture = LoadFixture::new();
        let start = time_us("2024-08-08T12:00:00Z");
        let good = Generator::new(11, "BTCUSDT", start, 1).per_second(110.0).next_slices(6);
        assert!(good.len() > 3 * 65_536, "{}", good.len());
        let rows = good.len();

        // Stored before: every tenth tick, and every hundredth of those with another price.
        let differs = |tick: &Tick| tick.trade_id % 1000 == 0;
        let stored: Vec<Tick> = good
            .iter()
            .filter(|tick| tick.trade_id % 10 == 0)
            .map(|tick| if differs(tick) { but(tick, |tick| tick.price += 1) } else { tick.clone() })
            .collect();
        let before = fixture.put("before.parquet", &stored);
        fixture.load(&before, "");

        // Shuffled, with every 500th of the others a second time, far away in the file, and equal.
        let mut object = good.clone();
        object.extend(good.iter().filter(|tick| tick.trade_id % 500 == 1).cloned());
        let twice = object.len() - rows;
        let mut random = Random(5);
        for at in (1..object.len()).rev() {
            object.swap(at, random.below(at as u64 + 1) as usize);
        }
        let uri = fixture.put("a.parquet", &object);
        let report = fixture.load(&uri, args);
        let conflicts = stored.iter().filter(|tick| differs(tick)).count() as i64;
        let [inserted, duplicate] =
            [rows - stored.len(), stored.len() - conflicts as usize + twice].map(|count| count as i64);
        let (kept, replaced) = if args == KEEP { (conflicts, 0) } else { (0, conflicts) };
        assert_eq!(report.counts(), [object.len() as i64, inserted, duplicate, kept, replaced, 0]);
        assert_eq!(report.slices, 6);
        if args == REPLACE {
            must_hold(&mut fixture.client, &good);
        } else {
            must_hold(
                &mut fixture.client,
                good.iter().filter(|t| !differs(t)).chain(stored.iter().filter(|t| differs(t))),
            );
            assert_eq!(fixture.rejected().len() as i64, conflicts);
            // Each kept row is one of the object's, under its own number.
            for (row, _, data) in fixture.rejected() {
                let id = object[row as usize].trade_id;
                assert!(data.contains(&format!(r#""trade_id": {id},"#)), "row {row}: {data}");
            }
        }
        let slices =
            fixture.text(&format!("SELECT sum(ticks)::text FROM ingestion.object_slices WHERE s3_uri = '{uri}'"));
        assert_eq!(slices, object.len().to_string());
        let rows = object.len() as i64;
        let again = fixture.load(&uri, args);
        assert_eq!(again.counts(), [rows, 0, rows - kept, kept, 0, 0]);
    }
}

#[test]
fn an_id_in_neighbouring_buckets_is_found_across_batches() {
    let start = time_us("2024-08-08T12:00:00Z");
    let good = Generator::new(12, "BTCUSDT", start, 1).per_second(250.0).next_slices(2);
    assert!(good.len() > 2 * 65_536, "{}", good.len());
    let border = good.iter().position(|tick| tick.event_time_us >= start + BUCKET_US).unwrap();
    // The first ten ticks again as the last rows of the file, in the next bucket.
    let strays: Vec<Tick> = good[..10].iter().map(|tick| moved(tick, 1)).collect();
    let object = [&good[..], &strays].concat();
    let rows = object.len() as i64;
    assert!(border > 65_536, "{border}");

    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &object);
    assert_eq!(fixture.load(&uri, KEEP).counts(), [rows, rows - 10, 0, 10, 0, 0]);
    must_hold(&mut fixture.client, &good);
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &object);
    assert_eq!(fixture.load(&uri, REPLACE).counts(), [rows, rows - 10, 0, 0, 10, 0]);
    must_hold(&mut fixture.client, object[10..].iter());
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &object);
    refused(&mut fixture.client, &uri, ABORT, "TK004");
    assert_eq!(fixture.rows_everywhere(), NOTHING);
}

#[test]
fn a_tick_of_null_columns_is_stored_with_nulls() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 3);
    let file = ParquetFile::new()
        .without("buyer_order_id")
        .without("seller_order_id")
        .column("trade_time", Arc::new(TimestampMicrosecondArray::new_null(3)))
        .column("is_market_maker", Arc::new(BooleanArray::new_null(3)));
    let uri = fixture.put_as("a.parquet", file, &all);
    assert_eq!(fixture.load(&uri, "").counts(), [3, 3, 0, 0, 0, 0]);
    for line in stored_lines(&mut fixture.client) {
        assert!(line.contains("traded null:") && line.ends_with("orders null null, maker null"), "{line}");
    }
    // Later the same ticks with all their values: nothing is a conflict, and what is stored stays.
    let full = fixture.put("b.parquet", &all);
    assert_eq!(fixture.load(&full, ABORT).counts(), [3, 0, 3, 0, 0, 0]);
}
