//! The detail of an error: what was found, where the message alone does not say it.

use super::Error;

impl Error {
    /// Returns what was found, if the message does not say it already.
    pub fn detail(&self) -> Option<String> {
        match self {
            Error::UriNotAllowed { allowed, .. } if allowed.trim().is_empty() => {
                Some("btc_ingest.allowed_prefixes is empty, which denies every uri.".into())
            }
            Error::UriNotAllowed { allowed, .. } => Some(format!("Allowed are: {allowed}.")),
            Error::WrongRegion { actual: Some(region), .. } => Some(format!("S3 says that it is in \"{region}\".")),
            Error::ObjectChanged { expected, found } => {
                Some(format!("The load began with etag {expected}; an answer came with {found}."))
            }
            Error::NoCredentials { why } => Some(why.clone()),
            Error::ClockOff { ahead: Some(ahead) } if *ahead < 0 => {
                Some(format!("By S3's clock, this server's clock is {} seconds fast.", -ahead))
            }
            Error::ClockOff { ahead: Some(ahead) } => {
                Some(format!("By S3's clock, this server's clock is {ahead} seconds slow."))
            }
            Error::NoVersion { etag: Some(etag) } => Some(format!("The ETag is {etag}.")),
            Error::NotParquet { found } => Some(found.clone()),
            Error::Truncated { why } => Some(why.clone()),
            Error::Encrypted { what } => Some(what.clone()),
            Error::SchemaMismatch { found, .. } => Some(format!("The file has: {found}.")),
            Error::ConflictAbort { example, .. } => Some(example.clone()),
            Error::TooManyConflicts { limit, example, .. } => {
                Some(format!("btc_ingest.max_conflict_fraction is {limit}. {example}"))
            }
            _ => None,
        }
    }
}
