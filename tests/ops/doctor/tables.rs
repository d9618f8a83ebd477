//! doctor() about the hypertable, indexes, disks and clocks: each check is seen failing, and fixed by its own hint.

use btc_ingest_kit::fixture::{SCHEMA_VERSION, loaded, session};
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{execute, text};
use btc_ingest_kit::ticks::time_text;
use btc_ingest_kit::{Fault, FaultProxy, ParquetFile, ServerFixture, SmallDisk, TestDb, When};
use postgres::Client;

use super::doctor_fixture::{check, doctor, failing, follow};

/// Whether the server's edition has policies. Prints one line if it has none, and the test is skipped.
fn is_community(client: &mut Client) -> bool {
    let community = text(client, "SELECT current_setting('timescaledb.license')") == "timescale";
    if !community {
        println!("skipped: needs the Community edition");
    }
    community
}

// ── indexes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_missing_index_is_named_with_the_statement_that_makes_it() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let all = "SELECT coalesce(string_agg(pg_get_indexdef(indexrelid), E'\n' ORDER BY 1), '') FROM pg_index
                WHERE indrelid IN ('market_data.btc_ticks'::regclass, 'landing.raw_blobs_5m'::regclass,
                    'landing.rejected_ticks'::regclass,
                                   'signals.btc_embeddings'::regclass, 'ingestion.objects'::regclass,
                                       'ingestion.object_slices'::regclass, 'ingestion.id_sets'::regclass,
                                   'ingestion.load_history'::regclass, 'ingestion.stream_offsets'::regclass)";
    let before = text(
        &mut client,
        "SELECT string_agg(line, E'\n' ORDER BY line) FROM regexp_split_to_table(($1), E'\n') AS line"
            .replace("$1", all)
            .as_str(),
    );
    let ours = "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                  JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
                 WHERE (n.nspname, t.relname) IN (('market_data', 'btc_ticks'), ('landing', 'raw_blobs_5m'),
                     ('landing', 'rejected_ticks'),
                           ('signals', 'btc_embeddings'), ('ingestion', 'objects'), ('ingestion', 'object_slices'),
                           ('ingestion', 'id_sets'),
                           ('ingestion', 'load_history'), ('ingestion', 'stream_offsets'))
                   AND NOT (x.indisprimary AND t.relname IN ('rejected_ticks', 'id_sets', 'load_history'))";
    let names: Vec<String> = client.query(ours, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(names.len(), 28, "{names:?}");
    for name in names {
        let place = format!(
            "SELECT format(CASE WHEN indisprimary THEN 'ALTER TABLE %s DROP CONSTRAINT %I' ELSE 'DROP INDEX %3$s' END,
                           indrelid::regclass, '{name}', indexrelid::regclass) FROM pg_index
              WHERE indexrelid IN (SELECT oid FROM pg_class WHERE relname = '{name}')"
        );
        let drop = text(&mut client, &place);
        execute(&mut client, &drop);
        let checks = doctor(&mut client);
        assert_eq!(failing(&checks), ["indexes"], "{drop}");
        assert_eq!(checks["indexes"].detail, format!("missing: {name}"), "{drop}");
        execute(&mut client, "SET client_min_messages = warning");
        follow(&mut client, &checks["indexes"].hint);
    }
    assert_eq!(failing(&doctor(&mut client)), [""; 0]);
    let after = text(
        &mut client,
        "SELECT string_agg(line, E'\n' ORDER BY line) FROM regexp_split_to_table(($1), E'\n') AS line"
            .replace("$1", all)
            .as_str(),
    );
    assert_eq!(after, before, "as they were");
}

#[test]
fn an_index_that_was_left_half_built_is_missing_and_the_hint_replaces_it() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(
        &mut client,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'landing.raw_blobs_5m_s3_uri_idx'::regclass",
    );
    let found = check(&mut client, "indexes");
    assert_eq!(found.detail, "missing: raw_blobs_5m_s3_uri_idx");
    follow(&mut client, &found.hint);
    assert!(check(&mut client, "indexes").ok);
}

#[test]
fn migrate_makes_every_missing_index_again() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    execute(
        &mut client,
        "DROP INDEX market_data.btc_ticks_bucket_5m_idx; DROP INDEX ingestion.objects_due_idx;
         ALTER TABLE ingestion.object_slices DROP CONSTRAINT object_slices_pkey",
    );
    assert!(!check(&mut client, "indexes").ok);
    let answer = text(&mut client, "SELECT btc_ingest.migrate()");
    assert_eq!(
        answer,
        format!("schema version {SCHEMA_VERSION}; made btc_ticks_bucket_5m_idx, object_slices_pkey, objects_due_idx")
    );
    assert!(check(&mut client, "indexes").ok);
}

// ── the hypertable ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn another_chunk_interval_than_the_settings_is_found_and_either_way_fixes_it() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    assert_eq!(check(&mut client, "chunk interval").detail, "7 days");
    execute(&mut client, "SELECT set_chunk_time_interval('market_data.btc_ticks', interval '1 day')");
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["chunk interval"]);
    assert_eq!(checks["chunk interval"].detail, "1 day; btc_ingest.chunk_time_interval is 7 days");
    let hint = &checks["chunk interval"].hint;
    assert!(hint.contains("ALTER SYSTEM SET btc_ingest.chunk_time_interval = '1 day';"), "{hint}");
    follow(&mut client, hint);
    assert!(check(&mut client, "chunk interval").ok);
    // Another notation of the same interval is equal.
    execute(&mut client, "SET btc_ingest.chunk_time_interval = '168 hours'");
    assert!(check(&mut client, "chunk interval").ok);
    // A setting that cannot be read is one finding, and the other checks still run.
    execute(&mut client, "SET btc_ingest.chunk_time_interval = 'a week or so'");
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), ["hypertable"]);
    assert!(checks["hypertable"].detail.contains("a week or so") && checks["S3 reachable"].ok, "{checks:?}");
}

#[test]
fn a_hypertable_by_another_column_is_found() {
    let db = TestDb::new(&ServerFixture::shared().cluster);
    let mut client = db.client();
    execute(
        &mut client,
        "SET client_min_messages = error; CREATE EXTENSION btc_ingest CASCADE;
         CREATE TABLE market_data.other (LIKE market_data.btc_ticks INCLUDING DEFAULTS);
         SELECT create_hypertable('market_data.other', 'event_time', create_default_indexes => false);
         DROP TABLE market_data.btc_ticks; ALTER TABLE market_data.other RENAME TO btc_ticks",
    );
    let checks = doctor(&mut client);
    assert_eq!(checks["hypertable"].detail, "market_data.btc_ticks by event_time");
    assert!(!checks["hypertable"].ok && checks["hypertable"].hint.contains("btc_ingest.migrate()"), "{checks:?}");
}

#[test]
fn policies_are_named_and_none_is_fine() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let checks = doctor(&mut client);
    assert!(checks["compression"].ok && checks["compression"].detail.contains("no policy"), "{checks:?}");
    assert!(checks["retention"].ok && checks["retention"].detail.contains("kept for ever"), "{checks:?}");
    if !is_community(&mut client) {
        return;
    }
    execute(
        &mut client,
        "SET client_min_messages = error;
         ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol',
                                                timescaledb.compress_orderby = 'event_time DESC, trade_id');
         SELECT add_compression_policy('market_data.btc_ticks', interval '30 days');
         SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs
             WHERE proc_name = 'policy_compression'",
    );
    execute(&mut client, "SELECT add_retention_policy('market_data.btc_ticks', interval '90 days')");
    let checks = doctor(&mut client);
    assert_eq!(failing(&checks), [""; 0]);
    let compression = &checks["compression"].detail;
    assert!(
        compression.starts_with("chunks are compressed after 30 days (job ") && compression.ends_with(", paused)"),
        "{compression}"
    );
    let retention = &checks["retention"];
    assert!(retention.detail.contains("drops chunks without a proof"), "{retention:?}");
    assert!(retention.hint.contains("remove_retention_policy"), "{retention:?}");
}

// ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_clock_that_differs_from_s3s_is_told_from_a_minute_on_and_fails_from_five() {
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
    let mut client = session(&db, &proxy.endpoint(), &[]);
    let found = check(&mut client, "clock");
    assert!(found.ok && found.detail == "as S3's" && found.hint.is_empty(), "{found:?}");
    // The header has whole seconds, and time passes between the answer and the comparison.
    for (seconds, ok, told, says) in [
        (50, true, false, "s behind S3's"),
        (-50, true, false, "s ahead of S3's"),
        (90, true, true, "s behind S3's"),
        (-290, true, true, "s ahead of S3's"),
        (320, false, true, "s behind S3's"),
        (-86_400, false, true, "s ahead of S3's"),
    ] {
        proxy.clear();
        proxy.on(When::list(), Fault::Clock(seconds));
        let found = check(&mut client, "clock");
        assert_eq!((found.ok, found.hint.contains("NTP")), (ok, told), "{seconds}: {found:?}");
        let apart: i64 = found.detail.split(' ').next().unwrap().parse().unwrap();
        assert!((apart - seconds.abs()).abs() <= 5 && found.detail.ends_with(says), "{seconds}: {found:?}");
    }
}

#[test]
fn a_refusal_for_the_clocks_sake_tells_how_far_it_is_off() {
    let server = ServerFixture::shared();
    let db = server.db();
    let proxy = FaultProxy::before(&server.s3);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    let date = time_text(now + 3_600_000_000, "%a, %d %b %Y %H:%M:%S GMT");
    let answer = Fault::Answer { status: 403, code: "RequestTimeTooSkewed", headers: vec![("date", date)] };
    proxy.on(When::list(), answer);
    let checks = doctor(&mut session(&db, &proxy.endpoint(), &[]));
    assert_eq!(failing(&checks), ["S3 reachable", "clock"]);
    assert!(checks["S3 reachable"].detail.contains("clock is off"), "{checks:?}");
    assert!(checks["clock"].detail.contains("s behind S3's") && checks["clock"].hint.contains("NTP"), "{checks:?}");
}

// ── disks ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_tablespace_of_the_ticks_that_is_nearly_full_is_found() {
    let Some(disk) = SmallDisk::mount("20m") else { return };
    let server = ServerFixture::shared();
    let db = server.db();
    let mut client = db.client();
    let of_disks = |client: &mut Client| -> Vec<(bool, String)> {
        let sql = "SELECT ok, detail FROM btc_ingest.doctor() WHERE name = 'free disk'";
        client.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(of_disks(&mut client).len(), 1, "the data directory's");
    let space = format!("small_{}", db.name());
    execute(&mut client, &format!("CREATE TABLESPACE {space} LOCATION '{}'", disk.path().display()));
    assert_eq!(of_disks(&mut client).len(), 1, "another database's tablespace");
    execute(&mut client, &format!("SELECT attach_tablespace('{space}', 'market_data.btc_ticks')"));
    let found = of_disks(&mut client);
    assert!(found.len() == 2 && !found[1].0, "{found:?}");
    assert!(found[1].1.starts_with(&format!("tablespace {space}: 0.0 GB")), "{found:?}");
    // Chunks stay where they are when the tablespace is detached.
    let uri = server.put(&format!("{}/a.parquet", db.name()), ParquetFile::new().bytes(&ticks(1, 10)));
    assert_eq!(loaded(&mut client, &uri, "").inserted, 10);
    execute(&mut client, &format!("SELECT detach_tablespace('{space}', 'market_data.btc_ticks')"));
    assert_eq!(of_disks(&mut client).len(), 2);
    execute(&mut client, "SELECT drop_chunks('market_data.btc_ticks', older_than => now())");
    assert_eq!(of_disks(&mut client).len(), 1);
    execute(&mut client, &format!("DROP TABLESPACE {space}"));
}
