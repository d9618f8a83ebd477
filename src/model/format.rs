//! Detects objects that are no Parquet files by their name or metadata. The registry also lists objects of other
//! formats; they are skipped, which is no failure.

use serde_json::Value;

/// Name endings of other formats. An object without such an ending may be Parquet.
const OTHERS: [(&str, &str); 37] = [
    ("json", "JSON"),
    ("jsonl", "JSON"),
    ("ndjson", "JSON"),
    ("csv", "CSV"),
    ("tsv", "CSV"),
    ("txt", "text"),
    ("text", "text"),
    ("log", "text"),
    ("md", "text"),
    ("xml", "XML"),
    ("html", "HTML"),
    ("yaml", "YAML"),
    ("yml", "YAML"),
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
    ("sha1", "a checksum"),
    ("sha256", "a checksum"),
    ("sha512", "a checksum"),
    ("checksum", "a checksum"),
    ("crc", "a checksum"),
    ("asc", "a signature"),
    ("sig", "a signature"),
    ("puffin", "statistics of Iceberg"),
    ("metadata", "metadata"),
    ("manifest", "a list of files"),
    ("done", "a marker"),
    ("success", "a marker"),
    ("lock", "a lock file"),
];
/// Endings by which programs mark a file that they are still writing.
const UNFINISHED: [&str; 9] =
    [".inprogress", ".pending", ".partial", ".filepart", ".incomplete", ".uploading", ".tmp", ".temp", "._copying_"];
/// Files that Kafka Connect writes beside its data.
const KAFKA: [&str; 2] = [".keys.parquet", ".headers.parquet"];
/// Folders in which programs keep what is no data: Kafka Connect and Firehose.
const FOLDERS: [&str; 3] = ["+tmp", "processing-failed", "format-conversion-failed"];
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
    // The uri is s3://bucket/key. A hidden name may be meant if it is registered, but a leftover cannot be.
    let key = uri.splitn(4, '/').last().unwrap_or_default();
    if let Some(what) = key.split('/').find_map(leftover) {
        return Some(format!("its name is that of {what}, not of a Parquet file"));
    }
    let (ending, what) = other_format(key)?;
    Some(format!("its name ends with .{ending}: {what}, not Parquet"))
}

/// Returns the ending of a name that says another format than Parquet, and that format.
fn other_format(key: &str) -> Option<(&'static str, &'static str)> {
    let name = key.rsplit('/').next().unwrap_or_default();
    let (_, ending) = name.rsplit_once('.')?;
    OTHERS.into_iter().find(|(other, _)| ending.eq_ignore_ascii_case(other))
}

/// Returns what a program has left behind, if a segment of a key has such a name.
fn leftover(segment: &str) -> Option<&'static str> {
    let small = segment.to_ascii_lowercase();
    let ends_with = |endings: &[&str]| endings.iter().any(|ending| small.ends_with(ending));
    if small.ends_with("_$folder$") {
        Some("a folder's marker")
    } else if ends_with(&UNFINISHED) || small.ends_with('~') || small.contains(".inprogress.") {
        Some("an unfinished file")
    } else if ends_with(&KAFKA) {
        Some("Kafka's keys or headers")
    } else if FOLDERS.contains(&&*small) {
        Some("a file that a program could not deliver")
    } else {
        None
    }
}

/// Returns whether Spark, Hive and Athena hide a segment of a key, like `_SUCCESS` and `_temporary`. Spark takes a name
/// such as `_day=2024-08-08` for a partition.
fn is_hidden(segment: &str) -> bool {
    segment.starts_with('.') || (segment.starts_with('_') && !segment.contains('='))
}

/// Returns whether a key found under a prefix of `length` bytes is no data object: its name says another format, it is
/// hidden, or a program has left it behind. What the prefix itself names does not count.
pub fn is_aside(key: &str, length: usize) -> bool {
    let mut begin = 0;
    let is_left = key.split('/').any(|segment| {
        let found = begin >= length && (is_hidden(segment) || leftover(segment).is_some());
        begin += segment.len() + 1;
        found
    });
    is_left || other_format(key).is_some()
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
        for key in [
            "_SUCCESS",
            "x.zip.CHECKSUM",
            "x.json",
            "dt=2024-08-08_$folder$",
            // Hadoop, Spark, Hive
            "_temporary/0/x.parquet",
            ".x.parquet.crc",
            "x.parquet.crc",
            "x.parquet._COPYING_",
            ".hive-staging_hive_2024/x.parquet",
            ".spark-staging-1/x.parquet",
            "_started_123",
            "_committed_123",
            "_metadata",
            "_common_metadata",
            // Flink
            ".part-0-0.inprogress.1f2e",
            "part-0-0.inprogress.1f2e",
            "part-0-0.inprogress",
            "_part-0-0.pending",
            // Delta, Hudi, Iceberg
            "_delta_log/00000000000000000010.checkpoint.parquet",
            ".hoodie/x.parquet",
            "metadata/v1.metadata.json",
            "metadata/version-hint.text",
            "metadata/snap-1.avro",
            // Kafka Connect, Firehose
            "+tmp/x.parquet",
            "t+0+1.keys.parquet",
            "t+0+1.headers.parquet",
            "processing-failed/2024/x",
            // rclone, s3fs, others
            "x.parquet.1a2b3c4d.partial",
            ".fuse_hidden0001",
            ".nfs0001",
            "x.parquet.tmp",
            "x.parquet~",
        ] {
            assert!(is_aside(&format!("a/b/{key}"), 4), "{key}");
        }
        // A part that the prefix itself names is not hidden.
        for (key, length) in [("a/b/x.parquet", 4), ("_a/x.parquet", 3), ("a/_x.parquet", 3), ("a/b/x", 0)] {
            assert!(!is_aside(key, length), "{key}");
        }
        for key in
            ["_day=2024-08-08/x.parquet", "x.part-1.parquet", "tmp/x.parquet", "x.partial.parquet", "x~1.parquet"]
        {
            assert!(!is_aside(&format!("a/b/{key}"), 4), "{key}");
        }
    }

    #[test]
    fn what_programs_leave_behind_is_not_loaded_if_it_is_registered() {
        let why = |key: &str| not_parquet(&format!("s3://landing/{key}"), &Value::Null);
        let marker = "its name is that of a folder's marker, not of a Parquet file";
        assert_eq!(why("dt=2024-08-08_$folder$").as_deref(), Some(marker));
        assert!(why("a/x.parquet._COPYING_").is_some_and(|why| why.contains("an unfinished file")));
        // A hidden object that a producer has registered is meant.
        assert_eq!(why("_landing/x.parquet"), None);
    }
}
