//! From the bytes of the day's object to tuples, on one thread and without a database: what the reading half of a load
//! could do at most.

use std::sync::Arc;
use std::time::Instant;

use btc_ingest::decode::{DecodeSettings, TickReader, map_columns, read_footer};
use btc_ingest::error::Result;
use btc_ingest::model::options::{LoadOptions, OnBadRow};
use btc_ingest::model::source::MemorySource;
use btc_ingest::model::tick::Symbols;
use btc_ingest::model::time_range::TimeRange;
use btc_ingest::tuple::batch::encode;
use btc_ingest::tuple::pool::BufferPool;
use bytes::Bytes;

use crate::bench::Bench;
use crate::results::Results;

/// The defaults of a load: `btc_ingest.memory_limit`, of which a batch may take an eighth, and the rows of a batch.
const MEMORY: u64 = 64 << 20;
const BATCH_ROWS: usize = 65_536;
const FIRST_BATCH_ROWS: usize = 8_192;

/// Measures the decoding of the day's object.
pub fn decode(bench: &Bench, results: &mut Results) {
    let start = Instant::now();
    let ticks = tuples(bench.day.object.clone()).unwrap_or_else(|e| panic!("{e}"));
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(ticks, bench.day.whole.ticks);
    results.add("decode", seconds, ticks);
}

/// Decodes and encodes an object, drops the tuples, and returns the number of ticks.
fn tuples(object: Bytes) -> Result<u64> {
    let source = MemorySource(object);
    let options = LoadOptions::default();
    let meta = Arc::new(read_footer(&source, None, MEMORY)?);
    let mapping = map_columns(&meta, &options)?;
    let settings = DecodeSettings {
        memory_limit: MEMORY,
        on_bad_row: OnBadRow::Abort,
        times: TimeRange::default(),
        max_kept_rejects: 0,
        max_batch_rows: BATCH_ROWS,
        first_batch_rows: FIRST_BATCH_ROWS,
        max_batch_bytes: (MEMORY / 8) as usize,
    };
    let mut reader = TickReader::new(&source, meta, mapping, &options, settings)?;
    let mut symbols = Symbols::default();
    let pool = BufferPool::default();
    let mut ticks = 0;
    while let Some(decoded) = reader.next(&mut symbols, &|| false)? {
        ticks += encode(&decoded.ticks, &symbols, &pool, 1_000_000).rows.len() as u64;
    }
    Ok(ticks)
}
