//! What the head of an answer says of an object: its size, its version, and the range of bytes that follows.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::model::text::printable;

/// Stands before a version id where an etag is stored.
const VERSION: &str = "version-id:";
/// The longest etag, or version id with what stands before it, in bytes. S3's own have 32 to 40.
const MAX_LEN: usize = 256;
/// How much of a value that cannot be used is shown.
const SHOWN: usize = 100;

/// Size and version of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectHead {
    /// Bytes.
    pub size: u64,
    /// The strong etag without its quotes. If S3 gives none, `version-id:` and the version id.
    pub etag: String,
}

impl ObjectHead {
    /// Makes the head from the headers of an answer.
    pub fn new(size: Option<i64>, etag: Option<&str>, version: Option<&str>) -> Result<ObjectHead> {
        let size = size.ok_or_else(|| bad("it has no Content-Length"))?;
        let size = u64::try_from(size).map_err(|_| bad(&format!("its Content-Length is {size}")))?;
        Ok(ObjectHead { size, etag: version_of(etag, version)? })
    }

    /// Returns the version id by which the object must be asked for, if S3 gives it no strong etag.
    pub fn version_id(&self) -> Option<&str> {
        self.etag.strip_prefix(VERSION)
    }
}

/// Returns what identifies the version of an object: its strong etag, or otherwise its version id.
pub fn version_of(etag: Option<&str>, version: Option<&str>) -> Result<String> {
    if let Some(etag) = strong(etag)? {
        return Ok(etag);
    }
    // Objects that were written while their bucket had no versions all have the version id "null".
    let id = version.filter(|id| !id.is_empty() && *id != "null");
    let id = id.ok_or_else(|| Error::NoVersion { etag: etag.map(|etag| printable(etag, SHOWN)) })?;
    let text = format!("{VERSION}{id}");
    if is_usable(&text) { Ok(text) } else { Err(bad(&format!("its version id is \"{}\"", printable(id, SHOWN)))) }
}

/// Returns an etag without its quotes, as the tables store it. Returns `None` if there is none or a weak one, which
/// different bytes may share.
pub fn strong(etag: Option<&str>) -> Result<Option<String>> {
    let Some(etag) = etag.map(str::trim).filter(|etag| !etag.starts_with("W/")) else { return Ok(None) };
    let text = etag.trim_matches('"');
    if text.is_empty() {
        return Ok(None);
    }
    if !is_usable(text) || text.starts_with(VERSION) {
        return Err(bad(&format!("its ETag is \"{}\"", printable(text, SHOWN))));
    }
    Ok(Some(text.to_owned()))
}

/// Returns whether the text may be sent to S3 as an etag.
pub fn is_usable(etag: &str) -> bool {
    (1..=MAX_LEN).contains(&etag.len()) && etag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// Compares an answer's `Content-Range` and `Content-Length` with the range that was asked for. `size` is the object's
/// size if it is known. Returns the range that the body holds, and the object's size.
///
/// Without `Content-Range`, the body is the whole object, as of a server that ignores ranges. The range that was asked
/// for may end behind the object's end; the answer must then end there.
pub fn part_of(
    content_range: Option<&str>,
    len: Option<i64>,
    asked: &Range<u64>,
    size: Option<u64>,
) -> Result<(Range<u64>, u64)> {
    let len =
        len.map(|len| u64::try_from(len).map_err(|_| bad(&format!("its Content-Length is {len}")))).transpose()?;
    let (range, total) = match (content_range, len.or(size)) {
        (Some(text), _) => parsed(text).ok_or_else(|| {
            let shown = printable(text, SHOWN);
            bad(&format!("its Content-Range is \"{shown}\" for the bytes {} to {}", asked.start, asked.end - 1))
        })?,
        (None, Some(len)) => (0..len, len),
        (None, None) => return Err(bad("it has neither Content-Range nor Content-Length")),
    };
    if size.is_some_and(|size| size != total) {
        return Err(bad(&format!("the object has {total} bytes and not {}", size.unwrap_or_default())));
    }
    // A whole object may come for any range that begins at its first byte. The caller says whether it takes that.
    let wanted = if content_range.is_none() && asked.start == 0 { 0..total } else { asked.start..asked.end.min(total) };
    if range != wanted {
        let (first, last) = (asked.start, asked.end - 1);
        return Err(bad(&format!("for the bytes {first} to {last} it has the range {range:?} of {total} bytes")));
    }
    if len.is_some_and(|len| len != range.end - range.start) {
        return Err(bad(&format!("its Content-Length is {}, but its range is {range:?}", len.unwrap_or_default())));
    }
    Ok((range, total))
}

/// Parses `bytes FIRST-LAST/TOTAL`. Returns `None` if it is anything else, or if it contradicts itself.
fn parsed(text: &str) -> Option<(Range<u64>, u64)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    (first <= last && last < total).then(|| (first..last + 1, total))
}

fn bad(why: &str) -> Error {
    Error::BadAnswer { why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strong_etag_serves_before_a_version_id_and_neither_is_an_error() {
        let version = |etag, id| version_of(etag, id);
        assert_eq!(version(Some("\"abc-2\""), Some("v1")), Ok("abc-2".into()));
        assert_eq!(version(Some("W/\"abc\""), Some("v1")), Ok("version-id:v1".into()));
        assert_eq!(version(None, Some("v1")), Ok("version-id:v1".into()));
        for (etag, id) in [(None, None), (Some("W/\"abc\""), None), (Some("\"\""), Some("null")), (None, Some(""))] {
            assert!(matches!(version(etag, id), Err(Error::NoVersion { .. })), "{etag:?} {id:?}");
        }
        let head = ObjectHead::new(Some(3), None, Some("v1")).unwrap();
        assert_eq!(head.version_id(), Some("v1"));
    }

    #[test]
    fn an_etag_or_version_id_that_no_header_can_hold_is_refused() {
        let long = "a".repeat(MAX_LEN + 1);
        for etag in ["\"a\0b\"", "\"a\u{1b}[m\"", "\"a b\"", "\"é\"", "\"version-id:x\"", long.as_str()] {
            assert!(matches!(version_of(Some(etag), None), Err(Error::BadAnswer { .. })), "{etag:?}");
        }
        assert!(matches!(version_of(None, Some("a\0")), Err(Error::BadAnswer { .. })));
        assert!(!is_usable("") && !is_usable("a\nb") && is_usable("abc-2") && is_usable("version-id:v1"));
    }

    #[test]
    fn a_head_without_a_size_is_refused() {
        for size in [None, Some(-1)] {
            assert!(matches!(ObjectHead::new(size, Some("\"a\""), None), Err(Error::BadAnswer { .. })), "{size:?}");
        }
    }

    #[test]
    fn an_answer_must_have_the_range_that_was_asked_for() {
        let part = |range, len, asked, size| part_of(range, len, &asked, size);
        assert_eq!(part(Some("bytes 10-19/50"), Some(10), 10..20, Some(50)), Ok((10..20, 50)));
        assert_eq!(part(Some("bytes 10-19/50"), None, 10..20, None), Ok((10..20, 50)));
        // The first request asks for more than a small object has.
        assert_eq!(part(Some("bytes 0-49/50"), Some(50), 0..1000, None), Ok((0..50, 50)));
        // A server that ignores ranges.
        assert_eq!(part(None, Some(50), 0..1000, None), Ok((0..50, 50)));
        assert_eq!(part(None, Some(5000), 0..1000, None), Ok((0..5000, 5000)));
        assert_eq!(part(None, None, 0..50, Some(50)), Ok((0..50, 50)));

        let wrong = [
            (Some("bytes 11-20/50"), Some(10), 10..20, Some(50)),
            (Some("bytes 10-18/50"), Some(9), 10..20, Some(50)),
            (Some("bytes 10-20/50"), Some(11), 10..20, Some(50)),
            (Some("bytes 10-19/51"), Some(10), 10..20, Some(50)),
            (Some("bytes 10-19/50"), Some(11), 10..20, Some(50)),
            (Some("bytes 10-19/50"), Some(-1), 10..20, Some(50)),
            (Some("bytes 0-49/50"), Some(50), 10..20, Some(50)),
            (Some("bytes 0-9/50"), Some(10), 0..1000, None),
            (None, Some(50), 10..20, Some(50)),
            (None, None, 10..20, None),
        ];
        for (range, len, asked, size) in wrong {
            assert!(
                matches!(part(range, len, asked.clone(), size), Err(Error::BadAnswer { .. })),
                "{range:?} {asked:?}"
            );
        }
    }

    #[test]
    fn a_content_range_that_contradicts_itself_is_refused() {
        let asked = 0..100;
        for text in [
            "bytes 0-99/5",
            "bytes 5-4/100",
            "bytes 0-99/*",
            "bytes */100",
            "bytes 0-+9/100",
            "bytes -1-9/100",
            "items 0-9/9",
            "bytes 0-99/99999999999999999999",
            "bytes 0-18446744073709551615/18446744073709551615",
            "",
            "bytes 0-/5",
        ] {
            assert!(matches!(part_of(Some(text), Some(5), &asked, None), Err(Error::BadAnswer { .. })), "{text}");
        }
    }
}
