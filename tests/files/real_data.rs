//! Trades that an exchange really sent, loaded to the exact sums that were computed outside PostgreSQL.
//!
//! The files are in the folder that `BTC_INGEST_TEST_DATA` names; without it these tests say so and pass.

use std::path::Path;

use btc_ingest_kit::fixture::{load, loaded, refused, stored, stored_where};
use btc_ingest_kit::real_files::{RealFile, must_hold_wholes, test_data};
use btc_ingest_kit::ticks::{PRICE_UNIT, Random, time_us};
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture, Tick};
use postgres::Client;

fn whole(data: &Path, dataset: &str) -> RealFile {
    RealFile::all(data).into_iter().find(|file| file.is_whole() && file.dataset() == dataset).unwrap()
}

fn parts(data: &Path, dataset: &str) -> Vec<RealFile> {
    RealFile::all(data).into_iter().filter(|file| !file.is_whole() && file.dataset() == dataset).collect()
}

/// Stores it in the shared server.
fn put(file: &RealFile, prefix: &str) -> String {
    ServerFixture::shared().put(&format!("{prefix}/{}", file.name()), file.bytes())
}

fn empty(client: &mut Client) {
    client.batch_execute("TRUNCATE market_data.btc_ticks").unwrap();
}

#[test]
fn every_real_file_loads_to_its_exact_sums_and_a_second_pass_inserts_nothing() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    for file in RealFile::all(&data) {
        let (uri, rows) = (put(&file, "exact"), file.number("rows"));
        let report = loaded(&mut client, &uri, "");
        assert_eq!((report.counts(), report.outcome.as_str()), ([rows, rows, 0, 0, 0, 0], "loaded"), "{uri}");
        assert_eq!(stored(&mut client), file.expected(), "{uri}");
        let nulls = "buyer_order_id IS NULL AND seller_order_id IS NULL";
        assert_eq!(stored_where(&mut client, nulls).rows, file.number("null_order_ids"), "{uri}: order ids");
        let span = client
            .query_one(
                "SELECT (extract(epoch FROM min(trade_time)) * 1000)::bigint,
                        (extract(epoch FROM max(trade_time)) * 1000)::bigint FROM market_data.btc_ticks",
                &[],
            )
            .unwrap();
        let expected = (file.number("min_trade_time"), file.number("max_trade_time"));
        assert_eq!((span.get::<_, i64>(0), span.get::<_, i64>(1)), expected, "{uri}: trade times");

        let again = loaded(&mut client, &uri, "");
        assert_eq!((again.counts(), again.outcome.as_str()), ([0; 6], "already loaded"), "{uri}");
        let forced = loaded(&mut client, &uri, "force => true");
        assert_eq!((forced.counts(), forced.outcome.as_str()), ([rows, 0, rows, 0, 0, 0], "loaded"), "{uri}");
        assert_eq!(stored(&mut client), file.expected(), "{uri} after two more passes");
        // The files of one dataset overlap, and each file's sums are checked alone.
        empty(&mut client);
    }
}

#[test]
fn a_registered_digest_is_compared_with_the_object() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    for file in RealFile::all(&data) {
        let uri = put(&file, "digest/right");
        register(&mut client, &uri, &file, &format!(r#"{{"sha256": "{}"}}"#, file.text("sha256")));
        assert_eq!(loaded(&mut client, &uri, "").inserted + stored(&mut client).rows, 2 * file.number("rows"), "{uri}");
        empty(&mut client);
    }
    let file = whole(&data, "spot_btcusdt_20230405");
    let right = file.text("sha256");
    let wrong = format!("{}{}", &right[1..], &right[..1]);
    let claims = [
        (format!(r#"{{"sha256": "{wrong}"}}"#), "sha256"),
        (r#"{"rows": 3145}"#.to_owned(), "rows"),
        (r#"{"object_size_bytes": 1}"#.to_owned(), "object_size_bytes"),
    ];
    for (metadata, what) in claims {
        let uri = put(&file, &format!("digest/wrong-{what}"));
        register(&mut client, &uri, &file, &metadata);
        let refusal = refused(&mut client, &uri, "", "TK003");
        assert!(refusal.message.contains(what), "{refusal:?}");
        assert_eq!(stored(&mut client).rows, 0);
    }
}

fn register(client: &mut Client, uri: &str, file: &RealFile, metadata: &str) {
    let sql = "SELECT object_status FROM btc_ingest.register_s3_slice($1, $2, metadata => $3::text::jsonb)";
    let status: String = client.query_one(sql, &[&uri, &file.symbol(), &metadata]).unwrap().get(0);
    assert_eq!(status, "pending");
}

/// The variants by other writers, types and codecs, with their options.
const COLUMNS: &str = "bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, is_market_maker";

#[test]
fn every_variant_holds_the_same_ticks_tick_by_tick() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let file = whole(&data, "spot_btcusdt_20230405");
    loaded(&mut client, &put(&file, "variants"), "");
    client.batch_execute("CREATE TABLE reference AS TABLE market_data.btc_ticks").unwrap();

    let mut names: Vec<String> = std::fs::read_dir(data.join("real/variants"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        empty(&mut client);
        let bytes = std::fs::read(data.join("real/variants").join(&name)).unwrap();
        let uri = ServerFixture::shared().put(&format!("variants/{name}"), bytes);
        let mut args = "";
        if name.contains("epoch") {
            let refusal = refused(&mut client, &uri, "", "PQ009");
            assert!(refusal.message.contains("event_time") && refusal.message.contains("time_unit"), "{refusal:?}");
            args = r#"options => '{"time_unit": "ms"}'"#;
        }
        let report = loaded(&mut client, &uri, args);
        if name == "pyarrow_empty.parquet" {
            assert_eq!(report.counts(), [0; 6], "{name}");
            continue;
        }
        let even = name.contains("even_rows");
        let rows = if even { 1572 } else { 3144 };
        assert_eq!(report.counts(), [rows, rows, 0, 0, 0, 0], "{name}");
        if !even {
            assert_eq!(stored(&mut client), file.expected(), "{name}");
        }
        let orders = if name.contains("no_order_id") { "" } else { ", buyer_order_id, seller_order_id" };
        let strange = format!(
            "SELECT count(*) FROM (SELECT {COLUMNS}{orders} FROM market_data.btc_ticks
                                   EXCEPT SELECT {COLUMNS}{orders} FROM reference) AS strange"
        );
        let strange: i64 = client.query_one(&strange, &[]).unwrap().get(0);
        assert_eq!(strange, 0, "{name}: ticks that the reference does not have");
    }
}

#[test]
fn the_whole_after_its_parts_is_nothing_but_duplicates() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    for whole in RealFile::all(&data).into_iter().filter(RealFile::is_whole) {
        for part in parts(&data, whole.dataset()) {
            let report = loaded(&mut client, &put(&part, "parts-first"), "");
            assert_eq!(report.inserted, part.number("rows"), "{part:?}");
        }
        let report = loaded(&mut client, &put(&whole, "parts-first"), "");
        let rows = whole.number("rows");
        assert_eq!(report.counts(), [rows, 0, rows, 0, 0, 0], "{whole:?}");
        assert_eq!(stored(&mut client), whole.expected());
        empty(&mut client);
    }
}

#[test]
fn parts_in_any_order_end_with_the_sums_of_the_whole() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let (wholes, parts): (Vec<_>, Vec<_>) = RealFile::all(&data).into_iter().partition(RealFile::is_whole);
    let mut orders = vec![parts.clone(), parts.iter().rev().cloned().collect()];
    for seed in 1..=4 {
        let (mut random, mut order) = (Random(seed), parts.clone());
        order.sort_by_cached_key(|_| random.bits());
        orders.push(order);
    }
    for (number, order) in orders.iter().enumerate() {
        for part in order {
            let report = loaded(&mut client, &put(part, &format!("order-{number}")), "");
            assert_eq!(report.inserted, part.number("rows"), "order {number}: {part:?}");
        }
        must_hold_wholes(&mut client, &wholes, &format!("order {number}"));
        empty(&mut client);
    }
}

#[test]
fn two_objects_that_serve_one_bucket_share_one_registry_row() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let mut uris = Vec::new();
    for part in parts(&data, "spot_btcusdt_20230405") {
        let uri = put(&part, "shared-bucket");
        if part.name().contains("T2355Z") {
            // The producer uses the trade time: by event time none of the ticks belongs to this bucket.
            let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
                       VALUES ('2023-04-04 23:55+00', 'BTCUSDT', $1)";
            client.execute(sql, &[&uri]).unwrap();
        }
        loaded(&mut client, &uri, "");
        uris.push(uri);
    }
    let [early, midnight, late] = &uris[..] else { panic!("{uris:?}") };

    let sql = "SELECT to_char(bucket_5m AT TIME ZONE 'UTC', 'DD HH24:MI'), s3_uri, status, asset
                 FROM landing.raw_blobs_5m ORDER BY bucket_5m, asset";
    let rows = client.query(sql, &[]).unwrap();
    let rows: Vec<[String; 4]> = rows.iter().map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)]).collect();
    let row = |bucket: &str, uri: &String, status: &str| [bucket.into(), uri.clone(), status.into(), "BTCUSDT".into()];
    // The first object to serve a bucket has its row; the last ticks of 00:00 by trade time reach into 00:05.
    assert_eq!(
        rows,
        [row("04 23:55", early, "empty"), row("05 00:00", early, "loaded"), row("05 00:05", midnight, "loaded")]
    );

    for (bucket, objects) in [("2023-04-05 00:00+00", [early, midnight]), ("2023-04-05 00:05+00", [midnight, late])] {
        let sql = "SELECT s3_uri, ticks FROM ingestion.object_slices
                    WHERE bucket_5m = $1::text::timestamptz AND asset = 'BTCUSDT' ORDER BY ticks";
        let served = client.query(sql, &[&bucket]).unwrap();
        let ticks: i64 = served.iter().map(|row| row.get::<_, i64>(1)).sum();
        assert_eq!(stored_where(&mut client, &format!("bucket_5m = '{bucket}'")).rows, ticks, "{bucket}");
        let uris: Vec<String> = served.iter().map(|row| row.get(0)).collect();
        assert_eq!(uris.iter().collect::<Vec<_>>(), objects, "{bucket}");
    }
    assert_eq!(stored_where(&mut client, "bucket_5m < '2023-04-05 00:00+00'").rows, 0);
}

#[test]
fn spot_and_futures_lie_side_by_side_under_their_own_symbols() {
    let Some(data) = test_data() else { return };
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let (spot, futures) = (whole(&data, "spot_btcusdt_20240808"), whole(&data, "usdm_btcusdt_20240718"));
    loaded(&mut client, &put(&spot, "markets"), "");
    loaded(&mut client, &put(&futures, "markets"), r#"options => '{"symbol": "BTCUSDT-PERP"}'"#);
    assert_eq!(stored_where(&mut client, "symbol = 'BTCUSDT'"), spot.expected());
    assert_eq!(stored_where(&mut client, "symbol = 'BTCUSDT-PERP'"), futures.expected());
    assert_eq!(stored(&mut client).rows, spot.number("rows") + futures.number("rows"));
}

// ── clashes; made, because the real markets' keys do not meet ───────────────────────────────────────────────────────

/// Makes ticks of two markets with the same keys and other prices.
fn clash() -> (Vec<Tick>, Vec<Tick>) {
    let spot = Generator::new(5, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1000).per_second(8.0).next_slice();
    let futures = spot.iter().cloned().map(|tick| Tick { price: tick.price + PRICE_UNIT, ..tick }).collect();
    (spot, futures)
}

#[test]
fn a_clash_of_two_markets_fails_by_default_and_the_hint_names_the_option() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let (spot, futures) = clash();
    loaded(&mut client, &ServerFixture::shared().put("clash/spot.parquet", ParquetFile::new().bytes(&spot)), "");
    let before = stored(&mut client);
    let uri = ServerFixture::shared().put("clash/futures.parquet", ParquetFile::new().bytes(&futures));

    let refusal = refused(&mut client, &uri, "", "TK005");
    assert!(refusal.message.contains(&uri), "{refusal:?}");
    assert!(refusal.hint.contains(r#""symbol""#), "{refusal:?}");
    assert!(refusal.detail.contains("is stored with price"), "{refusal:?}");
    assert_eq!(stored(&mut client), before);

    let report = loaded(&mut client, &uri, r#"options => '{"symbol": "BTCUSDT-PERP"}'"#);
    assert_eq!(report.inserted, futures.len() as i64);
    assert_eq!(stored_where(&mut client, "symbol = 'BTCUSDT'"), before);
}

#[test]
fn every_clash_is_counted_and_as_many_are_kept_as_may_be() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let (spot, mut futures) = clash();
    // A few are the same in both, a few are new: counts must tell them apart.
    for index in [0, 7, 100] {
        futures[index] = spot[index].clone();
    }
    let (rows, last) = (futures.len() as i64, futures.last().unwrap().clone());
    futures.extend((1..=4).map(|by| Tick { trade_id: last.trade_id + by, ..last.clone() }));
    loaded(&mut client, &ServerFixture::shared().put("count/spot.parquet", ParquetFile::new().bytes(&spot)), "");
    let before = stored(&mut client);
    let uri = ServerFixture::shared().put("count/futures.parquet", ParquetFile::new().bytes(&futures));

    client.batch_execute("SET btc_ingest.max_conflict_fraction = 1; SET btc_ingest.max_kept_rejects = 50").unwrap();
    let report = loaded(&mut client, &uri, "");
    assert_eq!(report.counts(), [rows + 4, 4, 3, rows - 3, 0, 0]);
    let old = stored_where(&mut client, &format!("trade_id <= {}", last.trade_id));
    assert_eq!(old, before);
    let kept: i64 = client
        .query_one(
            "SELECT count(*) FROM landing.rejected_ticks r JOIN market_data.btc_ticks t
                 ON t.trade_id = (r.row_data ->> 'trade_id')::bigint
              WHERE r.s3_uri = $1 AND (r.row_data ->> 'price')::numeric = t.price + 1",
            &[&uri],
        )
        .unwrap()
        .get(0);
    assert_eq!(kept, 50);

    // The other two ways to treat them.
    refused(&mut client, &uri, r#"force => true, options => '{"on_conflict": "abort"}'"#, "TK004");
    let report = loaded(&mut client, &uri, r#"force => true, options => '{"on_conflict": "replace"}'"#);
    assert_eq!(report.counts(), [rows + 4, 0, 7, 0, rows - 3, 0]);
    let report = load(&mut client, &uri, "force => true").unwrap();
    assert_eq!(report.counts(), [rows + 4, 0, rows + 4, 0, 0, 0]);
}
