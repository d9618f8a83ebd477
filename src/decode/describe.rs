//! A file's columns described for readers of `inspect_s3`, and the fingerprint of its schema.

use std::sync::Arc;

use parquet::schema::types::ColumnDescriptor;
use sha2::{Digest, Sha256};

use super::codec::codec_name;
use super::footer::FileMeta;
use super::schema::uses;
use super::types::type_name;
use crate::model::options::LoadOptions;

/// One leaf column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its path; dots separate the parts.
    pub name: String,
    /// Its type as Parquet tools print it.
    pub parquet_type: String,
    /// Its codec; several codecs, separated by slashes, if row groups differ.
    pub codec: String,
    /// Bytes in the file over all row groups.
    pub compressed_bytes: u64,
    /// The tick column that a load reads from it.
    pub used_as: Option<&'static str>,
}

impl FileMeta {
    /// Returns the leaf columns in the file's order, and what a load without options reads from each.
    pub fn columns(&self) -> Vec<ColumnInfo> {
        self.columns_for(&LoadOptions::default())
    }

    /// Returns the leaf columns in the file's order, and what a load with these options reads from each.
    pub fn columns_for(&self, options: &LoadOptions) -> Vec<ColumnInfo> {
        let leaves = self.metadata().file_metadata().schema_descr().columns();
        let used = uses(self, options);
        let info = |(index, leaf): (usize, &Arc<ColumnDescriptor>)| {
            let chunks = || self.metadata().row_groups().iter().map(move |group| group.column(index));
            let mut codecs: Vec<&str> = chunks().map(|chunk| codec_name(chunk.compression())).collect();
            codecs.sort_unstable();
            codecs.dedup();
            ColumnInfo {
                name: leaf.path().string(),
                parquet_type: type_name(leaf),
                codec: codecs.join("/"),
                compressed_bytes: chunks().fold(0u64, |sum, chunk| sum.saturating_add(chunk.compressed_size() as u64)),
                used_as: used.iter().find(|(leaf, _)| *leaf == index).map(|(_, tick)| *tick),
            }
        };
        leaves.iter().enumerate().map(info).collect()
    }

    /// Returns a hash of the leaf columns' names and types, in order. Files of one schema have the same fingerprint.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for leaf in self.metadata().file_metadata().schema_descr().columns() {
            hash.update(leaf.path().string().as_bytes());
            hash.update([0]);
            hash.update(type_name(leaf).as_bytes());
            hash.update([0]);
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
