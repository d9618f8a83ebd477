//! A limit for every body that the SDK reads as a whole: listings, refusals, and the answers of the services that
//! give credentials. The SDK itself reads such a body to its end, however long it is.
//!
//! The body of an object is not read here: `object` compares its length with the range that it asked for.

use std::fmt;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};

/// The keys of one page of a listing. S3 gives no more.
pub const MAX_KEYS: usize = 1_000;
/// Bytes of one page of a listing. A thousand keys of 1,024 bytes, each byte escaped, take six million.
const LISTING: usize = 8 << 20;
/// Bytes of any other body.
const OTHER: usize = 256 << 10;

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyFault {
    /// It broke off.
    Broken(String),
    /// It is longer than the limit in bytes.
    TooLong(usize),
    /// A page of a listing has more keys than were asked for.
    TooManyKeys,
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyFault::Broken(why) => write!(f, "{why}"),
            BodyFault::TooLong(limit) => write!(f, "an answer has more than {limit} bytes"),
            BodyFault::TooManyKeys => write!(f, "a page has more than the {MAX_KEYS} keys that were asked for"),
        }
    }
}

impl std::error::Error for BodyFault {}

/// An HTTP client whose answers have bounded bodies.
#[derive(Debug)]
pub struct Bounded(pub SharedHttpClient);

impl HttpClient for Bounded {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components)))
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let kind = Kind::of(request.uri());
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut response: HttpResponse = answer.await?;
            if kind != Kind::Object || !response.status().is_success() {
                let body = std::mem::replace(response.body_mut(), SdkBody::taken());
                *response.body_mut() = SdkBody::from(read(body, kind).await?);
            }
            Ok(response)
        })
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Listing,
    Other,
}

impl Kind {
    /// The SDK names the operation of a GET in the query string.
    fn of(uri: &str) -> Kind {
        let query = uri.split_once('?').map_or("", |(_, query)| query);
        if query.split('&').any(|pair| pair == "x-id=GetObject") {
            Kind::Object
        } else if query.split('&').any(|pair| pair == "list-type=2") {
            Kind::Listing
        } else {
            Kind::Other
        }
    }
}

async fn read(body: SdkBody, kind: Kind) -> Result<Vec<u8>, ConnectorError> {
    let limit = if kind == Kind::Listing { LISTING } else { OTHER };
    let refused = |fault: BodyFault| ConnectorError::other(Box::new(fault), None);
    let mut stream = ByteStream::new(body);
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ConnectorError::io(Box::new(BodyFault::Broken(error.to_string()))))?;
        if bytes.len() + chunk.len() > limit {
            return Err(refused(BodyFault::TooLong(limit)));
        }
        bytes.extend_from_slice(&chunk);
    }
    if kind == Kind::Listing && has_more_keys_than(MAX_KEYS, &bytes) {
        return Err(refused(BodyFault::TooManyKeys));
    }
    Ok(bytes)
}

/// Returns whether a page of a listing has more than `most` keys. The SDK's value of one key takes many times the
/// bytes of its shortest element, so the keys are counted before the SDK reads the page.
fn has_more_keys_than(most: usize, xml: &[u8]) -> bool {
    let elements = xml.split(|byte| *byte == b'<').skip(1);
    let keys = elements.filter(|element| {
        let end = element.iter().position(|byte| matches!(byte, b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n'));
        let name = &element[..end.unwrap_or(element.len())];
        name.rsplit(|byte| *byte == b':').next() == Some(b"Contents")
    });
    keys.take(most + 1).count() > most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: Vec<u8>, kind: Kind) -> Result<Vec<u8>, ConnectorError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(SdkBody::from(bytes), kind))
    }

    #[test]
    fn the_query_string_says_what_is_asked_for() {
        assert_eq!(Kind::of("http://s3/landing/a?x-id=GetObject"), Kind::Object);
        assert_eq!(Kind::of("http://s3/landing/a?versionId=1&x-id=GetObject"), Kind::Object);
        assert_eq!(Kind::of("http://s3/landing?list-type=2&prefix=x-id%3DGetObject"), Kind::Listing);
        assert_eq!(Kind::of("http://169.254.169.254/latest/api/token"), Kind::Other);
    }

    #[test]
    fn a_body_ends_at_its_limit() {
        assert_eq!(read_all(vec![b' '; OTHER], Kind::Other).unwrap().len(), OTHER);
        for (kind, limit) in [(Kind::Other, OTHER), (Kind::Object, OTHER), (Kind::Listing, LISTING)] {
            let error = read_all(vec![b' '; limit + 1], kind).unwrap_err();
            let fault = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<BodyFault>());
            assert_eq!(fault, Some(&BodyFault::TooLong(limit)));
        }
    }

    #[test]
    fn keys_are_counted_by_their_elements_and_not_by_their_text() {
        let page = "<a><Contents><Key>b:Contents</Key></Contents><s:Contents /><ContentsOf/></a>";
        assert!(!has_more_keys_than(2, page.as_bytes()));
        assert!(has_more_keys_than(1, page.as_bytes()));
    }
}
