//! What the S3 server knows of its objects without opening a file: key, size, etag and time, in the order of the keys.
//!
//! A listing walks this index from where its page begins, so that a page costs what is on it, however many objects
//! there are.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::{ETag, Timestamp};

type Objects = BTreeMap<String, Arc<Stored>>;

/// One object, or many with the same bytes.
#[derive(Debug)]
pub(crate) struct Stored {
    pub size: u64,
    pub etag: ETag,
    pub modified: Timestamp,
    /// The content, when there is no file of it.
    pub bytes: Option<Bytes>,
}

impl Stored {
    /// An object without a file.
    pub fn in_memory(bytes: Bytes) -> Arc<Self> {
        let digest = Md5::checksum(&bytes);
        let etag = ETag::Strong(digest.iter().map(|byte| format!("{byte:02x}")).collect());
        let modified = Timestamp::from(SystemTime::now());
        Arc::new(Self { size: bytes.len() as u64, etag, modified, bytes: Some(bytes) })
    }
}

/// What is asked of a listing.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub prefix: &'a str,
    /// Keys that agree up to its first occurrence after the prefix are one line, a group.
    pub delimiter: Option<&'a str>,
    /// Keys and groups up to this one, inclusive, are passed over.
    pub after: Option<&'a str>,
    pub limit: usize,
}

/// What is answered.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub objects: Vec<(String, Arc<Stored>)>,
    pub groups: Vec<String>,
    /// The last line, when there are more after it.
    pub next: Option<String>,
}

/// All buckets.
#[derive(Default)]
pub(crate) struct Index(RwLock<HashMap<String, Objects>>);

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Index {
    pub fn add_bucket(&self, bucket: &str) {
        self.0.write().unwrap().entry(bucket.to_owned()).or_default();
    }

    pub fn remove_bucket(&self, bucket: &str) {
        self.0.write().unwrap().remove(bucket);
    }

    /// Sets what is stored under a key; `None` removes it. Returns false if there is no such bucket.
    pub fn set(&self, bucket: &str, key: &str, stored: Option<Arc<Stored>>) -> bool {
        let mut buckets = self.0.write().unwrap();
        let Some(objects) = buckets.get_mut(bucket) else { return false };
        match stored {
            Some(stored) => drop(objects.insert(key.to_owned(), stored)),
            None => drop(objects.remove(key)),
        }
        true
    }

    /// Stores the same object under many keys. Returns false if there is no such bucket.
    pub fn set_all(&self, bucket: &str, keys: impl Iterator<Item = String>, stored: &Arc<Stored>) -> bool {
        // Taken from the caller's iterator before the lock: it may itself ask the server.
        let mut new: Objects = keys.map(|key| (key, stored.clone())).collect();
        match self.0.write().unwrap().get_mut(bucket) {
            Some(objects) => objects.append(&mut new),
            None => return false,
        }
        true
    }

    /// An object that has no file.
    pub fn in_memory(&self, bucket: &str, key: &str) -> Option<(Arc<Stored>, Bytes)> {
        let stored = self.0.read().unwrap().get(bucket)?.get(key)?.clone();
        let bytes = stored.bytes.clone()?;
        Some((stored, bytes))
    }

    /// Returns a page, or `None` if there is no such bucket.
    pub fn page(&self, bucket: &str, query: &Query<'_>) -> Option<Page> {
        self.0.read().unwrap().get(bucket).map(|objects| page(objects, query))
    }
}

fn page(objects: &Objects, query: &Query<'_>) -> Page {
    let mut page = Page::default();
    let mut last: Option<&str> = None;
    let from = match query.after {
        Some(after) if after >= query.prefix => Excluded(after),
        _ => Included(query.prefix),
    };
    let mut rest = objects.range::<str, _>((from, Unbounded));
    while let Some((key, stored)) = rest.next() {
        let Some(tail) = key.strip_prefix(query.prefix) else { break };
        let group = query.delimiter.and_then(|delimiter| {
            let at = tail.find(delimiter)?;
            Some(&key[..query.prefix.len() + at + delimiter.len()])
        });
        // A page that ended with a group goes on behind the group, not behind the group's name.
        let passed = group.is_some_and(|group| query.after.is_some_and(|after| group <= after));
        if !passed && page.objects.len() + page.groups.len() == query.limit {
            page.next = last.map(str::to_owned);
            break;
        }
        let Some(group) = group else {
            page.objects.push((key.clone(), stored.clone()));
            last = Some(key);
            continue;
        };
        if !passed {
            page.groups.push(group.to_owned());
            last = Some(group);
        }
        // A group may hold any number of keys and is still one line: they are not walked.
        let Some(behind) = behind(group) else { break };
        rest = objects.range::<str, _>((Included(behind.as_str()), Unbounded));
    }
    page
}

/// Returns the smallest text that is greater than every text that begins with `prefix`.
fn behind(prefix: &str) -> Option<String> {
    // UTF-8 sorts as its characters do, so the next character makes the next text.
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}
