//! The same ticks arrive from every form of Parquet that a producer may write.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int8Array, Int32Array, Int64Array, ListArray, StringArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use btc_ingest_kit::fixture::{Report, loaded, refused};
use btc_ingest_kit::parquet::{Id, Number, Time};
use btc_ingest_kit::ticks::{PRICE_UNIT, QUANTITY_UNIT, Random, decimal_text, time_text, time_us};
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture, TestDb, Tick};
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::reader::{FileReader, SerializedFileReader};
use postgres::Client;

const START: &str = "2024-08-08T12:00:00Z";

/// One slice of about 1,300 ticks with ids that fit 32 bits.
fn ticks() -> Vec<Tick> {
    Generator::new(11, "BTCUSDT", time_us(START), 1000).per_second(4.0).next_slice()
}

/// A database, the ticks that it should hold, and the connection that loads.
struct FormatFixture {
    client: Client,
    test: &'static str,
    files: u32,
    _db: TestDb<'static>,
}

impl FormatFixture {
    fn new(test: &'static str) -> FormatFixture {
        let db = ServerFixture::shared().db();
        let mut client = db.client();
        client.batch_execute("CREATE TABLE expected (LIKE market_data.btc_ticks)").unwrap();
        FormatFixture { client, test, files: 0, _db: db }
    }

    /// Sets the ticks that the following files must produce.
    fn expect(&mut self, ticks: &[Tick]) {
        self.client.batch_execute("TRUNCATE expected").unwrap();
        let sql = "COPY expected (bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity,
                                  buyer_order_id, seller_order_id, is_market_maker) FROM STDIN";
        let mut copy = self.client.copy_in(sql).unwrap();
        let time = |us| time_text(us, "%Y-%m-%d %H:%M:%S%.6f+00");
        let or_null = |text: Option<String>| text.unwrap_or_else(|| "\\N".to_owned());
        for tick in ticks {
            let fields = [
                time(tick.bucket_us()),
                time(tick.event_time_us),
                or_null(tick.trade_time_us.map(time)),
                tick.symbol.to_string(),
                tick.trade_id.to_string(),
                decimal_text(tick.price.into(), 8, 8),
                decimal_text(tick.quantity, 12, 12),
                or_null(tick.buyer_order_id.map(|id| id.to_string())),
                or_null(tick.seller_order_id.map(|id| id.to_string())),
                tick.is_market_maker.to_string(),
            ];
            writeln!(copy, "{}", fields.join("\t")).unwrap();
        }
        copy.finish().unwrap();
    }

    fn put(&mut self, file: &ParquetFile, ticks: &[Tick]) -> String {
        self.files += 1;
        ServerFixture::shared().put(&format!("{}/{}.parquet", self.test, self.files), file.bytes(ticks))
    }

    /// Loads a file of `ticks` into the emptied table, which must then hold exactly what was expected.
    #[track_caller]
    fn check(&mut self, what: &str, file: &ParquetFile, ticks: &[Tick], args: &str) -> Report {
        let uri = self.put(file, ticks);
        println!("{what}: {uri}");
        self.client.batch_execute("TRUNCATE market_data.btc_ticks").unwrap();
        let report = loaded(&mut self.client, &uri, args);
        let columns = "bucket_5m, event_time, trade_time, symbol, trade_id, price, quantity, buyer_order_id,
                       seller_order_id, is_market_maker";
        let sql = format!(
            "SELECT row_to_json(d)::text FROM (
                 (SELECT 'too much' AS is, {columns} FROM market_data.btc_ticks
                  EXCEPT ALL SELECT 'too much', {columns} FROM expected)
                 UNION ALL
                 (SELECT 'missing', {columns} FROM expected
                  EXCEPT ALL SELECT 'missing', {columns} FROM market_data.btc_ticks)) AS d LIMIT 4"
        );
        let wrong: Vec<String> = self.client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
        let rows = ticks.len() as i64;
        assert_eq!(report.counts(), [rows, rows, 0, 0, 0, 0], "{what}");
        report
    }
}

#[test]
fn every_codec_page_version_and_layout_holds_the_same_ticks() {
    let mut fixture = FormatFixture::new("codecs");
    let ticks = ticks();
    fixture.expect(&ticks);
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
    ];
    for codec in codecs {
        let file = ParquetFile::new().codec(codec);
        let small = file.clone().page_rows(100).row_group_rows(450).without_statistics();
        for (layout, file) in [
            ("v1", file.clone()),
            ("v2", file.clone().v2()),
            ("v1 plain", file.clone().plain()),
            // Without dictionaries, version 2 uses the delta encodings.
            ("v2 plain", file.clone().v2().plain()),
            ("v1, small pages and row groups", small.clone()),
            ("v2, small pages and row groups", small.v2()),
        ] {
            fixture.check(&format!("{codec:?} {layout}"), &file, &ticks, "");
        }
    }
}

#[test]
fn every_encoding_holds_the_same_ticks() {
    let mut fixture = FormatFixture::new("encodings");
    let ticks = ticks();
    fixture.expect(&ticks);
    let integers = ["event_time", "trade_time", "trade_id", "buyer_order_id", "seller_order_id"];
    let texts = ["symbol", "price", "quantity"];
    let with = |encoding: Encoding, columns: &[&str]| {
        columns.iter().fold(ParquetFile::new(), |file, column| file.encoding(column, encoding))
    };
    let doubles = with(Encoding::BYTE_STREAM_SPLIT, &["price", "quantity", "event_time", "trade_id", "buyer_order_id"]);
    let files = [
        ("plain", Encoding::PLAIN, with(Encoding::PLAIN, &[&integers[..], &texts].concat())),
        ("delta binary packed", Encoding::DELTA_BINARY_PACKED, with(Encoding::DELTA_BINARY_PACKED, &integers)),
        ("delta length byte array", Encoding::DELTA_LENGTH_BYTE_ARRAY, with(Encoding::DELTA_LENGTH_BYTE_ARRAY, &texts)),
        ("delta byte array", Encoding::DELTA_BYTE_ARRAY, with(Encoding::DELTA_BYTE_ARRAY, &texts)),
        ("byte stream split of doubles", Encoding::BYTE_STREAM_SPLIT, doubles.clone().number(Number::Double)),
        ("byte stream split of fixed bytes", Encoding::BYTE_STREAM_SPLIT, doubles.number(Number::Decimal(38, 12))),
        ("run lengths", Encoding::RLE, with(Encoding::RLE, &["is_market_maker"])),
    ];
    let used = |file: &ParquetFile| {
        let reader = SerializedFileReader::new(file.bytes(&ticks)).unwrap();
        let columns = reader.metadata().row_group(0).columns().to_vec();
        columns.iter().flat_map(|column| column.encodings().collect::<Vec<_>>()).collect::<HashSet<_>>()
    };
    for (what, encoding, file) in files {
        for file in [file.clone(), file.clone().v2(), file.page_rows(64)] {
            assert!(used(&file).contains(&encoding), "{what}: the file uses {:?}", used(&file));
            fixture.check(what, &file, &ticks, "");
        }
    }
}

#[test]
fn every_type_of_time_holds_the_same_moment() {
    let mut fixture = FormatFixture::new("times");
    let ticks = ticks();
    fixture.expect(&ticks);
    for unit in [TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        for zone in [true, false] {
            for arrow in [true, false] {
                let file = ParquetFile::new().time(Time::Stamp(unit, zone));
                let file = if arrow { file } else { file.without_arrow_schema() };
                fixture.check(&format!("{unit:?}, zone {zone}, arrow {arrow}"), &file, &ticks, "");
            }
        }
    }
    for (unit, name) in [(TimeUnit::Millisecond, "ms"), (TimeUnit::Microsecond, "us"), (TimeUnit::Nanosecond, "ns")] {
        let file = ParquetFile::new().time(Time::Int(unit));
        let options = format!(r#"options => '{{"time_unit": "{name}"}}'"#);
        fixture.check(&options, &file, &ticks, &options);
        let uri = fixture.put(&file, &ticks);
        let refusal = refused(&mut fixture.client, &uri, "", "PQ009");
        for column in ["event_time", "trade_time"] {
            assert!(refusal.message.contains(&format!("{column} is INT64 without a unit")), "{refusal:?}");
        }
    }
    // An option does not overrule the unit of a timestamp type.
    let file = ParquetFile::new().event_time(Time::Stamp(TimeUnit::Microsecond, true));
    fixture.check(
        "both",
        &file.trade_time(Time::Int(TimeUnit::Millisecond)),
        &ticks,
        r#"options => '{"time_unit": "ms"}'"#,
    );

    let second = |us: i64| us.div_euclid(1_000_000) * 1_000_000;
    let seconds: Vec<Tick> = (ticks.iter().cloned())
        .map(|tick| Tick {
            event_time_us: second(tick.event_time_us),
            trade_time_us: tick.trade_time_us.map(second),
            ..tick
        })
        .collect();
    fixture.expect(&seconds);
    let file = ParquetFile::new().time(Time::Stamp(TimeUnit::Second, true));
    fixture.check("seconds", &file, &seconds, r#"options => '{"time_unit": "s"}'"#);
    fixture.check(
        "integers of seconds",
        &ParquetFile::new().time(Time::Int(TimeUnit::Second)),
        &seconds,
        r#"options => '{"time_unit": "s"}'"#,
    );
}

#[test]
fn a_time_of_unsigned_integers_takes_its_unit_from_the_options() {
    let mut fixture = FormatFixture::new("unsigned");
    let ticks = ticks();
    fixture.expect(&ticks);
    let times = |time: &dyn Fn(&Tick) -> i64| -> ArrayRef {
        Arc::new(ticks.iter().map(|tick| Some((time(tick) / 1000) as u64)).collect::<UInt64Array>())
    };
    let file = ParquetFile::new()
        .column("event_time", times(&|tick| tick.event_time_us))
        .column("trade_time", times(&|tick| tick.trade_time_us.unwrap()));
    fixture.check("unsigned milliseconds", &file, &ticks, r#"options => '{"time_unit": "ms"}'"#);
}

#[test]
fn nanoseconds_are_truncated_to_microseconds() {
    let mut fixture = FormatFixture::new("nanos");
    let ticks = ticks();
    fixture.expect(&ticks);
    let finer: TimestampNanosecondArray = ticks.iter().map(|tick| Some(tick.event_time_us * 1000 + 999)).collect();
    let file = ParquetFile::new().column("event_time", Arc::new(finer.with_timezone("UTC")));
    fixture.check("999 ns more", &file, &ticks, "");
}

#[test]
fn every_type_of_number_holds_the_same_price_and_quantity() {
    let mut fixture = FormatFixture::new("numbers");
    let ticks = ticks();
    fixture.expect(&ticks);
    let new = ParquetFile::new;
    let files = [
        ("INT32 decimals", new().price(Number::Decimal(9, 2)).quantity(Number::Decimal(9, 5))),
        ("INT64 decimals", new().price(Number::Decimal(18, 8)).quantity(Number::Decimal(18, 5))),
        ("the table's decimals", new().price(Number::Decimal(18, 8)).quantity(Number::Decimal(24, 12))),
        ("38 digits", new().number(Number::Decimal(38, 18))),
        ("76 digits", new().number(Number::Wide(76, 30))),
        ("doubles", new().number(Number::Double)),
        ("floats", new().number(Number::Float)),
    ];
    for (what, file) in files {
        for file in [file.clone(), file.clone().plain(), file.clone().v2().plain(), file.without_arrow_schema()] {
            fixture.check(what, &file, &ticks, "");
        }
    }

    let whole: Vec<Tick> = (ticks.iter().cloned())
        .map(|tick| Tick {
            price: tick.price / PRICE_UNIT * PRICE_UNIT,
            quantity: (tick.quantity / QUANTITY_UNIT + 1) * QUANTITY_UNIT,
            ..tick
        })
        .collect();
    fixture.expect(&whole);
    fixture.check("integers", &new().number(Number::Int), &whole, "");
    fixture.check("decimals without places", &new().number(Number::Decimal(12, 0)), &whole, "");

    // As many digits as the columns hold, in every type that can hold them.
    let mut extreme = ticks[..2].to_vec();
    (extreme[0].price, extreme[0].quantity) = (1, 1);
    (extreme[1].price, extreme[1].quantity) = (999_999_999_999_999_999, 999_999_999_999_999_999_999_999);
    fixture.expect(&extreme);
    for number in [Number::Text, Number::Decimal(38, 12), Number::Wide(50, 20)] {
        fixture.check(&format!("extremes as {number:?}"), &new().number(number), &extreme, "");
    }
}

#[test]
fn every_type_of_id_flag_and_text_holds_the_same_values() {
    let mut fixture = FormatFixture::new("ids");
    let ticks = ticks();
    fixture.expect(&ticks);
    let new = ParquetFile::new;
    for id in [Id::Int, Id::Short, Id::Unsigned, Id::Text] {
        fixture.check(&format!("trade id {id:?}"), &new().trade_id(id), &ticks, "");
        fixture.check(&format!("trade id {id:?} v2"), &new().trade_id(id).v2().plain(), &ticks, "");
    }
    let array: UInt32Array = ticks.iter().map(|tick| Some(tick.trade_id as u32)).collect();
    fixture.check("trade id UInt32", &new().column("trade_id", Arc::new(array)), &ticks, "");
    let array: Decimal128Array = ticks.iter().map(|tick| Some(i128::from(tick.trade_id))).collect();
    let array = array.with_precision_and_scale(20, 0).unwrap();
    fixture.check("trade id DECIMAL", &new().column("trade_id", Arc::new(array)), &ticks, "");
    for id in [Id::Int, Id::Unsigned, Id::Text] {
        fixture.check(&format!("order id {id:?}"), &new().order_id(id), &ticks, "");
    }

    let makers = || ticks.iter().map(|tick| tick.is_market_maker);
    let text = |yes: &'static str, no: &'static str| -> ArrayRef {
        Arc::new(makers().map(|maker| Some(if maker { yes } else { no })).collect::<StringArray>())
    };
    let flags: [(&str, ArrayRef); 6] = [
        ("INT8", Arc::new(makers().map(|maker| Some(i8::from(maker))).collect::<Int8Array>())),
        ("INT32", Arc::new(makers().map(|maker| Some(i32::from(maker))).collect::<Int32Array>())),
        ("INT64", Arc::new(makers().map(|maker| Some(i64::from(maker))).collect::<Int64Array>())),
        ("true/false", text("true", "false")),
        ("TRUE/False", text("TRUE", "False")),
        ("1/0", text("1", "0")),
    ];
    for (what, array) in flags {
        fixture.check(&format!("flag {what}"), &new().column("is_market_maker", array), &ticks, "");
    }

    let dictionary = |value| DataType::Dictionary(Box::new(DataType::Int32), Box::new(value));
    for text in [
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::BinaryView,
        dictionary(DataType::Utf8),
        dictionary(DataType::LargeUtf8),
    ] {
        fixture.check(&format!("{text}"), &new().text(text.clone()).trade_id(Id::Text), &ticks, "");
        fixture.check(&format!("{text} v2"), &new().text(text).v2().plain().without_arrow_schema(), &ticks, "");
    }
}

#[test]
fn columns_that_a_tick_can_do_without_may_be_null_or_missing() {
    let mut fixture = FormatFixture::new("optional");
    let mut ticks = ticks();
    for tick in &mut ticks {
        (tick.buyer_order_id, tick.seller_order_id) = (None, None);
    }
    fixture.expect(&ticks);
    fixture.check("null order ids", &ParquetFile::new().order_id(Id::Null), &ticks, "");
    let without = ParquetFile::new().without("buyer_order_id").without("seller_order_id");
    fixture.check("no order ids", &without, &ticks, "");
    for tick in &mut ticks {
        tick.trade_time_us = None;
    }
    fixture.expect(&ticks);
    fixture.check("null trade times", &without, &ticks, "");
    fixture.check("no trade times", &without.clone().without("trade_time"), &ticks, "");
    fixture.client.batch_execute("UPDATE expected SET is_market_maker = NULL").unwrap();
    let all: Vec<usize> = (0..ticks.len()).collect();
    fixture.check("null flags", &without.clone().null("is_market_maker", &all), &ticks, "");
    fixture.check("no flags", &without.without("trade_time").without("is_market_maker"), &ticks, "");
}

#[test]
fn columns_are_found_by_name_in_any_order_and_case() {
    let mut fixture = FormatFixture::new("names");
    let ticks = ticks();
    fixture.expect(&ticks);
    let backwards = [
        "is_market_maker",
        "seller_order_id",
        "buyer_order_id",
        "quantity",
        "price",
        "trade_id",
        "symbol",
        "trade_time",
        "event_time",
    ];
    fixture.check("backwards", &ParquetFile::new().order(&backwards), &ticks, "");
    let upper = |file: ParquetFile, name: &&str| file.rename(name, &name.to_uppercase());
    fixture.check("upper case", &backwards.iter().fold(ParquetFile::new(), upper), &ticks, "");
    let short = ["m", "a", "b", "q", "p", "t", "s", "T", "E"];
    let renamed = |file: ParquetFile, (name, short): (&&str, &&str)| file.rename(name, short);
    fixture.check("Binance's names", &backwards.iter().zip(&short).fold(ParquetFile::new(), renamed), &ticks, "");

    let list = |_: &Tick| Some(vec![Some(1), None, Some(3)]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(ticks.iter().map(list));
    let extra = ParquetFile::new()
        .column("aggregate", Arc::new(lists))
        .column("ignore", Arc::new(BooleanArray::from(vec![true; ticks.len()])))
        .order(&["aggregate", "event_time", "ignore"]);
    fixture.check("extra columns", &extra, &ticks, "");

    let mapped =
        ParquetFile::new().rename("price", "px").rename("event_time", "when it was").rename("trade_id", "Ünïque");
    let uri = fixture.put(&mapped, &ticks);
    let refusal = refused(&mut fixture.client, &uri, "", "PQ009");
    for column in ["event_time", "trade_id", "price"] {
        assert!(refusal.message.contains(&format!("{column} is missing")), "{refusal:?}");
    }
    let options = r#"options => '{"columns": {"price": "px", "event_time": "when it was", "trade_id": "Ünïque"}}'"#;
    fixture.check("mapped", &mapped, &ticks, options);
    // A mapping has precedence over a column of the tick's own name.
    let decoy =
        ParquetFile::new().rename("price", "px").column("decoy", Arc::new(Int64Array::from(vec![1; ticks.len()])));
    fixture.check("decoy", &decoy.rename("decoy", "price"), &ticks, r#"options => '{"columns": {"price": "px"}}'"#);
    let wrong = r#"options => '{"columns": {"price": "nowhere"}}'"#;
    assert!(refused(&mut fixture.client, &uri, wrong, "PQ009").message.contains("nowhere"));
}

#[test]
fn a_symbol_of_the_call_replaces_the_file_s() {
    let mut fixture = FormatFixture::new("symbol");
    let ticks = ticks();
    let perp: Vec<Tick> = ticks.iter().map(|tick| Tick { symbol: "BTC-PERP".into(), ..tick.clone() }).collect();
    fixture.expect(&perp);
    let options = r#"options => '{"symbol": "BTC-PERP"}'"#;
    fixture.check("replaced", &ParquetFile::new(), &ticks, options);
    fixture.check("given", &ParquetFile::new().without("symbol"), &ticks, options);
    let uri = fixture.put(&ParquetFile::new().without("symbol"), &ticks);
    assert!(refused(&mut fixture.client, &uri, "", "PQ009").message.contains("symbol is missing"));
}

#[test]
fn extra_columns_are_not_read() {
    let mut fixture = FormatFixture::new("extra");
    let ticks = ticks();
    fixture.expect(&ticks);
    let mut random = Random(3);
    let mut noise = || (0..800).map(|_| format!("{:016x}", random.bits())).collect::<String>();
    let noise: StringArray = ticks.iter().map(|_| Some(noise())).collect();
    let file = ParquetFile::new().codec(Compression::UNCOMPRESSED).plain().column("a_note", Arc::new(noise));
    // The extra column lies between columns that are needed.
    let file = file.order(&["event_time", "trade_id", "a_note"]);
    let size = file.bytes(&ticks).len() as i64;
    assert!(size > 12_000_000, "{size}");
    let report = fixture.check("12 MB of notes", &file, &ticks, "");
    println!("{} of {size} bytes were fetched", report.bytes);
    assert!(report.bytes < size / 5, "{} of {size} bytes were fetched", report.bytes);
}

#[test]
fn a_file_without_rows_loads_as_no_rows() {
    let mut fixture = FormatFixture::new("empty");
    let uri = fixture.put(&ParquetFile::new(), &[]);
    let report = loaded(&mut fixture.client, &uri, "");
    assert_eq!((report.counts(), report.slices, report.outcome.as_str()), ([0; 6], 0, "loaded"));
    assert_eq!(loaded(&mut fixture.client, &uri, "").outcome, "already loaded");
    let sql = "SELECT (SELECT count(*) FROM landing.raw_blobs_5m), (SELECT count(*) FROM ingestion.stream_offsets),
                      (SELECT status FROM ingestion.objects WHERE s3_uri = $1)";
    let row = fixture.client.query_one(sql, &[&uri]).unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (0_i64, 0_i64, "loaded".to_owned()));
}

#[test]
fn an_hour_of_two_symbols_is_one_registry_row_per_asset_and_bucket() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let mut btc = Generator::new(1, "BTCUSDT", time_us(START), 5_000).per_second(3.0);
    let mut eth = Generator::new(2, "ETHUSDT", time_us(START), 900_000).per_second(2.0).starting_at(2_400);
    let mut hour = btc.next_slices(12);
    hour.extend(eth.next_slices(12));
    hour.sort_by_key(|tick| tick.event_time_us);
    let file = ParquetFile::new().row_group_rows(2000).bytes(&hour);
    let uri = ServerFixture::shared().put("Binance/hourly/20240808T1200Z.parquet", file);
    let report = loaded(&mut client, &uri, r#"options => '{"exchange": "binance"}'"#);
    let rows = hour.len() as i64;
    assert_eq!((report.counts(), report.slices), ([rows, rows, 0, 0, 0, 0], 24));

    let sql = "SELECT count(*), count(DISTINCT (b.bucket_5m, b.asset)), sum(s.ticks)::bigint,
                      bool_and(b.status = 'loaded' AND b.s3_uri = $1
                               AND b.ingested_tick_span = tsrange(t.first AT TIME ZONE 'UTC',
                                   t.last AT TIME ZONE 'UTC', '[]')
                               AND s.ticks = t.ticks)
                 FROM landing.raw_blobs_5m b
                 JOIN ingestion.object_slices s USING (s3_uri, bucket_5m, asset)
                 JOIN (SELECT bucket_5m, symbol AS asset, min(event_time) AS first, max(event_time) AS last,
                     count(*) AS ticks
                         FROM market_data.btc_ticks GROUP BY 1, 2) AS t USING (bucket_5m, asset)";
    let row = client.query_one(sql, &[&uri]).unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2), row.get(3)), (24_i64, 24_i64, rows, true));

    let offsets = client
        .query(
            "SELECT source, last_sequence, (extract(epoch FROM last_ts) * 1e6)::bigint
                                  FROM ingestion.stream_offsets ORDER BY 1",
            &[],
        )
        .unwrap();
    let offsets: Vec<(String, i64, i64)> = offsets.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let newest =
        |symbol: &str| hour.iter().filter(|tick| &*tick.symbol == symbol).max_by_key(|tick| tick.trade_id).unwrap();
    let offset = |symbol: &str| (format!("s3:binance:{symbol}"), newest(symbol).trade_id, newest(symbol).event_time_us);
    assert_eq!(offsets, [offset("BTCUSDT"), offset("ETHUSDT")]);

    // An older object moves no offset back, and another source has its own offset.
    let older = Generator::new(3, "BTCUSDT", time_us("2024-08-08T11:00:00Z"), 100).per_second(1.0).next_slice();
    let uri = ServerFixture::shared().put("Binance/older.parquet", ParquetFile::new().bytes(&older));
    loaded(&mut client, &uri, r#"options => '{"exchange": "binance"}'"#);
    loaded(&mut client, &uri, r#"force => true, options => '{"source": "mine"}'"#);
    let sql = "SELECT last_sequence FROM ingestion.stream_offsets WHERE source IN ('s3:binance:BTCUSDT', 'mine')
                ORDER BY source";
    let sequences: Vec<i64> = client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(sequences, [older.last().unwrap().trade_id, newest("BTCUSDT").trade_id]);
}
