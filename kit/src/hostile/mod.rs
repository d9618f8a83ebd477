//! An object store that does not follow S3's protocol, in one way per folder: see [`Deviation`].
//!
//! It knows one bucket, gives three keys a page, and believes every signature.

mod answer;
mod deviation;
mod listing;
mod object;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};

pub use crate::hostile::deviation::Deviation;
use crate::hostile::state::State;
use crate::http::{Body, BoxError, Server, serve};
use crate::s3::xml_error;

/// A running store.
#[derive(Debug)]
pub struct HostileStore {
    state: Arc<State>,
    server: Server,
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
