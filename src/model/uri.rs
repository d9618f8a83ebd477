//! `s3://bucket/key`, parsed and checked once, and the list of prefixes that loads may read.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Uri {
    bucket: String,
    key: String,
}

impl S3Uri {
    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the key, without a leading slash.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the exchange that the key names: the segment before the asset's segment, in lower case, e.g. `binance`
    /// in `Binance/BTCUSDT/…`.
    pub fn exchange(&self, asset: &str) -> Option<String> {
        let segments: Vec<&str> = self.key.split('/').collect();
        let at = segments.iter().position(|segment| *segment == asset)?;
        let exchange = segments[..at].last()?;
        (!exchange.is_empty()).then(|| exchange.to_lowercase())
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

impl FromStr for S3Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why| Error::InvalidUri { text: text.chars().take(200).collect(), why };
        let (bucket, key) = split(text).map_err(invalid)?;
        if key.is_empty() {
            return Err(invalid("it names no key"));
        }
        if key.ends_with('/') {
            return Err(invalid("it ends with a slash: it names a prefix, not an object"));
        }
        Ok(S3Uri { bucket: bucket.into(), key: key.into() })
    }
}

/// Splits `s3://bucket/key` into bucket and key. The key may be empty.
pub(super) fn split(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    let rest = text.strip_prefix("s3://").ok_or("it does not begin with s3://")?;
    if text.contains('?') {
        return Err("it has a query string");
    }
    if text.contains('#') {
        return Err("it has a fragment");
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let name_fits = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket.ends_with(|c: char| c.is_ascii_alphanumeric());
    if !name_fits {
        return Err("the bucket's name is not 3 to 63 lower-case letters, digits, dots and hyphens");
    }
    if key.len() > 1024 {
        return Err("the key is longer than 1024 bytes");
    }
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("it has a \".\" or \"..\" segment");
    }
    Ok((bucket, key))
}

/// The prefixes that loads may read: `btc_ingest.allowed_prefixes`. An empty list denies everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedPrefixes(Vec<(String, String)>);

impl AllowedPrefixes {
    /// Returns whether `uri` lies under one of the prefixes. A prefix covers whole path segments: `s3://b/BTC` allows
    /// `s3://b/BTC/x` but not `s3://b/BTCUSDT/x`.
    pub fn allow(&self, uri: &S3Uri) -> bool {
        self.0.iter().any(|(bucket, prefix)| {
            *bucket == uri.bucket
                && uri.key.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                    prefix.is_empty() || prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
                })
        })
    }

    /// Returns the prefix by which `uri` is allowed, the longest one if there are several.
    pub fn scope(&self, uri: &S3Uri) -> Option<Scope> {
        let allowing = self.0.iter().filter(|one| AllowedPrefixes(vec![(*one).clone()]).allow(uri));
        let (bucket, prefix) = allowing.max_by_key(|(_, prefix)| prefix.len())?;
        Some(Scope::new(bucket, if uri.key == *prefix { "" } else { prefix }))
    }

    /// Returns every prefix.
    pub fn scopes(&self) -> Vec<Scope> {
        self.0.iter().map(|(bucket, prefix)| Scope::new(bucket, prefix)).collect()
    }

    /// Returns whether a key that begins with `prefix` may be allowed: `prefix` lies under an allowed prefix, or is the
    /// beginning of one.
    pub fn may_hold(&self, bucket: &str, prefix: &str) -> bool {
        self.0.iter().any(|(allowed, under)| {
            allowed == bucket
                && (under.starts_with(prefix)
                    || prefix
                        .strip_prefix(under.as_str())
                        .is_some_and(|rest| under.is_empty() || under.ends_with('/') || rest.starts_with('/')))
        })
    }

    /// Returns a prefix that would allow a key: the bucket and the key's first segment, if it has several.
    pub fn wanted_for(bucket: &str, key: &str) -> String {
        match key.split_once('/') {
            Some((first, _)) if !first.is_empty() => format!("s3://{bucket}/{first}"),
            _ => format!("s3://{bucket}"),
        }
    }

    /// Returns whether everything is denied.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns each prefix as bucket and key prefix.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(bucket, prefix)| (bucket.as_str(), prefix.as_str()))
    }
}

/// A prefix of whole path segments: every uri under it begins with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The bucket's name.
    pub bucket: String,
    /// The beginning of the keys: empty, or ends with a slash.
    pub prefix: String,
}

impl Scope {
    fn new(bucket: &str, prefix: &str) -> Self {
        let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
        Scope { bucket: bucket.to_owned(), prefix: format!("{prefix}{slash}") }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl FromStr for AllowedPrefixes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut prefixes = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (bucket, prefix) = split(item).map_err(|why| Error::InvalidUri { text: item.into(), why })?;
            prefixes.push((bucket.to_owned(), prefix.to_owned()));
        }
        Ok(AllowedPrefixes(prefixes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(prefixes: &str, uri: &str) -> bool {
        prefixes.parse::<AllowedPrefixes>().unwrap().allow(&uri.parse().unwrap())
    }

    #[test]
    fn a_prefix_may_hold_allowed_keys_if_it_lies_under_or_above_one() {
        let allowed: AllowedPrefixes = "s3://landing/Binance/BTC".parse().unwrap();
        for (prefix, may) in
            [("", true), ("Bin", true), ("Binance/BTC/2024", true), ("Binance/BTCUSDT", false), ("Kraken", false)]
        {
            assert_eq!(allowed.may_hold("landing", prefix), may, "{prefix}");
        }
        assert!(!allowed.may_hold("other", ""));
    }

    #[test]
    fn a_uri_is_bucket_and_key() {
        let uri: S3Uri = "s3://landing-1/Binance/BTCUSDT/x y+z.parquet".parse().unwrap();
        assert_eq!((uri.bucket(), uri.key()), ("landing-1", "Binance/BTCUSDT/x y+z.parquet"));
        assert_eq!(uri.to_string(), "s3://landing-1/Binance/BTCUSDT/x y+z.parquet");
    }

    #[test]
    fn everything_that_is_not_a_plain_object_is_refused() {
        for text in [
            "",
            "landing/x",
            "http://landing/x",
            "S3://landing/x",
            "s3://",
            "s3://landing",
            "s3://landing/",
            "s3://landing/dir/",
            "s3://landing/x?versionId=1",
            "s3://landing/a/../b",
            "s3://landing/..",
            "s3://landing/./b",
            "s3://Landing/x",
            "s3://lb/x",
            "s3://landing/x#y",
            "s3://landing/a\nb",
            "s3://key:secret@landing/x",
            "file:///etc/passwd",
        ] {
            assert!(text.parse::<S3Uri>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_empty_list_denies_everything() {
        assert!(!allowed("", "s3://landing/x"));
        assert!(!allowed(" , ", "s3://landing/x"));
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        assert!(allowed("s3://landing", "s3://landing/x"));
        assert!(allowed("s3://other/y, s3://landing/Binance/", "s3://landing/Binance/x"));
        assert!(allowed("s3://landing/BTC", "s3://landing/BTC/x"));
        assert!(!allowed("s3://landing/BTC", "s3://landing/BTCUSDT/x"));
        assert!(!allowed("s3://landing", "s3://landing-2/x"));
    }

    #[test]
    fn the_scope_of_a_uri_is_the_longest_prefix_that_allows_it() {
        let allowed: AllowedPrefixes = "s3://landing, s3://landing/BTC, s3://other/y/".parse().unwrap();
        let scope = |uri: &str| allowed.scope(&uri.parse().unwrap()).map(|scope| scope.to_string());
        assert_eq!(scope("s3://landing/BTC/x").as_deref(), Some("s3://landing/BTC/"));
        assert_eq!(scope("s3://landing/BTCUSDT/x").as_deref(), Some("s3://landing/"));
        assert_eq!(scope("s3://other/y/x").as_deref(), Some("s3://other/y/"));
        assert_eq!(scope("s3://other/x"), None);
        // The text of a scope begins every uri under it, also the one that is the prefix itself.
        assert_eq!(scope("s3://landing/BTC").as_deref(), Some("s3://landing/"));
    }

    #[test]
    fn the_exchange_is_the_segment_before_the_asset() {
        let uri: S3Uri = "s3://landing/Binance/BTCUSDT/2024/x.parquet".parse().unwrap();
        assert_eq!(uri.exchange("BTCUSDT").as_deref(), Some("binance"));
        assert_eq!(uri.exchange("ETHUSDT"), None);
    }
}
