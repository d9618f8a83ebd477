//! How much memory the backend takes while it loads a large object.

use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::process::{MemoryWatch, memory};
use btc_ingest_kit::ticks::time_us;
use btc_ingest_kit::{Generator, ParquetFile, Tick};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::bench::Bench;
use crate::data::{FIRST_ID, START, SYMBOL};
use crate::format::{grouped, megabytes};
use crate::results::Results;
use crate::servers::{BUCKET, transaction};

/// The row that is measured here.
pub const KEY: &str = "memory";
const LIMIT: &str = "64MB";
const OBJECT: &str = "large.parquet";
/// At this rate an object of a gigabyte, some fourteen million ticks, spans about a day.
const PER_SECOND: f64 = 170.0;
/// Ticks that are written at once.
const STEP: usize = 65_536;

/// Loads an object of the wanted size once and reads the backend's memory from `/proc` meanwhile.
pub fn load(bench: &Bench, results: &mut Results) {
    let (object, ticks) = large_object(bench.options.object_mb << 20);
    let size = object.len() as u64;
    let uri = bench.servers.put(OBJECT, object);
    bench.servers.reset();
    let mut client = bench.servers.session();
    client.batch_execute(&format!("SET btc_ingest.memory_limit = '{LIMIT}'")).expect("a setting");
    let pid = backend_pid(&mut client);
    let before = memory(pid).expect("a backend");
    let watch = MemoryWatch::start(pid);
    let (row, seconds, _) = transaction(&mut client, |client| {
        client.query_one("SELECT rows_inserted FROM btc_ingest.load_s3_slice($1)", &[&uri])
    });
    let peak = watch.peak();
    drop(watch);
    assert_eq!(row.get::<_, i64>(0) as u64, ticks);
    bench.servers.s3.delete(BUCKET, OBJECT);
    results.add(KEY, seconds, ticks);
    results.note(
        KEY,
        format!(
            "one run, {} MB, {} ticks; with memory_limit={LIMIT} the backend grew by {} MB at its peak \
             (RssAnon {} MB, memfd {} MB)",
            megabytes(size),
            grouped(ticks),
            megabytes(peak.total().saturating_sub(before.total())),
            megabytes(peak.rss_anon),
            megabytes(peak.memfd),
        ),
    );
}

/// Returns an uncompressed object of at least `bytes` bytes, and the number of its ticks. The ticks are made and
/// written in pieces.
fn large_object(bytes: usize) -> (Vec<u8>, u64) {
    let mut generator = Generator::new(2, SYMBOL, time_us(START), FIRST_ID).per_second(PER_SECOND);
    let shape = ParquetFile::new();
    let properties =
        WriterProperties::builder().set_compression(Compression::UNCOMPRESSED).set_dictionary_enabled(false).build();
    let mut file = Vec::with_capacity(bytes + (bytes >> 3));
    let schema = shape.batch(&[]).schema();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).expect("a schema");
    let mut count = 0;
    while writer.bytes_written() + writer.in_progress_size() < bytes {
        let ticks: Vec<Tick> = generator.by_ref().take(STEP).collect();
        count += ticks.len() as u64;
        writer.write(&shape.batch(&ticks)).expect("memory does not fail");
    }
    writer.close().expect("memory does not fail");
    (file, count)
}
