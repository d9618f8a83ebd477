//! The files of real trades, and the sums that were computed of them outside PostgreSQL.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use btc_ingest_tests::stand::{Stored, plain};

/// One line of `checksums.csv`.
#[derive(Debug, Clone)]
pub struct RealFile {
    dir: PathBuf,
    fields: BTreeMap<String, String>,
}

impl RealFile {
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

    pub fn text(&self, field: &str) -> &str {
        &self.fields[field]
    }

    pub fn number(&self, field: &str) -> i64 {
        self.text(field).parse().unwrap()
    }

    pub fn name(&self) -> &str {
        self.text("file")
    }

    pub fn dataset(&self) -> &str {
        self.name().split('/').next().unwrap()
    }

    pub fn is_whole(&self) -> bool {
        self.text("kind") == "whole"
    }

    /// The dataset's asset, as the files name it.
    pub fn symbol(&self) -> &'static str {
        if self.name().contains("ethusdt") { "ETHUSDT" } else { "BTCUSDT" }
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.dir.join(self.name())).unwrap()
    }

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
