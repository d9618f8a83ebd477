//! The service, with what s3s lacks: it counts requests and compares session tokens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::service::S3Service;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::http::{Body, BoxError, full, serve};
use crate::s3::keys::{KIT_ACCESS, Keys};

/// Serves one connection.
pub(super) async fn connection(service: Arc<Counting>, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
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
pub(super) struct Counting {
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
    pub fn new(service: S3Service, keys: Keys) -> Self {
        Self { service, keys, counts: Mutex::default(), total: AtomicU64::new(0) }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap().clone()
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::SeqCst)
    }

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

/// Returns a refusal in the form that S3 gives it.
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
