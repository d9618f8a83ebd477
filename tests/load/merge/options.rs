//! Options of a call, and metadata of an object and its registry rows.

use super::*;

#[test]
fn two_markets_under_one_symbol_fit_with_options_symbol() {
    let mut fixture = LoadFixture::new();
    let spot = ticks(1, 100);
    let perp: Vec<Tick> = spot.iter().map(|tick| but(tick, |tick| tick.price += 12_345)).collect();
    let (a, b) = (fixture.put("spot.parquet", &spot), fixture.put("perp.parquet", &perp));
    fixture.load(&a, "");
    let refusal = refused(&mut fixture.client, &b, "", "TK005");
    assert!(refusal.message.contains("100 of 100"), "{refusal:?}");
    let renamed: Vec<Tick> = perp.iter().map(|tick| but(tick, |tick| tick.symbol = "BTCUSDT-PERP".into())).collect();
    let report = fixture.load(&b, r#"options => '{"symbol": "BTCUSDT-PERP"}'"#);
    assert_eq!(report.counts(), [100, 100, 0, 0, 0, 0]);
    must_hold(&mut fixture.client, spot.iter().chain(&renamed));
    let assets = fixture.text(
        "SELECT string_agg(asset || '=' || s3_uri, ' ' ORDER BY asset)
                                 FROM landing.raw_blobs_5m",
    );
    assert_eq!(assets, format!("BTCUSDT={a} BTCUSDT-PERP={b}"));
    // Every conflict is counted when the limit does not stop the load.
    fixture.run(ANY_CONFLICTS);
    let c = fixture.put("perp-again.parquet", &perp);
    assert_eq!(fixture.load(&c, "").counts(), [100, 0, 0, 100, 0, 0]);
}

#[test]
fn other_options_on_the_same_etag_load_it_again() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 10));
    assert_eq!(fixture.load(&uri, "").outcome, "loaded");
    let perp = r#"options => '{"symbol": "BTCUSDT-PERP"}'"#;
    let report = fixture.load(&uri, perp);
    assert_eq!((report.counts(), report.outcome.as_str()), ([10, 10, 0, 0, 0, 0], "loaded"));
    assert_eq!(fixture.load(&uri, perp).outcome, "already loaded");
    // Options that do not affect the ticks do not count as different.
    let same = r#"options => '{"symbol": "BTCUSDT-PERP", "on_conflict": "abort", "source": "x", "exchange": "y"}'"#;
    assert_eq!(fixture.load(&uri, same).outcome, "already loaded");
    assert_eq!(fixture.load(&uri, r#"options => '{"symbol": "THIRD"}'"#).outcome, "loaded");
    // An object keeps the options that it was loaded with last.
    assert_eq!(fixture.load(&uri, "").outcome, "already loaded");
    // Other columns make other ticks.
    let mapped = r#"options => '{"symbol": "THIRD", "columns": {"price": "trade_id", "trade_id": "trade_id"}}'"#;
    fixture.run(ANY_CONFLICTS);
    assert_eq!(fixture.load(&uri, mapped).counts(), [10, 0, 0, 10, 0, 0]);
}

#[test]
fn unknown_options_are_refused_before_the_network() {
    let mut fixture = LoadFixture::new();
    let proxy = FaultProxy::before(&fixture.server.s3);
    fixture.run(&format!("SET btc_ingest.s3_endpoint = '{}'", proxy.endpoint()));
    for (args, word) in [
        (r#"options => '{"symbl": "X"}'"#, "\"symbl\""),
        (r#"options => '{"on_conflict": "overwrite"}'"#, "\"on_conflict\""),
        (r#"options => '{"time_unit": "minutes"}'"#, "\"time_unit\""),
        (r#"options => '{"columns": {"prize": "p"}}'"#, "\"columns\""),
        (r#"options => '{"symbol": 5}'"#, "\"symbol\""),
        (r#"options => '{"rows": 5}'"#, "\"rows\""),
        ("options => '[]'", "\"options\""),
        ("on_bad_row => 'ignore'", "\"on_bad_row\""),
    ] {
        let refusal = refused(&mut fixture.client, "s3://landing/nothing.parquet", args, "TK002");
        assert!(refusal.message.contains(word), "{args}: {refusal:?}");
        assert!(!refusal.hint.is_empty());
    }
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn null_arguments_mean_the_defaults() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 5));
    assert_eq!(fixture.load(&uri, "NULL, NULL, NULL").counts(), [5, 5, 0, 0, 0, 0]);
    let refusal = fixture::Refusal::from(
        fixture.client.query_one("SELECT btc_ingest.load_s3_slice(NULL)", &[]).map(drop).unwrap_err(),
    );
    assert_eq!(refusal.sqlstate, "S3001");
}

#[test]
fn the_registry_rows_metadata_holds_options_of_its_load() {
    let mut fixture = LoadFixture::new();
    let all = ticks(1, 10);
    let file = ParquetFile::new().time(Time::Int(TimeUnit::Millisecond)).rename("price", "px").without("symbol");
    let whole: Vec<Tick> = all
        .iter()
        .map(|tick| {
            but(tick, |tick| {
                tick.event_time_us -= 1;
                tick.symbol = "BTCUSDT-PERP".into();
            })
        })
        .collect();
    let uri = fixture.put_as("a.parquet", file, &whole);
    refused(&mut fixture.client, &uri, "", "PQ009");
    fixture.run(&format!(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata) VALUES
           ('2024-08-08T12:00:00Z', 'BTCUSDT-PERP', '{uri}',
            '{{"symbol": "BTCUSDT-PERP", "time_unit": "ms",
              "columns": {{"price": "px"}}, "exchange": "okx", "team": "x"}}')"#
    ));
    assert_eq!(fixture.load(&uri, "").counts(), [10, 10, 0, 0, 0, 0]);
    must_hold(&mut fixture.client, &whole);
    assert_eq!(fixture.text("SELECT string_agg(source, ',') FROM ingestion.stream_offsets"), "s3:okx:BTCUSDT-PERP");
    let kept = fixture.text("SELECT options::text FROM ingestion.objects");
    assert_eq!(kept, r#"{"symbol": "BTCUSDT-PERP", "columns": {"price": "px"}, "time_unit": "ms"}"#);
    // The load adds its own keys and leaves the producer's.
    let metadata = fixture.text(
        "SELECT concat_ws(' ', metadata ->> 'team', metadata ->> 'row_count', metadata ? 'writer',
                          metadata ? 'schema_fingerprint', metadata ->> 'etag' = (SELECT etag FROM ingestion.objects))
           FROM landing.raw_blobs_5m",
    );
    assert_eq!(metadata, "x 10 t t t");
    assert_eq!(fixture.load(&uri, "").outcome, "already loaded");
}

#[test]
fn the_object_rows_metadata_goes_before_the_registrys_and_the_call_before_both() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 10));
    fixture.run(&format!(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
           VALUES ('2024-08-08T12:00:00Z', 'R', '{uri}', '{{"symbol": "R", "source": "from registry"}}');
           INSERT INTO ingestion.objects (s3_uri, metadata) VALUES ('{uri}', '{{"symbol": "O"}}')"#
    ));
    fixture.load(&uri, r#"options => '{"symbol": "C"}'"#);
    let symbols = "SELECT string_agg(DISTINCT symbol, ',' ORDER BY symbol) FROM market_data.btc_ticks";
    assert_eq!(fixture.text(symbols), "C");
    assert_eq!(fixture.text("SELECT string_agg(source, ',') FROM ingestion.stream_offsets"), "from registry");
    fixture.run("TRUNCATE market_data.btc_ticks; UPDATE ingestion.objects SET options = '{}'");
    fixture.load(&uri, "");
    assert_eq!(fixture.text(symbols), "O");
    fixture.run("TRUNCATE market_data.btc_ticks; UPDATE ingestion.objects SET options = '{}', metadata = '{}'");
    fixture.load(&uri, "");
    assert_eq!(fixture.text(symbols), "R");
}

#[test]
fn on_conflict_may_come_from_the_metadata() {
    let mut fixture = LoadFixture::new();
    let (old, new) = old_and_new();
    let uri = fixture.put("a.parquet", &old);
    fixture.run(&format!(
        r#"INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
           VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', '{uri}', '{{"on_conflict": "replace"}}')"#
    ));
    fixture.load(&uri, "");
    fixture.put("a.parquet", &new);
    assert_eq!(fixture.load(&uri, "").counts(), [70, 50, 15, 0, 5, 0]);
    must_hold(&mut fixture.client, old[..30].iter().chain(&new));
}

#[test]
fn what_the_producer_registered_must_be_the_objects() {
    let mut fixture = LoadFixture::new();
    let uri = fixture.put("a.parquet", &ticks(1, 10));
    let size: i64 =
        fixture.client.query_one("SELECT size_bytes FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap().get(0);
    let zeros = "0".repeat(64);
    for (metadata, column, word) in [
        (r#"{"rows": 11}"#.to_owned(), "NULL".to_owned(), "rows is 10, registered as 11"),
        (format!(r#"{{"object_size_bytes": {}}}"#, size + 1), "NULL".to_owned(), "object_size_bytes"),
        (format!(r#"{{"sha256": "{zeros}"}}"#), "NULL".to_owned(), "sha256"),
        ("{}".to_owned(), (size + 1).to_string(), "object_size_bytes"),
    ] {
        fixture.run(&format!(
            "TRUNCATE landing.raw_blobs_5m;
             INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata, object_size_bytes)
             VALUES ('2024-08-08T12:00:00Z', 'BTCUSDT', '{uri}', '{metadata}', {column})"
        ));
        let refusal = refused(&mut fixture.client, &uri, "", "TK003");
        assert!(refusal.message.contains(word), "{metadata}: {refusal:?}");
    }
    let digest = fixture.text(&format!(
        "SELECT encode(sha256(pg_read_binary_file('{}')), 'hex')",
        fixture.server.s3.root().join(uri.trim_start_matches("s3://")).display()
    ));
    fixture.run(&format!(
        r#"UPDATE landing.raw_blobs_5m SET object_size_bytes = {size},
             metadata = '{{"sha256": "{digest}", "rows": 10, "object_size_bytes": {size}}}'"#
    ));
    assert_eq!(fixture.load(&uri, "").counts(), [10, 10, 0, 0, 0, 0]);
}
