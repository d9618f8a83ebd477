//! Why a unit is not built as a whole.

use crate::error::Error;
use crate::pg::queue::outage::Judged;
use crate::pg::session::ffi::Failure;

/// Why a unit is not built.
pub enum Refused {
    /// A reason why the chunk cannot be built as a whole.
    Objection(String),
    /// An error that was met.
    Failure(Failure),
    /// Nothing under the prefix of this object can be read.
    Outage(String, Judged),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Failure(error.into())
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failure(failure)
    }
}
