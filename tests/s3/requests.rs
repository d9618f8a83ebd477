//! Which requests a load sends.

use super::*;

#[test]
fn a_small_object_costs_one_get_and_the_same_again_one_head() {
    let fixture = S3Fixture::new();
    let (bytes, sums) = small(7);
    let size = bytes.len();
    let uri = ServerFixture::shared().put("small.parquet", bytes);
    let mut client = fixture.session(&[]);
    let first = loaded(&mut client, &uri, "");
    assert_eq!((first.outcome.as_str(), first.inserted as u64, first.bytes as usize), ("loaded", sums.rows, size));
    assert_eq!((fixture.proxy.count("GET"), fixture.proxy.requests().len()), (1, 1));
    assert_eq!(first.etag, ServerFixture::shared().s3.etag(BUCKET, "small.parquet").trim_matches('"'));

    fixture.proxy.forget();
    let again = loaded(&mut client, &uri, "");
    assert_eq!((again.outcome.as_str(), again.counts()), ("already loaded", [0; 6]));
    assert_eq!(again.etag, first.etag);
    assert_eq!((fixture.proxy.count("HEAD"), fixture.proxy.requests().len(), fixture.proxy.bytes()), (1, 1, 0));
    stored(&mut client).must_be(&sums, "loaded once");
}

#[test]
fn a_large_object_is_read_by_ranges_of_one_version_and_only_where_needed() {
    let fixture = S3Fixture::new();
    let mut ticks = ticks(8, 4);
    ticks.truncate(40_000);
    // A column that no tick needs, of ten bytes and more per row.
    let extra: arrow::array::StringArray = (0..ticks.len()).map(|row| Some(format!("{row:0>60}"))).collect();
    let file = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED);
    let needed = file.bytes(&ticks).len() as u64;
    let bytes = file.column("note", std::sync::Arc::new(extra)).bytes(&ticks);
    let size = bytes.len() as u64;
    assert!(size > needed + 40_000 * 60);
    let uri = ServerFixture::shared().put("ranges.parquet", bytes);
    let mut client = fixture.session(&[SMALL_MEMORY]);
    let report = loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&Sums::of(&ticks), "by ranges");

    let etag = ServerFixture::shared().s3.etag(BUCKET, "ranges.parquet");
    let seen = fixture.proxy.requests();
    assert_eq!((fixture.proxy.count("HEAD"), seen[0].method.as_str()), (0, "GET"));
    assert!(seen.len() > 3, "{}", seen.len());
    for get in &seen[1..] {
        assert_eq!(get.if_match.as_deref(), Some(etag.as_str()), "{get:?}");
        let range = get.range.as_deref().unwrap_or_else(|| panic!("no range: {get:?}"));
        let (from, to) = range["bytes=".len()..].split_once('-').unwrap();
        let len = to.parse::<u64>().unwrap() + 1 - from.parse::<u64>().unwrap();
        assert!(len <= 1 << 20, "{get:?}");
    }
    assert_eq!(seen[1].range.as_deref().unwrap().rsplit('-').next(), Some((size - 1).to_string().as_str()));
    let read = report.bytes as u64;
    assert!(read < needed + (200 << 10), "{read} of {size} bytes, {needed} are needed");
    // The first answer only tells the size of the object; the bytes under way are lost.
    let fetched = fixture.proxy.bytes();
    assert!((read..=read + (1 << 20)).contains(&fetched), "{fetched} of {size} bytes, {read} were read");
}

/// Returns `rows` ticks of one seed.
fn many(seed: u64, rows: usize) -> Vec<Tick> {
    let generator = Generator::new(seed, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(200.0);
    generator.take(rows).collect()
}

/// Returns a text column of `width` bytes per row.
fn padding(rows: usize, width: usize) -> arrow::array::ArrayRef {
    std::sync::Arc::new((0..rows).map(|row| Some(format!("{row:0>width$}"))).collect::<arrow::array::StringArray>())
}

#[test]
fn an_object_of_any_layout_is_read_by_few_gets() {
    const ROWS: usize = 180_000;
    const MIB: u64 = 1 << 20;
    let fixture = S3Fixture::new();
    let plain = || ParquetFile::new().plain().codec(Compression::UNCOMPRESSED);
    let needed = plain().bytes(&many(9, ROWS)).len() as u64;
    assert!(needed > 9 * MIB, "{needed}");
    // What is not needed lies between the columns that are: more than is worth another GET.
    let wide = plain().row_group_rows(60_000).column("before", padding(ROWS, 40)).column("between", padding(ROWS, 40));
    let wide = wide.order(&["event_time", "before", "trade_id", "price", "between", "quantity"]);
    let narrow = plain().row_group_rows(500).column("before", padding(ROWS, 10));
    let layouts = [
        // One GET per four megabytes; two more for the object's size and for its footer, and one for a longer footer.
        ("many small row groups", plain().row_group_rows(500), needed / (4 * MIB) + 4),
        ("many small row groups with a column that is not needed", narrow.order(&["before"]), needed / (3 * MIB) + 4),
        ("row groups of a few megabytes", plain().row_group_rows(40_000), needed / (2 * MIB) + 4),
        ("columns between", wide, 3 * 4 + 3),
        ("one row group", plain(), 2 * needed / MIB + 3),
        ("one page per column", plain().page_rows(1 << 20).page_bytes(1 << 30), 3 * needed / MIB + 3),
    ];
    for (seed, (what, file, most)) in (10..).zip(layouts) {
        let ticks = many(seed, ROWS);
        let uri = ServerFixture::shared().put(&format!("layout-{seed}.parquet"), file.bytes(&ticks));
        let db = ServerFixture::shared().db();
        let mut client = session(&db, &fixture.proxy.endpoint(), &[]);
        fixture.proxy.forget();
        let report = loaded(&mut client, &uri, "");
        stored(&mut client).must_be(&Sums::of(&ticks), what);
        let gets = fixture.proxy.count("GET") as u64;
        println!("{what}: {gets} GETs for {} bytes, {needed} of them needed", report.bytes);
        assert!(gets <= most, "{what}: {gets} GETs for {} bytes, at most {most} are expected", report.bytes);
        assert!(report.bytes as u64 <= needed * 3 / 2, "{what}: {} bytes", report.bytes);
    }
}
