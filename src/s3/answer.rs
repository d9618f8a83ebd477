//! S3's answers that are no success, as the extension's own errors.

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::client::Connection;
use crate::error::Error;

/// Converts the SDK's error of a request on `bucket` into an [`Error`].
pub fn explain<E>(error: &SdkError<E, HttpResponse>, connection: &Connection, bucket: &str) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
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
        SdkError::ConstructionFailure(_) => Error::BadS3Setting { why: innermost(error) },
        SdkError::ResponseError(_) => Error::BodyBroken { why: innermost(error) },
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let code = service.err().code().unwrap_or("no error code");
            let region = raw.headers().get("x-amz-bucket-region");
            status(raw.status().as_u16(), code, region, &connection.region, bucket)
        }
        _ => Error::S3Refused { status: 0, code: innermost(error) },
    }
}

fn status(status: u16, code: &str, region: Option<&str>, asked: &str, bucket: &str) -> Error {
    let elsewhere = region.is_some_and(|region| region != asked);
    match status {
        301 | 302 | 307 | 308 => wrong_region(asked, region),
        400 if elsewhere || matches!(code, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            wrong_region(asked, region)
        }
        403 => Error::AccessDenied { code: code.into() },
        404 if code == "NoSuchBucket" => Error::NoSuchBucket { bucket: bucket.into() },
        404 => Error::NoSuchKey { bucket: bucket.into() },
        412 => Error::ObjectChanged { expected: "the first one".into(), found: "another one".into() },
        429 | 500..=599 => Error::S3Unavailable { status, code: code.into() },
        _ => Error::S3Refused { status, code: code.into() },
    }
}

fn wrong_region(asked: &str, actual: Option<&str>) -> Error {
    Error::WrongRegion { asked: asked.into(), actual: actual.map(str::to_owned) }
}

/// Returns the error for a wait that exceeded its limit.
pub fn timeout(limit: std::time::Duration, doing: &'static str) -> Error {
    Error::S3Timeout { limit_ms: limit.as_millis() as u64, doing }
}

/// Returns the last cause in a chain of errors: "Connection refused" rather than "dispatch failure".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(code_status: u16, code: &str, region: Option<&str>) -> &'static str {
        status(code_status, code, region, "us-east-1", "landing").sqlstate()
    }

    #[test]
    fn a_status_and_a_code_say_what_is_wrong() {
        assert_eq!(seen(404, "NoSuchBucket", None), "S3003");
        assert_eq!(seen(404, "NoSuchKey", None), "S3004");
        assert_eq!(seen(403, "SignatureDoesNotMatch", None), "S3005");
        assert_eq!(seen(301, "PermanentRedirect", Some("eu-west-1")), "S3006");
        assert_eq!(seen(400, "AuthorizationHeaderMalformed", None), "S3006");
        assert_eq!(seen(400, "no error code", Some("eu-west-1")), "S3006");
        assert_eq!(seen(400, "InvalidRequest", Some("us-east-1")), "S3010");
        assert_eq!(seen(503, "SlowDown", None), "S3009");
        assert_eq!(seen(412, "PreconditionFailed", None), "S3011");
    }
}
