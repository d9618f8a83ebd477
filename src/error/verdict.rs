//! What a failure means for another attempt. No other place compares SQLSTATEs.

use super::Error;

/// SQLSTATE classes of PostgreSQL's errors that pass by themselves: connection exceptions, transaction rollbacks such
/// as deadlocks, objects in a wrong state, and operator interventions.
const TRANSIENT_CLASSES: [&str; 4] = ["08", "40", "55", "57"];
/// The SQLSTATE class of exhausted resources: disk, memory, connections, locks.
const RESOURCES_CLASS: &str = "53";
/// SQLSTATE of a full disk.
const DISK_FULL: &str = "53100";
/// SQLSTATE of a statement that was cancelled by a user or by its time limit.
const QUERY_CANCELED: &str = "57014";
/// SQLSTATE of a lock that was not granted within `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What a failure means for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt may succeed although nothing is changed.
    Transient,
    /// Another attempt fails as well until something is changed.
    Permanent,
    /// The server has run out of disk, memory, connections or locks.
    OutOfResources,
    /// The statement was cancelled.
    Cancelled,
    /// A lock was not granted in time.
    LockTimeout,
    /// Nothing under the object's prefix can be read. No failure has this verdict by itself: `pg/queue/outage.rs` gives
    /// it to those that [`Error::may_be_outage`] names.
    Outage,
}

impl Verdict {
    /// Returns the verdict on an error that PostgreSQL raised.
    pub fn of_sqlstate(sqlstate: &str) -> Verdict {
        match sqlstate {
            QUERY_CANCELED => Verdict::Cancelled,
            LOCK_NOT_AVAILABLE => Verdict::LockTimeout,
            _ if sqlstate.starts_with(RESOURCES_CLASS) => Verdict::OutOfResources,
            _ if TRANSIENT_CLASSES.iter().any(|class| sqlstate.starts_with(class)) => Verdict::Transient,
            _ => Verdict::Permanent,
        }
    }

    /// Returns whether the SQLSTATE is that of a full disk.
    pub fn is_disk_full(sqlstate: &str) -> bool {
        sqlstate == DISK_FULL
    }

    /// Returns whether another attempt may succeed.
    pub fn is_worth_another_attempt(self) -> bool {
        self != Verdict::Permanent
    }

    /// Returns whether the attempt counts against the object. The object is not the cause of exhausted resources, of
    /// another session's lock or of an outage.
    pub fn counts_against_object(self) -> bool {
        !matches!(self, Verdict::OutOfResources | Verdict::LockTimeout | Verdict::Outage)
    }
}

impl Error {
    /// Returns the verdict on one of the extension's own errors.
    pub fn verdict(&self) -> Verdict {
        match self {
            Error::Cancelled | Error::StatementCancelled { .. } => Verdict::Cancelled,
            Error::TooManyLocks { .. } => Verdict::OutOfResources,
            error if error.is_transient() => Verdict::Transient,
            _ => Verdict::Permanent,
        }
    }

    /// Returns whether the cause may lie outside the object: in the network, in S3, in its bucket and policies, in the
    /// credentials, the clock or the settings. Then it strikes the objects beside it as well. To a question for the
    /// size of an object, S3 answers the same if the bucket is missing and if the object is.
    pub fn may_be_outage(&self) -> bool {
        matches!(
            self,
            Error::NoSuchBucket { .. }
                | Error::NoSuchKey { .. }
                | Error::AccessDenied { .. }
                | Error::WrongRegion { .. }
                | Error::Unreachable { .. }
                | Error::S3Timeout { .. }
                | Error::S3Unavailable { .. }
                | Error::S3Refused { .. }
                | Error::BodyBroken { .. }
                | Error::BodySlow { .. }
                | Error::NoCredentials { .. }
                | Error::CredentialsRefused { .. }
                | Error::ClockOff { .. }
                | Error::BadAnswer { .. }
                | Error::BadS3Setting { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_sqlstates_has_its_verdict() {
        let verdicts = [
            ("57014", Verdict::Cancelled),
            ("57P02", Verdict::Transient),
            ("55P03", Verdict::LockTimeout),
            ("55006", Verdict::Transient),
            ("53200", Verdict::OutOfResources),
            ("53100", Verdict::OutOfResources),
            ("40P01", Verdict::Transient),
            ("08006", Verdict::Transient),
            ("23505", Verdict::Permanent),
            ("XX000", Verdict::Permanent),
        ];
        for (sqlstate, verdict) in verdicts {
            assert_eq!(Verdict::of_sqlstate(sqlstate), verdict, "{sqlstate}");
        }
    }

    #[test]
    fn an_error_of_the_extension_is_judged_by_its_kind_and_not_by_its_sqlstate() {
        assert_eq!(Error::Restoring.verdict(), Verdict::Transient);
        assert_eq!(Error::Cancelled.verdict(), Verdict::Cancelled);
        assert_eq!(Error::RootGrew.verdict(), Verdict::Permanent);
        assert_eq!(Error::TooManyLocks { wanted: 2, limit: 1 }.verdict(), Verdict::OutOfResources);
    }

    #[test]
    fn exhausted_resources_locks_of_others_and_outages_do_not_count_against_an_object() {
        for verdict in [Verdict::OutOfResources, Verdict::LockTimeout, Verdict::Outage] {
            assert!(verdict.is_worth_another_attempt() && !verdict.counts_against_object(), "{verdict:?}");
        }
        assert!(Verdict::Cancelled.counts_against_object());
        assert!(!Verdict::Permanent.is_worth_another_attempt());
    }

    #[test]
    fn what_may_strike_every_object_may_be_an_outage_and_what_is_in_the_file_may_not() {
        let denied = Error::AccessDenied { code: "AccessDenied".into() };
        let setting = Error::BadS3Setting { why: "no region".into() };
        for error in [denied, setting, Error::Unreachable { why: "refused".into() }] {
            assert!(error.may_be_outage(), "{error}");
        }
        let changed = Error::ObjectChanged { expected: "a".into(), found: "b".into() };
        for error in [Error::EmptyObject, Error::ChecksumMismatch, Error::Archived { class: None }, changed] {
            assert!(!error.may_be_outage(), "{error}");
        }
    }
}
