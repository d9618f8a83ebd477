//! S3's answers that are no success, as the extension's own errors.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::body::BodyFault;
use super::client::Connection;
use super::clock::seconds_ahead;
use super::codes::{Meaning, meaning};
use super::credentials::{may_rotate, none_found};
use crate::error::Error;
use crate::model::text::printable;

/// Stands for an error code in messages if S3 gives none.
const NO_CODE: &str = "no error code";
/// How much of a text of S3 is shown.
const SHOWN: usize = 200;

/// Converts the SDK's error of a request on `bucket` into an [`Error`].
pub fn explain<E>(error: &SdkError<E, HttpResponse>, connection: &Connection, bucket: &str) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let Some(fault) = cause::<BodyFault>(error) {
        return match fault {
            BodyFault::Broken(why) => Error::BodyBroken { why: printable(why, SHOWN) },
            BodyFault::TooLong(_) => Error::BadAnswer { why: fault.to_string() },
            BodyFault::TooManyKeys => Error::BadListing { why: fault.to_string() },
        };
    }
    if let Some(error) = cause::<CredentialsError>(error) {
        return none_found(error);
    }
    let settings = &connection.settings;
    match error {
        SdkError::TimeoutError(_) => timeout(settings.read_timeout, "waiting for its answer"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            // Only the text of the SDK's error says which of its two limits was exceeded.
            if DisplayErrorContext(error).to_string().contains("HTTP connect timeout") {
                timeout(settings.connect_timeout, "connecting")
            } else {
                timeout(settings.read_timeout, "waiting for its answer")
            }
        }
        SdkError::DispatchFailure(_) => Error::Unreachable { why: innermost(error) },
        SdkError::ConstructionFailure(_) => {
            let why = format!("{}; look at btc_ingest.s3_endpoint and btc_ingest.s3_region", innermost(error));
            Error::BadS3Setting { why }
        }
        SdkError::ResponseError(_) => Error::BodyBroken { why: innermost(error) },
        SdkError::ServiceError(service) if service.raw().status().is_success() => {
            Error::BadAnswer { why: format!("it cannot be parsed: {}", innermost(error)) }
        }
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let refusal = Refusal {
                status: raw.status().as_u16(),
                code: service.err().code(),
                region: raw.headers().get("x-amz-bucket-region"),
                date: raw.headers().get("date"),
                body: raw.body().bytes().unwrap_or_default(),
            };
            refusal.explain(bucket, &connection.region, may_rotate(&connection.credentials_from))
        }
        _ => Error::S3Refused { status: 0, code: innermost(error) },
    }
}

/// An answer with a status that is no success.
#[derive(Debug, Clone, Copy)]
struct Refusal<'a> {
    status: u16,
    code: Option<&'a str>,
    /// The bucket's region, if S3 names it.
    region: Option<&'a str>,
    /// S3's clock.
    date: Option<&'a str>,
    body: &'a [u8],
}

impl Refusal<'_> {
    /// `asked` is the region that the request was signed for. `rotates` says whether the source of the credentials may
    /// give others later.
    fn explain(self, bucket: &str, asked: &str, rotates: bool) -> Error {
        let status = self.status;
        let code = printable(self.code.unwrap_or(NO_CODE), SHOWN);
        let is_elsewhere = self.region.is_some_and(|region| region != asked);
        if self.code == Some("TemporaryRedirect") && !is_elsewhere {
            // S3 redirects requests on a new bucket until its name is known everywhere.
            return Error::S3Unavailable { status, code };
        }
        match self.code.and_then(meaning) {
            Some(Meaning::Busy) => Error::S3Unavailable { status, code },
            Some(Meaning::Expired) => Error::CredentialsRefused { code },
            Some(Meaning::WrongKey) if rotates => Error::CredentialsRefused { code },
            Some(Meaning::WrongKey) => Error::AccessDenied { code },
            Some(Meaning::Clock) => Error::ClockOff { ahead: self.ahead() },
            Some(Meaning::Archived) => Error::Archived { class: self.storage_class() },
            Some(Meaning::NoBucket) => Error::NoSuchBucket { bucket: bucket.into() },
            Some(Meaning::NoObject) => Error::NoSuchKey { bucket: bucket.into() },
            Some(Meaning::Region) => self.wrong_region(asked),
            Some(Meaning::Changed) => changed(),
            None => match status {
                301 | 302 | 307 | 308 => self.wrong_region(asked),
                400 if is_elsewhere => self.wrong_region(asked),
                403 => Error::AccessDenied { code },
                404 => Error::NoSuchKey { bucket: bucket.into() },
                412 => changed(),
                408 | 429 | 500..=599 => Error::S3Unavailable { status, code },
                _ => Error::S3Refused { status, code },
            },
        }
    }

    fn wrong_region(self, asked: &str) -> Error {
        Error::WrongRegion { asked: asked.into(), actual: self.region.map(|region| printable(region, SHOWN)) }
    }

    fn ahead(self) -> Option<i64> {
        seconds_ahead(self.date?, std::time::SystemTime::now())
    }

    /// Returns the storage class that the body of a refusal names.
    fn storage_class(self) -> Option<String> {
        let text = std::str::from_utf8(self.body).ok()?;
        let class = text.split_once("<StorageClass>")?.1.split_once('<')?.0;
        Some(printable(class, SHOWN))
    }
}

fn changed() -> Error {
    Error::ObjectChanged { expected: "the first one".into(), found: "another one".into() }
}

/// Returns the error for a wait that exceeded its limit.
pub fn timeout(limit: std::time::Duration, doing: &'static str) -> Error {
    Error::S3Timeout { limit_ms: limit.as_millis() as u64, doing }
}

/// Returns the first error of type `T` in a chain of errors.
pub fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// Returns the last cause in a chain of errors: "Connection refused" rather than "dispatch failure".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = std::iter::successors(Some(error), |&error| error.source()).last();
    printable(&last.map(ToString::to_string).unwrap_or_default(), SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(status: u16, code: &'a str, region: Option<&'a str>) -> Refusal<'a> {
        let code = Some(code).filter(|code| !code.is_empty());
        Refusal { status, code, region, date: None, body: b"" }
    }

    fn seen(status: u16, code: &str, region: Option<&str>) -> &'static str {
        refusal(status, code, region).explain("landing", "us-east-1", false).sqlstate()
    }

    #[test]
    fn a_status_and_a_code_say_what_is_wrong() {
        assert_eq!(seen(404, "NoSuchBucket", None), "S3003");
        assert_eq!(seen(404, "NoSuchKey", None), "S3004");
        assert_eq!(seen(404, "", None), "S3004");
        assert_eq!(seen(403, "SignatureDoesNotMatch", None), "S3005");
        assert_eq!(seen(403, "AccessDenied", None), "S3005");
        assert_eq!(seen(301, "PermanentRedirect", Some("eu-west-1")), "S3006");
        assert_eq!(seen(307, "TemporaryRedirect", Some("eu-west-1")), "S3006");
        assert_eq!(seen(400, "AuthorizationHeaderMalformed", None), "S3006");
        assert_eq!(seen(400, "", Some("eu-west-1")), "S3006");
        assert_eq!(seen(400, "InvalidRequest", Some("us-east-1")), "S3010");
        assert_eq!(seen(503, "SlowDown", None), "S3009");
        assert_eq!(seen(412, "PreconditionFailed", None), "S3011");
    }

    #[test]
    fn trouble_that_passes_is_transient_at_any_status() {
        let passing = [
            (400, "RequestTimeout"),
            (400, "ExpiredToken"),
            (400, "TokenRefreshRequired"),
            (400, "InvalidToken"),
            (400, "ThrottlingException"),
            (403, "RequestTimeTooSkewed"),
            (403, "RequestThrottled"),
            (408, ""),
            (409, "OperationAborted"),
            (307, "TemporaryRedirect"),
            (500, "InternalError"),
            (599, "anything"),
        ];
        for (status, code) in passing {
            let error = refusal(status, code, None).explain("landing", "us-east-1", false);
            assert!(error.is_transient(), "{status} {code}: {error:?}");
        }
    }

    #[test]
    fn a_key_that_s3_does_not_know_is_transient_where_another_may_come() {
        for code in ["InvalidAccessKeyId", "SignatureDoesNotMatch"] {
            let seen = |rotates| refusal(403, code, None).explain("landing", "us-east-1", rotates).sqlstate();
            assert_eq!((seen(true), seen(false)), ("S3017", "S3005"));
        }
    }

    #[test]
    fn a_clock_that_is_off_and_an_archived_object_are_named() {
        let mut late = refusal(403, "RequestTimeTooSkewed", None);
        late.date = Some("Thu, 08 Aug 2024 12:00:00 GMT");
        let Error::ClockOff { ahead: Some(ahead) } = late.explain("landing", "us-east-1", false) else { panic!() };
        assert!(ahead < 0, "{ahead}");

        let mut archived = refusal(403, "InvalidObjectState", None);
        archived.body = b"<Error><Code>InvalidObjectState</Code><StorageClass>DEEP_ARCHIVE</StorageClass></Error>";
        let class = Some("DEEP_ARCHIVE".to_owned());
        assert_eq!(archived.explain("landing", "us-east-1", true), Error::Archived { class });
    }

    #[test]
    fn a_code_is_shown_without_control_characters() {
        let Error::S3Refused { code, .. } = refusal(400, "a\0b", None).explain("b", "r", false) else { panic!() };
        assert_eq!(code, "a\\u{0}b");
    }
}
