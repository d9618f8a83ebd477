//! A load of any object keeps within its memory limit: measured on the backend from outside.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use arrow::array::{ArrayRef, StringArray};
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::{BUCKET, Report, loaded, plain, refused, stored};
use btc_ingest_kit::process::{MemoryWatch, memory};
use btc_ingest_kit::ticks::{Random, time_us};
use btc_ingest_kit::{Generator, ParquetFile, ServerFixture, Sums, Tick};
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::reader::{FileReader, SerializedFileReader};
use postgres::Client;

const MB: u64 = 1 << 20;
const MEMORY_LIMIT: u64 = 64 * MB;
const ALLOWANCE: u64 = 64 * MB;
/// How much memory a session may keep after a load.
const KEPT: u64 = MEMORY_LIMIT / 2;

/// Lets one test run at a time, because the objects are large.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|failed| failed.into_inner())
}

fn generator(per_second: f64) -> Generator {
    Generator::new(1, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 3_000_000_000).per_second(per_second)
}

/// Stores an object, loads it while the backend's memory is watched, and removes it. The backend must free most of
/// the memory.
fn measured(client: &mut Client, what: &str, file: &Bytes, args: &str) -> (Report, u64) {
    let size = file.len();
    let server = ServerFixture::shared();
    let key = format!("{what}.parquet").replace([' ', ','], "_");
    let uri = server.put(&key, file.clone());
    let pid = backend_pid(client);
    let before = memory(pid).unwrap();
    let watch = MemoryWatch::start(pid);
    let start = Instant::now();
    let report = loaded(client, &uri, args);
    let (elapsed, peak) = (start.elapsed(), watch.peak());
    let growth = peak.total() - before.total();
    let kept = memory(pid).unwrap().total().saturating_sub(before.total());
    println!(
        "{what}: {:.1} MB, {} rows in {:.1} s, {:.0} rows/s; at the peak {:.1} MB more \
         (RssAnon {:.1} MB, memfd {:.1} MB), {:.1} MB of it kept",
        size as f64 / MB as f64,
        report.read,
        elapsed.as_secs_f64(),
        report.read as f64 / elapsed.as_secs_f64(),
        growth as f64 / MB as f64,
        peak.rss_anon as f64 / MB as f64,
        peak.memfd as f64 / MB as f64,
        kept as f64 / MB as f64,
    );
    server.s3.delete(BUCKET, &key);
    assert!(kept < KEPT, "{what}: {kept} bytes kept");
    (report, growth)
}

/// Returns the uncompressed size of a file's row groups.
fn unpacked(file: &Bytes) -> (usize, u64) {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let groups = reader.metadata().row_groups();
    (groups.len(), groups.iter().map(|group| group.total_byte_size() as u64).sum())
}

/// Makes random ids of 180 characters, which no codec and no dictionary compresses by much.
fn long_ids(seed: u64, rows: usize) -> ArrayRef {
    let mut random = Random(seed);
    let mut id = || (0..11).map(|_| format!("{:016x}", random.bits())).collect::<String>() + "abcd";
    Arc::new((0..rows).map(|_| Some(id())).collect::<StringArray>())
}

#[test]
fn a_row_group_of_a_million_rows_loads_within_the_default_limit() {
    let _alone = alone();
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let ticks: Vec<Tick> = generator(2000.0).take(1_048_576).collect();
    let sums = Sums::of(&ticks);
    let file = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).page_rows(1 << 20).bytes(&ticks);
    drop(ticks);
    let (groups, bytes) = unpacked(&file);
    assert!(groups == 1 && bytes > 73_000_000, "{groups} row groups of {bytes} bytes");
    let (report, growth) = measured(&mut client, "one row group of 1,048,576 rows", &file, "");
    assert_eq!((report.read, report.inserted), (1_048_576, 1_048_576));
    stored(&mut client).must_be(&sums, "one row group");
    assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{growth} bytes more");

    // A merge compares tick by tick, and kept bad rows hold arrays for longer: neither may take more memory.
    let mut client = db.client();
    let (report, growth) = measured(&mut client, "all of it again", &file, "on_bad_row => 'reject'");
    assert_eq!(report.duplicate, 1_048_576);
    assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{growth} bytes more");
}

#[test]
fn a_slice_of_a_million_ticks_gets_its_vector_within_the_default_limit() {
    let _alone = alone();
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    client.batch_execute("SET btc_ingest.embed_on_load = on").unwrap();
    let ticks: Vec<Tick> = generator(5000.0).take(1_000_000).collect();
    assert!(ticks.iter().all(|tick| tick.bucket_us() == ticks[0].bucket_us()), "one slice");
    let file = ParquetFile::new().bytes(&ticks);
    drop(ticks);
    let (_, growth) = measured(&mut client, "a slice of a million ticks", &file, "");
    assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{growth} bytes more");
    let vectors = "SELECT count(*) FILTER (WHERE ticks = 1000000) FROM signals.btc_embeddings";
    assert_eq!(client.query_one(vectors, &[]).unwrap().get::<_, i64>(0), 1);

    // From the table, by a session that has done nothing else.
    client.batch_execute("DELETE FROM signals.btc_embeddings").unwrap();
    let mut client = db.client();
    client.batch_execute("SELECT btc_ingest.embed('2024-08-07', '2024-08-08')").unwrap();
    let pid = backend_pid(&mut client);
    let before = memory(pid).unwrap();
    let watch = MemoryWatch::start(pid);
    client.batch_execute("SELECT btc_ingest.embed('2024-08-08', '2024-08-09')").unwrap();
    let growth = watch.peak().total() - before.total();
    println!("its vector from the table: {:.1} MB more", growth as f64 / MB as f64);
    assert!(growth < MEMORY_LIMIT, "{growth} bytes more");
    assert_eq!(client.query_one(vectors, &[]).unwrap().get::<_, i64>(0), 1);
}

#[test]
fn an_object_of_two_hundred_megabytes_loads_within_its_limit() {
    let _alone = alone();
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let rows = 500_000;
    let ticks: Vec<Tick> = generator(500.0).take(rows).collect();
    let sums = Sums::of(&ticks);
    let file = ParquetFile::new()
        .plain()
        .codec(Compression::UNCOMPRESSED)
        .column("buyer_order_id", long_ids(1, rows))
        .column("seller_order_id", long_ids(2, rows))
        .bytes(&ticks);
    drop(ticks);
    assert!(file.len() as u64 > 190 * MB, "{} bytes", file.len());
    let (report, growth) = measured(&mut client, "two hundred megabytes", &file, "");
    assert_eq!(report.inserted, rows as i64);
    stored(&mut client).must_be(&sums, "two hundred megabytes");
    let sql = "SELECT count(*) FROM market_data.btc_ticks
                WHERE length(buyer_order_id) = 180 AND length(seller_order_id) = 180";
    assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, i64>(0), rows as i64);
    assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{growth} bytes more");
}

#[test]
fn a_page_too_large_for_the_limit_is_refused_and_loads_when_the_limit_is_raised() {
    let _alone = alone();
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let rows = 240_000;
    let ticks: Vec<Tick> = generator(500.0).take(rows).collect();
    let sums = Sums::of(&ticks);
    let file = ParquetFile::new()
        .plain()
        .codec(Compression::UNCOMPRESSED)
        .column("buyer_order_id", long_ids(3, rows))
        .page_rows(1 << 20)
        .page_bytes(1 << 30)
        .bytes(&ticks);
    assert!(file.len() as u64 > 50 * MB, "{} bytes", file.len());
    let uri = ServerFixture::shared().put("huge-page.parquet", file);

    let pid = backend_pid(&mut client);
    let before = memory(pid).unwrap();
    let watch = MemoryWatch::start(pid);
    let refusal = refused(&mut client, &uri, "", "PQ007");
    let growth = watch.peak().total() - before.total();
    drop(watch);
    println!("{}: at the peak {:.1} MB more", refusal.message, growth as f64 / MB as f64);
    assert!(refusal.message.contains("buyer_order_id"), "{refusal:?}");
    assert!(refusal.hint.contains("memory_limit"), "{refusal:?}");
    assert!(growth < MEMORY_LIMIT + ALLOWANCE, "{growth} bytes more");
    assert_eq!(stored(&mut client).rows, 0);

    let limit = 320 * MB;
    client.batch_execute("SET btc_ingest.memory_limit = '320MB'").unwrap();
    let watch = MemoryWatch::start(pid);
    let report = loaded(&mut client, &uri, "");
    let growth = watch.peak().total() - before.total();
    println!("with 320 MB it loads: at the peak {:.1} MB more", growth as f64 / MB as f64);
    assert_eq!(report.inserted, rows as i64);
    stored(&mut client).must_be(&sums, "one huge page");
    assert!(growth < limit + ALLOWANCE, "{growth} bytes more");
}

#[test]
fn the_smallest_limit_bounds_a_load_as_well() {
    let _alone = alone();
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    client.batch_execute("SET btc_ingest.memory_limit = '8MB'").unwrap();
    let ticks: Vec<Tick> = generator(500.0).take(200_000).collect();
    let sums = Sums::of(&ticks);
    let file = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).page_bytes(64 << 10).bytes(&ticks);
    let (_, growth) = measured(&mut client, "eight megabytes of memory", &file, "");
    assert_eq!(plain(&sums.amount_text()), stored(&mut client).amount);
    assert!(growth < 8 * MB + ALLOWANCE, "{growth} bytes more");
}

/// Registers an object and sweeps. Returns outcome and last error of the object.
fn swept(client: &mut Client, uri: &str) -> [String; 2] {
    let register =
        "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ('2024-08-08 12:00+00', 'BTCUSDT', $1)";
    client.execute(register, &[&uri]).unwrap();
    client.batch_execute("SELECT * FROM btc_ingest.sweep()").unwrap();
    let sql = "SELECT status, concat_ws(' ', last_sqlstate, last_error) FROM ingestion.objects WHERE s3_uri = $1";
    let row = client.query_one(sql, &[&uri]).unwrap();
    [0, 1].map(|column| row.get(column))
}

#[test]
fn an_object_with_large_pages_has_the_same_verdict_by_hand_and_in_a_sweep() {
    let _alone = alone();
    let rows = 50_000;
    let ticks: Vec<Tick> = generator(500.0).take(rows).collect();
    // As DuckDB writes it: one page per row group. It fits into the default limit, but not into half of it.
    let file = ParquetFile::new().plain().codec(Compression::UNCOMPRESSED).column("buyer_order_id", long_ids(4, rows));
    let file = file.page_rows(1 << 20).page_bytes(1 << 30).bytes(&ticks);
    let uri = ServerFixture::shared().put("one-page-a-group.parquet", file);
    let (db, other) = (ServerFixture::shared().db(), ServerFixture::shared().db());
    assert_eq!(loaded(&mut db.client(), &uri, "").inserted, rows as i64);
    assert_eq!(swept(&mut other.client(), &uri), ["loaded", ""]);

    // With a smaller limit both are refused, and the named limit is enough for both.
    let other = ServerFixture::shared().db();
    let mut client = other.client();
    client.batch_execute("SET btc_ingest.memory_limit = '16MB'").unwrap();
    let refusal = refused(&mut client, &uri, "", "PQ007");
    let [status, error] = swept(&mut client, &uri);
    assert_eq!(status, "quarantined");
    assert_eq!(
        error,
        format!("PQ007 {}", refusal.message.strip_prefix(&format!("{uri}: ")).unwrap_or(&refusal.message))
    );
    let (_, named) = refusal.message.split_once("btc_ingest.memory_limit = '").unwrap();
    let (enough, _) = named.split_once('\'').unwrap();
    client.batch_execute(&format!("SET btc_ingest.memory_limit = '{enough}'")).unwrap();
    client.execute("SELECT btc_ingest.retry($1)", &[&uri]).unwrap();
    client.batch_execute("SELECT * FROM btc_ingest.sweep()").unwrap();
    assert_eq!(stored(&mut client).rows, rows as i64, "{enough}");
}
