//! The ways in which the store deviates.

/// What the store does in a folder. Where the name does not say it, the store follows the protocol in all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    /// Nothing: the store follows the protocol.
    None,

    // ── listings ────────────────────────────────────────────────────────────────────────────────────────────────
    /// Before each page comes an empty one that is truncated, as the protocol allows.
    EmptyPages,
    /// The start-after parameter has no effect.
    IgnoresStartAfter,
    /// The continuation token has no effect, and each page has a new one.
    IgnoresToken,
    /// An empty page leads to itself.
    SameToken,
    /// Every page is empty and leads to another one.
    EndlessPages,
    /// A truncated page has no token.
    NoToken,
    /// No page says whether another one follows.
    NoIsTruncated,
    /// The keys of a page are in the reverse order.
    Backwards,
    /// A page begins with a key of another folder.
    ForeignKey,
    /// A page has 300,000 keys.
    CrowdedPage,
    /// The body of a page has no end.
    EndlessListing,
    /// The body of a refusal of a listing has no end.
    EndlessRefusal,
    /// A size is 2^63.
    HugeSize,
    /// A size is negative.
    NegativeSize,
    /// A key has no size.
    NoSize,
    /// A listing has no etags.
    NoListEtag,
    /// The etags of a listing are weak.
    WeakListEtag,
    /// An etag of a listing has a zero byte.
    ZeroInListEtag,
    /// A key has a zero byte.
    ZeroInKey,
    /// One more key has a control character.
    ControlInKey,
    /// A key has 2,000 bytes.
    LongKey,
    /// A page breaks off in the middle of an element.
    TornPage,
    /// A page is HTML.
    HtmlPage,
    /// The body of a page comes a byte at a time, with pauses.
    DrippingPage,
    /// Each page takes half a second.
    SlowPages,

    // ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────
    /// Ranges have no effect.
    IgnoresRange,
    /// A range begins one byte later than asked, and `Content-Range` says so.
    ShiftedRange,
    /// `Content-Range` names a larger object.
    WrongTotal,
    /// `Content-Range` is `bytes 0-99/5`.
    NonsenseRange,
    /// The body of an object comes a byte at a time, with pauses.
    DrippingObject,
    /// Answers are of HTTP/1.0, and nothing tells the length of their bodies.
    Http10,
    /// The body of an object has no end.
    EndlessObject,
    /// The body of a refusal of an object has no end.
    EndlessObjectRefusal,
    /// Objects have no etag.
    NoEtag,
    /// The etags of objects are weak.
    WeakEtag,
    /// Objects have a version id and no etag.
    VersionOnly,
    /// The etag has bytes that are no ASCII.
    StrangeEtag,
    /// The etag has 300 characters.
    LongEtag,
    /// Objects have a CRC32, which is right.
    Checksum,
    /// The CRC32 is that of other bytes.
    WrongChecksum,
    /// The CRC32 is that of two parts, as of a multipart upload.
    CompositeChecksum,
    /// One bit of each whole object is flipped the first time, and the CRC32 is right.
    FlipsOnce,
    /// Reads are refused with this status and code.
    Refuses(u16, &'static str),
    /// The first read of each object is refused with this status and code.
    RefusesOnce(u16, &'static str),
}
