//! An object that this session has claimed.

/// An object that this session has claimed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The object.
    pub uri: String,
    /// The generation of its row when it was claimed. If the row has another generation later, the object has
    /// changed.
    pub generation: i64,
    /// Whether no backfill owns the object.
    pub live: bool,
    /// Whether its load is to show that S3 answers again. Other objects of its prefix wait meanwhile.
    pub probe: bool,
}
