//! The files of real trades, and the sums that were computed of them outside PostgreSQL.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgres::Client;

use crate::fixture::{Stored, plain, stored, stored_where};

/// One line of `checksums.csv`.
#[derive(Debug, Clone)]
pub struct RealFile {
    dir: PathBuf,
    fields: BTreeMap<String, String>,
}

impl RealFile {
    /// Reads `checksums.csv` in the folder of real data.
    pub fn all(data: &Path) -> Vec<RealFile> {
        let dir = data.join("real");
        let text = std::fs::read_to_string(dir.join("checksums.csv")).unwrap();
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        let file = |line: &str| RealFile {
            dir: dir.clone(),
            fields: names.iter().zip(line.split(',')).map(|(name, value)| (name.to_string(), value.into())).collect(),
        };
        let files: Vec<RealFile> = lines.map(file).collect();
        assert!(files.len() >= 18, "checksums.csv lists {} files only", files.len());
        files
    }

    /// Returns a field of the line.
    pub fn text(&self, field: &str) -> &str {
        &self.fields[field]
    }

    /// Returns a field of the line as a number.
    pub fn number(&self, field: &str) -> i64 {
        self.text(field).parse().unwrap()
    }

    /// Returns the path below the folder of real files.
    pub fn name(&self) -> &str {
        self.text("file")
    }

    /// Returns the first folder of the path.
    pub fn dataset(&self) -> &str {
        self.name().split('/').next().unwrap()
    }

    /// Whether the file is a whole one and not a part of one.
    pub fn is_whole(&self) -> bool {
        self.text("kind") == "whole"
    }

    /// Returns the dataset's asset, as the files name it.
    pub fn symbol(&self) -> &'static str {
        if self.name().contains("ethusdt") { "ETHUSDT" } else { "BTCUSDT" }
    }

    /// Reads the file.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.dir.join(self.name())).unwrap()
    }

    /// Returns what the ticks of the file must come to.
    pub fn expected(&self) -> Stored {
        Stored {
            rows: self.number("rows"),
            first_id: Some(self.number("min_trade_id")),
            last_id: Some(self.number("max_trade_id")),
            quantity: plain(self.text("sum_quantity")),
            amount: plain(self.text("sum_price_x_quantity")),
            makers: self.number("maker_true"),
        }
    }
}

/// Checks that exactly the ticks of these whole files are stored. `what` names the case.
#[track_caller]
pub fn must_hold_wholes(client: &mut Client, wholes: &[RealFile], what: &str) {
    for whole in wholes {
        let range = format!(
            "symbol = '{}' AND trade_id BETWEEN {} AND {}",
            whole.symbol(),
            whole.number("min_trade_id"),
            whole.number("max_trade_id")
        );
        assert_eq!(stored_where(client, &range), whole.expected(), "{what}: {whole:?}");
    }
    let rows: i64 = wholes.iter().map(|whole| whole.number("rows")).sum();
    assert_eq!(stored(client).rows, rows, "{what}");
}

/// Returns the folder of real data, `$BTC_INGEST_TEST_DATA`; without it one line says that the test is skipped.
pub fn test_data() -> Option<PathBuf> {
    let dir = std::env::var_os("BTC_INGEST_TEST_DATA").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: BTC_INGEST_TEST_DATA is not set");
    }
    dir
}
