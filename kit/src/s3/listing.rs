//! ListObjectsV2 over the index: what was asked is read, what is found is worded.

use s3s::dto::{CommonPrefix, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object};
use s3s::{S3Result, s3_error};

use crate::s3::index::{Index, Query};

/// The most keys that real S3 puts on a page.
const PAGE: i32 = 1000;

pub(crate) fn answer(index: &Index, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let token = input.continuation_token.as_deref().map(key_of).transpose()?;
    let max_keys = input.max_keys.unwrap_or(PAGE).min(PAGE);
    let query = Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref(),
        // A token already stands behind the key that the first page started after.
        after: token.as_deref().or(input.start_after.as_deref()),
        limit: usize::try_from(max_keys).map_err(|_| s3_error!(InvalidArgument, "max-keys is negative"))?,
    };
    let Some(page) = index.page(&input.bucket, &query) else { return Err(s3_error!(NoSuchBucket)) };

    let word = |text: String| worded(input.encoding_type.as_ref(), text);
    let lines = page.objects.len() + page.groups.len();
    let objects = page.objects.into_iter().map(|(key, stored)| Object {
        key: Some(word(key)),
        e_tag: Some(stored.etag.clone()),
        last_modified: Some(stored.modified.clone()),
        size: i64::try_from(stored.size).ok(),
        ..Object::default()
    });
    let contents: Vec<Object> = objects.collect();
    let groups = page.groups.into_iter().map(|group| CommonPrefix { prefix: Some(word(group)) });
    let common_prefixes: Vec<CommonPrefix> = groups.collect();
    Ok(ListObjectsV2Output {
        key_count: i32::try_from(lines).ok(),
        max_keys: Some(max_keys),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_deref().map(token_of),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        continuation_token: input.continuation_token,
        delimiter: input.delimiter.map(word),
        prefix: input.prefix.map(word),
        start_after: input.start_after.map(word),
        encoding_type: input.encoding_type,
        name: Some(input.bucket),
        ..ListObjectsV2Output::default()
    })
}

/// Returns the token of a key. The two differ, so that a client that confuses them fails.
fn token_of(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the key of a token.
pub(crate) fn key_of(token: &str) -> S3Result<String> {
    let pairs = token.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Option<Vec<u8>> = pairs.collect();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// Encodes a key or a part of one as the request asks for it: boto3 always asks for it encoded.
pub(crate) fn worded(encoding: Option<&EncodingType>, text: String) -> String {
    if encoding.is_none_or(|kind| kind.as_str() != EncodingType::URL) {
        return text;
    }
    let word = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(word).collect()
}
