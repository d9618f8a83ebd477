//! What the S3 server serves: the files of s3s-fs, with what those lack.
//!
//! s3s-fs lists without etags, reads a whole directory for every page and ignores If-Match on reads. Here an index
//! answers listings, reads compare If-Match, and objects that have no file are served from memory (`service`).
//! What changes below the root by other means than this server is not listed until the next start.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hyper::Method;
use s3s::dto::{CopySource, ETag, ETagCondition, HeadObjectInput, HeadObjectOutput};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use crate::s3::index::{Index, Stored};

/// What s3s wants of every request.
pub(crate) type Answer<T> = S3Result<S3Response<T>>;

/// A handle; all its clones are one store.
#[derive(Debug, Clone)]
pub(crate) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: FileSystem,
    index: Index,
    ignore_if_match: AtomicBool,
    refreshing: tokio::sync::Mutex<()>,
}

impl Store {
    /// Opens the store of what is below `root`, which is walked once. Not to be called from within a runtime.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        let files = FileSystem::new(root).map_err(|e| std::io::Error::other(format!("{}: {e:?}", root.display())))?;
        let inner = Inner { files, index: Index::default(), ignore_if_match: false.into(), refreshing: ().into() };
        let store = Self(Arc::new(inner));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            // Beside the buckets lie s3s-fs's own files.
            let (true, Ok(bucket)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) else { continue };
            store.0.index.add_bucket(&bucket);
            let mut keys = Vec::new();
            walk(&entry.path(), "", &mut keys)?;
            runtime.block_on(async {
                for key in &keys {
                    store.refresh(&bucket, key).await;
                }
            });
        }
        Ok(store)
    }

    /// See [`crate::S3Server::ignore_if_match`].
    pub fn ignore_if_match(&self, ignore: bool) {
        self.0.ignore_if_match.store(ignore, Ordering::SeqCst);
    }

    /// See [`crate::S3Server::put_copies`]. Returns false if there is no such bucket.
    pub fn put_copies(&self, bucket: &str, keys: impl Iterator<Item = String>, bytes: Bytes) -> bool {
        self.0.index.set_all(bucket, keys, &Stored::in_memory(bytes))
    }

    /// Returns the objects that are files.
    pub fn files(&self) -> &FileSystem {
        &self.0.files
    }

    /// Returns the index of all objects, those without a file included.
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// Takes into the index what the file is now.
    ///
    /// One at a time, and always after the change: whichever of two changes to one key comes last, the last look sees
    /// it.
    async fn refresh(&self, bucket: &str, key: &str) {
        let _turn = self.0.refreshing.lock().await;
        // To s3s-fs such a key is a directory, or the file of that name.
        let head = if key.ends_with('/') { None } else { self.head(bucket, key).await.ok() };
        let stored = head.map(|head| Stored {
            size: head.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            etag: head.e_tag.unwrap_or_else(|| ETag::Strong(String::new())),
            modified: head.last_modified.unwrap_or_default(),
            bytes: None,
        });
        self.0.index.set(bucket, key, stored.map(Arc::new));
    }

    /// Refreshes after a change. A refused one may have changed the file, too: s3s-fs compares digests after it wrote.
    pub async fn changed<T>(&self, bucket: &str, key: &str, answer: Answer<T>) -> Answer<T> {
        if answer.is_ok() || self.0.index.in_memory(bucket, key).is_none() {
            self.refresh(bucket, key).await;
        }
        answer
    }

    /// Returns the etag and the size of the file as it is now.
    pub async fn head(&self, bucket: &str, key: &str) -> S3Result<HeadObjectOutput> {
        let input = HeadObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() };
        let request = S3Request {
            input,
            method: Method::HEAD,
            uri: Default::default(),
            headers: Default::default(),
            extensions: Default::default(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        };
        Ok(self.0.files.head_object(request).await?.output)
    }

    /// Refuses when the object is another one than the request is for.
    pub fn compare(&self, if_match: Option<&ETagCondition>, etag: Option<&ETag>) -> S3Result<()> {
        let Some(ETagCondition::ETag(wanted)) = if_match else { return Ok(()) };
        if self.0.ignore_if_match.load(Ordering::SeqCst) || etag.is_some_and(|etag| etag.strong_cmp(wanted)) {
            return Ok(());
        }
        Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"))
    }

    /// Refuses to copy an object without a file: s3s-fs would report that there is no such object.
    pub fn must_be_file(&self, source: &CopySource) -> S3Result<()> {
        match source {
            CopySource::Bucket { bucket, key, .. } if self.0.index.in_memory(bucket, key).is_some() => {
                Err(s3_error!(NotImplemented, "The test kit copies no objects that have no file."))
            }
            _ => Ok(()),
        }
    }
}

/// Appends the keys of all files below `dir`, each after `prefix`.
fn walk(dir: &Path, prefix: &str, keys: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = format!("{prefix}{name}");
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), &format!("{key}/"), keys)?,
            false => keys.push(key),
        }
    }
    Ok(())
}
