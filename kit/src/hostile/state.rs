//! What the store holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use bytes::Bytes;

use super::deviation::Deviation;

/// The objects and what the folders do.
#[derive(Debug, Default)]
pub(super) struct State {
    pub objects: Mutex<BTreeMap<String, Bytes>>,
    pub folders: Mutex<HashMap<String, Deviation>>,
    /// How often each key was read.
    reads: Mutex<HashMap<String, u32>>,
}

impl State {
    /// Returns the deviation in the folder of a key or prefix.
    pub fn deviation(&self, key: &str) -> Deviation {
        let folder = key.split('/').next().unwrap_or_default();
        self.folders.lock().unwrap().get(folder).copied().unwrap_or(Deviation::None)
    }

    /// Counts a read, and returns whether it is the first one of this key.
    pub fn is_first_read(&self, key: &str) -> bool {
        let mut reads = self.reads.lock().unwrap();
        let count = reads.entry(key.to_owned()).or_default();
        *count += 1;
        *count == 1
    }
}

/// Returns the etag of an object, without quotes.
pub(super) fn etag_of(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:032x}", hasher.finish())
}
