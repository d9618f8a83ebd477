//! The rows of ops.retention_jobs, and the jobs that they make.

use btc_ingest_kit::fixture::backfill::{owned_by, role};
use btc_ingest_kit::sql::Session;

use crate::retention_fixture::RetentionFixture;

/// The jobs with a row's name.
const JOBS: &str = "SELECT concat_ws(' ', proc_name, schedule_interval, config ->> 'compress_after', scheduled,
                                     config ->> 'btc_ingest')
                      FROM timescaledb_information.jobs WHERE config ? 'btc_ingest' ORDER BY proc_name, job_id";

fn insert(policy: &str) -> String {
    format!("INSERT INTO ops.retention_jobs VALUES ('mine', 'market_data.btc_ticks', '{policy}')")
}

#[test]
fn a_row_that_cannot_be_applied_is_refused_and_the_hint_has_the_keys() {
    let mut fixture = RetentionFixture::new();
    for (policy, wrong) in [
        ("{}", "neither compress_after nor drop_after"),
        ("[]", "must be a JSON object"),
        (r#"{"drop_after": "90 days", "drop": 1}"#, r#"unknown key "drop""#),
        (r#"{"drop_after": 90}"#, "drop_after must be a string"),
        (r#"{"drop_after": "ninety days"}"#, r#"drop_after is "ninety days", which is no interval"#),
        (r#"{"drop_after": "-1 day"}"#, "must be longer than nothing"),
        (r#"{"drop_after": "90 days", "max_runtime": "0"}"#, r#"max_runtime is "0""#),
        (r#"{"drop_after": "90 days", "segment_by": "symbol"}"#, "belong to compress_after"),
        (r#"{"drop_after": "9 days", "compress_after": "10 days"}"#, "must be longer than compress_after"),
        (r#"{"compress_after": "30 days", "segment_by": "exchange"}"#, r#"has no column "exchange""#),
        (r#"{"compress_after": "30 days", "order_by": "trade_id; DROP TABLE x"}"#, "has no column"),
    ] {
        let refusal = fixture.refused(&insert(policy), "TK040");
        assert!(refusal.message.contains(wrong), "{policy}: {refusal:?}");
        for key in ["compress_after", "drop_after", "segment_by", "order_by", "schedule_interval", "max_runtime"] {
            assert!(refusal.hint.contains(key), "{refusal:?}");
        }
    }
    let other =
        "INSERT INTO ops.retention_jobs VALUES ('mine', 'ops.nothing', '{\"compress_after\": \"1 day\"}', true)";
    assert!(fixture.refused(other, "TK040").message.contains("there is no table or aggregate ops.nothing"));
    let other = other.replace("compress_after", "drop_after");
    assert!(fixture.refused(&other, "TK040").message.contains("there is no table or aggregate ops.nothing"));
}

#[test]
fn a_new_installation_compresses_where_it_can_and_drops_nothing() {
    let mut fixture = RetentionFixture::new();
    // As CREATE EXTENSION leaves it: the fixture of all tests disables what would compress their ticks.
    fixture.run("DROP EXTENSION btc_ingest; DROP TABLE ops.retention_jobs; DELETE FROM ingestion.schema_version");
    fixture.run("CREATE EXTENSION btc_ingest");
    let community = fixture.is_community();
    let rows = fixture.lines("SELECT concat_ws(' ', job_name, policy, enabled) FROM ops.retention_jobs ORDER BY 1");
    let compress = r#"{"order_by": "event_time DESC, trade_id", "segment_by": "symbol", "compress_after": "30 days"}"#;
    let enabled = if community { "t" } else { "f" };
    assert_eq!(
        rows,
        [format!("compress ticks {compress} {enabled}"), r#"drop ticks {"drop_after": "90 days"} f"#.to_owned()]
    );
    let wanted: &[&str] = if community { &["policy_compression 12:00:00 30 days t compress ticks"] } else { &[] };
    assert_eq!(fixture.lines(JOBS), wanted);
    let doctor = fixture.doctor();
    assert_eq!(doctor.len(), 1, "{doctor:?}");
    let (ok, detail, hint) = &doctor[0];
    assert!(*ok && detail.contains("kept for ever"), "{doctor:?}");
    assert!(hint.contains("SET enabled = true WHERE job_name = 'drop ticks'"), "{doctor:?}");
    // A row that was deleted stays deleted.
    fixture.run("DELETE FROM ops.retention_jobs; SELECT btc_ingest.migrate()");
    assert_eq!(fixture.number("SELECT count(*) FROM ops.retention_jobs"), 0);
    assert_eq!(fixture.lines(JOBS), [""; 0]);
    // Nothing of TimescaleDB's belongs to the extension.
    let members = "SELECT count(*) FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                    WHERE d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'btc_ingest')
                      AND c.relnamespace = '_timescaledb_internal'::regnamespace";
    assert_eq!(fixture.number(members), 0);
}

#[test]
fn the_apache_edition_says_that_compression_needs_the_other_one() {
    let mut fixture = RetentionFixture::new();
    if fixture.is_community() {
        println!("skipped: needs the Apache edition");
        return;
    }
    fixture.run("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'compress ticks'");
    let done = fixture.lines("SELECT concat_ws(': ', job_name, done) FROM btc_ingest.apply_retention()");
    assert_eq!(done, ["compress ticks: nothing: compression needs TimescaleDB's Community edition"]);
    let doctor = fixture.doctor();
    assert!(doctor[0].0 && doctor[0].1.contains("compression needs TimescaleDB's Community edition"), "{doctor:?}");
}

#[test]
fn rows_make_change_and_remove_jobs() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    fixture.run("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'compress ticks'");
    assert_eq!(fixture.lines(JOBS), ["policy_compression 12:00:00 30 days t compress ticks"]);
    let settings = "SELECT string_agg(concat_ws(' ', attname, segmentby_column_index, orderby_asc), ', '
                                      ORDER BY segmentby_column_index, orderby_column_index)
                      FROM timescaledb_information.compression_settings WHERE hypertable_name = 'btc_ticks'";
    assert!(fixture.text(settings).starts_with("symbol 1, event_time f, trade_id t"));
    fixture.run(
        r#"UPDATE ops.retention_jobs SET policy = policy || '{"compress_after": "40 days",
                  "schedule_interval": "2 hours", "order_by": "bucket_5m, trade_id"}'
            WHERE job_name = 'compress ticks'"#,
    );
    assert_eq!(fixture.lines(JOBS), ["policy_compression 02:00:00 40 days t compress ticks"]);
    assert!(fixture.text(settings).starts_with("symbol 1, bucket_5m t, trade_id t"));
    assert_eq!(fixture.lines("SELECT done FROM btc_ingest.apply_retention()"), [""; 0], "nothing differs");
    // Without preloaded workers, a job drops chunks.
    fixture.run("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'drop ticks'");
    assert_eq!(fixture.lines(JOBS).len(), 2);
    assert_eq!(fixture.lines(JOBS)[1], "run_retention 1 day t drop ticks");
    fixture.run("UPDATE ops.retention_jobs SET enabled = false WHERE job_name = 'compress ticks'");
    assert_eq!(fixture.lines(JOBS), ["run_retention 1 day t drop ticks"]);
    fixture.run("DELETE FROM ops.retention_jobs WHERE job_name = 'drop ticks'");
    assert_eq!(fixture.lines(JOBS), [""; 0]);
    fixture.run("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'compress ticks'");
    assert_eq!(fixture.lines(JOBS), ["policy_compression 02:00:00 40 days t compress ticks"]);
    // Candles have a row of their own.
    fixture.run("SELECT btc_ingest.create_candles('1 minute')");
    assert_eq!(fixture.lines(JOBS).len(), 2, "{:?}", fixture.lines(JOBS));
    fixture.run("SELECT btc_ingest.drop_candles('btc_ohlcv_1m')");
    assert_eq!(fixture.lines(JOBS).len(), 1);
}

#[test]
fn a_job_that_was_changed_otherwise_is_found_and_the_hint_mends_it() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    fixture.run("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'compress ticks'");
    let ours = "SELECT job_id FROM timescaledb_information.jobs WHERE config ? 'btc_ingest'";
    for (drift, found) in [
        (format!("SELECT alter_job(({ours}), schedule_interval => '1 minute')"), "was changed"),
        (format!("SELECT alter_job(({ours}), scheduled => false)"), "is not scheduled"),
        (format!("SELECT delete_job(({ours}))"), "no job compresses"),
        (
            "SELECT remove_compression_policy('market_data.btc_ticks');
             SELECT add_compression_policy('market_data.btc_ticks', interval '30 days')"
                .to_owned(),
            "a policy of its own",
        ),
        (
            "SELECT add_retention_policy('market_data.btc_ticks', interval '90 days');
          SELECT btc_ingest.create_candles('1 hour')"
                .to_owned(),
            "without a proof",
        ),
    ] {
        assert!(fixture.doctor().iter().all(|line| line.0), "{:?}", fixture.doctor());
        fixture.run(&drift);
        let doctor = fixture.doctor();
        let line = doctor.iter().find(|line| !line.0 && line.1.contains(found));
        let (_, _, hint) = line.unwrap_or_else(|| panic!("{drift}: {doctor:?}"));
        fixture.run(hint);
    }
    assert!(fixture.doctor().iter().all(|line| line.0), "{:?}", fixture.doctor());
}

#[test]
fn jobs_belong_to_the_owner_of_the_tables_which_must_be_allowed_to_log_in() {
    let Some(mut fixture) = RetentionFixture::of_community() else { return };
    fixture.run(&owned_by("retention_owner"));
    fixture.run(&role("retention_admin"));
    fixture.run("ALTER ROLE retention_admin LOGIN; GRANT btc_ingest_admin TO retention_admin");
    let enable = "UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'compress ticks'";
    fixture.run("ALTER ROLE retention_owner NOLOGIN");
    let refusal = fixture.refused(enable, "TK041");
    assert!(refusal.message.contains("retention_owner may not log in"), "{refusal:?}");
    fixture.run("ALTER ROLE retention_owner LOGIN");
    fixture.client = fixture.db.client_as("retention_admin");
    fixture.run(enable);
    fixture.client = fixture.db.client();
    let owners = "SELECT string_agg(owner::text, ' ') FROM timescaledb_information.jobs WHERE config ? 'btc_ingest'";
    assert_eq!(fixture.text(owners), "retention_owner");
    let refusal =
        fixture.refused("UPDATE ops.retention_jobs SET enabled = true WHERE job_name = 'drop ticks'", "TK041");
    assert!(refusal.message.contains("GRANT btc_ingest_admin TO retention_owner"), "{refusal:?}");
}
