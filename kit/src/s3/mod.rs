//! An S3 server in this process: s3s-fs behind an index (`store`, `service`, `index`, `listing`), with
//! the real protocol, real etags, signatures and If-Match that are checked, and listings of any length.
//!
//! It knows no regions. Faults of every kind come from [`crate::proxy`].

pub mod client;
mod counting;
mod index;
mod keys;
mod listing;
pub mod program;
mod service;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use counting::xml_error;
pub use keys::Keys;
use keys::{KIT_ACCESS, KIT_SECRET};
use s3s::service::S3ServiceBuilder;

use crate::http::Server;
use crate::janitor::ScratchDir;
use crate::s3::client::S3Client;
use crate::s3::counting::{Counting, connection};
use crate::s3::store::Store;
use crate::tls::Authority;

/// A running server. Its files go with it.
#[derive(Debug)]
pub struct S3Server {
    service: Arc<Counting>,
    store: Store,
    server: Server,
    client: S3Client,
    root: PathBuf,
    authority: Option<Authority>,
    _scratch: Option<ScratchDir>,
}

impl S3Server {
    /// Starts a server over plain HTTP that knows one user.
    pub fn start(access: &str, secret: &str) -> Self {
        Self::make(access, secret, None)
    }

    /// Starts a server over TLS, with a certificate for `127.0.0.1` and `localhost` of an authority of its own.
    pub fn https(access: &str, secret: &str) -> Self {
        Self::make(access, secret, Some(Authority::new()))
    }

    /// Starts a server over files that stay, for the program of its own. Makes `root` if it is missing.
    pub fn over(root: &Path, port: u16, access: &str, secret: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Self::serve(root, port, (access, secret), None, None)
    }

    /// Does the same over TLS, with a certificate of a new authority.
    pub fn https_over(root: &Path, port: u16, access: &str, secret: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Self::serve(root, port, (access, secret), Some(Authority::new()), None)
    }

    fn make(access: &str, secret: &str, authority: Option<Authority>) -> Self {
        let scratch = ScratchDir::new("btc_ingest-s3-").expect("a temporary directory");
        let root = scratch.path().to_owned();
        Self::serve(&root, 0, (access, secret), authority, Some(scratch)).expect("an S3 server")
    }

    fn serve(
        root: &Path,
        port: u16,
        (access, secret): (&str, &str),
        authority: Option<Authority>,
        scratch: Option<ScratchDir>,
    ) -> std::io::Result<Self> {
        let keys = Keys::default();
        keys.allow(access, secret);
        // A program of its own knows the one user it was told of.
        let (own_access, own_secret) = if scratch.is_some() { (KIT_ACCESS, KIT_SECRET) } else { (access, secret) };
        keys.allow(own_access, own_secret);
        let store = Store::open(root)?;
        let mut builder = S3ServiceBuilder::new(store.clone());
        builder.set_auth(keys.clone());
        let service = Arc::new(Counting::new(builder.build(), keys));
        let acceptor = authority.as_ref().map(Authority::acceptor);
        let shared = service.clone();
        let server = Server::start(port, move |stream| connection(shared.clone(), stream, acceptor.clone()))?;
        let scheme = if authority.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", server.address());
        let ca = authority.as_ref().map(|authority| authority.pem().to_owned());
        let client = S3Client::new(&endpoint, own_access, own_secret, ca.as_deref());
        Ok(Self { service, store, server, client, root: root.to_owned(), authority, _scratch: scratch })
    }

    /// Returns what `btc_ingest.s3_endpoint` needs.
    pub fn endpoint(&self) -> String {
        self.client.endpoint().to_owned()
    }

    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Returns the directory of its files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the authority's certificate as a PEM file that all users can read; only for a server over TLS.
    pub fn ca_file(&self) -> &Path {
        self.authority.as_ref().expect("a server over TLS").file()
    }

    /// Returns the keys that the server accepts.
    pub fn keys(&self) -> &Keys {
        self.service.keys()
    }

    /// See [`Keys::allow`].
    pub fn allow(&self, access: &str, secret: &str) {
        self.keys().allow(access, secret);
    }

    /// See [`Keys::revoke`].
    pub fn revoke(&self, access: &str) {
        self.keys().revoke(access);
    }

    /// Returns a client with the kit's own keys, which is not counted in [`S3Server::requests`].
    pub fn client(&self) -> &S3Client {
        &self.client
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, bucket: &str) {
        self.client.create_bucket(bucket).expect("a new bucket");
    }

    /// Stores an object through the protocol and returns its uri.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<bytes::Bytes>) -> String {
        self.client.put(bucket, key, bytes).unwrap_or_else(|e| panic!("cannot put {key}: {e}"));
        format!("s3://{bucket}/{key}")
    }

    /// Stores the same bytes under each of these keys, in memory and without files, so that there may be hundreds of
    /// thousands. They are listed, read, deleted and replaced like others; only copies of them are not made.
    pub fn put_copies(&self, bucket: &str, keys: impl Iterator<Item = String>, bytes: impl Into<bytes::Bytes>) {
        assert!(self.store.put_copies(bucket, keys, bytes.into()), "there is no bucket {bucket}");
    }

    /// Sets whether reads ignore If-Match, as some imitations of S3 do. By default they compare it.
    pub fn ignore_if_match(&self, ignore: bool) {
        self.store.ignore_if_match(ignore);
    }

    /// Removes an object.
    pub fn delete(&self, bucket: &str, key: &str) {
        self.client.delete(bucket, key).unwrap_or_else(|e| panic!("cannot delete {key}: {e}"));
    }

    /// Returns the object's etag as the server sends it, quotes included.
    pub fn etag(&self, bucket: &str, key: &str) -> String {
        self.client.head(bucket, key).unwrap_or_else(|e| panic!("cannot head {key}: {e}")).etag
    }

    /// Counts the requests so far by method, but for those of [`S3Server::client`].
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.service.counts()
    }

    /// Counts the requests of one method so far.
    pub fn count(&self, method: &str) -> u64 {
        self.requests().get(method).copied().unwrap_or_default()
    }

    /// Counts the requests of any method so far.
    pub fn total(&self) -> u64 {
        self.service.total()
    }
}
