//! The difference between S3's clock and the server's, by the Date header of S3's answers. Refusals count as well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use chrono::{DateTime, Utc};

/// Reads the Date header of the answers to the requests that it is attached to.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead: Arc<Mutex<Option<i64>>>,
}

impl Clock {
    /// Returns the seconds by which S3's clock is ahead of the server's, by S3's last answer. Returns `None` if there
    /// was no answer.
    pub fn ahead(&self) -> Option<i64> {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(ahead) = date.and_then(|date| seconds_ahead(date, SystemTime::now())) {
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
        Ok(())
    }
}

/// Returns the seconds from `now` to the time in a Date header.
pub fn seconds_ahead(date: &str, now: SystemTime) -> Option<i64> {
    let theirs = DateTime::parse_from_rfc2822(date).ok()?;
    Some(theirs.timestamp() - DateTime::<Utc>::from(now).timestamp())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_date_header_says_how_far_the_clocks_are_apart() {
        let noon = UNIX_EPOCH + Duration::from_millis(1_723_118_400_900);
        assert_eq!(seconds_ahead("Thu, 08 Aug 2024 12:00:00 GMT", noon), Some(0));
        assert_eq!(seconds_ahead("Thu, 08 Aug 2024 12:15:01 GMT", noon), Some(901));
        assert_eq!(seconds_ahead("Thu, 08 Aug 2024 11:59:00 GMT", noon), Some(-60));
        assert_eq!(seconds_ahead("yesterday", noon), None);
    }
}
