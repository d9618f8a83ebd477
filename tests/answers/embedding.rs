//! Vectors that are made outside the database, by the script of the host: a check of the library's own by other means.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use btc_ingest_kit::sql::Session;
use btc_ingest_kit::wait::{SOON, wait_until};

use crate::answers_fixture::{AnswersFixture, generated};

/// Returns a Python that has what the script needs, or `None` where that cannot be had.
fn python() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("embedding");
    let python = directory.join("bin/python");
    let has_it =
        || Command::new(&python).args(["-c", "import numpy, psycopg"]).output().is_ok_and(|o| o.status.success());
    if !has_it() {
        let environment = Command::new("python3").args(["-m", "venv"]).arg(&directory).output();
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"];
        let install = || Command::new(&python).args(pip).args(["numpy>=1.26", "psycopg[binary]>=3.1"]).output();
        if !(environment.is_ok_and(|o| o.status.success()) && install().is_ok_and(|o| o.status.success()) && has_it()) {
            println!("skipped: numpy and psycopg cannot be installed");
            return None;
        }
    }
    Some(python)
}

/// Begins the script over the generated buckets of BTCUSDT.
fn begin(python: &Path, fixture: &AnswersFixture, args: &[&str]) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/database/scripts/embed_buckets.py");
    let mut command = Command::new(python);
    command.arg(script).args(["--dsn", &fixture.db.connection_string(), "--asset", "BTCUSDT", "--exchange", "numpy"]);
    command.args(["--from", "2024-08-08T12:00Z", "--to", "2024-08-08T14:00Z"]).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn must_succeed(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes all vectors, in two runs that end and one that is killed.
fn embed_and_kill(python: &Path, fixture: &mut AnswersFixture) {
    // The second transaction waits, and its run is killed.
    must_succeed(begin(python, fixture, &["--to", "2024-08-08T12:25Z"]));
    let mut other = fixture.db.client();
    other.batch_execute("BEGIN; LOCK TABLE ingestion.stream_offsets IN SHARE MODE").unwrap();
    let mut child = begin(python, fixture, &["--batch", "5"]);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until("a transaction that waits", SOON, || fixture.number(waits) == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    other.batch_execute("COMMIT").unwrap();
    wait_until("the end of its session", SOON, || fixture.number(waits) == 0);
    assert_eq!(fixture.number("SELECT count(*) FROM signals.btc_embeddings WHERE exchange = 'numpy'"), 5);
    let said = must_succeed(begin(python, fixture, &["--batch", "5"]));
    assert_eq!(said.lines().count(), 4, "{said}");
    // There is nothing left to do.
    assert_eq!(must_succeed(begin(python, fixture, &[])), "");
}

#[test]
fn numpy_computes_the_same_vectors_and_a_killed_run_loses_and_doubles_nothing() {
    let Some(python) = python() else { return };
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &generated("BTCUSDT", 12, 24));
    // One trade, equal prices, trades at one time, and sides and quantities that are missing.
    fixture.run(
        "DELETE FROM market_data.btc_ticks WHERE bucket_5m >= '2024-08-08 13:35Z' AND bucket_5m < '2024-08-08 13:55Z';
         UPDATE market_data.btc_ticks SET is_market_maker = NULL WHERE bucket_5m = '2024-08-08 13:10Z';
         UPDATE market_data.btc_ticks SET quantity = NULL WHERE bucket_5m = '2024-08-08 13:15Z';
         UPDATE market_data.btc_ticks SET price = NULL WHERE bucket_5m = '2024-08-08 13:20Z' AND trade_id % 3 = 0;
         INSERT INTO market_data.btc_ticks (bucket_5m, event_time, symbol, trade_id, price, quantity, is_market_maker)
         SELECT b, b + t, 'BTCUSDT', 90000000 + row_number() OVER (), p, 1, n % 2 = 0
           FROM (VALUES (timestamptz '2024-08-08 13:35Z', 1, interval '0', 0), ('2024-08-08 13:40Z', 99, '1 second', 0),
                        ('2024-08-08 13:45Z', 99, '0', 1)) AS v (b, most, gap, step),
                LATERAL generate_series(1, most) AS n, LATERAL (SELECT n * gap AS t, 60000 + n * step AS p) AS x",
    );
    fixture.run("SELECT btc_ingest.embed('2024-08-08', '2024-08-09', 'BTCUSDT')");
    embed_and_kill(&python, &mut fixture);

    let differing = fixture.texts(
        "SELECT concat_ws(' ', to_char(b.bucket, 'HH24:MI'), b.ticks, n.ticks, d.place, d.own, d.other)
           FROM signals.btc_embeddings b
           LEFT JOIN signals.btc_embeddings n ON n.bucket = b.bucket AND n.asset = b.asset AND n.exchange = 'numpy'
           LEFT JOIN LATERAL (SELECT place - 1 AS place, own, other
                                FROM unnest(b.feature_vector::real[], n.feature_vector::real[]) WITH ORDINALITY
                                     AS u (own, other, place)
                               WHERE NOT coalesce(abs(own - other) <= 0.000001, false) LIMIT 3) AS d ON true
          WHERE b.exchange <> 'numpy' AND (d.place IS NOT NULL OR n.ticks IS DISTINCT FROM b.ticks)
          ORDER BY b.bucket, d.place",
    );
    assert_eq!(differing, [] as [String; 0]);
    assert_eq!(
        fixture.text(
            "SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE exchange = 'numpy')) FROM signals.btc_embeddings"
        ),
        "46 23"
    );
    let offset = "SELECT concat_ws(' ', source, last_ts) FROM ingestion.stream_offsets WHERE source LIKE 'embed:%'";
    assert_eq!(fixture.text(offset), "embed:numpy 1:numpy:BTCUSDT 2024-08-08 14:00:00+00");

    // Another dimension, in a table of its own.
    fixture.run(
        "CREATE TABLE signals.short (LIKE signals.btc_embeddings INCLUDING ALL);
         ALTER TABLE signals.short ALTER COLUMN feature_vector TYPE vector(32)
             USING NULL",
    );
    must_succeed(begin(&python, &fixture, &["--dimensions", "32", "--table", "signals.short", "--version", "short 1"]));
    assert_eq!(
        fixture.text("SELECT concat_ws(' ', count(*), min(vector_dims(feature_vector))) FROM signals.short"),
        "23 32"
    );
}
