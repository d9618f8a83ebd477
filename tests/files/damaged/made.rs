//! Damaged files that the tests make.

use super::*;

fn ticks() -> Vec<Tick> {
    Generator::new(9, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1000).per_second(2.0).next_slice()
}

#[test]
fn what_is_not_a_whole_plain_parquet_file_is_called_by_its_name() {
    let mut fixture = SurvivorFixture::new();
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
        let uri = ServerFixture::shared().put(&format!("kinds/{what}.parquet").replace(' ', "_"), bytes);
        let refusal = fixture.load(&uri, "").unwrap_err();
        println!("{what}: {refusal:?}");
        assert_eq!(refusal.sqlstate, sqlstate, "{what}: {refusal:?}");
        assert!(refusal.message.contains(&uri) && !refusal.hint.is_empty(), "{what}: {refusal:?}");
        let sql = "SELECT * FROM btc_ingest.inspect_s3($1)";
        let inspected = fixture.client.query(sql, &[&uri]).map_err(Refusal::from).unwrap_err();
        assert_eq!(inspected.sqlstate, sqlstate, "{what}: {inspected:?}");
    }
    assert_eq!(stored(&mut fixture.client).rows, 0);
}

#[test]
fn a_file_that_ends_early_anywhere_is_refused() {
    let mut fixture = SurvivorFixture::new();
    let whole = ParquetFile::new().page_rows(100).bytes(&ticks()[..300]);
    for at in 1..=60 {
        let len = whole.len() * at / 61;
        let uri = ServerFixture::shared().put("truncated/early.parquet", whole.slice(..len));
        let refusal = fixture.load(&uri, "").unwrap_err();
        assert!(["PQ002", "PQ003"].contains(&&*refusal.sqlstate), "{len} of {}: {refusal:?}", whole.len());
    }
    fixture.must_be_alone();
}

/// The first fields of the header of a column's first page, and the bytes that follow them.
struct FirstPage {
    file: Vec<u8>,
    start: usize,
    rest: usize,
    /// Type, uncompressed size, compressed size.
    fields: [i64; 3],
}

impl FirstPage {
    /// Finds it in the last column of a file, so that a header of another length moves no other column.
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

    /// Returns the file with other fields in that header.
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

/// Encodes an integer as Thrift's compact protocol does.
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
    let mut fixture = SurvivorFixture::new();
    let ticks = ticks();
    let huge = i64::from(i32::MAX);
    let before = memory(fixture.pid).unwrap();
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
            // The page loses the bytes that the longer number takes, to stay within its column.
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
                let uri = ServerFixture::shared().put(&key, page.with(fields));
                let watch = MemoryWatch::start(fixture.pid);
                let result = fixture.load(&uri, "");
                let growth = watch.peak().total().saturating_sub(before.total());
                assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{lie}: {growth} bytes more");
                let found = result.as_ref().map_or_else(|refusal| refusal.sqlstate.as_str(), |_| "loaded");
                assert_eq!(found, expected, "{codec:?}, v2 {v2}, {lie}: {result:?}");
                if let Err(refusal) = result {
                    assert!(refusal.message.contains(&uri) && refusal.message.contains("page"), "{lie}: {refusal:?}");
                }
                fixture.client.batch_execute("TRUNCATE market_data.btc_ticks").unwrap();
            }
        }
    }
    fixture.must_be_alone();
}

#[test]
fn no_spoiled_byte_crashes_the_backend() {
    let mut fixture = SurvivorFixture::new();
    fixture.client.batch_execute("SET btc_ingest.max_conflict_fraction = 1").unwrap();
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
            // Every second one hits the footer, where most errors are possible.
            let from = if random.below(2) == 0 { file.len() as u64 * 3 / 4 } else { 0 };
            let at = from + random.below(file.len() as u64 - from);
            spoiled[at as usize] = random.bits() as u8;
        }
        let uri = ServerFixture::shared().put(&format!("spoiled/{round}.parquet"), spoiled);
        let on_bad_row = if round % 2 == 0 { "abort" } else { "reject" };
        let mut transaction = fixture.client.transaction().unwrap();
        let start = Instant::now();
        let sql = format!("SELECT rows_read FROM btc_ingest.load_s3_slice($1, '{on_bad_row}')");
        let result = transaction.query_one(&sql, &[&uri]).map(|row| row.get::<_, i64>(0));
        let elapsed = start.elapsed();
        drop(transaction);
        let _ = fixture.judge(&format!("{uri} (seed 77)"), elapsed, result);
    }
    println!("450 spoiled files: {:?}; the slowest took {:?}", fixture.outcomes, fixture.slowest.0);
    assert!(fixture.outcomes.len() > 3, "{:?}", fixture.outcomes);
    fixture.must_be_alone();
}

#[test]
fn nothing_is_left_of_a_hundred_failed_loads() {
    let mut fixture = SurvivorFixture::new();
    let whole = ParquetFile::new().bytes(&ticks());
    let bad = FirstPage::of_last_column(&whole);
    let broken = bad.with([bad.fields[0], bad.fields[1] + 1, bad.fields[2]]);
    let uri = ServerFixture::shared().put("again/broken.parquet", broken);
    let fail = |fixture: &mut SurvivorFixture| {
        refused(&mut fixture.client, &uri, "", "PQ005");
    };
    // After the first call, PostgreSQL and the libraries hold what they keep.
    (0..10).for_each(|_| fail(&mut fixture));
    let before = (descriptors(fixture.pid), memory(fixture.pid).unwrap().total());
    (0..100).for_each(|_| fail(&mut fixture));
    let after = (descriptors(fixture.pid), memory(fixture.pid).unwrap().total());
    println!("100 failed loads: {} bytes more", after.1.saturating_sub(before.1));
    assert_eq!(after.0, before.0, "descriptors");
    assert!(after.1 < before.1 + (8 << 20), "{before:?} {after:?}");
    fixture.must_be_alone();
}
