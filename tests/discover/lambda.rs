//! The Lambda function that registers uploads: real events, a role that may only register, and a worker that loads.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use btc_ingest_kit::command::outcome;
use btc_ingest_kit::fixture::BUCKET;
use btc_ingest_kit::{ParquetFile, Tick};

use crate::discover_fixture::{DATABASE, DiscoveryFixture, Folder};

/// Debian's own Python, which sees Debian's psycopg2; another one may come before it on the PATH.
const PYTHON: &str = "/usr/bin/python3";
/// The program that acts as Lambda: it calls the handler with an event and prints the result or the error.
const CALL: &str =
    "import json, sys, register_slice; print(json.dumps(register_slice.handler(json.load(sys.stdin), None)))";

/// A folder, and the function that is configured for it.
struct LambdaFixture {
    folder: Folder<'static>,
    role: String,
}

impl LambdaFixture {
    fn new() -> LambdaFixture {
        let mut folder = DiscoveryFixture::shared().folder();
        let role = format!("{}_uploads", folder.name);
        folder.client.batch_execute(&format!("CREATE ROLE {role} LOGIN; GRANT btc_ingest_loader TO {role}")).unwrap();
        LambdaFixture { folder, role }
    }

    /// Calls the handler and returns its answer, or Python's error.
    fn call(&self, event: &str) -> Result<String, String> {
        let pattern = format!(
            "{}/Binance/{{asset}}/{{yyyy}}/{{mm}}/{{dd}}/{{*}}_{{yyyy}}{{mm}}{{dd}}T{{hh}}{{mi}}Z",
            self.folder.name
        );
        let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/lambda");
        let mut command = Command::new(PYTHON);
        command.args(["-B", "-c", CALL]).current_dir(functions);
        command.envs([("KEY_PATTERN", pattern.as_str()), ("PGHOST", "127.0.0.1"), ("PGDATABASE", DATABASE)]);
        command.envs([("PGPORT", self.folder.fixture.cluster.port().to_string().as_str()), ("PGUSER", &self.role)]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect(PYTHON);
        child.stdin.take().unwrap().write_all(event.as_bytes()).unwrap();
        outcome(command.get_program(), child.wait_with_output()).map(|text| text.trim().to_owned())
    }

    /// Stores an object and returns the event that S3 sends for it.
    fn put(&self, key: &str, ticks: &[Tick], sequencer: &str) -> String {
        let bytes = ParquetFile::new().bytes(ticks);
        let size = bytes.len();
        self.folder.fixture.s3.put(BUCKET, key, bytes);
        let etag = self.folder.fixture.s3.etag(BUCKET, key).replace('"', "");
        let encoded = key.replace(' ', "+").replace('=', "%3D");
        event(&format!(r#""key": "{encoded}", "size": {size}, "eTag": "{etag}", "sequencer": "{sequencer}""#))
    }
}

fn event(object: &str) -> String {
    format!(
        r#"{{"Records": [{{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "s3": {{"bucket": {{"name": "{BUCKET}"}}, "object": {{{object}}}}}}}]}}"#
    )
}

#[test]
fn an_uploaded_object_is_registered_and_its_ticks_are_there_exactly() {
    let mut fixture = LambdaFixture::new();
    let mut all = Vec::new();
    for n in 0..3 {
        let bucket = fixture.folder.generator.next_bucket_us();
        let ticks = fixture.folder.generator.next_slice();
        // Keys are encoded as in a form.
        let key = fixture.folder.key(bucket).replace(".parquet", &format!(" part={n}.parquet"));
        let event = fixture.put(&key, &ticks, "0055AED6DCD90281E5");
        assert_eq!(fixture.call(&event).unwrap(), r#"{"registered": 1}"#);
        fixture.folder.wait_for(&format!("s3://{BUCKET}/{key}"), "loaded");
        all.extend(ticks);
    }
    fixture.folder.must_hold(&all);
    let rows = "SELECT string_agg(concat_ws(' ', status, to_char(bucket_5m, 'HH24:MI'), metadata ->> 'sequencer'),
                       ', ' ORDER BY bucket_5m)
                  FROM landing.raw_blobs_5m WHERE asset = $1";
    let symbol = fixture.folder.symbol.clone();
    let row = |time: &str| format!("loaded {time} 0055AED6DCD90281E5");
    assert_eq!(fixture.folder.text(rows, &[&symbol]), [row("12:00"), row("12:05"), row("12:10")].join(", "));
}

#[test]
fn what_the_event_says_spares_the_question_to_s3() {
    let mut fixture = LambdaFixture::new();
    let key = fixture.folder.key(fixture.folder.generator.next_bucket_us());
    let ticks = fixture.folder.generator.next_slice();
    let event = fixture.put(&key, &ticks, "01");
    fixture.call(&event).unwrap();
    fixture.folder.wait_for(&format!("s3://{BUCKET}/{key}"), "loaded");
    let asked = fixture.folder.fixture.proxy.requests();
    let heads = asked.iter().filter(|seen| seen.method == "HEAD" && seen.path.contains(&fixture.folder.name)).count();
    assert_eq!(heads, 0);
}

#[test]
fn a_replaced_object_is_loaded_again_and_an_event_that_comes_late_or_twice_changes_nothing() {
    let mut fixture = LambdaFixture::new();
    let key = fixture.folder.key(fixture.folder.generator.next_bucket_us());
    let uri = format!("s3://{BUCKET}/{key}");
    let ticks = fixture.folder.generator.next_slice();
    let first = fixture.put(&key, &ticks[..ticks.len() / 2], "0055AED6DCD90281E5");
    fixture.call(&first).unwrap();
    fixture.folder.wait_for(&uri, "loaded");
    let second = fixture.put(&key, &ticks, "0055AED6DCD90281E6");
    let through_sqs = format!(r#"{{"Records": [{{"messageId": "1", "eventSource": "aws:sqs", "body": {second:?}}}]}}"#);
    let through_sqs = through_sqs.replace("\\n", " ");
    assert_eq!(fixture.call(&through_sqs).unwrap(), r#"{"registered": 1}"#);
    let etag = fixture.folder.fixture.s3.etag(BUCKET, &key).replace('"', "");
    fixture.folder.wait_for_object(&uri, "status, etag", &format!("loaded {etag}"));
    fixture.folder.must_hold(&ticks);
    let before = fixture.folder.object(&uri, "generation");
    for event in [&first, &second] {
        fixture.call(event).unwrap();
    }
    let row = "SELECT concat_ws(' ', status, metadata ->> 'etag', metadata ->> 'sequencer') FROM landing.raw_blobs_5m
                WHERE s3_uri = $1";
    assert_eq!(fixture.folder.text(row, &[&uri]), format!("loaded {etag} 0055AED6DCD90281E6"));
    assert_eq!(fixture.folder.object(&uri, "generation"), before);
}

#[test]
fn other_events_and_other_keys_register_nothing_and_a_broken_event_raises() {
    let mut fixture = LambdaFixture::new();
    let key = fixture.folder.key(fixture.folder.generator.next_bucket_us());
    let object = format!(r#""key": "{key}", "size": 1, "eTag": "e""#);
    for ignored in [
        event(&object).replace("ObjectCreated:Put", "ObjectRemoved:Delete"),
        event(&object.replace("T1200Z", "")),
        event(&object.replace("Binance", "Kraken")),
        r#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "landing"}"#.to_owned(),
    ] {
        assert_eq!(fixture.call(&ignored).unwrap(), r#"{"registered": 0}"#, "{ignored}");
    }
    for (broken, why) in [
        ("{}".to_owned(), "KeyError: 'Records'"),
        (event(&object).replace("eTag", "etag"), "KeyError: 'eTag'"),
        (
            event(&object.replace("2024", "9999").replace("/08/08", "/13/08").replace("0808T", "1308T")),
            "month must be in 1..12",
        ),
        (event(&object.replace("\"size\": 1", "\"size\": \"large\"")), "invalid input syntax for type bigint"),
    ] {
        let said = fixture.call(&broken).unwrap_err();
        assert!(said.contains(why), "{broken}: {said}");
    }
    // An event is registered as a whole or not at all.
    let record = |event: String| event["{\"Records\": [".len()..event.len() - "]}".len()].to_owned();
    let half = format!(
        "{{\"Records\": [{}, {}]}}",
        record(event(&object)),
        record(event("\"key\": \"x\"").replace("eventName", "name"))
    );
    assert!(fixture.call(&half).unwrap_err().contains("KeyError: 'eventName'"));
    let half = half.replace("\"name\": \"ObjectC", "\"eventName\": \"ObjectC");
    let half = half
        .replace("\"key\": \"x\"", &object.replace("T1200Z", "T1205Z").replace("\"size\": 1", "\"size\": \"large\""));
    assert!(fixture.call(&half).unwrap_err().contains("type bigint"));
    let symbol = fixture.folder.symbol.clone();
    assert_eq!(
        fixture.folder.text(
            "SELECT count(*)::text FROM landing.raw_blobs_5m
                                     WHERE asset = $1",
            &[&symbol]
        ),
        "0"
    );
}
