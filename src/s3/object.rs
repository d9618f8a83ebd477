//! One version of one object: its size and etag, and its bytes by range.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::answer::{explain, timeout};
use super::client::Connection;
use super::reads::Io;
use crate::error::{Error, Result};
use crate::model::uri::S3Uri;

/// The step whose timeout is retried here. The SDK itself retries all others.
const READING_BODY: &str = "reading the object's body";

/// Size and version of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectHead {
    /// Bytes.
    pub size: u64,
    /// The etag without its quotes.
    pub etag: String,
}

/// The answer to a GET of an object's first bytes; its body is not read yet.
#[derive(Debug)]
pub struct Begun {
    /// Size and etag of the object.
    pub head: ObjectHead,
    /// Bytes in the answer's body.
    pub len: u64,
    answer: Box<GetObjectOutput>,
}

/// An object at one etag, read by ranged GETs. Every answer must have that etag.
#[derive(Debug, Clone)]
pub struct S3Object {
    connection: Connection,
    uri: S3Uri,
    head: ObjectHead,
    pub(super) io: Io,
    pub(super) window: usize,
}

impl S3Object {
    /// Asks for size and etag with one HEAD. `window` is the number of bytes that one GET of a stream fetches.
    pub async fn open(connection: Connection, uri: S3Uri, io: Io, window: usize) -> Result<Self> {
        let head = Self::head_of(&connection, &uri).await?;
        Ok(Self::at(connection, uri, head, io, window))
    }

    /// Makes the object from a size and etag that are known from a listing or a previous request.
    pub fn at(connection: Connection, uri: S3Uri, head: ObjectHead, io: Io, window: usize) -> Self {
        S3Object { connection, uri, head, io, window }
    }

    /// Asks for the size and etag of the current version.
    pub async fn head_of(connection: &Connection, uri: &S3Uri) -> Result<ObjectHead> {
        let answer = connection.client.head_object().bucket(uri.bucket()).key(uri.key()).send().await;
        match answer {
            Ok(head) => Ok(ObjectHead {
                size: head.content_length().unwrap_or(0).max(0) as u64,
                etag: unquoted(head.e_tag().unwrap_or_default()),
            }),
            Err(error) => Err(why_no_head(connection, uri, &error).await),
        }
    }

    /// Asks for the first `most` bytes of the current version, whose size and etag come with the answer. Returns `None`
    /// if the answer does not have them or the object is empty; the caller then asks with a HEAD.
    pub async fn begin(connection: &Connection, uri: &S3Uri, most: u64) -> Result<Option<Begun>> {
        let get = connection.client.get_object().bucket(uri.bucket()).key(uri.key());
        let answer = match get.range(format!("bytes=0-{}", most.saturating_sub(1))).send().await {
            Ok(answer) => answer,
            // An empty object has no first byte.
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 416) => return Ok(None),
            Err(error) => return Err(explain(&error, connection, uri.bucket())),
        };
        let Some(len) = answer.content_length().and_then(|len| u64::try_from(len).ok()) else { return Ok(None) };
        let size = match answer.content_range() {
            Some(range) => range.strip_prefix(&format!("bytes 0-{}/", len.saturating_sub(1))).map(str::parse),
            // The server ignores ranges and sends the whole object.
            None => Some(Ok(len)),
        };
        let Some(Ok(size)) = size else { return Ok(None) };
        let head = ObjectHead { size, etag: unquoted(answer.e_tag().unwrap_or_default()) };
        Ok(Some(Begun { head, len, answer: Box::new(answer) }))
    }

    /// Reads the body of an answer to [`S3Object::begin`], and resumes where it breaks off.
    pub fn read_begun(&self, begun: Begun) -> Result<Bytes> {
        self.io.wait(self.fetch_with(0..begun.len, Some(begun.answer)))
    }

    /// Returns size and etag.
    pub fn head(&self) -> &ObjectHead {
        &self.head
    }

    /// Fetches the bytes of `range`, and resumes where an answer breaks off.
    pub async fn fetch(&self, range: Range<u64>) -> Result<Bytes> {
        self.fetch_with(range, None).await
    }

    /// Fetches the bytes of `range`. `answer` is the answer to the first request, if that was sent already.
    async fn fetch_with(&self, range: Range<u64>, mut answer: Option<Box<GetObjectOutput>>) -> Result<Bytes> {
        let wanted = (range.end - range.start) as usize;
        let mut body = BytesMut::with_capacity(wanted);
        let attempts = self.connection.settings.max_attempts.max(1);
        for attempt in 1.. {
            let rest = range.start + body.len() as u64..range.end;
            match self.append(rest, &mut body, answer.take()).await {
                Ok(()) => break,
                Err(Error::BodyBroken { .. } | Error::S3Timeout { doing: READING_BODY, .. }) if attempt < attempts => {
                    tokio::time::sleep(Duration::from_millis(50 << attempt.min(6))).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.io.bytes.fetch_add(wanted as u64, Ordering::Relaxed);
        Ok(body.freeze())
    }

    async fn append(&self, range: Range<u64>, body: &mut BytesMut, answer: Option<Box<GetObjectOutput>>) -> Result<()> {
        let end = body.len() + (range.end - range.start) as usize;
        if end == body.len() {
            return Ok(());
        }
        let mut answer = match answer {
            Some(answer) => *answer,
            None => self.ask(range).await?,
        };
        // Not every server honours If-Match, so the etag of every answer is compared.
        let etag = unquoted(answer.e_tag().unwrap_or_default());
        if etag != self.head.etag {
            return Err(self.named(Error::ObjectChanged { expected: String::new(), found: etag }));
        }
        let limit = self.connection.settings.read_timeout;
        loop {
            let chunk = match tokio::time::timeout(limit, answer.body.next()).await {
                Err(_) => return Err(timeout(limit, READING_BODY)),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(Error::BodyBroken { why: error.to_string() }),
                Ok(Some(Ok(chunk))) => chunk,
            };
            if body.len() + chunk.len() > end {
                return Err(Error::S3Refused {
                    status: 200,
                    code: "the answer is longer than the range asked for".into(),
                });
            }
            body.extend_from_slice(&chunk);
        }
        if body.len() < end {
            return Err(Error::BodyBroken { why: format!("{} bytes are missing", end - body.len()) });
        }
        Ok(())
    }

    async fn ask(&self, range: Range<u64>) -> Result<GetObjectOutput> {
        self.connection
            .client
            .get_object()
            .bucket(self.uri.bucket())
            .key(self.uri.key())
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .if_match(format!("\"{}\"", self.head.etag))
            .send()
            .await
            .map_err(|error| explain(&error, &self.connection, self.uri.bucket()))
            .map_err(|error| self.named(error))
    }

    fn named(&self, error: Error) -> Error {
        match error {
            Error::ObjectChanged { found, .. } => Error::ObjectChanged { expected: self.head.etag.clone(), found },
            other => other,
        }
    }
}

/// A whole object that is fetched in the background. Dropping it ends the fetch.
#[derive(Debug)]
pub struct Fetching(JoinHandle<Result<Bytes>>);

impl Fetching {
    /// Starts the fetch at once.
    pub fn start(object: S3Object) -> Self {
        let handle = object.io.handle.clone();
        let all = 0..object.head.size;
        Fetching(handle.spawn(async move { object.fetch(all).await }))
    }

    /// Blocks until the object is fetched, and returns its bytes.
    pub fn wait(mut self, io: &Io) -> Result<Bytes> {
        let internal = |error: tokio::task::JoinError| Error::Internal { why: error.to_string() };
        io.wait(async { (&mut self.0).await.unwrap_or_else(|error| Err(internal(error))) })
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the reason why a HEAD failed. The answer to a HEAD has no body in which S3 could give the reason, so this
/// asks with a GET of one byte.
async fn why_no_head<E>(
    connection: &Connection,
    uri: &S3Uri,
    error: &aws_sdk_s3::error::SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
) -> Error
where
    E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    let first = explain(error, connection, uri.bucket());
    if !matches!(error, aws_sdk_s3::error::SdkError::ServiceError(_)) {
        return first;
    }
    let get = connection.client.get_object().bucket(uri.bucket()).key(uri.key()).range("bytes=0-0");
    match get.send().await {
        Ok(_) => first,
        Err(error) => explain(&error, connection, uri.bucket()),
    }
}

/// Returns an etag without its quotes, as the tables store it.
pub fn unquoted(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}
