//! Detects objects that are no Parquet files by their name or metadata. The registry also lists objects of other
//! formats; they are skipped, which is no failure.

use serde_json::Value;

/// Name endings of other formats. An object without such an ending may be Parquet.
const OTHERS: [(&str, &str); 21] = [
    ("json", "JSON"),
    ("jsonl", "JSON"),
    ("ndjson", "JSON"),
    ("csv", "CSV"),
    ("tsv", "CSV"),
    ("txt", "text"),
    ("zip", "a zip archive"),
    ("gz", "gzip"),
    ("bz2", "bzip2"),
    ("xz", "xz"),
    ("zst", "zstd"),
    ("tar", "a tar archive"),
    ("tgz", "a tar archive"),
    ("avro", "Avro"),
    ("orc", "ORC"),
    ("arrow", "Arrow IPC"),
    ("md5", "a checksum"),
    ("sha256", "a checksum"),
    ("checksum", "a checksum"),
    ("crc", "a checksum"),
    ("tmp", "an unfinished file"),
];
/// The metadata keys that name a format, and the words in their values that mean another format than Parquet.
const KEYS: [&str; 2] = ["format", "content_type"];
const WORDS: [&str; 10] = ["json", "csv", "text/", "zip", "bzip2", "x-tar", "avro", "orc", "xml", "html"];

/// Returns why an object is not loaded: its metadata (`format`, `content_type`) or its name says that it is not
/// Parquet. Metadata that says Parquet overrides the name.
pub fn not_parquet(uri: &str, metadata: &Value) -> Option<String> {
    for key in KEYS {
        if let Some(said) = metadata[key].as_str() {
            let small = said.to_ascii_lowercase();
            if small.contains("parquet") {
                return None;
            }
            if WORDS.iter().any(|word| small.contains(word)) {
                return Some(format!("registered as {said:?} ({key}), not as Parquet"));
            }
        }
    }
    let name = uri.rsplit('/').next().unwrap_or_default();
    let (_, ending) = name.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    let (_, what) = OTHERS.iter().find(|(other, _)| *other == ending)?;
    Some(format!("its name ends with .{ending}: {what}, not Parquet"))
}

/// Returns whether a key found under a prefix of `length` bytes is no data object: its name says another format, or it
/// is hidden as Spark, Hive and Athena define it, like `_SUCCESS` and `_temporary/…`.
pub fn is_aside(key: &str, length: usize) -> bool {
    let mut begin = 0;
    let hidden = key.split('/').any(|segment| {
        let found = begin >= length && segment.starts_with(['_', '.']);
        begin += segment.len() + 1;
        found
    });
    hidden || not_parquet(key, &Value::Null).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_other_formats_are_no_parquet() {
        assert_eq!(
            not_parquet("s3://landing/a/b.json", &Value::Null).as_deref(),
            Some("its name ends with .json: JSON, not Parquet")
        );
        assert!(not_parquet("s3://landing/a/b.JSON.GZ", &Value::Null).is_some());
        assert!(not_parquet("s3://landing/a/b.zip", &json!({})).is_some());
    }

    #[test]
    fn names_that_say_nothing_may_be_parquet() {
        for name in ["b.parquet", "b.parq", "b", "b.bin", "b.2024", "json/b", "b.parquet.v2"] {
            assert_eq!(not_parquet(&format!("s3://landing/a/{name}"), &Value::Null), None, "{name}");
        }
    }

    #[test]
    fn what_the_producer_says_counts_more_than_the_name() {
        assert_eq!(not_parquet("s3://a/b.zip", &json!({"format": "parquet"})), None);
        assert_eq!(not_parquet("s3://a/b", &json!({"content_type": "application/vnd.apache.parquet"})), None);
        assert_eq!(not_parquet("s3://a/b", &json!({"content_type": "binary/octet-stream"})), None);
        assert_eq!(not_parquet("s3://a/b", &json!({"format": "binance-trades-v2"})), None);
        let said = not_parquet("s3://a/b.parquet", &json!({"content_type": "application/json"}));
        assert_eq!(said.as_deref(), Some("registered as \"application/json\" (content_type), not as Parquet"));
    }

    #[test]
    fn what_lies_beside_the_objects_of_a_prefix_is_aside() {
        for key in
            ["a/b/_SUCCESS", "a/b/_temporary/0/x.parquet", "a/b/.x.parquet.crc", "a/b/x.zip.CHECKSUM", "a/b/x.json"]
        {
            assert!(is_aside(key, 4), "{key}");
        }
        // A part that the prefix itself names is not hidden.
        for (key, length) in [("a/b/x.parquet", 4), ("_a/x.parquet", 3), ("a/_x.parquet", 3), ("a/b/x", 0)] {
            assert!(!is_aside(key, length), "{key}");
        }
    }
}
