//! What S3's error codes mean. docs/use/errors.md has the same table.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// What an error code means, at any HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// S3 is overloaded or failing, and the same request may succeed later.
    Busy,
    /// The credentials have expired, or their token is no longer valid.
    Expired,
    /// The key is not known, or the signature does not fit it. Credentials that were rotated look like this.
    WrongKey,
    /// The server's clock is off.
    Clock,
    /// The object is archived, and must be restored before it can be read.
    Archived,
    /// There is no such bucket.
    NoBucket,
    /// There is no such object, or no such version of it.
    NoObject,
    /// The bucket is in another region.
    Region,
    /// The object has another etag than the one that was asked for.
    Changed,
}

/// The codes. Those that are not here are judged by the HTTP status.
pub const CODES: &[(&str, Meaning)] = &[
    ("BandwidthLimitExceeded", Meaning::Busy),
    ("ConditionalRequestConflict", Meaning::Busy),
    ("EC2ThrottledException", Meaning::Busy),
    ("InternalError", Meaning::Busy),
    ("LimitExceededException", Meaning::Busy),
    ("OperationAborted", Meaning::Busy),
    ("PriorRequestNotComplete", Meaning::Busy),
    ("ProvisionedThroughputExceededException", Meaning::Busy),
    ("RequestLimitExceeded", Meaning::Busy),
    ("RequestThrottled", Meaning::Busy),
    ("RequestThrottledException", Meaning::Busy),
    ("RequestTimeout", Meaning::Busy),
    ("RequestTimeoutException", Meaning::Busy),
    ("ServiceUnavailable", Meaning::Busy),
    ("SlowDown", Meaning::Busy),
    ("ThrottledException", Meaning::Busy),
    ("Throttling", Meaning::Busy),
    ("ThrottlingException", Meaning::Busy),
    ("TooManyRequests", Meaning::Busy),
    ("TooManyRequestsException", Meaning::Busy),
    ("TransactionInProgressException", Meaning::Busy),
    ("ExpiredToken", Meaning::Expired),
    ("ExpiredTokenException", Meaning::Expired),
    ("InvalidToken", Meaning::Expired),
    ("TokenRefreshRequired", Meaning::Expired),
    ("InvalidAccessKeyId", Meaning::WrongKey),
    ("SignatureDoesNotMatch", Meaning::WrongKey),
    ("RequestTimeTooSkewed", Meaning::Clock),
    ("InvalidObjectState", Meaning::Archived),
    ("NoSuchBucket", Meaning::NoBucket),
    ("NoSuchKey", Meaning::NoObject),
    ("NoSuchVersion", Meaning::NoObject),
    ("AuthorizationHeaderMalformed", Meaning::Region),
    ("IllegalLocationConstraintException", Meaning::Region),
    ("PermanentRedirect", Meaning::Region),
    ("PreconditionFailed", Meaning::Changed),
];

/// Returns what a code means, or `None` if only the HTTP status says it.
pub fn meaning(code: &str) -> Option<Meaning> {
    CODES.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}

/// Returns whether the request may have failed because of its credentials. The answer to a HEAD does not say why.
pub fn may_be_credentials<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let SdkError::ServiceError(service) = error else { return false };
    let status = service.raw().status().as_u16();
    match service.err().code().map(meaning) {
        Some(Some(Meaning::Expired | Meaning::WrongKey)) => true,
        Some(Some(_)) => false,
        Some(None) => status == 403,
        None => matches!(status, 400 | 403),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_code_once() {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/use/errors.md")).unwrap();
        let section = document.split("## S3's own error codes").nth(1).and_then(|rest| rest.split("\n## ").next());
        let mut listed: Vec<&str> = section
            .expect("the section")
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
            .flat_map(|cell| cell.split(", "))
            .filter(|code| code.chars().all(|c| c.is_ascii_alphanumeric()) && *code != "code")
            .collect();
        listed.sort_unstable();
        let mut known: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
        known.sort_unstable();
        assert_eq!(listed, known);
    }
}
