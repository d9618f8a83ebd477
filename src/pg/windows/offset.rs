//! The offset of a program that makes vectors outside the database: a row of its own in `ingestion.stream_offsets`.

use pgrx::datum::TimestampWithTimeZone;
use serde_json::Value;

use crate::error::{Error, Result, WindowError};
use crate::pg::session::spi;
use crate::pg::session::target::as_owner;

/// What the names of such sources begin with. Loads and watched prefixes use other names.
const PREFIX: &str = "embed:";
/// Bytes of a name.
const LONGEST: usize = 1_100;

/// Writes the offset of a source, which belongs to the role of the session from then on.
pub fn set(source: &str, time: TimestampWithTimeZone, state: &Value) -> Result<()> {
    let wrong = |what: &str| Err(Error::InvalidArgument { what: what.into() });
    if !source.starts_with(PREFIX) || source.len() == PREFIX.len() || source.len() > LONGEST {
        return wrong("source must begin with \"embed:\" and have 7 to 1,100 bytes");
    }
    if !state.is_object() {
        return wrong("state must be a JSON object");
    }
    as_owner(|client, _| {
        let args = [source.to_owned().into(), time.into(), state.to_string().into()];
        if spi::execute(client, statement!("embedding_offset"), &args)? > 0 {
            return Ok(());
        }
        Err(Error::Window(WindowError::NotOwnOffset { name: source.to_owned() }))
    })
}
