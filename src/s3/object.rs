//! One version of one object: its size and etag, and its bytes by range.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumMode;
use aws_smithy_checksums::body::validate::Error as ChecksumError;
use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::answer::{cause, explain, timeout};
use super::client::Connection;
use super::head::{ObjectHead, is_usable, part_of, version_of};
use super::pace::Pace;
use super::reads::Io;
use crate::error::{Error, Result};
use crate::model::text::printable;
use crate::model::uri::S3Uri;

/// The step whose timeout is retried here. The SDK itself retries all others.
const READING_BODY: &str = "reading the object's body";
/// How much of a text of S3 is shown.
const SHOWN: usize = 200;

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
    pub(super) read_ahead: u64,
}

impl S3Object {
    /// Asks for size and etag with one HEAD. `read_ahead` is the memory for bytes that
    /// streams fetch in advance.
    pub async fn open(connection: Connection, uri: S3Uri, io: Io, read_ahead: u64) -> Result<Self> {
        let head = Self::head_of(&connection, &uri).await?;
        Ok(Self::at(connection, uri, head, io, read_ahead))
    }

    /// Makes the object from a size and etag that are known from a listing or a previous request.
    pub fn at(connection: Connection, uri: S3Uri, head: ObjectHead, io: Io, read_ahead: u64) -> Self {
        S3Object { connection, uri, head, io, read_ahead }
    }

    /// Asks for the size and etag of the current version.
    pub async fn head_of(connection: &Connection, uri: &S3Uri) -> Result<ObjectHead> {
        let request = |client: &Client| client.head_object().bucket(uri.bucket()).key(uri.key()).send();
        match connection.send(request).await {
            Ok(head) => ObjectHead::new(head.content_length(), head.e_tag(), head.version_id()),
            Err(error @ SdkError::ServiceError(_)) => Self::head_by_get(connection, uri, &error).await,
            Err(error) => Err(explain(&error, connection, uri.bucket())),
        }
    }

    /// Asks for the head again, with a GET of one byte: the answer to the HEAD that failed has no body in which S3
    /// could give the reason.
    async fn head_by_get<E>(
        connection: &Connection,
        uri: &S3Uri,
        error: &SdkError<E, HttpResponse>,
    ) -> Result<ObjectHead>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match Self::begin(connection, uri, 1).await? {
            Some(begun) => Ok(begun.head),
            None => Err(explain(error, connection, uri.bucket())),
        }
    }

    /// Asks for the first `most` bytes of the current version, whose size and etag come with the answer. Returns `None`
    /// if the object is empty.
    pub async fn begin(connection: &Connection, uri: &S3Uri, most: u64) -> Result<Option<Begun>> {
        let asked = 0..most.max(1);
        let request = |client: &Client| {
            client.get_object().bucket(uri.bucket()).key(uri.key()).range(range_header(&asked)).send()
        };
        let answer = match connection.send(request).await {
            Ok(answer) => answer,
            // An empty object has no first byte.
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 416) => return Ok(None),
            Err(error) => return Err(explain(&error, connection, uri.bucket())),
        };
        let (range, size) = part_of(answer.content_range(), answer.content_length(), &asked, None)?;
        let head = ObjectHead { size, etag: version_of(answer.e_tag(), answer.version_id())? };
        Ok(Some(Begun { head, len: range.end, answer: Box::new(answer) }))
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
                Err(Error::ChecksumMismatch) if attempt < attempts => body.clear(),
                // Another connection may be faster.
                Err(Error::BodyBroken { .. } | Error::BodySlow { .. }) if attempt < attempts => {}
                Err(Error::S3Timeout { doing: READING_BODY, .. }) if attempt < attempts => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(50 << attempt.min(6))).await;
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
            None => self.ask(&range).await?,
        };
        self.check(&answer, &range)?;
        let limit = self.connection.settings.read_timeout;
        let mut pace = Pace::new(self.connection.settings.min_speed, limit, Instant::now());
        loop {
            let chunk = match tokio::time::timeout(limit, answer.body.next()).await {
                Err(_) => return Err(timeout(limit, READING_BODY)),
                Ok(None) => break,
                Ok(Some(Err(error))) if cause::<ChecksumError>(&error).is_some() => {
                    return Err(Error::ChecksumMismatch);
                }
                Ok(Some(Err(error))) => return Err(Error::BodyBroken { why: printable(&error.to_string(), SHOWN) }),
                Ok(Some(Ok(chunk))) => chunk,
            };
            if body.len() + chunk.len() > end {
                return Err(Error::BadAnswer { why: "its body is longer than the range that was asked for".into() });
            }
            body.extend_from_slice(&chunk);
            if body.len() < end {
                pace.took(chunk.len() as u64, Instant::now())?;
            }
        }
        if body.len() < end {
            return Err(Error::BodyBroken { why: format!("{} bytes are missing", end - body.len()) });
        }
        Ok(())
    }

    /// Compares the head of an answer with the version and the range that were asked for. Not every server honours
    /// If-Match and Range.
    fn check(&self, answer: &GetObjectOutput, asked: &Range<u64>) -> Result<()> {
        let found = match self.head.version_id() {
            Some(_) => version_of(None, answer.version_id())?,
            None => version_of(answer.e_tag(), answer.version_id())?,
        };
        if found != self.head.etag {
            return Err(self.changed(found));
        }
        let (range, size) = part_of(answer.content_range(), answer.content_length(), asked, Some(self.head.size))?;
        if range != *asked {
            let why = format!("it is the whole object of {size} bytes, and {} were asked for", asked.end - asked.start);
            return Err(Error::BadAnswer { why });
        }
        Ok(())
    }

    async fn ask(&self, range: &Range<u64>) -> Result<GetObjectOutput> {
        // An etag that no producer can have got from S3 is that of no version.
        if !is_usable(&self.head.etag) {
            return Err(self.changed(String::new()));
        }
        let is_whole = *range == (0..self.head.size);
        let request = |client: &Client| {
            let get = client.get_object().bucket(self.uri.bucket()).key(self.uri.key());
            let get = match self.head.version_id() {
                Some(id) => get.version_id(id),
                None => get.if_match(format!("\"{}\"", self.head.etag)),
            };
            // S3 gives the checksum of a whole object only, and the SDK compares it.
            let get = if is_whole { get.checksum_mode(ChecksumMode::Enabled) } else { get.range(range_header(range)) };
            get.send()
        };
        self.connection.send(request).await.map_err(|error| {
            match explain(&error, &self.connection, self.uri.bucket()) {
                Error::ObjectChanged { found, .. } => self.changed(found),
                other => other,
            }
        })
    }

    fn changed(&self, found: String) -> Error {
        Error::ObjectChanged { expected: printable(&self.head.etag, SHOWN), found }
    }
}

fn range_header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
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
