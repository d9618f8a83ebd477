//! What can go wrong with vectors of slices.

/// A refusal of a question about vectors, or of a command on them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WindowError {
    /// No vector is stored of a slice.
    #[error("no vector of '{asset}' is stored for {bucket}")]
    Unknown {
        /// Start of the bucket.
        bucket: String,
        /// The asset.
        asset: String,
    },
    /// A vector has another length than those that are stored.
    #[error("the vector has {given} numbers, and those in signals.btc_embeddings have {wanted}")]
    WrongDimensions {
        /// Numbers of a stored vector.
        wanted: i64,
        /// Numbers of the given one.
        given: i64,
    },
    /// No stored vector has a feature version.
    #[error("no vector of feature version '{version}' is stored")]
    UnknownVersion {
        /// The version as given.
        version: String,
    },
    /// Vectors cannot be linked to a table or view.
    #[error("{what}")]
    Reference {
        /// What keeps them from being linked.
        what: String,
    },
    /// Stored vectors have no row in the table or view that they are to be linked to.
    #[error("{target} has no row for {count} of the stored vectors, the first of them that of {first}")]
    MissingRow {
        /// The table or view.
        target: String,
        /// How many vectors.
        count: i64,
        /// Asset and bucket of the first one.
        first: String,
    },
    /// The column takes vectors of another length than the library's own.
    #[error("signals.btc_embeddings takes vectors of {dimensions} numbers, and those that btc_ingest makes have {own}")]
    OtherDimensions {
        /// Numbers of a vector of the column.
        dimensions: i64,
        /// Numbers of one of the library's own.
        own: i64,
    },
    /// The dimension cannot be changed without removing vectors.
    #[error("{count} vectors of {dimensions} numbers are stored in signals.btc_embeddings")]
    Stored {
        /// How many vectors.
        count: i64,
        /// Numbers of each.
        dimensions: i64,
    },
    /// A worker makes the index anew.
    #[error("a worker is making the index on signals.btc_embeddings anew")]
    IndexInWork,
    /// A row of the offsets is not one that the caller may write.
    #[error("the offset '{name}' was written by another role, or by loads")]
    NotOwnOffset {
        /// The source.
        name: String,
    },
}
