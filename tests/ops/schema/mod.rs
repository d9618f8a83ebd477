//! The SQL contract: what `CREATE EXTENSION btc_ingest CASCADE` makes, to the letter.

mod comments;
mod grants;
mod interface;
mod limits;
mod retention;
mod tables;
mod work;

use btc_ingest_kit::sql::texts;
use btc_ingest_kit::{ServerFixture, TestDb};
use postgres::Client;

/// Opens a session in the one database of these tests, which only read.
fn client() -> Client {
    use std::sync::OnceLock;
    static DB: OnceLock<TestDb<'static>> = OnceLock::new();
    DB.get_or_init(|| ServerFixture::shared().db()).client()
}

/// Compares line by line, so that a failure names the line.
#[track_caller]
fn must_be(found: &[String], wanted: &str) {
    let wanted: Vec<&str> = wanted.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &wanted {
        assert!(found.iter().any(|found| found == line), "missing: {line}\nfound: {found:#?}");
    }
    for line in found {
        assert!(wanted.contains(&line.as_str()), "too many: {line}\nwanted: {wanted:#?}");
    }
    assert_eq!(found, wanted, "the order");
}

const SCHEMAS: &str = "('landing', 'market_data', 'signals', 'ingestion', 'ops')";
