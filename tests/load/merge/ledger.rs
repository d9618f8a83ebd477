//! What a load writes beside the ticks.

use super::*;

#[test]
fn the_offset_is_kept_under_the_exchange_and_the_asset() {
    let mut fixture = LoadFixture::new();
    let key = |name: &str| format!("Binance/BTCUSDT/{name}.parquet");
    let uri = fixture.put(&key("a"), &ticks(1, 10));
    fixture.load(&uri, "");
    let uri = fixture.put("flat.parquet", &ticks_of("ETHUSDT", 1, 10));
    fixture.load(&uri, "");
    let uri = fixture.put("b.parquet", &ticks_of("SOLUSDT", 1, 10));
    fixture.load(&uri, r#"options => '{"exchange": "okx"}'"#);
    let uri = fixture.put(&key("c"), &ticks_of("XRPUSDT", 1, 10));
    fixture.load(&uri, r#"options => '{"source": "my feed"}'"#);
    let sources = "SELECT string_agg(source, ' | ' ORDER BY source COLLATE \"C\") FROM ingestion.stream_offsets";
    assert_eq!(fixture.text(sources), "my feed | s3:binance:BTCUSDT | s3:okx:SOLUSDT | s3:unknown:ETHUSDT");
}

#[test]
fn an_offset_never_goes_back() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 90);
    let parts = [&all[30..60], &all[..30], &all[60..]];
    let mut seen = Vec::new();
    for (n, part) in parts.into_iter().enumerate() {
        let uri = fixture.put(&format!("Binance/BTCUSDT/{n}.parquet"), part);
        fixture.load(&uri, "");
        seen.push(fixture.text(
            "SELECT concat_ws(' ', last_sequence, to_char(last_ts, 'HH24:MI:SS.US'), right(state ->> 'last_uri', 9),
                              state ->> 'last_etag' = (SELECT etag FROM ingestion.objects
                                                        WHERE s3_uri = state ->> 'last_uri'))
               FROM ingestion.stream_offsets",
        ));
    }
    let wanted =
        ["60 12:00:59.000001 1.parquet", "60 12:00:59.000001 1.parquet", "90 12:01:29.000001 2.parquet"].map(|t| {
            // The second object is older and keeps the first one's offset.
            format!("{} t", t.replace(" 1.parquet", " 0.parquet"))
        });
    assert_eq!(seen, wanted);
}

#[test]
fn a_decoders_own_state_in_an_offset_stays() {
    let mut fixture = LoadFixture::new();
    fixture.run(
        r#"INSERT INTO ingestion.stream_offsets (source, last_sequence, state)
           VALUES ('s3:binance:BTCUSDT', 5, '{"cursor": 7}'), ('fresh', NULL, NULL)"#,
    );
    let uri = fixture.put("Binance/BTCUSDT/a.parquet", &ticks(1, 10));
    fixture.load(&uri, "");
    let uri = fixture.put("Binance/BTCUSDT/b.parquet", &ticks(1, 10));
    fixture.load(&uri, r#"options => '{"source": "fresh"}'"#);
    let rows = fixture.text(
        "SELECT string_agg(concat_ws(' ', source, last_sequence, state ->> 'cursor', state ? 'last_uri'), ' | '
                           ORDER BY source) FROM ingestion.stream_offsets",
    );
    assert_eq!(rows, "fresh 10 t | s3:binance:BTCUSDT 10 7 t");
}

#[test]
fn every_load_leaves_one_line_of_history() {
    let mut fixture = LoadFixture::new();
    let (old, new) = old_and_new();
    let uri = fixture.put("a.parquet", &old);
    let first = fixture.load(&uri, "");
    fixture.put("a.parquet", &new);
    let second = fixture.load(&uri, "");
    let third = fixture.load(&uri, "");
    assert_eq!(third.outcome, "already loaded");
    let lines = fixture
        .client
        .query(
            "SELECT s3_uri, etag, outcome, bytes, rows_read, rows_inserted, rows_duplicate, rows_conflicting,
                    rows_replaced, rows_rejected,
                    pid = pg_backend_pid() AND sqlstate IS NULL AND message IS NULL AND started_at < finished_at
                    AND finished_at < clock_timestamp() AND least(fetch_ms, decode_ms, insert_ms) >= 0
                    AND elapsed_ms > insert_ms
               FROM ingestion.load_history ORDER BY id",
            &[],
        )
        .unwrap();
    assert_eq!(lines.len(), 3);
    for (line, report) in lines.iter().zip([first, second, third]) {
        assert_eq!((line.get::<_, String>(0), line.get::<_, String>(1)), (report.uri.clone(), report.etag.clone()));
        assert_eq!((line.get::<_, String>(2), line.get::<_, i64>(3)), (report.outcome.clone(), report.bytes));
        let counts: Vec<i64> = (4..10).map(|column| line.get(column)).collect();
        assert_eq!(counts, report.counts());
        assert!(line.get::<_, bool>(10), "{report:?}");
    }
}

#[test]
fn the_object_row_says_what_the_last_load_did() {
    let mut fixture = LoadFixture::new();
    let (old, new) = old_and_new();
    let uri = fixture.put("a.parquet", &old);
    fixture.load(&uri, "");
    let version = "SELECT generation FROM ingestion.objects";
    let before: i64 = fixture.client.query_one(version, &[]).unwrap().get(0);
    fixture.put("a.parquet", &new);
    let report = fixture.load(&uri, "");
    let row = fixture
        .client
        .query_one(
            "SELECT etag, status, rows_read, rows_inserted, rows_duplicate, rows_conflicting, rows_replaced,
                    rows_rejected, generation, metadata ->> 'row_count', metadata ->> 'etag',
                    size_bytes = (SELECT size_bytes FROM btc_ingest.inspect_s3(s3_uri)), loaded_at IS NOT NULL
               FROM ingestion.objects WHERE s3_uri = $1",
            &[&uri],
        )
        .unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, &str>(1)), (report.etag.clone(), "loaded"));
    assert_eq!((2..8).map(|column| row.get(column)).collect::<Vec<i64>>(), report.counts());
    assert!(row.get::<_, i64>(8) > before);
    assert_eq!((row.get::<_, &str>(9), row.get::<_, String>(10)), ("70", report.etag));
    assert!(row.get::<_, bool>(11) && row.get::<_, bool>(12));
}

#[test]
fn slices_say_how_many_ticks_came_from_which_version() {
    let mut fixture = LoadFixture::new();
    let btc = ticks(1, 400);
    let eth = ticks_of("ETHUSDT", 1001, 10);
    let both: Vec<Tick> = btc.iter().chain(&eth).cloned().collect();
    let uri = fixture.put("a.parquet", &both);
    let first = fixture.load(&uri, "");
    assert_eq!(first.slices, 3);
    let slices = "SELECT string_agg(concat_ws(' ', asset, to_char(bucket_5m, 'HH24:MI'), ticks, first_trade_id,
                          last_trade_id, to_char(first_event_time, 'MI:SS.US'), to_char(last_event_time, 'MI:SS.US')),
                          ' | ' ORDER BY etag = (SELECT etag FROM ingestion.objects), asset, bucket_5m)
                    FROM ingestion.object_slices";
    let wanted = "BTCUSDT 12:00 300 1 300 00:00.000001 04:59.000001 | BTCUSDT 12:05 100 301 400 05:00.000001 \
                  06:39.000001 | ETHUSDT 12:00 10 1001 1010 00:00.000001 00:09.000001";
    assert_eq!(fixture.text(slices), wanted);
    // The same version adds nothing, a new version adds its own rows.
    fixture.load(&uri, KEEP);
    assert_eq!(fixture.text(slices), wanted);
    fixture.put("a.parquet", &eth);
    fixture.load(&uri, "");
    assert_eq!(fixture.text(slices), format!("{wanted} | ETHUSDT 12:00 10 1001 1010 00:00.000001 00:09.000001"));
}

#[test]
fn an_object_gets_one_registry_row_per_bucket_and_asset_and_leaves_those_of_others() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 400);
    fixture.run(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
         VALUES ('2024-08-08T12:05:00Z', 'BTCUSDT', 's3://landing/another/else.parquet')",
    );
    let uri = fixture.put("a.parquet", &all);
    fixture.load(&uri, "");
    let rows = fixture.text(
        "SELECT string_agg(concat_ws(' ', to_char(bucket_5m, 'HH24:MI'), asset, status, loaded_at IS NOT NULL,
                                     right(s3_uri, 12), ingested_tick_span), ' | ' ORDER BY bucket_5m)
           FROM landing.raw_blobs_5m",
    );
    assert_eq!(
        rows,
        "12:00 BTCUSDT loaded t /1/a.parquet [\"2024-08-08 12:00:00.000001\",\"2024-08-08 12:04:59.000001\"] | \
         12:05 BTCUSDT pending f else.parquet"
            .replace("/1/a.parquet", &uri[uri.len() - 12..])
    );
}

#[test]
fn a_row_that_is_registered_again_is_pending_until_its_load() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 10));
    fixture.load(&uri, "");
    let status = "SELECT string_agg(status || ' ' || (loaded_at IS NOT NULL)::text, ',') FROM landing.raw_blobs_5m";
    assert_eq!(fixture.text(status), "loaded true");
    let upsert = format!(
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', '{uri}')
         ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri"
    );
    fixture.run(&upsert);
    assert_eq!(fixture.text(status), "pending false");
    assert_eq!(fixture.load(&uri, "").outcome, "already loaded");
    assert_eq!(fixture.text(status), "loaded true");
    fixture.run(&upsert);
    fixture.put("a.parquet", &ticks(1, 11));
    assert_eq!(fixture.load(&uri, "").counts(), [11, 1, 10, 0, 0, 0]);
    assert_eq!(fixture.text(status), "loaded true");
}
