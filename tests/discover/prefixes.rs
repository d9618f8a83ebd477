//! Watched prefixes: the worker finds objects that a producer only uploads, and loads them once, and again when they
//! change.

use btc_ingest_kit::fixture::{BUCKET, Refusal};
use btc_ingest_kit::{ParquetFile, Tick};

use crate::discover_fixture::{DiscoveryFixture, Folder};

/// Lists often, and never again from the beginning.
const OFTEN: &str = r#"{"interval": "200 ms", "full_interval": "1 day"}"#;
/// Lists often, and always from the beginning.
const ALL: &str = r#"{"interval": "200 ms", "full_interval": "100 ms"}"#;

#[test]
fn what_is_uploaded_under_a_watched_prefix_is_loaded_by_itself() {
    let mut folder = DiscoveryFixture::shared().folder();
    let (pattern, mut all) = (folder.pattern(), Vec::new());
    let (first, ticks) = folder.put_next();
    all.extend(ticks);
    let asides = [
        "_SUCCESS",
        "Binance/manifest.json",
        "Binance/_temporary/0/part.parquet",
        "Binance/x.zip.CHECKSUM",
        "Binance/dt=2024-08-08_$folder$",
        "Binance/x.parquet._COPYING_",
        "Binance/x.parquet.1a2b3c4d.partial",
        "Binance/part-0-0.inprogress.1f2e",
        "Binance/.x.parquet.crc",
        "Binance/_delta_log/00000000000000000010.checkpoint.parquet",
        "Binance/t+0+1.keys.parquet",
    ];
    for aside in asides {
        folder.fixture.s3.put(BUCKET, &format!("{}/{aside}", folder.name), "{}");
    }
    let said = folder.watch(&pattern, OFTEN);
    assert_eq!(said, format!("watching {pattern}, listed every 200 ms, from its beginning every 1 day"));
    folder.wait_for(&first, "loaded");
    for _ in 0..3 {
        let (uri, ticks) = folder.put_next();
        all.extend(ticks);
        folder.wait_for(&uri, "loaded");
    }
    folder.must_hold(&all);
    // The key's values are stored with the object.
    let facts = "metadata ->> 'exchange', metadata ->> 'symbol', span_from, span_to, attempts, backfill";
    let span = "2024-08-08 12:00:00+00 2024-08-08 12:05:00+00";
    assert_eq!(folder.object(&first, facts), format!("binance {} {span} 1", folder.symbol));
    let offset = format!("s3:binance:{}", folder.symbol);
    let found =
        folder.text("SELECT max(last_sequence)::text FROM ingestion.stream_offsets WHERE source = $1", &[&offset]);
    assert_eq!(found, all.last().unwrap().trade_id.to_string());
    // Other keys are counted and not registered.
    let objects = "SELECT count(*)::text FROM ingestion.objects WHERE starts_with(s3_uri, $1)";
    assert_eq!(folder.text(objects, &[&folder.prefix("")]), "4");
    assert_eq!(folder.discover(&pattern), "15 0 0 4 11 0");
}

#[test]
fn a_prefix_without_times_is_listed_from_its_beginning_and_takes_any_name_that_may_be_parquet() {
    let mut folder = DiscoveryFixture::shared().folder();
    let prefix = folder.prefix("");
    let said = folder.watch(&prefix, r#"{"interval": "200 ms"}"#);
    assert_eq!(said, format!("watching {prefix}, listed from its beginning every 200 ms"));
    let mut all = Vec::new();
    // In no order.
    for name in ["z.parquet", "a", "m.v2"] {
        let ticks = folder.generator.next_slice();
        let uri = folder.put(&format!("{}/{name}", folder.name), &ticks);
        folder.wait_for(&uri, "loaded");
        all.extend(ticks);
    }
    // Symbols come from the files.
    folder.must_hold(&all);
}

#[test]
fn keys_that_come_late_are_found_by_a_listing_of_everything() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let late_key = folder.key(folder.generator.next_bucket_us());
    let late_ticks = folder.generator.next_slice();
    let (newest, mut all) = folder.put_next();
    folder.watch(&pattern, OFTEN);
    folder.wait_for(&newest, "loaded");

    let late = folder.put(&late_key, &late_ticks);
    folder.wait_for_listings(&pattern, 3);
    assert_eq!(folder.object(&late, "status"), "none", "it lies before the newest key");
    assert!(folder.watch(&pattern, ALL).starts_with("changed:"));
    folder.wait_for(&late, "loaded");
    all.extend(late_ticks);
    folder.must_hold(&all);
}

#[test]
fn a_folder_of_another_asset_is_found_at_once() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let (uri, mut all) = folder.put_next();
    folder.watch(&pattern, OFTEN);
    folder.wait_for(&uri, "loaded");
    folder.wait_for_listings(&pattern, 1);
    assert_eq!(folder.watched(&pattern, "groups"), "1");
    let symbol = folder.symbol.clone();
    for before_or_behind in ["A", "Z"] {
        // The key's asset counts, and not the file's.
        folder.symbol = format!("{before_or_behind}{symbol}");
        let (uri, _) = folder.put_next();
        folder.wait_for(&uri, "loaded");
    }
    folder.symbol = symbol;
    let (uri, ticks) = folder.put_next();
    folder.wait_for(&uri, "loaded");
    all.extend(ticks);
    folder.must_hold(&all);
    folder.wait_for_listings(&pattern, 1);
    assert_eq!(folder.watched(&pattern, "groups"), "3");
}

#[test]
fn a_key_from_the_future_hides_no_key_of_today() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let (_, ticks) = folder.put_next();
    let future = folder.put(&folder.key(4_102_444_800_000_000), &ticks);
    folder.watch(&pattern, OFTEN);
    folder.wait_for(&future, "loaded");
    folder.wait_for_listings(&pattern, 1);
    let (today, more) = folder.put_next();
    folder.wait_for(&today, "loaded");
    folder.must_hold(&[ticks, more].concat());
}

#[test]
fn a_changed_object_is_loaded_again_and_no_tick_is_doubled() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let key = folder.key(folder.generator.next_bucket_us());
    let ticks = folder.generator.next_slice();
    let (half, rest) = ticks.split_at(ticks.len() / 2);
    let uri = folder.put(&key, half);
    // The producer's row names the number of rows of this version.
    let registered = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
                      VALUES ('2024-08-08 12:00+00', $1, $2, jsonb_build_object('rows', $3::bigint))";
    let (symbol, rows) = (folder.symbol.clone(), half.len() as i64);
    folder.client.execute(registered, &[&symbol, &uri, &rows]).unwrap();
    folder.wait_for(&uri, "loaded");
    folder.watch(&pattern, ALL);
    folder.wait_for_listings(&pattern, 2);
    let history = "SELECT string_agg(concat_ws(' ', outcome, rows_inserted, rows_duplicate), ', ' ORDER BY id)
                     FROM ingestion.load_history WHERE s3_uri = $1";
    assert_eq!(folder.text(history, &[&uri]), format!("loaded {} 0", half.len()), "known already");

    folder.put(&key, &ticks);
    let etag = folder.fixture.s3.etag(BUCKET, &key).replace('"', "");
    folder.wait_for_object(&uri, "status, etag, attempts", &format!("loaded {etag} 1"));
    folder.must_hold(&ticks);
    let again = format!("loaded {} 0, loaded {} {}", half.len(), rest.len(), half.len());
    assert_eq!(folder.text(history, &[&uri]), again);
    let row = "SELECT concat_ws(' ', status, metadata ->> 'etag') FROM landing.raw_blobs_5m WHERE s3_uri = $1";
    assert_eq!(folder.text(row, &[&uri]), format!("loaded {etag}"));
}

#[test]
fn what_was_given_up_is_tried_at_its_next_version_and_not_before() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let key = folder.key(folder.generator.next_bucket_us());
    let ticks = folder.generator.next_slice();
    let uri = folder.fixture.s3.put(BUCKET, &key, "PAR1 this is none");
    folder.watch(&pattern, ALL);
    folder.wait_for_object(&uri, "status, attempts", "quarantined 1");
    folder.wait_for_listings(&pattern, 3);
    assert_eq!(folder.object(&uri, "status, attempts"), "quarantined 1");
    folder.put(&key, &ticks);
    folder.wait_for_object(&uri, "status, attempts", "loaded 1");
    folder.must_hold(&ticks);
}

#[test]
fn what_was_skipped_by_hand_stays_skipped_and_what_was_no_parquet_may_become_it() {
    let mut folder = DiscoveryFixture::shared().folder();
    let (pattern, symbol) = (folder.pattern(), folder.symbol.clone());
    let (by_hand, _) = folder.put_next();
    folder.watch(&pattern, ALL);
    folder.wait_for(&by_hand, "loaded");
    let bad_key = folder.key(folder.generator.next_bucket_us());
    folder.generator.next_slice();
    let bad = folder.fixture.s3.put(BUCKET, &bad_key, "none");
    folder.wait_for(&bad, "quarantined");
    folder.text("SELECT became FROM btc_ingest.skip($1)", &[&bad]);
    folder.fixture.s3.put(BUCKET, &bad_key, "none again");

    let json_key = folder.key(folder.generator.next_bucket_us());
    let ticks = folder.generator.next_slice();
    let json = format!("s3://{BUCKET}/{json_key}");
    let registered = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, metadata)
                      VALUES ('2024-08-08 12:10+00', $1, $2, '{\"format\": \"json\"}')";
    folder.client.execute(registered, &[&symbol, &json]).unwrap();
    folder.wait_for(&json, "skipped");
    folder.fixture.s3.put(BUCKET, &json_key, "{}");
    folder.wait_for_listings(&pattern, 3);
    for uri in [&bad, &json] {
        assert_eq!(folder.object(uri, "status"), "skipped");
    }
    folder.put(&json_key, &ticks);
    folder.wait_for(&json, "loaded");
    folder.wait_for_listings(&pattern, 1);
    assert_eq!(folder.object(&bad, "status, last_error"), "skipped skipped by hand");
}

#[test]
fn an_object_that_another_session_holds_is_met_again() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let key = folder.key(folder.generator.next_bucket_us());
    let ticks = folder.generator.next_slice();
    let uri = folder.put(&key, &ticks[..1]);
    assert_eq!(folder.discover(&pattern), "1 1 0 0 0 0");
    folder.wait_for(&uri, "loaded");
    folder.put(&key, &ticks);
    let mut other = folder.fixture.client();
    let mut held = other.transaction().unwrap();
    held.execute("SELECT 1 FROM ingestion.objects WHERE s3_uri = $1 FOR UPDATE", &[&uri]).unwrap();
    folder.client.batch_execute("SET lock_timeout = '1ms'").unwrap();
    assert_eq!(folder.discover(&pattern), "1 0 0 0 0 1");
    held.rollback().unwrap();
    assert_eq!(folder.discover(&pattern), "1 0 1 0 0 0");
    folder.wait_for(&uri, "loaded");
    folder.must_hold(&ticks);
}

#[test]
fn objects_of_an_unfinished_backfill_stay_its_own_and_those_of_a_cancelled_one_do_not() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let (uri, ticks) = folder.put_next();
    let backfill =
        "INSERT INTO ingestion.backfills (prefixes, status) VALUES ('{s3://landing/nowhere}', 'stopped') RETURNING id";
    let id: i64 = folder.client.query_one(backfill, &[]).unwrap().get(0);
    let object =
        "INSERT INTO ingestion.objects (s3_uri, backfill, listed_etag, listed_size) VALUES ($1, $2, 'another', 1)";
    folder.client.execute(object, &[&uri, &id]).unwrap();
    assert_eq!(folder.discover(&pattern), "1 0 0 1 0 0");
    assert_eq!(folder.object(&uri, "status, backfill, listed_etag"), format!("pending {id} another"));
    // Left at the version that is there: no other listing would load it.
    let etag = folder.fixture.s3.etag(BUCKET, &uri[format!("s3://{BUCKET}/").len()..]).replace('"', "");
    folder.client.execute("UPDATE ingestion.objects SET listed_etag = $1 WHERE s3_uri = $2", &[&etag, &uri]).unwrap();
    folder.client.execute("UPDATE ingestion.backfills SET status = 'cancelled' WHERE id = $1", &[&id]).unwrap();
    assert_eq!(folder.discover(&pattern), "1 1 0 0 0 0");
    folder.wait_for_object(&uri, "status, backfill", "loaded");
    folder.must_hold(&ticks);
}

#[test]
fn unwatch_ends_it_and_a_watch_that_is_not_enabled_is_not_listed() {
    let mut folder = DiscoveryFixture::shared().folder();
    let (pattern, on, off) = (folder.pattern(), folder.prefix("on/"), folder.prefix("off/"));
    let (first, mut all) = folder.put_next();
    folder.watch(&pattern, OFTEN);
    folder.wait_for(&first, "loaded");
    assert_eq!(
        folder.text("SELECT btc_ingest.unwatch($1)", &[&pattern]),
        format!("{pattern} is watched no more; what was found there stays registered")
    );
    assert_eq!(folder.text("SELECT btc_ingest.unwatch($1)", &[&pattern]), format!("{pattern} was not watched"));
    let disabled = r#"{"interval": "200 ms", "enabled": false}"#;
    assert_eq!(folder.watch(&off, disabled), format!("watching {off}, not listed, as enabled is false"));
    assert!(folder.watch(&off, disabled).starts_with("was watched so already:"));
    let (behind, ticks) = folder.put_next();
    let in_off = folder.put(&format!("{}/off/x.parquet", folder.name), &ticks);

    // A third one shows that time passes.
    folder.watch(&on, r#"{"interval": "200 ms"}"#);
    folder.wait_for_listings(&on, 3);
    for uri in [&behind, &in_off] {
        assert_eq!(folder.object(uri, "status"), "none");
    }
    assert_eq!(folder.watched(&off, "enabled, coalesce(last_listed_at::text, 'never')"), "f never");
    folder.must_hold(&all);
    folder.watch(&off, r#"{"enabled": true}"#);
    folder.wait_for(&in_off, "loaded");
    all.extend(ticks);
    folder.must_hold(&all);
}

#[test]
fn what_a_watch_says_of_its_objects_counts_more_than_their_keys() {
    let mut folder = DiscoveryFixture::shared().folder();
    let (pattern, symbol) = (folder.pattern(), folder.symbol.clone());
    let (uri, mut ticks) = folder.put_next();
    let perpetual = format!("{symbol}-PERP");
    folder.watch(&pattern, &format!(r#"{{"interval": "200 ms", "symbol": "{perpetual}", "source": "mine:{symbol}"}}"#));
    folder.wait_for(&uri, "loaded");
    ticks.iter_mut().for_each(|tick| tick.symbol = perpetual.as_str().into());
    folder.symbol = perpetual;
    folder.must_hold(&ticks);
    let mine = "SELECT count(*)::text FROM ingestion.stream_offsets WHERE source = $1";
    assert_eq!(folder.text(mine, &[&format!("mine:{symbol}")]), "1");
}

/// Stores a slice that has no column of symbols under a prefix of its own, and returns its uri and ticks.
fn put_without_symbol(folder: &mut Folder<'_>, key: &str) -> (String, Vec<Tick>) {
    let ticks = folder.generator.next_slice();
    let bytes = ParquetFile::new().without("symbol").bytes(&ticks);
    (folder.fixture.s3.put(BUCKET, &format!("{}/plain/{key}", folder.name), bytes), ticks)
}

#[test]
fn a_watch_that_is_mended_mends_what_it_found() {
    let mut folder = DiscoveryFixture::shared().folder();
    let (prefix, symbol) = (folder.prefix("plain/"), folder.symbol.clone());
    let (first, mut all) = put_without_symbol(&mut folder, "a.parquet");
    folder.watch(&prefix, r#"{"interval": "200 ms"}"#);
    folder.wait_for_object(&first, "status, last_sqlstate", "quarantined PQ009");
    folder.watch(&prefix, &format!(r#"{{"symbol": "{symbol}"}}"#));
    let retry = "SELECT string_agg(was || ' ' || became, ',') FROM btc_ingest.retry($1)";
    assert_eq!(folder.text(retry, &[&first]), "quarantined pending");
    folder.wait_for(&first, "loaded");

    // What an ended watch has found is loaded as that watch has said.
    folder.watch(&prefix, r#"{"symbol": null}"#);
    let (second, more) = put_without_symbol(&mut folder, "b.parquet");
    folder.wait_for_object(&second, "status, last_sqlstate", "quarantined PQ009");
    folder.watch(&prefix, &format!(r#"{{"symbol": "{symbol}"}}"#));
    folder.text("SELECT btc_ingest.unwatch($1)", &[&prefix]);
    folder.text(retry, &[&second]);
    folder.wait_for(&second, "loaded");
    all.extend(more);
    folder.must_hold(&all);
    // A new watch of the prefix begins with nothing.
    folder.watch(&prefix, r#"{"enabled": false}"#);
    assert_eq!(folder.watched(&prefix, "options"), r#"{"enabled": false}"#);
}

#[test]
fn options_that_are_not_given_stay_and_null_removes_them() {
    let mut folder = DiscoveryFixture::shared().folder();
    let prefix = folder.prefix("options/");
    folder.watch(&prefix, r#"{"time_unit": "ms", "exchange": "Kraken", "interval": "1 hour"}"#);
    assert!(folder.watch(&prefix, r#"{"enabled": false}"#).starts_with("changed:"));
    let all = r#"{"enabled": false, "exchange": "Kraken", "interval": "1 hour", "time_unit": "ms"}"#;
    assert_eq!(folder.watched(&prefix, "options"), all);
    assert!(folder.watch(&prefix, "{}").starts_with("was watched so already:"));
    folder.watch(&prefix, r#"{"enabled": null, "exchange": null}"#);
    assert_eq!(folder.watched(&prefix, "options"), r#"{"interval": "1 hour", "time_unit": "ms"}"#);
    folder.text("SELECT btc_ingest.unwatch($1)", &[&prefix]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let mut folder = DiscoveryFixture::shared().folder();
    let inside = folder.pattern();
    let mut refused = |prefix: &str, options: &str| {
        let sql = "SELECT btc_ingest.watch($1, $2::text::jsonb)";
        let error = folder.client.query_one(sql, &[&prefix, &options]).expect_err(options);
        let Refusal { sqlstate, message, .. } = Refusal::from(error);
        (sqlstate, message)
    };
    for (options, why) in [
        (r#"{"intervall": "1 min"}"#, "\"intervall\": is not known"),
        (r#"{"interval": 60}"#, "\"interval\": must be text"),
        (r#"{"interval": "soon"}"#, "\"interval\": must be text such as"),
        (r#"{"full_interval": "0 s"}"#, "must be between"),
        (r#"{"enabled": "yes"}"#, "\"enabled\": must be true or false"),
        (r#"{"symbol": 5}"#, "\"symbol\": must be text"),
        (r#"{"on_conflict": "panic"}"#, "on_conflict"),
        ("[]", "options"),
    ] {
        let (sqlstate, message) = refused(&inside, options);
        assert!(sqlstate == "TK002" && message.contains(why), "{options}: {sqlstate} {message}");
    }
    assert_eq!(refused("s3://elsewhere/x/", "{}").0, "S3002");
    assert_eq!(refused(&format!("{inside}{{year}}"), "{}").0, "S3015");
    let watches = "SELECT count(*)::text FROM btc_ingest.watches WHERE prefix = $1";
    assert_eq!(folder.text(watches, &[&inside]), "0");
}

#[test]
fn loaders_discover_and_only_admins_watch() {
    let mut folder = DiscoveryFixture::shared().folder();
    let pattern = folder.pattern();
    let (uri, _) = folder.put_next();
    let name = &folder.name;
    let roles = format!(
        "CREATE ROLE {name}_l LOGIN; GRANT btc_ingest_loader TO {name}_l;
         CREATE ROLE {name}_a LOGIN; GRANT btc_ingest_admin TO {name}_a"
    );
    folder.client.batch_execute(&roles).unwrap();
    let mut loader = folder.fixture.cluster.client_as(crate::discover_fixture::DATABASE, &format!("{}_l", folder.name));
    for sql in ["SELECT btc_ingest.watch($1)", "SELECT btc_ingest.unwatch($1)"] {
        assert_eq!(Refusal::from(loader.query_one(sql, &[&pattern]).unwrap_err()).sqlstate, "42501", "{sql}");
    }
    let found: i64 =
        loader.query_one("SELECT registered_new FROM btc_ingest.discover($1)", &[&pattern]).unwrap().get(0);
    assert_eq!(found, 1);
    folder.wait_for(&uri, "loaded");
    let mut admin = folder.fixture.cluster.client_as(crate::discover_fixture::DATABASE, &format!("{}_a", folder.name));
    admin.query_one("SELECT btc_ingest.watch($1)", &[&pattern]).unwrap();
    let seen = loader.query_one("SELECT count(*) FROM btc_ingest.watches WHERE prefix = $1", &[&pattern]).unwrap();
    assert_eq!(seen.get::<_, i64>(0), 1);
    admin.query_one("SELECT btc_ingest.unwatch($1)", &[&pattern]).unwrap();
}
