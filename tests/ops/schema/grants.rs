//! Roles and what is granted to them.

use super::*;

#[test]
fn the_roles_cannot_log_in_and_include_each_other() {
    let mut client = client();
    let found = texts(
        &mut client,
        "SELECT concat_ws(' ', rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolinherit, rolbypassrls)
           FROM pg_roles WHERE rolname LIKE 'btc_ingest%' ORDER BY 1",
    );
    must_be(
        &found,
        "btc_ingest_admin f f f f t f
         btc_ingest_loader f f f f t f
         btc_ingest_monitor f f f f t f
         btc_ingest_reader f f f f t f",
    );
    let found = texts(
        &mut client,
        "SELECT format('%s in %s%s', member::regrole, roleid::regrole, CASE WHEN admin_option THEN ' with admin' END)
           FROM pg_auth_members WHERE member::regrole::text LIKE 'btc_ingest%' ORDER BY 1",
    );
    must_be(
        &found,
        "btc_ingest_admin in btc_ingest_loader
         btc_ingest_loader in btc_ingest_reader",
    );
}

#[test]
fn schemas_are_granted_to_these_roles_only() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT format('%s: %s %s', n.nspname,
                           CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                           string_agg(g.privilege_type, ',' ORDER BY g.privilege_type))
               FROM pg_namespace n, aclexplode(n.nspacl) g
              WHERE (n.nspname IN {SCHEMAS} OR n.nspname IN ('btc_ingest', 'btc_ingest_internal'))
                AND g.grantee <> n.nspowner
              GROUP BY n.nspname, g.grantee ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "btc_ingest: btc_ingest_monitor USAGE
         btc_ingest: btc_ingest_reader USAGE
         btc_ingest_internal: btc_ingest_monitor USAGE
         btc_ingest_internal: btc_ingest_reader USAGE
         ingestion: btc_ingest_monitor USAGE
         ingestion: btc_ingest_reader USAGE
         landing: btc_ingest_monitor USAGE
         landing: btc_ingest_reader USAGE
         market_data: btc_ingest_monitor USAGE
         market_data: btc_ingest_reader USAGE
         ops: btc_ingest_monitor USAGE
         ops: btc_ingest_reader USAGE
         signals: btc_ingest_reader USAGE",
    );
}

#[test]
fn tables_are_granted_to_these_roles_only() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT format('%s: %s %s', c.oid::regclass,
                           CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                           string_agg(g.privilege_type, ',' ORDER BY g.privilege_type))
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g
              WHERE n.nspname IN {SCHEMAS} AND g.grantee <> c.relowner
              GROUP BY c.oid, g.grantee ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.assets: btc_ingest_monitor SELECT
         ingestion.assets: btc_ingest_reader SELECT
         ingestion.backfill_chunks: btc_ingest_reader SELECT
         ingestion.backfill_workers: btc_ingest_monitor SELECT
         ingestion.backfill_workers: btc_ingest_reader SELECT
         ingestion.backfills: btc_ingest_monitor SELECT
         ingestion.backfills: btc_ingest_reader SELECT
         ingestion.candles: btc_ingest_reader SELECT
         ingestion.control: btc_ingest_monitor SELECT
         ingestion.control: btc_ingest_reader SELECT
         ingestion.gap_notes: btc_ingest_reader SELECT
         ingestion.id_sets: btc_ingest_reader SELECT
         ingestion.load_history: btc_ingest_monitor SELECT
         ingestion.load_history: btc_ingest_reader SELECT
         ingestion.object_slices: btc_ingest_monitor SELECT
         ingestion.object_slices: btc_ingest_reader SELECT
         ingestion.objects: btc_ingest_monitor SELECT
         ingestion.objects: btc_ingest_reader SELECT
         ingestion.outages: btc_ingest_monitor SELECT
         ingestion.outages: btc_ingest_reader SELECT
         ingestion.schema_version: btc_ingest_reader SELECT
         ingestion.staged_candles: btc_ingest_reader SELECT
         ingestion.staged_slices: btc_ingest_reader SELECT
         ingestion.stream_offsets: btc_ingest_monitor SELECT
         ingestion.stream_offsets: btc_ingest_reader SELECT
         ingestion.verification_findings: btc_ingest_reader SELECT
         ingestion.verifications: btc_ingest_reader SELECT
         ingestion.work_units: btc_ingest_reader SELECT
         landing.raw_blobs_5m: btc_ingest_monitor SELECT
         landing.raw_blobs_5m: btc_ingest_reader SELECT
         landing.rejected_ticks: btc_ingest_reader SELECT
         market_data.btc_ticks: btc_ingest_reader SELECT
         ops.chunk_drops: btc_ingest_monitor SELECT
         ops.chunk_drops: btc_ingest_reader SELECT
         ops.dropped_ranges: btc_ingest_monitor SELECT
         ops.dropped_ranges: btc_ingest_reader SELECT
         ops.retention_checks: btc_ingest_monitor SELECT
         ops.retention_checks: btc_ingest_reader SELECT
         ops.retention_jobs: btc_ingest_admin DELETE,INSERT,UPDATE
         ops.retention_jobs: btc_ingest_monitor SELECT
         ops.retention_jobs: btc_ingest_reader SELECT
         ops.slice_candles: btc_ingest_reader SELECT
         ops.slice_digests: btc_ingest_reader SELECT
         signals.btc_embeddings: btc_ingest_reader SELECT",
    );
}

/// The roles that may call each function, but for its owner and the roles that include these.
const FUNCTIONS: &str = "btc_ingest.apply_retention: btc_ingest_admin
     btc_ingest.backfill: btc_ingest_loader
     btc_ingest.backfill: btc_ingest_loader
     btc_ingest.backfill_failures: btc_ingest_loader
     btc_ingest.backfill_status: btc_ingest_monitor,btc_ingest_reader
     btc_ingest.bars: btc_ingest_reader
     btc_ingest.cancel_backfill: btc_ingest_loader
     btc_ingest.complete_until: btc_ingest_reader
     btc_ingest.completeness: btc_ingest_reader
     btc_ingest.conditions: btc_ingest_reader
     btc_ingest.create_candles: btc_ingest_admin
     btc_ingest.declare_asset: btc_ingest_admin
     btc_ingest.discover: btc_ingest_loader
     btc_ingest.doctor: btc_ingest_loader,btc_ingest_monitor
     btc_ingest.drop_candles: btc_ingest_admin
     btc_ingest.embed: btc_ingest_loader
     btc_ingest.explain_gap: btc_ingest_admin
     btc_ingest.extend_units: btc_ingest_loader
     btc_ingest.fail_unit: btc_ingest_loader
     btc_ingest.finish_unit: btc_ingest_loader
     btc_ingest.forget_units: btc_ingest_admin
     btc_ingest.import_incidents: btc_ingest_admin
     btc_ingest.inspect_s3: btc_ingest_loader
     btc_ingest.label: btc_ingest_loader
     btc_ingest.last_price: btc_ingest_reader
     btc_ingest.load_s3_slice: btc_ingest_loader
     btc_ingest.markouts: btc_ingest_reader
     btc_ingest.migrate: btc_ingest_admin
     btc_ingest.pause_ingest: btc_ingest_admin
     btc_ingest.prices_at: btc_ingest_reader
     btc_ingest.quality_report: btc_ingest_reader
     btc_ingest.rebuild_embedding_index: btc_ingest_admin
     btc_ingest.record_dropped: btc_ingest_admin
     btc_ingest.reference_embeddings: btc_ingest_admin
     btc_ingest.refresh_candles: btc_ingest_admin
     btc_ingest.register_s3_slice: btc_ingest_loader
     btc_ingest.reload_slice: btc_ingest_admin
     btc_ingest.report_gaps: btc_ingest_loader
     btc_ingest.requeue_failed: btc_ingest_loader
     btc_ingest.restore_range: btc_ingest_admin
     btc_ingest.resume_ingest: btc_ingest_admin
     btc_ingest.retry: btc_ingest_loader
     btc_ingest.run_candles: btc_ingest_admin
     btc_ingest.run_retention: btc_ingest_admin
     btc_ingest.run_sweep: btc_ingest_loader
     btc_ingest.set_embedding_dimensions: btc_ingest_admin
     btc_ingest.set_embedding_offset: btc_ingest_loader
     btc_ingest.similar: btc_ingest_reader
     btc_ingest.similar_to: btc_ingest_reader
     btc_ingest.skip: btc_ingest_admin
     btc_ingest.slice_digests: btc_ingest_reader
     btc_ingest.slice_ledger: btc_ingest_reader
     btc_ingest.stats_since: btc_ingest_monitor,btc_ingest_reader
     btc_ingest.sweep: btc_ingest_loader
     btc_ingest.ticks: btc_ingest_reader
     btc_ingest.unreference_embeddings: btc_ingest_admin
     btc_ingest.unwatch: btc_ingest_admin
     btc_ingest.verification_status: btc_ingest_reader
     btc_ingest.verify: btc_ingest_loader
     btc_ingest.verify_all: btc_ingest_loader
     btc_ingest.verify_archive: btc_ingest_reader
     btc_ingest.verify_range: btc_ingest_loader
     btc_ingest.watch: btc_ingest_admin
     btc_ingest.work_units: btc_ingest_loader
     btc_ingest.workers: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.adopt_checks: no role
     btc_ingest_internal.adopt_columns: no role
     btc_ingest_internal.adopt_empty_registrations: no role
     btc_ingest_internal.adopt_keys: no role
     btc_ingest_internal.backfill_worker_is_alive: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.begin_verification: btc_ingest_loader
     btc_ingest_internal.candle_rows: btc_ingest_reader
     btc_ingest_internal.candle_windows: btc_ingest_admin
     btc_ingest_internal.columns: no role
     btc_ingest_internal.duration_text: btc_ingest_loader
     btc_ingest_internal.fill_beside_dropped: btc_ingest_admin
     btc_ingest_internal.finish_chunk: no role
     btc_ingest_internal.fix_settings: no role
     btc_ingest_internal.gap_rows: btc_ingest_reader
     btc_ingest_internal.gather_ids: no role
     btc_ingest_internal.grant_and_comment: no role
     btc_ingest_internal.id_holes: btc_ingest_reader
     btc_ingest_internal.incomplete_ranges: btc_ingest_reader
     btc_ingest_internal.label_windows: btc_ingest_loader
     btc_ingest_internal.lag_by_asset: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.lease_units: btc_ingest_loader
     btc_ingest_internal.loaded_assets: btc_ingest_reader
     btc_ingest_internal.make_id_sets: no role
     btc_ingest_internal.make_retention: no role
     btc_ingest_internal.make_roles: no role
     btc_ingest_internal.migrate_refusal: no role
     btc_ingest_internal.missing_indexes: no role
     btc_ingest_internal.nearest_windows: btc_ingest_reader
     btc_ingest_internal.objects_failed: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.objects_in_conflict: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.objects_waiting: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.order_loaded_objects: no role
     btc_ingest_internal.owns_candles: btc_ingest_admin
     btc_ingest_internal.prefixes_waiting: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.range_restored: btc_ingest_admin
     btc_ingest_internal.refuse_symbol: btc_ingest_reader
     btc_ingest_internal.registry_pending: no role
     btc_ingest_internal.registry_wake: no role
     btc_ingest_internal.rename_stored_modes: no role
     btc_ingest_internal.restore_step: btc_ingest_admin
     btc_ingest_internal.retention_changed: no role
     btc_ingest_internal.retention_fault: no role
     btc_ingest_internal.retention_row: no role
     btc_ingest_internal.retention_rows: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.retention_step: btc_ingest_admin
     btc_ingest_internal.running_loads: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.schemas: no role
     btc_ingest_internal.slice_days: btc_ingest_reader
     btc_ingest_internal.slices_gone: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.staged_for_lease: no role
     btc_ingest_internal.start_backfill: btc_ingest_loader
     btc_ingest_internal.start_backfill_workers: btc_ingest_loader
     btc_ingest_internal.survey_backfill: btc_ingest_loader
     btc_ingest_internal.sweep_step: btc_ingest_loader
     btc_ingest_internal.tables: no role
     btc_ingest_internal.take_migration_lock: no role
     btc_ingest_internal.tick_of_id: btc_ingest_reader
     btc_ingest_internal.unit_rows: btc_ingest_reader
     btc_ingest_internal.verify_step: btc_ingest_loader
     btc_ingest_internal.wake_workers: no role
     btc_ingest_internal.want_candles: btc_ingest_admin
     btc_ingest_internal.want_range: btc_ingest_admin
     btc_ingest_internal.watched: btc_ingest_monitor,btc_ingest_reader
     btc_ingest_internal.with_chunks: no role";

#[test]
fn functions_are_granted_thus_and_never_to_public() {
    let found = texts(
        &mut client(),
        "SELECT format('%s.%s: %s', p.pronamespace::regnamespace, p.proname, coalesce(string_agg(
                      CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                       ',' ORDER BY g.grantee::regrole::text) FILTER (WHERE g.grantee <> p.proowner), 'no role'))
           FROM pg_proc p
           LEFT JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g ON true
          WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)
          GROUP BY p.oid ORDER BY 1",
    );
    must_be(&found, FUNCTIONS);
}

#[test]
fn a_monitor_asks_a_reader_reads_a_loader_registers_an_admin_sets_policies_and_other_roles_see_nothing() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let role = |name: &str| format!("{name}_{}", db.name());
    for name in ["monitor", "reader", "loader", "admin"] {
        let login = role(name);
        client.batch_execute(&format!("CREATE ROLE {login} LOGIN; GRANT btc_ingest_{name} TO {login}")).unwrap();
    }
    client.batch_execute(&format!("CREATE ROLE {} LOGIN", role("stranger"))).unwrap();
    let read = "SELECT count(price) FROM market_data.btc_ticks";
    let register = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
                    VALUES ('2024-08-08T12:00:00Z', 'A', 's3://landing/a')";
    let policy = r#"INSERT INTO ops.retention_jobs (job_name, hypertable, policy, enabled)
                    VALUES ('a', 'market_data.btc_ticks', '{"drop_after": "90 days"}', false)"#;
    let write = "DELETE FROM market_data.btc_ticks";
    let migrate = "SELECT btc_ingest.migrate()";
    let call = "SELECT btc_ingest.load_s3_slice('')";
    let doctor = "SELECT count(*) FROM btc_ingest.doctor()";
    for (name, allowed) in [
        ("stranger", &[][..]),
        ("monitor", &[doctor][..]),
        ("reader", &[read][..]),
        ("loader", &[read, register, call, doctor][..]),
        ("admin", &[read, register, policy, call, doctor, migrate][..]),
    ] {
        let mut user = db.client_as(&role(name));
        for sql in [read, register, policy, write, migrate, call, doctor] {
            user.batch_execute("BEGIN").unwrap();
            let code = user.batch_execute(sql).err().map(|error| error.code().unwrap().code().to_owned());
            user.batch_execute("ROLLBACK").unwrap();
            // The empty uri is refused because it is empty, not because of the role.
            let denied = code.as_deref() == Some("42501");
            assert_eq!(denied, !allowed.contains(&sql), "{name}: {sql}: {code:?}");
        }
    }
    drop(client);
    let cluster = db.cluster();
    let names = ["monitor", "reader", "loader", "admin", "stranger"].map(role).join(", ");
    drop(db);
    cluster.client("postgres").batch_execute(&format!("DROP ROLE {names}")).unwrap();
}
