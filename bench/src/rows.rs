//! The rows of the table: what each measures and what it is compared with.

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name on the command line and in the code.
    pub key: &'static str,
    /// Its description in the table.
    pub name: &'static str,
    /// The row that its time is divided by.
    pub against: Option<&'static str>,
    /// Whether its time is that of one call out of many, so that ticks per second would mean nothing.
    pub per_call: bool,
}

const fn row(key: &'static str, name: &'static str, against: &'static str) -> Row {
    Row { key, name, against: Some(against), per_call: false }
}

const fn baseline(key: &'static str, name: &'static str) -> Row {
    Row { key, name, against: None, per_call: false }
}

const fn call(key: &'static str, name: &'static str) -> Row {
    Row { key, name, against: None, per_call: true }
}

/// All rows, in the table's order.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    baseline("copy", "day: COPY BINARY from a file of the server"),
    row("insert", "day: INSERT … SELECT … ON CONFLICT DO NOTHING from a heap table", "copy"),
    row("load", "day: load_s3_slice, one object", "copy"),
    row("load-bare", "day: the same without the ledger", "load"),
    row("load-set", "day: the same with the setting of --set", "copy"),
    row("copy-tuned", "day: COPY BINARY, with the host's settings for loads", "copy"),
    row("load-tuned", "day: load_s3_slice with the same settings", "load"),
    row("groups-near", "day: load_s3_slice, one object of row groups of 1,000 rows, through a proxy", "load"),
    row("groups-far", "day: the same with latency added to every request", "groups-near"),
    baseline("copy-slices", "slices: COPY BINARY, a file and a transaction each"),
    row("copy-slices-2", "slices: the same on two connections at once", "copy-slices"),
    row("load-slices", "slices: load_s3_slice, an object and a transaction each", "copy-slices"),
    row("slices-bare", "slices: the same without the ledger", "load-slices"),
    row("slices-set", "slices: the same with the setting of --set", "copy-slices"),
    row("force", "slices: load_s3_slice again with force => true", "load-slices"),
    call("replay", "slices: load_s3_slice of the same etag again, per call"),
    call("single", "an object of one tick: load_s3_slice, per call"),
    Row { against: Some("single"), ..call("single-anew", "the same with s3_idle_timeout = 0") },
    baseline("copy-candles", "day: COPY BINARY into a hypertable with two continuous aggregates"),
    row("load-candles", "day: load_s3_slice into the same", "copy-candles"),
    row("refresh", "day: refresh_candles() of both aggregates", "copy-candles"),
    baseline("copy-compressed", "day: COPY BINARY, then compress_chunk"),
    row("load-compressed", "day: load_s3_slice, then compress_chunk", "copy-compressed"),
    row("copy-tuned-compressed", "day: COPY BINARY, then compress_chunk, with the host's settings", "copy-compressed"),
    row("load-tuned-compressed", "day: load_s3_slice, then compress_chunk, with the same", "copy-tuned-compressed"),
    row("copy-tuned-ordered", "day: COPY BINARY, then compress_chunk in the order written", "copy-tuned-compressed"),
    row("load-tuned-ordered", "day: load_s3_slice, then compress_chunk in the order written", "copy-tuned-ordered"),
    row("compress", "day: compress_chunk alone", "copy-compressed"),
    row("compressed-again", "day: another object with the same ticks, into the compressed chunk", "load-compressed"),
    baseline("copy-spread", "many days: COPY BINARY, one connection"),
    row("backfill-object-1", "many days: backfill, mode object, 1 worker", "copy-spread"),
    row("backfill-object-2", "many days: backfill, mode object, 2 workers", "copy-spread"),
    row("backfill-chunk-1", "many days: backfill, mode chunk, 1 worker", "copy-spread"),
    row("backfill-chunk-2", "many days: backfill, mode chunk, 2 workers", "copy-spread"),
    baseline("backfill-near", "slices: backfill, 2 workers, through a proxy"),
    row("backfill-far", "slices: the same with latency added to every request", "backfill-near"),
    baseline("slice-empty", "one slice into an empty table"),
    row("slice-full", "one slice into a full chunk", "slice-empty"),
    baseline("shuffled", "500,000 ticks of a day: load_s3_slice of shuffled rows, index_fill = row"),
    row("shuffled-runs", "the same with index_fill = runs", "shuffled"),
    baseline("reversed", "day: load_s3_slice of rows in reverse, index_fill = row"),
    row("reversed-runs", "the same with index_fill = runs", "reversed"),
    baseline("twins", "day: load_s3_slice after its rollback, index_fill = row"),
    row("twins-runs", "the same with index_fill = runs", "twins"),
    baseline("edge", "one slice into a full chunk, index_fill = row"),
    row("edge-runs", "the same with index_fill = runs", "edge"),
    baseline("early", "one slice into a chunk full of later ticks, index_fill = row"),
    row("early-runs", "the same with index_fill = runs", "early"),
    baseline("rebuild", "day: its indexes built anew after a load, index_fill = row"),
    row("rebuild-runs", "the same after a load with index_fill = runs", "rebuild"),
    call("arrive", "one slice: from its registration to its ticks, by a worker"),
    Row { against: Some("arrive"), ..call("arrive-set", "the same with the setting of --set") },
    call("arrive-busy", "the same while a backfill runs"),
    baseline("drain-1", "2,000 registered slices: loaded by 1 worker"),
    row("drain-2", "the same by 2 workers", "drain-1"),
    baseline("drain-far-1", "500 of them with latency added to every request: 1 worker"),
    row("drain-far-2", "the same by 2 workers", "drain-far-1"),
    row("csv", "day: pyarrow → CSV → a client's COPY", "copy"),
    row("adbc", "day: pyarrow → ADBC's bulk ingestion", "copy"),
    row("decode", "day: decode and encode alone, one thread, no database", "copy"),
    row("verify", "day: verify of the loaded object", "decode"),
    call("gaps", "the view gaps over a year of three assets, 315,000 slices"),
    call("conditions", "conditions() over the same year"),
    baseline("prices", "prices_at() of 1,000,000 times among as many ticks"),
    row("prices-lateral", "the same by a LATERAL query per time", "prices"),
    baseline("bars", "day: bars() of a fixed volume"),
    baseline("hour", "ticks() of an hour in the full chunk"),
    baseline("chart-candles", "a month of candles of a minute"),
    row("chart-ticks", "the same computed from the ticks", "chart-candles"),
    call("similar-exact", "the 10 nearest of 100,000 windows, before a time and of one asset, without an index"),
    Row { against: Some("similar-exact"), ..call("similar-ivfflat", "the same by similar(), with ivfflat") },
    Row { against: Some("similar-exact"), ..call("similar-hnsw", "the same by similar(), with hnsw") },
    call("similar-million", "the same of 1,000,000 windows, with hnsw"),
    call("helps", "similar() for what followed: volatility of the next window"),
    baseline("memory", "a large object: load_s3_slice, memory watched"),
];
