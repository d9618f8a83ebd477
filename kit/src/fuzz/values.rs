//! Values that hurt, as expressions of SQL: the ends of every type, nulls, control characters, huge texts, deep JSON.

use crate::ticks::Random;

/// Uris and prefixes, some of which lead to objects (`surface`).
const URIS: [&str; 14] = [
    "'s3://landing/fuzz/Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet'",
    "'s3://landing/fuzz/damaged.parquet'",
    "'s3://landing/fuzz/missing.parquet'",
    "'s3://landing/fuzz/{exchange}/{asset}/{yyyy}/{mm}/{dd}/{asset}_{yyyy}{mm}{dd}T{hh}{mi}Z.parquet'",
    "'s3://landing/fuzz/'",
    "'s3://landing'",
    "'s3://landing/'",
    "'s3://elsewhere/x.parquet'",
    "'s3://landing/../../etc/passwd'",
    "E's3://landing/\\x01\\x7f\\n.parquet'",
    "'s3://landing/{*}{*}{{}{yyyy}{yyyy}'",
    "'s3://landing/' || repeat('k/', 700)",
    "'s3://landing/' || repeat('ä', 1000000)",
    "'https://landing/fuzz/x.parquet?versionId=1#2'",
];

const TEXTS: [&str; 20] = [
    "''",
    "' '",
    "'BTCUSDT'",
    "'FUZZ'",
    "'object'",
    "'chunk'",
    "'abort'",
    "'reject'",
    "'null'",
    "'%s%n%d%1$s'",
    "E'\\x01\\b\\n\\r\\t\\x7f'",
    "E'\\u00ad\\u200b\\ufeff\\U0010ffff'",
    "'''; DROP TABLE market_data.btc_ticks; --'",
    "'\"quoted\".\"name\"'",
    "'\\\\backslash\\'",
    "repeat('x', 63)",
    "repeat('x', 256)",
    "repeat('x', 8193)",
    "repeat('x', 10000000)",
    "repeat(E'\\n', 70000)",
];

const TIMES: [&str; 14] = [
    "'infinity'",
    "'-infinity'",
    "'4714-11-24 00:00:00+00 BC'",
    "'294276-12-31 23:59:59.999999+00'",
    "'294246-12-31 23:59:59.999999+00'",
    "'epoch'",
    "'1969-12-31 23:59:59.999999+00'",
    "'0001-01-01 00:00:00+00'",
    "'2200-01-01 00:00:00+00'",
    "'10000-01-01 00:00:00+00'",
    "'2024-08-08 12:00:00+00'",
    "'2024-08-08 12:03:04.567891+05:30'",
    "now()",
    "'2000-01-01 00:00:00+00'",
];

const INTERVALS: [&str; 11] = [
    "'0'",
    "'1 microsecond'",
    "'-1 microsecond'",
    "'1 hour'",
    "'24 hours'",
    "'-5 years'",
    "'178000000 years'",
    "'-178000000 years'",
    "'2147483647 days 2147483647 months'",
    "make_interval(0, -2147483648, 0, -2147483648, 0, 0, 0)",
    "'2562047788:00:54.775807'",
];

const INTEGERS: [&str; 12] =
    ["0", "1", "-1", "2", "3", "7", "64", "65", "1000000", "2147483647", "'-2147483648'", "10"];
const BIGINTS: [&str; 6] = [
    "'9223372036854775807'",
    "'-9223372036854775808'",
    "4294967296",
    "1723118400000000",
    "604800000000",
    "'-62135596800000000'",
];
const FLOATS: [&str; 7] = ["'NaN'", "'Infinity'", "'-Infinity'", "0", "'-0'", "1e308", "'4.9e-324'"];
const OIDS: [&str; 7] = [
    "0",
    "4294967295",
    "'pg_class'::regclass",
    "'market_data.btc_ticks'::regclass",
    "'landing.raw_blobs_5m'::regclass",
    "'btc_ingest.queue'::regclass",
    "(SELECT max(inhrelid) FROM pg_inherits)",
];

/// Keys of options, of metadata and of configurations.
const KEYS: [&str; 23] = [
    "symbol",
    "time_unit",
    "columns",
    "aggregate_trades",
    "on_conflict",
    "exchange",
    "source",
    "sequential_ids",
    "interval",
    "full_interval",
    "enabled",
    "max_objects",
    "max_runtime",
    "assets",
    "order",
    "sha256",
    "rows",
    "object_size_bytes",
    "etag",
    "price",
    "event_time",
    "trade_id",
    "",
];

const JSON_VALUES: [&str; 24] = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "2.5",
    "1e400",
    "-1e400",
    "1e-400",
    "9223372036854775808",
    "18446744073709551616",
    "\"\"",
    "\"BTCUSDT\"",
    "\"ms\"",
    "\"us\"",
    "\"replace\"",
    "\"newest\"",
    "\"4 minutes\"",
    "\"-178000000 years\"",
    "\"\\u0001\\u007f\\n\"",
    "[]",
    "{}",
    "[null, [], {}]",
];

const JSON: [&str; 12] = [
    "'{}'",
    "'null'",
    "'[]'",
    "'1e400'",
    "'\"text\"'",
    "'[{}, null, 1e400]'",
    "(repeat('[', 500) || repeat(']', 500))",
    "(repeat('[', 5000) || repeat(']', 5000))",
    "(repeat('{\"a\":', 3000) || '1' || repeat('}', 3000))",
    "('{\"symbol\": \"' || repeat('s', 5000000) || '\"}')",
    "(SELECT json_object_agg('key' || n, n) FROM generate_series(1, 20000) AS n)::text",
    "('[' || repeat('1,', 200000) || '1]')",
];

/// Arrays of texts, beside those that are made of [`TEXTS`] and [`URIS`].
const ARRAYS: [&str; 7] = [
    "'{}'",
    "ARRAY[NULL]",
    "'{{s3://landing/a/,s3://landing/b/},{s3://landing/c/,s3://landing/d/}}'",
    "'[5:6]={s3://landing/a/,s3://landing/b/}'",
    "ARRAY['s3://landing/fuzz/', NULL]",
    "array_fill('s3://landing/fuzz/'::text, ARRAY[20000])",
    "array_fill(NULL::text, ARRAY[10, 10, 10])",
];

/// Picks one of them.
pub fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[random.below(of.len() as u64) as usize]
}

/// Returns an expression of a type, as the catalog names it.
pub fn value(random: &mut Random, of_type: &str) -> String {
    if random.below(12) == 0 {
        return format!("NULL::{of_type}");
    }
    let text = match of_type {
        "text" if random.below(2) == 0 => pick(random, &URIS).to_owned(),
        "text" | "name" | "character varying" => pick(random, &TEXTS).to_owned(),
        "text[]" if random.below(2) == 0 => pick(random, &ARRAYS).to_owned(),
        "text[]" => {
            let items: Vec<&str> = (0..random.below(4)).map(|_| pick(random, &URIS)).collect();
            format!("ARRAY[{}]", items.join(", "))
        }
        "timestamp with time zone" => pick(random, &TIMES).to_owned(),
        "interval" => pick(random, &INTERVALS).to_owned(),
        "integer" | "smallint" => pick(random, &INTEGERS).to_owned(),
        "bigint" if random.below(2) == 0 => pick(random, &BIGINTS).to_owned(),
        "bigint" | "numeric" => pick(random, &INTEGERS).to_owned(),
        "double precision" | "real" => pick(random, &FLOATS).to_owned(),
        "boolean" => pick(random, &["true", "false"]).to_owned(),
        "oid" | "regclass" => pick(random, &OIDS).to_owned(),
        "jsonb" | "json" if random.below(3) == 0 => pick(random, &JSON).to_owned(),
        "jsonb" | "json" => object(random, 0).replace('\'', "''").quoted(),
        "tstzrange" => pick(random, &["'empty'", "'[,]'", "'[epoch,infinity)'"]).to_owned(),
        _ => "NULL".to_owned(),
    };
    format!("({text})::{of_type}")
}

/// Makes a JSON object of known keys and any values.
fn object(random: &mut Random, depth: u32) -> String {
    let pairs: Vec<String> = (0..random.below(4))
        .map(|_| {
            let key = pick(random, &KEYS);
            let value = if depth < 2 && random.below(5) == 0 {
                object(random, depth + 1)
            } else {
                pick(random, &JSON_VALUES).to_owned()
            };
            format!("\"{key}\": {value}")
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Puts an expression's text between quotes.
trait Quoted {
    fn quoted(self) -> String;
}

impl Quoted for String {
    fn quoted(self) -> String {
        format!("'{self}'")
    }
}
