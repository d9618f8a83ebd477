//! Files that are wrong in thousands of ways: mutations of good ones, which know footers and pages. A case is a number:
//! the seed of everything that is random in it.
//!
//! `FUZZ_MINUTES` says for how long new cases are tried instead of the usual few thousand, and `FUZZ_SEED` which case
//! is the first.

mod file;
mod random;
mod thrift;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use file::File;
use random::Random;

use super::kit::{T0, read_with, settings, ticks, with, write_with};
use crate::decode::{DecodeSettings, map_columns, read_footer, span_problem, time_span};
use crate::error::Error;
use crate::model::options::{LoadOptions, OnBadRow, TimeUnit};
use crate::model::source::MemorySource;

/// The cases of an ordinary run.
const CASES: u64 = 4_000;
/// The first of them.
const FIRST: u64 = 1;
/// The memory of a reader, and what the process may have on top of it.
const MEMORY_LIMIT: u64 = 8 << 20;
const ALLOWANCE: u64 = 48 << 20;
/// How long one case may take, also on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);
/// The variable that makes this test the process that reads the files.
const READER: &str = "BTC_INGEST_FUZZ_READER";

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Writes good files that use all parts of the decoder.
fn seeds() -> Vec<File> {
    let usual = || {
        WriterProperties::builder()
            .set_data_page_row_count_limit(15)
            .set_write_batch_size(5)
            .set_max_row_group_row_count(Some(40))
    };
    let encoded = |encoding| {
        let names = ["price", "quantity", "buyer_order_id", "seller_order_id"];
        names.into_iter().fold(
            usual().set_dictionary_enabled(false).set_writer_version(WriterVersion::PARQUET_2_0),
            |properties, name| properties.set_column_encoding(ColumnPath::from(name), encoding),
        )
    };
    let integers = || -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..60).map(|n| T0 + n))) };
    let decimals = Decimal128Array::from_iter_values((1..61).map(|n| n * 12_345)).with_precision_and_scale(30, 6);
    let floats: ArrayRef = Arc::new(Float64Array::from_iter_values((1..61).map(|n| f64::from(n) * 0.25)));
    let long: ArrayRef = Arc::new(StringArray::from_iter_values((0..60).map(|n| "x".repeat(n * 7))));
    let columns = with(with(ticks(60), "event_time", integers()), "price", Arc::new(decimals.unwrap()) as ArrayRef);
    let codecs = [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
        Compression::ZSTD(Default::default()),
    ];
    let mut files: Vec<Bytes> =
        codecs.into_iter().map(|codec| write_with(ticks(60), usual().set_compression(codec).build())).collect();
    files.extend([
        write_with(ticks(60), usual().build()),
        write_with(ticks(60), usual().set_statistics_enabled(EnabledStatistics::Page).build()),
        write_with(ticks(60), encoded(Encoding::DELTA_BYTE_ARRAY).build()),
        write_with(ticks(60), encoded(Encoding::DELTA_LENGTH_BYTE_ARRAY).build()),
        write_with(columns, usual().set_dictionary_enabled(false).build()),
        write_with(with(with(ticks(60), "quantity", floats), "seller_order_id", long), usual().build()),
    ]);
    files.iter().map(|bytes| File::parse(bytes)).collect()
}

fn options(random: &mut Random) -> LoadOptions {
    let units = [None, Some(TimeUnit::Second), Some(TimeUnit::Milli), Some(TimeUnit::Micro), Some(TimeUnit::Nano)];
    LoadOptions {
        time_unit: units[random.below(units.len())],
        symbol: random.one_in(4).then(|| "BTCUSDT".to_owned()),
        aggregate_trades: random.one_in(4),
        ..LoadOptions::default()
    }
}

/// Reads the file of a case as a load and an inspection do. What they return does not matter.
fn read(seeds: &[File], case: u64) {
    let mut random = Random(case);
    let bytes = Bytes::from(seeds[random.below(seeds.len())].mutated(&mut random));
    let options = options(&mut random);
    let on_bad_row = if random.one_in(2) { OnBadRow::Reject } else { OnBadRow::Abort };
    let settings = DecodeSettings { memory_limit: MEMORY_LIMIT, on_bad_row, ..settings() };
    if let Ok(meta) = read_footer(&MemorySource(bytes.clone()), None, MEMORY_LIMIT) {
        let _ = (meta.columns(), meta.columns_for(&options), meta.fingerprint(), meta.rows());
        if let Ok(mapping) = map_columns(&meta, &options) {
            let _ = (time_span(&meta, &mapping), span_problem(&meta, &mapping, settings.times));
        }
    }
    let _ = read_with(bytes, &options, settings);
}

/// Returns the most memory that this process has had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Reads case after case, and says which one is next.
fn read_cases(first: u64) {
    let minutes: Option<f64> = variable("FUZZ_MINUTES");
    let (began, seeds) = (Instant::now(), seeds());
    // A panic that the decoder catches is not shown.
    std::panic::set_hook(Box::new(|_| {}));
    let limit = peak() + MEMORY_LIMIT + ALLOWANCE;
    for case in first.. {
        let over = match minutes {
            Some(minutes) => began.elapsed().as_secs_f64() > minutes * 60.0,
            None => case - first >= CASES,
        };
        if over {
            break;
        }
        println!("case {case}");
        read(&seeds, case);
        assert!(peak() <= limit, "case {case} took too much memory");
    }
    println!("over");
}

/// Starts the process that reads, with a limit of its address space.
fn start(first: u64) -> (Child, Receiver<String>) {
    let program = std::env::current_exe().unwrap();
    let name = "decode::tests::fuzz::no_file_makes_the_decoder_panic_hang_or_take_more_than_its_memory";
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c 0; ulimit -v 4000000 && exec \"$@\"", "sh"])
        .arg(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(READER, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (child, receiver)
}

#[test]
fn no_file_makes_the_decoder_panic_hang_or_take_more_than_its_memory() {
    if let Some(first) = variable(READER) {
        return read_cases(first);
    }
    let first = variable("FUZZ_SEED").unwrap_or(FIRST);
    let (mut child, lines) = start(first);
    let (mut last, mut cases) = (String::new(), 0);
    loop {
        match lines.recv_timeout(LONGEST) {
            Ok(line) if line == "over" => break,
            Ok(line) => {
                if line.starts_with("case ") {
                    (last, cases) = (line, cases + 1);
                }
            }
            Err(why) => {
                let _ = child.kill();
                panic!("{last}: {why}; the process: {:?}. FUZZ_SEED={} begins with it", child.wait(), &last[5..]);
            }
        }
    }
    assert!(child.wait().unwrap().success());
    println!("{cases} files from case {first} on");
}

#[test]
fn a_file_that_is_put_together_again_is_the_file() {
    for seed in seeds() {
        let bytes = seed.bytes();
        let rows = read_with(bytes.clone().into(), &LoadOptions::default(), settings());
        // Some need options, or hold rows that are no ticks. None is damaged.
        assert!(!matches!(rows, Err(Error::Damaged { .. })), "{rows:?}");
        assert_eq!(File::parse(&bytes).bytes(), bytes);
    }
}
