//! Tables without the key that decides what is a duplicate.

use btc_ingest_kit::fixture::{loaded, refused};
use btc_ingest_kit::rows::{moved, must_hold, ticks};
use btc_ingest_kit::sql::{execute, text};
use btc_ingest_kit::{ParquetFile, ServerFixture};

/// The index of the primary key of the only chunk.
const KEY: &str = "SELECT x.indexrelid::regclass::text FROM pg_index x JOIN pg_inherits h ON h.inhrelid = x.indrelid
                    WHERE h.inhparent = 'market_data.btc_ticks'::regclass AND x.indisprimary";

#[test]
fn a_load_into_a_hypertable_or_chunk_without_its_key_is_refused() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let first = ticks(1, 50);
    let second: Vec<_> = ticks(51, 50).iter().map(|tick| moved(tick, 1)).collect();
    let put = |name: &str, ticks: &[_]| {
        ServerFixture::shared().put(&format!("{}/{name}", db.name()), ParquetFile::new().bytes(ticks))
    };
    loaded(&mut client, &put("first", &first), "");
    let uri = put("second", &second);

    // Of a chunk: not valid, as a build that was interrupted leaves it.
    let key = text(&mut client, KEY);
    execute(&mut client, &format!("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{key}'::regclass"));
    let refusal = refused(&mut client, &uri, "", "TK024");
    assert!(refusal.message.contains("_timescaledb_internal._hyper_"), "{refusal:?}");
    let sql = "SELECT detail FROM btc_ingest.doctor() WHERE name = 'indexes' AND NOT ok";
    assert!(text(&mut client, sql).contains("_hyper_"));
    // Also if TimescaleDB chooses the chunks, because the ticks go to several, the first of them new.
    let across: Vec<_> = [moved(&second[0], -5_000)].iter().chain(&second).cloned().collect();
    refused(&mut client, &put("across", &across), "", "TK024");
    execute(&mut client, &format!("REINDEX INDEX {key}"));
    loaded(&mut client, &uri, "");

    // Of the hypertable, and so of its chunks.
    execute(&mut client, "ALTER TABLE market_data.btc_ticks DROP CONSTRAINT btc_ticks_pkey");
    let refusal = refused(&mut client, &uri, "force => true", "TK024");
    assert!(refusal.message.contains("market_data.btc_ticks has no valid unique index"), "{refusal:?}");
    execute(&mut client, "ALTER TABLE market_data.btc_ticks ADD PRIMARY KEY (bucket_5m, symbol, trade_id)");
    assert_eq!(loaded(&mut client, &uri, "force => true").inserted, 0);
    must_hold(&mut client, first.iter().chain(&second));
}
