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
    assert!(seen.len() > 9, "{}", seen.len());
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
