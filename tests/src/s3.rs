//! An S3 server in this process: s3s-fs behind an index (`s3_store`, `s3_service`, `s3_index`, `s3_listing`), with
//! the real protocol, real etags, signatures and If-Match that are checked, and listings of any length.
//!
//! What it is not: it knows no regions. Faults of every kind come from [`crate::proxy`].

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::http::{Body, BoxError, Server, full, serve};
use crate::janitor::ScratchDir;
use crate::s3_client::S3Client;
use crate::s3_store::Store;
use crate::tls::Authority;

/// The keys by which the kit itself writes, so that a test may revoke every other.
const KIT_ACCESS: &str = "TESTKITACCESSKEY";
const KIT_SECRET: &str = "test-kit-secret-key";

/// Who may use a server, shared between the server and whoever changes it.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<Mutex<HashMap<String, Key>>>);

#[derive(Debug, Clone)]
struct Key {
    secret: String,
    token: Option<String>,
}

impl Keys {
    /// Lets this user in; a secret given before is replaced.
    pub fn allow(&self, access: &str, secret: &str) {
        self.set(access, secret, None);
    }

    /// Lets this user in when the request also carries this session token, as keys of an instance role do.
    pub fn allow_with_token(&self, access: &str, secret: &str, token: &str) {
        self.set(access, secret, Some(token));
    }

    /// Keeps this user out.
    pub fn revoke(&self, access: &str) {
        self.0.lock().unwrap().remove(access);
    }

    fn set(&self, access: &str, secret: &str, token: Option<&str>) {
        let key = Key { secret: secret.to_owned(), token: token.map(str::to_owned) };
        self.0.lock().unwrap().insert(access.to_owned(), key);
    }

    fn get(&self, access: &str) -> Option<Key> {
        self.0.lock().unwrap().get(access).cloned()
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.get(access_key) {
            Some(key) => Ok(SecretKey::from(key.secret)),
            None => Err(s3_error!(InvalidAccessKeyId, "The AWS access key id does not exist in our records.")),
        }
    }
}

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
    /// A server over plain HTTP that knows one user.
    pub fn start(access: &str, secret: &str) -> Self {
        Self::make(access, secret, None)
    }

    /// The same over TLS, with a certificate for `127.0.0.1` and `localhost` of an authority of its own.
    pub fn https(access: &str, secret: &str) -> Self {
        Self::make(access, secret, Some(Authority::new()))
    }

    /// A server over files that stay: `root` is made when it is not there. For the program of its own.
    pub fn over(root: &Path, port: u16, access: &str, secret: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Self::serve(root, port, access, secret, None, None)
    }

    fn make(access: &str, secret: &str, authority: Option<Authority>) -> Self {
        let scratch = ScratchDir::new("btc_ingest-s3-").expect("a temporary directory");
        let root = scratch.path().to_owned();
        Self::serve(&root, 0, access, secret, authority, Some(scratch)).expect("an S3 server")
    }

    fn serve(
        root: &Path,
        port: u16,
        access: &str,
        secret: &str,
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
        let service = Arc::new(Counting { service: builder.build(), keys, counts: Mutex::default(), total: 0.into() });
        let acceptor = authority.as_ref().map(Authority::acceptor);
        let shared = service.clone();
        let server = Server::start(port, move |stream| connection(shared.clone(), stream, acceptor.clone()))?;
        let scheme = if authority.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", server.address());
        let ca = authority.as_ref().map(|authority| authority.pem().to_owned());
        let client = S3Client::new(&endpoint, own_access, own_secret, ca.as_deref());
        Ok(Self { service, store, server, client, root: root.to_owned(), authority, _scratch: scratch })
    }

    /// What `btc_ingest.s3_endpoint` wants.
    pub fn endpoint(&self) -> String {
        self.client.endpoint().to_owned()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// The directory of its files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The authority's certificate as a PEM file, readable by everybody; only for a server over TLS.
    pub fn ca_file(&self) -> &Path {
        self.authority.as_ref().expect("a server over TLS").file()
    }

    /// Who may use it.
    pub fn keys(&self) -> &Keys {
        &self.service.keys
    }

    /// See [`Keys::allow`].
    pub fn allow(&self, access: &str, secret: &str) {
        self.keys().allow(access, secret);
    }

    /// See [`Keys::revoke`].
    pub fn revoke(&self, access: &str) {
        self.keys().revoke(access);
    }

    /// A client with the kit's own keys, which is not counted in [`S3Server::requests`].
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

    /// With true, reads ignore If-Match, as servers do that are almost S3; with false, the default, they compare it.
    pub fn ignore_if_match(&self, ignore: bool) {
        self.store.ignore_if_match(ignore);
    }

    /// Removes an object.
    pub fn delete(&self, bucket: &str, key: &str) {
        self.client.delete(bucket, key).unwrap_or_else(|e| panic!("cannot delete {key}: {e}"));
    }

    /// The object's etag as the server sends it, quotes included.
    pub fn etag(&self, bucket: &str, key: &str) -> String {
        self.client.head(bucket, key).unwrap_or_else(|e| panic!("cannot head {key}: {e}")).etag
    }

    /// How many requests came so far, by method; those of [`S3Server::client`] aside.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.service.counts.lock().unwrap().clone()
    }

    /// How many requests of one method came so far.
    pub fn count(&self, method: &str) -> u64 {
        self.requests().get(method).copied().unwrap_or_default()
    }

    /// How many requests of any method came so far.
    pub fn total(&self) -> u64 {
        self.service.total.load(Ordering::SeqCst)
    }
}

async fn connection(service: Arc<Counting>, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let handler = move |request| {
        let service = service.clone();
        async move { service.answer(request).await }
    };
    match acceptor {
        None => serve(stream, handler).await,
        // A client that does not trust us hangs up here, which is what some tests want.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, handler).await;
            }
        }
    }
}

/// The service, with what s3s does not do: count, and compare session tokens.
struct Counting {
    service: S3Service,
    keys: Keys,
    counts: Mutex<BTreeMap<String, u64>>,
    total: AtomicU64,
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counting").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Counting {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let access = access_key(&request).map(str::to_owned);
        if access.as_deref() != Some(KIT_ACCESS) {
            *self.counts.lock().unwrap().entry(request.method().to_string()).or_default() += 1;
            self.total.fetch_add(1, Ordering::SeqCst);
        }
        let wanted = access.and_then(|access| self.keys.get(&access)).and_then(|key| key.token);
        let given = request.headers().get("x-amz-security-token").and_then(|value| value.to_str().ok());
        if wanted.is_some() && wanted.as_deref() != given {
            return Ok(xml_error(403, "InvalidToken", "The provided token is malformed or otherwise invalid."));
        }
        match self.service.call(request.map(s3s::Body::from)).await {
            Ok(response) => Ok(response.map(http_body_util::BodyExt::boxed)),
            Err(e) => Err(e.into()),
        }
    }
}

fn access_key(request: &Request<Incoming>) -> Option<&str> {
    let text = request.headers().get("authorization")?.to_str().ok()?;
    text.split_once("Credential=")?.1.split('/').next()
}

/// An answer as S3 words its refusals.
pub fn xml_error(status: u16, code: &str, message: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>TESTKIT</RequestId></Error>"
    );
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header("x-amz-request-id", "TESTKIT")
        .body(full(text))
        .expect("a status code")
}
