//! Files that are broken, hostile or simply no ticks: a clean error each, never a crash, and the backend goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use btc_ingest_tests::cluster::backend_pid;
use btc_ingest_tests::parquet::Number;
use btc_ingest_tests::process::{MemoryWatch, descriptors, memory, threads};
use btc_ingest_tests::stand::{Refusal, Report, load, refused, stored, test_data};
use btc_ingest_tests::ticks::{Random, time_us};
use btc_ingest_tests::{Generator, ParquetFile, Stand, TestDb, Tick};
use parquet::basic::Compression;
use parquet::file::reader::{FileReader, SerializedFileReader};
use postgres::Client;

const LIMIT: Duration = Duration::from_secs(10);
/// The default of `btc_ingest.memory_limit`, and what may come on top of it.
const MEMORY_LIMIT: u64 = 64 << 20;
const ALLOWANCE: u64 = 64 << 20;

/// A connection that must survive everything, and what every call on it must look like.
struct Patient {
    client: Client,
    pid: u32,
    slowest: (Duration, String),
    outcomes: BTreeMap<String, u32>,
    _db: TestDb<'static>,
}

impl Patient {
    fn new() -> Patient {
        let db = Stand::shared().db();
        let mut client = db.client();
        let pid = backend_pid(&mut client);
        Patient { client, pid, slowest: Default::default(), outcomes: BTreeMap::new(), _db: db }
    }

    /// Loads; whatever comes of it, it comes soon, under one of our SQLSTATEs, and the same backend still answers.
    #[track_caller]
    fn load(&mut self, uri: &str, args: &str) -> Result<Report, Refusal> {
        let what = format!("{uri} ({args})");
        let start = Instant::now();
        let result = load(&mut self.client, uri, args);
        self.judge(&what, start.elapsed(), result)
    }

    #[track_caller]
    fn judge<T>(&mut self, what: &str, elapsed: Duration, result: Result<T, postgres::Error>) -> Result<T, Refusal> {
        if let Err(error) = &result
            && error.as_db_error().is_none()
        {
            panic!("{what}: the connection broke: {error:?}\n{}", Stand::shared().cluster.log());
        }
        let result = result.map_err(Refusal::from);
        let outcome = result.as_ref().map_or_else(|refusal| refusal.sqlstate.clone(), |_| "loaded".to_owned());
        assert!(outcome == "loaded" || ["S3", "PQ", "TK"].contains(&&outcome[..2]), "{what}: {:?}", result.err());
        assert!(elapsed < LIMIT, "{what} took {elapsed:?}");
        if elapsed > self.slowest.0 {
            self.slowest = (elapsed, what.to_owned());
        }
        *self.outcomes.entry(outcome).or_default() += 1;
        assert_eq!(backend_pid(&mut self.client), self.pid, "{what}");
        result
    }

    /// What a call must never leave behind.
    fn must_be_alone(&self) {
        assert_eq!(threads(self.pid), 1, "threads are left");
    }
}

/// Every file of a folder and the folders in it that is Parquet, broken or not.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.to_string_lossy().contains(".parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn put(data: &Path, path: &Path) -> String {
    let key = path.strip_prefix(data).unwrap().to_str().unwrap();
    Stand::shared().put(key, std::fs::read(path).unwrap())
}

/// The columns of a file by what a tick column could be made of them.
#[derive(Debug, Default)]
struct Columns {
    times: Vec<String>,
    numbers: Vec<String>,
    integers: Vec<String>,
    texts: Vec<String>,
    flags: Vec<String>,
}

fn columns(patient: &mut Patient, uri: &str) -> Result<Columns, Refusal> {
    let sql = "SELECT c ->> 'name', c ->> 'type' FROM btc_ingest.inspect_s3($1), jsonb_array_elements(columns) AS c";
    let start = Instant::now();
    let rows = patient.client.query(sql, &[&uri]);
    let rows = patient.judge(&format!("inspect {uri}"), start.elapsed(), rows)?;
    let mut columns = Columns::default();
    for row in rows {
        let (name, kind): (String, String) = (row.get(0), row.get(1));
        if name.contains('.') {
            // Part of a list, a map or a struct: no tick column.
            continue;
        }
        let is_integer = kind == "INT32" || kind == "INT64" || kind.contains("INTEGER(");
        let is_text = kind == "BYTE_ARRAY" || kind.starts_with("BYTE_ARRAY STRING");
        if kind.contains("TIMESTAMP") || kind == "INT96" || is_integer {
            columns.times.push(name.clone());
        }
        if is_integer || is_text {
            columns.integers.push(name.clone());
        }
        if is_integer || is_text || kind.contains("DECIMAL") || kind.contains("FLOAT") || kind == "DOUBLE" {
            columns.numbers.push(name.clone());
        }
        if is_text {
            columns.texts.push(name.clone());
        }
        if kind == "BOOLEAN" {
            columns.flags.push(name);
        }
    }
    Ok(columns)
}

/// Options that make ticks of the file, so that its pages are really read: each column that can be one is one once.
fn mappings(columns: &Columns) -> Vec<String> {
    let (Some(time), Some(id)) = (columns.times.first(), columns.integers.first()) else { return Vec::new() };
    let Some(number) = columns.numbers.first() else { return Vec::new() };
    let base = [("event_time", time), ("trade_id", id), ("price", number), ("quantity", number)];
    let mut all = vec![base.to_vec()];
    for (tick, names) in [
        ("trade_time", &columns.times),
        ("trade_id", &columns.integers),
        ("price", &columns.numbers),
        ("quantity", &columns.numbers),
        ("buyer_order_id", &columns.integers),
        ("seller_order_id", &columns.texts),
        ("symbol", &columns.texts),
        ("is_market_maker", &columns.flags),
    ] {
        for name in names {
            let mut mapping = base.to_vec();
            mapping.retain(|(other, _)| *other != tick);
            mapping.push((tick, name));
            all.push(mapping);
        }
    }
    let options = |mapping: Vec<(&str, &String)>| {
        let symbol = if mapping.iter().any(|(tick, _)| *tick == "symbol") { "" } else { r#""symbol": "X", "# };
        let columns: Vec<String> = mapping.iter().map(|(tick, name)| format!("{tick:?}: {name:?}")).collect();
        // The finest unit, because every week of times makes a chunk.
        let json = format!(r#"{{{symbol}"time_unit": "ns", "columns": {{{}}}}}"#, columns.join(", "));
        format!("options => '{}'", json.replace('\'', "''"))
    };
    all.into_iter().map(options).collect()
}

/// The files that cannot be read, with what is said of them; ARROW-GH-41321 where its broken columns are read. What is
/// broken in the other files of bad_data lies in lists, or is read without harm.
const DAMAGED: [&str; 7] = [
    "ARROW-GH-41317.parquet PQ005",
    "ARROW-GH-41321.parquet PQ005",
    "ARROW-RS-GH-6229-DICTHEADER.parquet PQ005",
    "PARQUET-1481.parquet PQ005",
    "_KEY_MATERIAL_FOR_external_key_material_java.parquet.encrypted.json PQ002",
    "datapage_v1-corrupt-checksum.parquet PQ005",
    "rle-dict-uncompressed-corrupt-checksum.parquet PQ005",
];
/// Other readers accept these: one writes lists of another type into its footer, one has rows in its row groups only.
const REFUSED_THOUGH_VALID: [&str; 2] = ["dict-page-offset-zero.parquet PQ005", "repeated_no_annotation.parquet PQ005"];

#[test]
fn every_file_of_parquet_testing_is_loaded_or_refused_in_words() {
    let Some(data) = test_data() else { return };
    let mut patient = Patient::new();
    // Values of foreign files meet each other as ticks; that is no matter here.
    patient.client.batch_execute("SET btc_ingest.max_conflict_fraction = 1").unwrap();
    let files = files(&data.join("parquet-testing"));
    assert!(files.len() >= 80, "{files:?}");
    let (mut made_ticks, mut damaged) = (0, BTreeSet::new());
    for path in &files {
        let uri = put(&data, path);
        let name = path.file_name().unwrap().to_str().unwrap();
        let result = patient.load(&uri, "");
        let refusal = result.expect_err("no foreign file has a tick's columns");
        assert!(refusal.message.contains(&uri), "{refusal:?}");
        if name.ends_with(".encrypted") {
            assert_eq!(refusal.sqlstate, "PQ004", "{refusal:?}");
            assert_eq!(columns(&mut patient, &uri).unwrap_err().sqlstate, "PQ004", "{name}");
            continue;
        }
        let columns = match columns(&mut patient, &uri) {
            Ok(columns) => columns,
            Err(refusal) => {
                damaged.insert(format!("{name} {}", refusal.sqlstate));
                continue;
            }
        };
        let mut read = 0;
        for (number, options) in mappings(&columns).into_iter().enumerate() {
            for on_bad_row in if number == 0 { &["abort", "reject"][..] } else { &["reject"] } {
                let args = format!("force => true, on_bad_row => '{on_bad_row}', {options}");
                match patient.load(&uri, &args) {
                    Ok(report) => read += report.read,
                    // The mapping is made to fit: a mismatch would mean that nothing was tried. What does not show
                    // is that a column is a list, or that a list called "a" is taken for Binance's order id.
                    Err(refusal) => {
                        if refusal.sqlstate.starts_with("PQ") && refusal.sqlstate != "PQ009" {
                            damaged.insert(format!("{name} {}", refusal.sqlstate));
                        }
                        let is_list = ["is GROUP", "is REPEATED"].iter().any(|what| refusal.message.contains(what));
                        assert!(refusal.sqlstate != "PQ009" || is_list, "{args}: {refusal:?}");
                    }
                }
            }
        }
        made_ticks += u32::from(read > 0);
    }
    println!(
        "{} files, {made_ticks} of them as ticks: {:?}; the slowest call took {:?}",
        files.len(),
        patient.outcomes,
        patient.slowest
    );
    for name in DAMAGED {
        assert!(damaged.remove(name), "{name} was not found out");
    }
    for name in REFUSED_THOUGH_VALID {
        damaged.remove(name);
    }
    assert!(damaged.is_empty(), "valid files were called damaged: {damaged:?}");
    assert!(made_ticks >= 20, "only {made_ticks} files could be read as ticks");
    patient.must_be_alone();
}

#[test]
fn every_damaged_file_is_told_what_it_is() {
    let Some(data) = test_data() else { return };
    let mut patient = Patient::new();
    let expected = [
        // (file, options, the SQLSTATE of a load that reads what is damaged)
        ("bad_data/PARQUET-1481.parquet", "", "PQ005"),
        ("bad_data/ARROW-RS-GH-6229-DICTHEADER.parquet", "", "PQ005"),
        ("data/datapage_v1-corrupt-checksum.parquet", "a", "PQ005"),
        ("data/rle-dict-uncompressed-corrupt-checksum.parquet", "long_field", "PQ005"),
    ];
    for (name, column, sqlstate) in expected {
        let uri = put(&data, &data.join("parquet-testing").join(name));
        let columns = columns(&mut patient, &uri);
        let mut seen = match patient.load(&uri, "") {
            Ok(_) => vec!["loaded".to_owned()],
            Err(refusal) => vec![refusal.sqlstate],
        };
        if !column.is_empty() {
            let tick = ["event_time", "trade_id", "price", "quantity"].map(|tick| format!("{tick:?}: {column:?}"));
            let options =
                format!(r#"options => '{{"symbol": "X", "time_unit": "s", "columns": {{{}}}}}'"#, tick.join(", "));
            seen = vec![patient.load(&uri, &format!("on_bad_row => 'reject', {options}")).unwrap_err().sqlstate];
        }
        println!("{name}: {seen:?} {columns:?}");
        assert_eq!(seen, [sqlstate], "{name}");
    }
}

#[test]
fn a_bomb_of_four_kilobytes_is_refused_within_the_memory_limit() {
    let Some(data) = test_data() else { return };
    let mut patient = Patient::new();
    let uri = put(&data, &data.join("parquet-testing/data/large_string_map.brotli.parquet"));
    let before = memory(patient.pid).unwrap();
    let watch = MemoryWatch::start(patient.pid);
    patient.load(&uri, "").unwrap_err();
    columns(&mut patient, &uri).unwrap();
    let growth = watch.peak().total() - before.total();
    println!("large_string_map.brotli: {growth} bytes more at the peak");
    assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{growth}");
    patient.must_be_alone();
}

// ── files of our own ────────────────────────────────────────────────────────────────────────────────────────────────

fn ticks() -> Vec<Tick> {
    Generator::new(9, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1000).per_second(2.0).next_slice()
}

#[test]
fn what_is_not_a_whole_plain_parquet_file_is_called_by_its_name() {
    let mut patient = Patient::new();
    let whole = ParquetFile::new().bytes(&ticks());
    let short = whole.len() - 1000;
    let mut encrypted = whole.to_vec();
    let end = encrypted.len();
    encrypted[..4].copy_from_slice(b"PARE");
    encrypted[end - 4..].copy_from_slice(b"PARE");
    let text = "event_time,price\n2024-08-08T12:00:00Z,60000.00\n".repeat(10);
    for (what, bytes, sqlstate) in [
        ("empty", Vec::new(), "PQ001"),
        ("text", text.into_bytes(), "PQ002"),
        ("one byte", vec![b'P'], "PQ002"),
        ("zeros", vec![0; 20_000], "PQ002"),
        ("truncated", whole[..short].to_vec(), "PQ003"),
        ("cut in the middle", whole[..whole.len() / 2].to_vec(), "PQ003"),
        ("magic only", b"PAR1".to_vec(), "PQ003"),
        ("encrypted", encrypted, "PQ004"),
    ] {
        let uri = Stand::shared().put(&format!("kinds/{what}.parquet").replace(' ', "_"), bytes);
        let refusal = patient.load(&uri, "").unwrap_err();
        println!("{what}: {refusal:?}");
        assert_eq!(refusal.sqlstate, sqlstate, "{what}: {refusal:?}");
        assert!(refusal.message.contains(&uri) && !refusal.hint.is_empty(), "{what}: {refusal:?}");
        let sql = "SELECT * FROM btc_ingest.inspect_s3($1)";
        let inspected = patient.client.query(sql, &[&uri]).map_err(Refusal::from).unwrap_err();
        assert_eq!(inspected.sqlstate, sqlstate, "{what}: {inspected:?}");
    }
    assert_eq!(stored(&mut patient.client).rows, 0);
}

#[test]
fn a_file_that_ends_early_anywhere_is_refused() {
    let mut patient = Patient::new();
    let whole = ParquetFile::new().page_rows(100).bytes(&ticks()[..300]);
    for at in 1..=60 {
        let len = whole.len() * at / 61;
        let uri = Stand::shared().put("truncated/early.parquet", whole.slice(..len));
        let refusal = patient.load(&uri, "").unwrap_err();
        assert!(["PQ002", "PQ003"].contains(&&*refusal.sqlstate), "{len} of {}: {refusal:?}", whole.len());
    }
    patient.must_be_alone();
}

/// The header of a column's first page as its first fields, and the bytes that follow them.
struct FirstPage {
    file: Vec<u8>,
    start: usize,
    rest: usize,
    /// Type, uncompressed size, compressed size.
    fields: [i64; 3],
}

impl FirstPage {
    /// Of the last column of a file, so that a header of another length moves no other column.
    fn of_last_column(file: &[u8]) -> FirstPage {
        let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).unwrap();
        let group = reader.metadata().row_group(0);
        let start = group.column(group.num_columns() - 1).data_page_offset() as usize;
        let mut at = start;
        let fields = [0; 3].map(|_: i32| {
            // A field of the next number, of type i32.
            assert_eq!(file[at], 0x15, "a page header begins with three i32 fields");
            at += 1;
            let (mut value, mut shift) = (0_u64, 0);
            loop {
                let byte = file[at];
                at += 1;
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return (value >> 1) as i64 ^ -((value & 1) as i64);
                }
            }
        });
        FirstPage { file: file.to_vec(), start, rest: at, fields }
    }

    /// The file with other fields in that header.
    fn with(&self, fields: [i64; 3]) -> Vec<u8> {
        let mut file = self.file[..self.start].to_vec();
        for field in fields {
            file.push(0x15);
            file.extend(number(field));
        }
        file.extend_from_slice(&self.file[self.rest..]);
        file
    }
}

/// An integer as Thrift's compact protocol writes it.
fn number(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

#[test]
fn a_page_whose_header_lies_is_refused_before_anything_is_made_by_it() {
    let mut patient = Patient::new();
    let ticks = ticks();
    let huge = i64::from(i32::MAX);
    let before = memory(patient.pid).unwrap();
    for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::BROTLI(Default::default())] {
        for v2 in [false, true] {
            // Text prices in the last column.
            let columns = [
                "event_time",
                "trade_time",
                "symbol",
                "trade_id",
                "quantity",
                "buyer_order_id",
                "seller_order_id",
                "is_market_maker",
                "price",
            ];
            let file = ParquetFile::new().plain().codec(codec).order(&columns);
            let file = if v2 { file.v2() } else { file };
            let page = FirstPage::of_last_column(&file.bytes(&ticks));
            let [kind, unpacked, packed] = page.fields;
            // What the longer number takes, the page must lose to stay within its column.
            let longer = (number(huge).len() - number(unpacked).len()) as i64;
            let lies = [
                ("nothing", page.fields, "loaded"),
                ("a huge page", [kind, huge, packed - longer], "PQ007"),
                ("a huge packed page", [kind, unpacked, huge], "PQ005"),
                ("both huge", [kind, huge, huge], "PQ005"),
                ("less than nothing", [kind, -1, packed], "PQ005"),
                ("packed less than nothing", [kind, unpacked, -1], "PQ005"),
                ("a byte more", [kind, unpacked + 1, packed], "PQ005"),
                ("half of it", [kind, unpacked / 2, packed], "PQ005"),
                ("a byte less packed", [kind, unpacked, packed - 1], "PQ005"),
                ("a page of another type", [2, unpacked, packed], "PQ005"),
            ];
            for (lie, fields, expected) in lies {
                let key = format!("lies/{}-{codec:?}-{v2}.parquet", lie.replace(' ', "_")).replace(['(', ')'], "");
                let uri = Stand::shared().put(&key, page.with(fields));
                let watch = MemoryWatch::start(patient.pid);
                let result = patient.load(&uri, "");
                let growth = watch.peak().total().saturating_sub(before.total());
                assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{lie}: {growth} bytes more");
                let found = result.as_ref().map_or_else(|refusal| refusal.sqlstate.as_str(), |_| "loaded");
                assert_eq!(found, expected, "{codec:?}, v2 {v2}, {lie}: {result:?}");
                if let Err(refusal) = result {
                    assert!(refusal.message.contains(&uri) && refusal.message.contains("page"), "{lie}: {refusal:?}");
                }
                patient.client.batch_execute("TRUNCATE market_data.btc_ticks").unwrap();
            }
        }
    }
    patient.must_be_alone();
}

#[test]
fn no_spoiled_byte_crashes_the_backend() {
    let mut patient = Patient::new();
    patient.client.batch_execute("SET btc_ingest.max_conflict_fraction = 1").unwrap();
    let ticks = &ticks()[..200];
    let file = ParquetFile::new().page_rows(50).row_group_rows(100);
    let files = [
        file.clone().bytes(ticks),
        file.clone().plain().v2().codec(Compression::UNCOMPRESSED).bytes(ticks),
        file.number(Number::Decimal(38, 12)).codec(Compression::ZSTD(Default::default())).bytes(ticks),
    ];
    let mut random = Random(77);
    for round in 0..450 {
        let file = &files[round % files.len()];
        let mut spoiled = file.to_vec();
        for _ in 0..1 + random.below(3) {
            // Every other one hits the footer, where most of what can be wrong is.
            let from = if random.below(2) == 0 { file.len() as u64 * 3 / 4 } else { 0 };
            let at = from + random.below(file.len() as u64 - from);
            spoiled[at as usize] = random.bits() as u8;
        }
        let uri = Stand::shared().put(&format!("spoiled/{round}.parquet"), spoiled);
        let on_bad_row = if round % 2 == 0 { "abort" } else { "reject" };
        let mut transaction = patient.client.transaction().unwrap();
        let start = Instant::now();
        let sql = format!("SELECT rows_read FROM btc_ingest.load_s3_slice($1, '{on_bad_row}')");
        let result = transaction.query_one(&sql, &[&uri]).map(|row| row.get::<_, i64>(0));
        let elapsed = start.elapsed();
        drop(transaction);
        let _ = patient.judge(&format!("{uri} (seed 77)"), elapsed, result);
    }
    println!("450 spoiled files: {:?}; the slowest took {:?}", patient.outcomes, patient.slowest.0);
    assert!(patient.outcomes.len() > 3, "{:?}", patient.outcomes);
    patient.must_be_alone();
}

#[test]
fn nothing_is_left_of_a_hundred_failed_loads() {
    let mut patient = Patient::new();
    let whole = ParquetFile::new().bytes(&ticks());
    let bad = FirstPage::of_last_column(&whole);
    let uri = Stand::shared().put("again/broken.parquet", bad.with([bad.fields[0], bad.fields[1] + 1, bad.fields[2]]));
    let fail = |patient: &mut Patient| {
        refused(&mut patient.client, &uri, "", "PQ005");
    };
    // What PostgreSQL and the libraries keep for good is there after the first.
    (0..10).for_each(|_| fail(&mut patient));
    let before = (descriptors(patient.pid), memory(patient.pid).unwrap().total());
    (0..100).for_each(|_| fail(&mut patient));
    let after = (descriptors(patient.pid), memory(patient.pid).unwrap().total());
    println!("100 failed loads: {} bytes more", after.1.saturating_sub(before.1));
    assert_eq!(after.0, before.0, "descriptors");
    assert!(after.1 < before.1 + (8 << 20), "{before:?} {after:?}");
    patient.must_be_alone();
}
