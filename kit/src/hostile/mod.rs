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
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, Version};

use crate::hostile::answer::of_unknown_length;
pub use crate::hostile::deviation::Deviation;
use crate::hostile::state::State;
use crate::http::{Body, BoxError, Server, serve};
use crate::s3::xml_error;

/// How long each page takes in a folder of `Deviation::SlowPages`.
const PAGE_TIME: Duration = Duration::from_millis(500);

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
    let is_listing = query.contains_key("list-type");
    let place = if is_listing { query.get("prefix") } else { Some(&key) };
    let deviation = state.deviation(place.map(String::as_str).unwrap_or_default());
    if is_listing && deviation == Deviation::SlowPages {
        tokio::time::sleep(PAGE_TIME).await;
    }
    let bytes = state.objects.lock().unwrap().get(&key).cloned();
    let mut response = match bytes {
        _ if is_listing => listing::answer(&state, &query)?,
        Some(bytes) => object::answer(&state, &key, &bytes, &request)?,
        None => xml_error(404, "NoSuchKey", "The specified key does not exist."),
    };
    if deviation == Deviation::Http10 && request.method() != Method::HEAD {
        *response.version_mut() = Version::HTTP_10;
        response = response.map(of_unknown_length);
    }
    Ok(response)
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
