//! An object store that does not follow S3's protocol, in one way per folder: see [`Deviation`].
//!
//! It knows one bucket, gives three keys a page, and believes every signature.

mod answer;
mod listing;
mod object;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::hostile::answer::endless;
use crate::http::{Body, BoxError, Server, serve};
use crate::s3::xml_error;

/// The keys of one page.
const PAGE: usize = 3;

/// What the store does in a folder. Where the name does not say it, the store follows the protocol in all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    /// Nothing: the store follows the protocol.
    None,

    // ── listings ────────────────────────────────────────────────────────────────────────────────────────────────
    /// Before each page comes an empty one that is truncated, as the protocol allows.
    EmptyPages,
    /// The start-after parameter has no effect.
    IgnoresStartAfter,
    /// The continuation token has no effect, and each page has a new one.
    IgnoresToken,
    /// An empty page leads to itself.
    SameToken,
    /// Every page is empty and leads to another one.
    EndlessPages,
    /// A truncated page has no token.
    NoToken,
    /// No page says whether another one follows.
    NoIsTruncated,
    /// The keys of a page are in the reverse order.
    Backwards,
    /// A page begins with a key of another folder.
    ForeignKey,
    /// A page has 300,000 keys.
    CrowdedPage,
    /// The body of a page has no end.
    EndlessListing,
    /// The body of a refusal of a listing has no end.
    EndlessRefusal,
    /// A size is 2^63.
    HugeSize,
    /// A size is negative.
    NegativeSize,
    /// A key has no size.
    NoSize,
    /// A listing has no etags.
    NoListEtag,
    /// The etags of a listing are weak.
    WeakListEtag,
    /// An etag of a listing has a zero byte.
    ZeroInListEtag,
    /// A key has a zero byte.
    ZeroInKey,
    /// One more key has a control character.
    ControlInKey,
    /// A key has 2,000 bytes.
    LongKey,
    /// A page breaks off in the middle of an element.
    TornPage,
    /// A page is HTML.
    HtmlPage,

    // ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────
    /// Ranges have no effect.
    IgnoresRange,
    /// A range begins one byte later than asked, and `Content-Range` says so.
    ShiftedRange,
    /// `Content-Range` names a larger object.
    WrongTotal,
    /// `Content-Range` is `bytes 0-99/5`.
    NonsenseRange,
    /// The body of an object has no end.
    EndlessObject,
    /// The body of a refusal of an object has no end.
    EndlessObjectRefusal,
    /// Objects have no etag.
    NoEtag,
    /// The etags of objects are weak.
    WeakEtag,
    /// Objects have a version id and no etag.
    VersionOnly,
    /// The etag has bytes that are no ASCII.
    StrangeEtag,
    /// The etag has 300 characters.
    LongEtag,
    /// Objects have a CRC32, which is right.
    Checksum,
    /// The CRC32 is that of other bytes.
    WrongChecksum,
    /// The CRC32 is that of two parts, as of a multipart upload.
    CompositeChecksum,
    /// One bit of each whole object is flipped the first time, and the CRC32 is right.
    FlipsOnce,
    /// Reads are refused with this status and code.
    Refuses(u16, &'static str),
    /// The first read of each object is refused with this status and code.
    RefusesOnce(u16, &'static str),
}

/// A running store.
#[derive(Debug)]
pub struct HostileStore {
    state: Arc<State>,
    server: Server,
}

#[derive(Debug, Default)]
struct State {
    objects: Mutex<BTreeMap<String, Bytes>>,
    folders: Mutex<HashMap<String, Deviation>>,
    /// How often each key was read.
    reads: Mutex<HashMap<String, u32>>,
}

impl State {
    /// Returns the deviation in the folder of a key or prefix.
    fn deviation(&self, key: &str) -> Deviation {
        let folder = key.split('/').next().unwrap_or_default();
        self.folders.lock().unwrap().get(folder).copied().unwrap_or(Deviation::None)
    }

    /// Counts a read, and returns whether it is the first one of this key.
    fn is_first_read(&self, key: &str) -> bool {
        let mut reads = self.reads.lock().unwrap();
        let count = reads.entry(key.to_owned()).or_default();
        *count += 1;
        *count == 1
    }
}

impl HostileStore {
    /// Starts a store without objects.
    #[expect(clippy::new_without_default, reason = "a server is started, not assumed")]
    pub fn new() -> Self {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let connection = move |stream| {
            let state = shared.clone();
            serve(stream, move |request| answer(state.clone(), request))
        };
        Self { state, server: Server::start(0, connection).expect("a store") }
    }

    /// Returns what `btc_ingest.s3_endpoint` wants.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Says what the store does for keys that begin with `folder/`.
    pub fn deviate(&self, folder: &str, deviation: Deviation) {
        self.state.folders.lock().unwrap().insert(folder.to_owned(), deviation);
    }

    /// Stores an object.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.state.objects.lock().unwrap().insert(key.to_owned(), bytes.into());
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let path = decoded(request.uri().path());
    let query: HashMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let key = path.trim_start_matches('/').split_once('/').map(|(_, key)| key.to_owned()).unwrap_or_default();
    if query.contains_key("list-type") {
        return listing::answer(&state, &query);
    }
    let Some(bytes) = state.objects.lock().unwrap().get(&key).cloned() else {
        return Ok(xml_error(404, "NoSuchKey", "The specified key does not exist."));
    };
    object::answer(&state, &key, &bytes, &request)
}

/// Decodes the escapes of a path or of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the etag of an object, without quotes.
fn etag_of(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:032x}", hasher.finish())
}

/// Answers a refusal whose body has no end.
fn endless_refusal() -> Result<Response<Body>, BoxError> {
    let begin = "<Error><Code>AccessDenied</Code><Message>";
    Ok(Response::builder().status(403).header("content-type", "application/xml").body(endless(begin))?)
}
