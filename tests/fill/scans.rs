//! Scans of each index of a chunk, forward and backward, which must find every row once and in order.

use btc_ingest_kit::sql::{execute, number, texts};
use postgres::Client;

/// What an index returns rows in.
struct Order {
    /// Its columns, as the index is defined.
    columns: &'static str,
    /// ORDER BY of a scan forward, and backward.
    order_by: [&'static str; 2],
    /// Whether a row comes after one that should follow it, in a scan forward. `b` is the row before.
    wrong: [&'static str; 2],
}

const ORDERS: [Order; 3] = [
    Order {
        columns: "(bucket_5m, symbol, trade_id)",
        order_by: ["bucket_5m, symbol, trade_id", "bucket_5m DESC, symbol DESC, trade_id DESC"],
        // Strictly: it is the key.
        wrong: [
            "(bucket_5m, symbol, trade_id) <= (b_bucket, b_symbol, b_id)",
            "(bucket_5m, symbol, trade_id) >= (b_bucket, b_symbol, b_id)",
        ],
    },
    Order {
        columns: "(symbol, event_time DESC)",
        order_by: ["symbol, event_time DESC", "symbol DESC, event_time"],
        wrong: [
            "symbol < b_symbol OR symbol = b_symbol AND event_time > b_time",
            "symbol > b_symbol OR symbol = b_symbol AND event_time < b_time",
        ],
    },
    Order {
        columns: "(bucket_5m)",
        order_by: ["bucket_5m", "bucket_5m DESC"],
        wrong: ["bucket_5m < b_bucket", "bucket_5m > b_bucket"],
    },
];

/// Only an index returns rows in order.
const ONLY_INDEXES: &str =
    "SET enable_seqscan = off; SET enable_sort = off; SET enable_incremental_sort = off; SET enable_bitmapscan = off;
    SET enable_indexonlyscan = off; SET max_parallel_workers_per_gather = 0; SET jit = off";
const ONLY_HEAP: &str = "SET enable_seqscan = on; SET enable_indexscan = off; SET enable_bitmapscan = off;
    SET enable_indexonlyscan = off; SET max_parallel_workers_per_gather = 0; SET jit = off";

const SUMS: &str = "count(*), coalesce(sum(hashint8(trade_id)::bigint + hashtext(symbol)), 0)::text";

/// Compares what every index of a chunk returns, forward and backward, with what its heap holds in the same snapshot.
/// Returns the number of rows.
#[track_caller]
pub fn must_agree(client: &mut Client, chunk: &str, condition: &str) -> i64 {
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
    client.batch_execute(ONLY_HEAP).unwrap();
    let sql = format!("SELECT {SUMS} FROM {chunk} WHERE {condition}");
    let row = client.query_one(&sql, &[]).unwrap();
    let heap: (i64, String) = (row.get(0), row.get(1));
    client.batch_execute("RESET enable_indexscan").unwrap();
    client.batch_execute(ONLY_INDEXES).unwrap();
    for order in &ORDERS {
        for (order_by, wrong) in order.order_by.iter().zip(order.wrong) {
            let sql = format!(
                "SELECT {SUMS}, count(*) FILTER (WHERE {wrong})
                   FROM (SELECT *, lag(bucket_5m) OVER () AS b_bucket, lag(symbol) OVER () AS b_symbol,
                                lag(trade_id) OVER () AS b_id, lag(event_time) OVER () AS b_time
                           FROM (SELECT bucket_5m, symbol, trade_id, event_time FROM ONLY {chunk}
                                  WHERE {condition} ORDER BY {order_by}) AS rows) AS pairs"
            );
            must_use(client, chunk, order.columns, &sql);
            let row = client.query_one(&sql, &[]).unwrap();
            let found: (i64, String) = (row.get(0), row.get(1));
            assert_eq!(found, heap, "rows and their sum by ORDER BY {order_by}, and in the heap");
            assert_eq!(row.get::<_, i64>(2), 0, "rows out of order by ORDER BY {order_by}");
        }
    }
    client.batch_execute("ROLLBACK").unwrap();
    heap.0
}

/// Checks that no index of a chunk has an entry without a row. Vacuum counts the entries of an index when it removes
/// some; a row that is inserted and rolled back gives it one to remove.
#[track_caller]
pub fn must_have_no_more_entries(client: &mut Client, chunk: &str) {
    let dead = format!(
        "BEGIN; INSERT INTO {chunk} (bucket_5m, event_time, symbol, trade_id)
         SELECT bucket_5m, event_time, symbol, -1 FROM {chunk} LIMIT 1; ROLLBACK"
    );
    execute(client, &dead);
    execute(client, &format!("VACUUM (INDEX_CLEANUP on) {chunk}"));
    let sql = format!(
        "SELECT concat_ws(' ', c.oid::regclass, c.reltuples, n) FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid,
                (SELECT count(*) AS n FROM {chunk}) AS rows
          WHERE x.indrelid = '{chunk}'::regclass AND c.reltuples <> n"
    );
    let wrong = texts(client, &sql);
    assert!(wrong.is_empty(), "entries of indexes, and rows: {wrong:#?}");
}

/// Checks that a statement scans the index with these columns, or one that a test has made beside the usual three.
#[track_caller]
fn must_use(client: &mut Client, chunk: &str, columns: &str, sql: &str) {
    let index = format!(
        "SELECT quote_ident(c.relname) FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
          WHERE x.indrelid = '{chunk}'::regclass AND pg_get_indexdef(x.indexrelid) LIKE '% USING btree {columns}'"
    );
    let plan = texts(client, &format!("EXPLAIN (COSTS off) {sql}")).join("\n");
    let names = texts(client, &index);
    let usual = number(client, &format!("SELECT count(*) FROM pg_index WHERE indrelid = '{chunk}'::regclass")) == 3;
    let used = names.iter().any(|name| plan.contains(&format!(" using {name} ")));
    // The key is in the order of buckets, too.
    let used = used || (!usual || columns == "(bucket_5m)") && plan.contains("Index Scan");
    assert!(used && !plan.contains("Sort"), "an index of {names:?} was to be used:\n{plan}");
}
