//! The day's object compared with the table, and the gaps and conditions of a year.

use crate::bench::Bench;
use crate::results::Results;
use crate::servers::timed;

/// Slices of three assets in a year.
const YEAR: &str = "
    TRUNCATE ingestion.object_slices;
    INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                         first_event_time, last_event_time, ids)
    SELECT format('s3://bench/%s/%s.parquet', asset, n), 'etag', start, asset, 10000, 10000 * n, 10000 * n + 9999,
           start, start + interval '299 seconds', int8multirange(int8range(10000 * n, 10000 * n + 10000))
      FROM generate_series(0, 104999) AS n,
           LATERAL (SELECT timestamptz '2023-01-01 00:00Z' + n * interval '5 minutes' AS start) AS s,
           unnest('{BTCUSDT,ETHUSDT,SOLUSDT}'::text[]) AS asset
     WHERE n % 3000 <> 1000;
    ANALYZE ingestion.object_slices";

/// Measures a verification of the day's object. Every slice must be equal.
pub fn verify(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let mut client = bench.servers.session();
    client.query_one("SELECT outcome FROM btc_ingest.load_s3_slice($1)", &[&bench.day.whole.uri]).expect("a load");
    bench.servers.checkpoint();
    let sql = "SELECT sum(object_rows)::bigint, bool_and(outcome = 'equal') FROM btc_ingest.verify($1)";
    let (row, seconds) = timed(|| client.query_one(sql, &[&bench.day.whole.uri]));
    assert_eq!((row.get::<_, i64>(0) as u64, row.get::<_, bool>(1)), (bench.day.whole.ticks, true));
    results.add("verify", seconds, bench.day.whole.ticks);
}

/// Measures the view of gaps and the conditions of a year.
pub fn year(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let mut client = bench.servers.session();
    client.batch_execute(YEAR).expect("slices of a year");
    for (key, sql) in [
        ("gaps", "SELECT count(*) FROM btc_ingest.gaps"),
        ("conditions", "SELECT count(*) FROM btc_ingest.conditions()"),
    ] {
        let (row, seconds) = timed(|| client.query_one(sql, &[]));
        assert!(row.get::<_, i64>(0) >= 100, "{key}: {}", row.get::<_, i64>(0));
        results.add(key, seconds, 0);
    }
}
