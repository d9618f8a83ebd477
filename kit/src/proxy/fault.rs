//! Which requests a rule strikes, and what happens to them.

use std::time::Duration;

use hyper::Method;

/// Which requests a rule is for.
#[derive(Debug, Clone)]
pub struct When {
    method: Option<&'static str>,
    text: Option<String>,
    pub(super) first: u64,
    pub(super) times: u64,
}

impl When {
    /// Matches every request.
    pub fn any() -> Self {
        Self { method: None, text: None, first: 1, times: u64::MAX }
    }

    /// Matches reads of objects, and listings.
    pub fn get() -> Self {
        Self { method: Some("GET"), ..Self::any() }
    }

    /// Matches questions for etag and size.
    pub fn head() -> Self {
        Self { method: Some("HEAD"), ..Self::any() }
    }

    /// Matches listings only.
    pub fn list() -> Self {
        Self::get().key("list-type=2")
    }

    /// Matches only where the path or the query, as sent, contains `text`.
    pub fn key(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Matches only the `n`th request that matches otherwise, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        (self.first, self.times) = (n, 1);
        self
    }

    /// Matches from the `n`th request on that matches otherwise, counted from 1.
    pub fn from(mut self, n: u64) -> Self {
        (self.first, self.times) = (n, u64::MAX);
        self
    }

    /// Matches no more than `n` times.
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    pub(super) fn fits(&self, method: &Method, path: &str) -> bool {
        self.method.is_none_or(|wanted| method.as_str() == wanted)
            && self.text.as_ref().is_none_or(|text| path.contains(text))
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The proxy answers without the server.
    Answer {
        /// The HTTP status.
        status: u16,
        /// S3's name of the error.
        code: &'static str,
        /// Headers besides.
        headers: Vec<(&'static str, String)>,
    },
    /// The request waits before it is passed on.
    Latency(Duration),
    /// No answer until [`FaultProxy::release`].
    Hang,
    /// The connection is reset instead of an answer.
    Drop,
    /// The body stops after so many bytes until [`FaultProxy::release`].
    StallAfter(u64),
    /// The body stops after so many bytes for so long.
    PauseAfter(u64, Duration),
    /// The connection is reset after so many bytes of the body.
    CutAfter(u64),
    /// The body ends after so many bytes and the header says so, too: well-formed, but not what was asked for.
    ShortenTo(u64),
    /// All bits of the byte at this offset of the body are flipped.
    FlipByte(u64),
    /// The answer has this etag, given with its quotes.
    Etag(&'static str),
    /// The answer was given so many seconds later than now, by its own word.
    Clock(i64),
}

impl Fault {
    /// Answers with any error of S3.
    pub fn answer(status: u16, code: &'static str) -> Self {
        Self::Answer { status, code, headers: Vec::new() }
    }

    /// Answers 503 SlowDown, which is transient.
    pub fn slow_down() -> Self {
        Self::answer(503, "SlowDown")
    }

    /// Answers 500 InternalError, which is transient.
    pub fn internal_error() -> Self {
        Self::answer(500, "InternalError")
    }

    /// Answers 403: a policy denies the request.
    pub fn access_denied() -> Self {
        Self::answer(403, "AccessDenied")
    }

    /// Answers 404: there is no such object.
    pub fn no_such_key() -> Self {
        Self::answer(404, "NoSuchKey")
    }

    /// Answers 412: the object has changed.
    pub fn precondition_failed() -> Self {
        Self::answer(412, "PreconditionFailed")
    }

    /// Answers 400: the credentials have expired.
    pub fn expired_token() -> Self {
        Self::answer(400, "ExpiredToken")
    }

    /// Answers 301: the bucket is in another region.
    pub fn moved_to(region: &str) -> Self {
        let headers = vec![("x-amz-bucket-region", region.to_owned())];
        Self::Answer { status: 301, code: "PermanentRedirect", headers }
    }

    /// Answers 400: the request is signed for another region.
    pub fn wrong_region(region: &str) -> Self {
        let headers = vec![("x-amz-bucket-region", region.to_owned())];
        Self::Answer { status: 400, code: "AuthorizationHeaderMalformed", headers }
    }

    /// Whether it strikes the body of an answer, which not every answer has.
    pub(crate) fn is_of_the_body(&self) -> bool {
        matches!(
            self,
            Self::StallAfter(_) | Self::PauseAfter(..) | Self::CutAfter(_) | Self::ShortenTo(_) | Self::FlipByte(_)
        )
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Hang | Self::StallAfter(_))
    }
}
