//! `verify` and `verify_range`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{BUCKET, loaded, session};
use btc_ingest_kit::process::threads;
use btc_ingest_kit::real_files::{RealFile, test_data};
use btc_ingest_kit::rows::{but, moved, ticks, ticks_of};
use btc_ingest_kit::sql::{Session, number, texts};
use btc_ingest_kit::ticks::{PRICE_UNIT, Tick, time_us};
use btc_ingest_kit::wait::{SOON, wait_until};
use btc_ingest_kit::{Fault, FaultProxy, Generator, ParquetFile, ServerFixture, When};

use crate::quality_fixture::QualityFixture;

const EQUAL: &str = "missing 0{} extra 0{} differing 0{}";

fn generated(seed: u64, slices: usize) -> Vec<Tick> {
    Generator::new(seed, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(3.0).next_slices(slices)
}

#[test]
fn what_was_loaded_is_equal_by_object_and_by_range() {
    let mut fixture = QualityFixture::new();
    let both: Vec<Tick> = ticks(1, 400).into_iter().chain(ticks_of("ETHUSDT", 1, 10)).collect();
    let report = fixture.load("a", &both);
    let btc = [
        format!("BTCUSDT 12:00 equal rows 300 300 same digest {EQUAL}"),
        format!("BTCUSDT 12:05 equal rows 100 100 same digest {EQUAL}"),
    ];
    let eth = format!("ETHUSDT 12:00 equal rows 10 10 same digest {EQUAL}");
    assert_eq!(fixture.verify(&report.uri), [btc[0].clone(), eth.clone(), btc[1].clone()]);
    assert_eq!(fixture.verify_range("BTCUSDT"), btc);
    assert_eq!(fixture.verify_range("ETHUSDT"), [eth]);
    assert_eq!(fixture.verify_range("SOLUSDT"), [] as [String; 0]);
    // The range is of buckets: the one of its first time belongs to it, the one of its end does not.
    let range = "SELECT count(*) FROM btc_ingest.verify_range('BTCUSDT', '2024-08-08 12:04+00', '2024-08-08 12:05+00')";
    assert_eq!(fixture.number(range), 1);
}

#[test]
fn the_sums_are_those_that_postgresql_computes() {
    let mut fixture = QualityFixture::new();
    let report = fixture.load("a", &generated(1, 3));
    let wrong = format!(
        "SELECT count(*) FROM btc_ingest.verify('{}') v
           JOIN (SELECT bucket_5m, count(*) AS rows, sum(quantity) AS quantity, sum(price * quantity) AS amount
                   FROM market_data.btc_ticks GROUP BY bucket_5m) AS t USING (bucket_5m)
          WHERE (v.object_rows, v.object_quantity, v.object_amount) IS DISTINCT FROM (t.rows, t.quantity, t.amount)
             OR (v.table_rows, v.table_quantity, v.table_amount) IS DISTINCT FROM (t.rows, t.quantity, t.amount)",
        report.uri
    );
    assert_eq!(fixture.number(&wrong), 0);
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM btc_ingest.verify('{}')", report.uri)), 3);
}

#[test]
fn a_changed_a_deleted_and_an_added_tick_are_named_and_nothing_else() {
    let mut fixture = QualityFixture::new();
    let report = fixture.load("a", &ticks(1, 400));
    fixture.run(
        "UPDATE market_data.btc_ticks SET quantity = quantity + 0.000000000001 WHERE trade_id = 7;
         DELETE FROM market_data.btc_ticks WHERE trade_id = 300;
         INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity)
         VALUES ('2024-08-08 12:05Z', '2024-08-08 12:06Z', 'BTCUSDT', 5000, 1, 1)",
    );
    let wanted = [
        "BTCUSDT 12:00 different rows 300 299 other digest missing 1{300} extra 0{} differing 1{7}",
        "BTCUSDT 12:05 different rows 100 101 other digest missing 0{} extra 1{5000} differing 0{}",
    ];
    assert_eq!(fixture.verify(&report.uri), wanted);
    assert_eq!(fixture.verify_range("BTCUSDT"), wanted);
}

#[test]
fn every_column_counts() {
    let mut fixture = QualityFixture::new();
    let report = fixture.load("a", &ticks(1, 9));
    let changes = [
        "event_time = event_time + interval '1 microsecond'",
        "trade_time = NULL",
        "price = NULL",
        "price = 'NaN'",
        "quantity = NULL",
        "buyer_order_id = repeat('long', 100000)",
        "seller_order_id = NULL",
        "is_market_maker = NOT is_market_maker",
        "is_market_maker = NULL",
    ];
    for (id, change) in (1..).zip(changes) {
        fixture.run(&format!("UPDATE market_data.btc_ticks SET {change} WHERE trade_id = {id}"));
    }
    let wanted = "BTCUSDT 12:00 different rows 9 9 other digest missing 0{} extra 0{} differing 9{1,2,3,4,5,6,7,8,9}";
    assert_eq!(fixture.verify(&report.uri), [wanted]);
    // When the tick was stored does not count.
    let report = fixture.load("b", &ticks_of("ETHUSDT", 1, 5));
    fixture.run("UPDATE market_data.btc_ticks SET ingested_at = NULL WHERE symbol = 'ETHUSDT'");
    assert_eq!(fixture.verify(&report.uri), [format!("ETHUSDT 12:00 equal rows 5 5 same digest {EQUAL}")]);
}

#[test]
fn the_first_ids_of_each_kind_are_returned_as_many_as_asked_for() {
    let mut fixture = QualityFixture::new();
    let report = fixture.load("a", &ticks(1, 100));
    fixture.run("DELETE FROM market_data.btc_ticks WHERE trade_id > 40");
    let ids =
        |most: i32| format!("SELECT missing || missing_ids::text FROM btc_ingest.verify('{}', {most})", report.uri);
    assert_eq!(fixture.text(&ids(3)), "60{41,42,43}");
    assert_eq!(fixture.text(&ids(0)), "60{}");
}

#[test]
fn objects_that_overlap_or_share_a_slice_are_equal_together() {
    let mut fixture = QualityFixture::new();
    let all = ticks(1, 300);
    fixture.load("whole", &all);
    fixture.load("again", &all);
    assert_eq!(fixture.verify_range("BTCUSDT"), [format!("BTCUSDT 12:00 equal rows 300 300 same digest {EQUAL}")]);
    // Two halves, and a third object that overlaps with both: the sums over all objects are not those of the table.
    let eth = ticks_of("ETHUSDT", 1, 300);
    let first = fixture.load("first", &eth[..150]);
    fixture.load("second", &eth[150..]);
    assert_eq!(fixture.verify_range("ETHUSDT"), [format!("ETHUSDT 12:00 equal rows 300 300 same digest {EQUAL}")]);
    // An object alone says nothing about what others hold.
    let alone = "ETHUSDT 12:00 equal rows 150 300 other digest missing 0{} differing 0{}";
    assert_eq!(fixture.verify(&first.uri), [alone]);
    fixture.load("middle", &eth[100..200]);
    assert_eq!(fixture.verify_range("ETHUSDT"), [format!("ETHUSDT 12:00 equal rows 400 300 other digest {EQUAL}")]);
}

#[test]
fn a_value_that_one_of_several_objects_holds_is_right() {
    let mut fixture = QualityFixture::new();
    let old = ticks(1, 100);
    let mut new = old.clone();
    new[41].price += PRICE_UNIT;
    fixture.load("old", &old);
    let report = fixture.load("new", &new);
    assert_eq!(report.conflicting, 1);
    assert_eq!(
        fixture.verify(&report.uri),
        ["BTCUSDT 12:00 different rows 100 100 other digest missing 0{} differing 1{42}"]
    );
    assert_eq!(fixture.verify_range("BTCUSDT"), [format!("BTCUSDT 12:00 equal rows 200 100 other digest {EQUAL}")]);
}

#[test]
fn an_object_that_is_gone_or_replaced_or_damaged_leaves_its_slices_unproven() {
    let mut fixture = QualityFixture::new();
    let all = ticks(1, 1200);
    let reports: Vec<_> = (0..4).map(|n| fixture.load(&n.to_string(), &all[n * 300..(n + 1) * 300])).collect();
    fixture.server.s3.delete(BUCKET, &fixture.key("0"));
    let replaced = fixture.put("1", &all[..10]);
    let new = fixture.server.s3.etag(BUCKET, &fixture.key("1"));
    let found = fixture.verify_range("BTCUSDT");
    let unknown = "rows 0 300 other digest missing 0{} differing 0{}";
    let etag = &reports[1].etag;
    assert_eq!(found[0], format!("BTCUSDT 12:00 unproven {unknown} {} is gone", reports[0].uri));
    let wanted = format!("BTCUSDT 12:05 unproven {unknown} {replaced} has etag {new}, and {etag} was loaded");
    assert_eq!(found[1].replace('"', ""), wanted.replace('"', ""));
    assert_eq!(found[2..], ["12:10", "12:15"].map(|at| format!("BTCUSDT {at} equal rows 300 300 same digest {EQUAL}")));
    assert_eq!(fixture.verify(&reports[0].uri), found[..1]);

    // An object that is no Parquet file, at the etag that is recorded as loaded.
    let key = fixture.key("2");
    fixture.server.put(&key, "not Parquet at all");
    let etag = fixture.server.s3.etag(BUCKET, &key);
    fixture.run(&format!(
        "UPDATE ingestion.object_slices SET etag = '{etag}' WHERE s3_uri = '{0}';
         UPDATE ingestion.objects SET etag = '{etag}' WHERE s3_uri = '{0}'",
        reports[2].uri
    ));
    let found = fixture.verify_range("BTCUSDT");
    assert!(found[2].contains("unproven") && found[2].ends_with("is not a Parquet file (PQ002)"), "{}", found[2]);
    assert!(found[3].contains("equal"), "{}", found[3]);
}

#[test]
fn an_object_that_is_not_loaded_is_compared_all_the_same() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ticks(1, 100));
    let uri = fixture.put("b", &ticks(96, 10));
    // Ids 96 to 100 have other values in this object than in the table.
    let wanted = "BTCUSDT 12:00 different rows 10 100 other digest missing 5{101,102,103,104,105} \
                  differing 5{96,97,98,99,100}";
    assert_eq!(fixture.verify(&uri), [wanted]);
}

#[test]
fn a_slice_that_does_not_fit_into_memory_is_compared_in_parts() {
    let mut fixture = QualityFixture::new();
    // 32,768 ticks fit at once into the smallest memory.
    let template = ticks(1, 1).remove(0);
    let many: Vec<Tick> = (1..=100_000).map(|id| but(&template, |tick| tick.trade_id = id)).collect();
    let mut all = many.clone();
    all.extend(ticks(200_000, 300).iter().map(|tick| moved(tick, 1)));
    let report = fixture.load("a", &all);
    fixture.run(
        "UPDATE market_data.btc_ticks SET price = price + 1 WHERE trade_id IN (1, 2, 3, 99999);
         DELETE FROM market_data.btc_ticks WHERE trade_id IN (50000, 200005)",
    );
    fixture.run("SET btc_ingest.memory_limit = '8MB'");
    let wanted = [
        "BTCUSDT 12:00 different rows 100000 99999 other digest missing 1{50000} extra 0{} differing 4{1,2,3,99999}",
        "BTCUSDT 12:05 different rows 300 299 other digest missing 1{200005} extra 0{} differing 0{}",
    ];
    assert_eq!(fixture.verify(&report.uri), wanted);
    assert_eq!(fixture.verify_range("BTCUSDT"), wanted);
}

#[test]
fn everything_that_was_loaded_of_the_real_files_is_equal() {
    let Some(data) = test_data() else { return };
    let mut fixture = QualityFixture::new();
    for file in RealFile::all(&data).iter().filter(|file| file.is_whole()) {
        let uri = fixture.server.put(&format!("{}/{}", fixture.db.name(), file.name()), file.bytes());
        // Spot and futures have trade ids of their own.
        let symbol = format!("{}-{}", file.symbol(), file.dataset().split('_').next().unwrap());
        loaded(&mut fixture.client, &uri, &format!(r#"options => '{{"symbol": "{symbol}"}}'"#));
    }
    let assets = fixture.texts("SELECT DISTINCT symbol FROM market_data.btc_ticks");
    assert!(assets.len() >= 2, "{assets:?}");
    for asset in assets {
        let sql = format!(
            "SELECT format('%s %s %s', outcome, sum(object_rows), count(*) FILTER (WHERE object_digest <> table_digest))
               FROM btc_ingest.verify_range('{asset}', '-infinity', 'infinity') GROUP BY outcome"
        );
        let rows = fixture.number(&format!("SELECT count(*) FROM market_data.btc_ticks WHERE symbol = '{asset}'"));
        assert_eq!(fixture.texts(&sql), [format!("equal {rows} 0")], "{asset}");
    }
}

/// Returns the Python program of docs/use/verify.md.
fn documented_program() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/use/verify.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, program) = page.split_once("```python\n").expect("a program");
    program.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_documented_python_program_computes_the_same_digests() {
    let mut fixture = QualityFixture::new();
    let mut all = generated(2, 2);
    all[3] = but(&all[3], |tick| (tick.trade_time_us, tick.buyer_order_id) = (None, None));
    all.extend(ticks_of("ETH-\u{e9}\u{20ac}", 1, 10));
    fixture.load("a", &all);
    fixture.run(
        "INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity, buyer_order_id)
         VALUES ('1969-12-31 23:55Z', '1969-12-31 23:59:59.999999Z', 'NULLS', -1, NULL, NULL, ''),
                ('2024-08-08 12:00Z', '2024-08-08 12:00Z', 'NULLS', 1, -0.00000001, 999999999999.999999999999, 'x')",
    );
    let csv = fixture
        .db
        .psql(
            r"COPY (SELECT symbol, trade_id, (extract(epoch FROM event_time) * 1000000)::bigint AS event_time,
                          (extract(epoch FROM trade_time) * 1000000)::bigint AS trade_time, price, quantity,
                          is_market_maker, buyer_order_id, seller_order_id
                     FROM market_data.btc_ticks) TO STDOUT (FORMAT csv, HEADER, NULL '\N')",
        )
        .unwrap();
    let mut python = Command::new("python3")
        .args(["-c", &documented_program()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    python.stdin.take().unwrap().write_all(csv.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut by_python: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    by_python.sort();
    let mut ours = Vec::new();
    for asset in ["BTCUSDT", "ETH-\u{e9}\u{20ac}", "NULLS"] {
        let sql = format!(
            "SELECT format('%s %s %s', asset, extract(epoch FROM bucket_5m)::bigint, table_digest)
               FROM btc_ingest.verify_range('{asset}', '-infinity', 'infinity')"
        );
        ours.extend(fixture.texts(&sql));
    }
    ours.sort();
    assert_eq!(by_python, ours);
    assert_eq!(ours.len(), 5);
}

#[test]
fn a_wrong_argument_gets_one_clear_error() {
    let mut fixture = QualityFixture::new();
    let range = |args: &str| format!("SELECT * FROM btc_ingest.verify_range({args})");
    let cases = [
        ("SELECT * FROM btc_ingest.verify('x')".to_owned(), "S3001", "uri"),
        ("SELECT * FROM btc_ingest.verify(NULL)".to_owned(), "S3001", "uri"),
        ("SELECT * FROM btc_ingest.verify('s3://elsewhere/a.parquet')".to_owned(), "S3002", "uri"),
        ("SELECT * FROM btc_ingest.verify('s3://landing/verify/nothing.parquet')".to_owned(), "S3004", "object"),
        ("SELECT * FROM btc_ingest.verify('s3://landing/a.parquet', -1)".to_owned(), "TK002", "most"),
        (range("'', 'yesterday', 'today'"), "TK002", "asset"),
        (range("NULL, 'yesterday', 'today'"), "TK002", "asset"),
        (range("'BTCUSDT', NULL, 'today'"), "TK002", "from"),
        (range("'BTCUSDT', 'yesterday', NULL"), "TK002", "to"),
        (range("'BTCUSDT', 'today', 'yesterday'"), "TK002", "to"),
        (range("'BTCUSDT', 'yesterday', 'today', 10001"), "TK002", "most"),
    ];
    for (sql, sqlstate, about) in cases {
        let refusal = fixture.refused(&sql);
        assert_eq!(refusal.sqlstate, sqlstate, "{sql}: {refusal:?}");
        assert!(refusal.message.contains(about), "{sql}: {refusal:?}");
    }
}

#[test]
fn verification_writes_nothing_and_works_in_a_read_only_transaction() {
    let mut fixture = QualityFixture::new();
    let report = fixture.load("a", &ticks(1, 300));
    fixture.run("BEGIN READ ONLY");
    assert_eq!(fixture.verify(&report.uri), [format!("BTCUSDT 12:00 equal rows 300 300 same digest {EQUAL}")]);
    assert_eq!(fixture.verify_range("BTCUSDT").len(), 1);
    fixture.run("COMMIT");
}

#[test]
fn a_range_is_compared_as_of_one_moment() {
    let mut fixture = QualityFixture::new();
    fixture.load("a", &ticks(1, 300));
    let proxy = FaultProxy::before(&fixture.server.s3);
    let key = fixture.key("a");
    proxy.on(When::get().key(&key), Fault::Hang);
    let mut other = session(&fixture.db, &proxy.endpoint(), &[]);
    let verified = std::thread::spawn(move || {
        texts(&mut other, "SELECT outcome FROM btc_ingest.verify_range('BTCUSDT', '-infinity', 'infinity')")
    });
    proxy.wait_until_stalled(SOON);
    // Between the look at the objects and the end of the call, another object is loaded.
    fixture.load("b", &ticks(301, 300).iter().map(|tick| moved(tick, 1)).collect::<Vec<_>>());
    proxy.release();
    assert_eq!(verified.join().unwrap(), ["equal"]);
}

#[test]
fn a_verification_ends_when_it_is_cancelled() {
    let fixture = QualityFixture::new();
    let mut writer = fixture.db.client();
    let uri = fixture.put("large", &generated(3, 24));
    loaded(&mut writer, &uri, "");
    let proxy = FaultProxy::before(&fixture.server.s3);
    proxy.on(When::get(), Fault::Hang);
    let mut client = session(&fixture.db, &proxy.endpoint(), &[]);
    let pid = backend_pid(&mut client);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            let refused = client.batch_execute(&format!("SELECT * FROM btc_ingest.verify('{uri}')")).unwrap_err();
            (refused, Instant::now())
        });
        proxy.wait_until_stalled(SOON);
        let start = Instant::now();
        number(&mut writer, &format!("SELECT pg_cancel_backend({pid})::int::bigint"));
        let (refused, at) = call.join().unwrap();
        assert_eq!(refused.code().unwrap().code(), "57014");
        assert!(at - start < Duration::from_secs(1), "{:?}", at - start);
    });
    wait_until("the threads to go", SOON, || threads(pid) == 1);
    proxy.clear();
    proxy.release();
}

#[test]
fn ticks_of_another_file_format_are_equal_as_well() {
    let mut fixture = QualityFixture::new();
    let all = generated(4, 2);
    let file = ParquetFile::new().v2().row_group_rows(500).without("buyer_order_id");
    let uri = ServerFixture::shared().put(&fixture.key("a"), file.bytes(&all));
    loaded(&mut fixture.client, &uri, "");
    assert!(fixture.verify(&uri).iter().all(|line| line.contains(" equal ") && line.contains("same digest")));
}
