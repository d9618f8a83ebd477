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
fn tables_and_schemas_are_granted_to_these_roles_only() {
    let mut client = client();
    let found = texts(
        &mut client,
        &format!(
            "SELECT format('%s: %s %s', n.nspname,
                           CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                           string_agg(g.privilege_type, ',' ORDER BY g.privilege_type))
               FROM pg_namespace n, aclexplode(n.nspacl) g
              WHERE (n.nspname IN {SCHEMAS} OR n.nspname = 'btc_ingest') AND g.grantee <> n.nspowner
              GROUP BY n.nspname, g.grantee ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "btc_ingest: btc_ingest_reader USAGE
         ingestion: btc_ingest_reader USAGE
         landing: btc_ingest_reader USAGE
         market_data: btc_ingest_reader USAGE
         ops: btc_ingest_reader USAGE
         signals: btc_ingest_reader USAGE",
    );
    let found = texts(
        &mut client,
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
        "ingestion.backfill_chunks: btc_ingest_reader SELECT
         ingestion.backfill_workers: btc_ingest_reader SELECT
         ingestion.backfills: btc_ingest_reader SELECT
         ingestion.control: btc_ingest_reader SELECT
         ingestion.load_history: btc_ingest_reader SELECT
         ingestion.object_slices: btc_ingest_reader SELECT
         ingestion.objects: btc_ingest_reader SELECT
         ingestion.schema_version: btc_ingest_reader SELECT
         ingestion.stream_offsets: btc_ingest_reader SELECT
         landing.raw_blobs_5m: btc_ingest_loader INSERT,UPDATE
         landing.raw_blobs_5m: btc_ingest_reader SELECT
         landing.rejected_ticks: btc_ingest_reader SELECT
         market_data.btc_ticks: btc_ingest_reader SELECT
         ops.retention_jobs: btc_ingest_admin DELETE,INSERT,UPDATE
         ops.retention_jobs: btc_ingest_reader SELECT
         signals.btc_embeddings: btc_ingest_loader INSERT,UPDATE
         signals.btc_embeddings: btc_ingest_reader SELECT",
    );
}

#[test]
fn functions_are_granted_thus_and_never_to_public() {
    let found = texts(
        &mut client(),
        "SELECT format('%s: %s', p.proname, coalesce(string_agg(
                      CASE g.grantee WHEN 0 THEN 'public' ELSE g.grantee::regrole::text END,
                       ',' ORDER BY g.grantee::regrole::text) FILTER (WHERE g.grantee <> p.proowner), 'nobody'))
           FROM pg_proc p
           LEFT JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g ON true
          WHERE p.pronamespace = 'btc_ingest'::regnamespace
          GROUP BY p.oid ORDER BY 1",
    );
    must_be(
        &found,
        "adopt_shapes: nobody
         attach_chunk: nobody
         backfill: btc_ingest_loader
         backfill_failures: btc_ingest_loader
         backfill_status: btc_ingest_reader
         cancel_backfill: btc_ingest_admin
         compress_finished: nobody
         compression_jobs: nobody
         discover: btc_ingest_loader
         doctor: btc_ingest_loader
         grant_and_comment: nobody
         index_chunk: nobody
         inspect_s3: btc_ingest_loader
         lag_by_asset: btc_ingest_reader
         load_s3_slice: btc_ingest_loader
         loads_in_work: btc_ingest_reader
         migrate: btc_ingest_admin
         missing_indexes: nobody
         objects_failed: btc_ingest_reader
         objects_waiting: btc_ingest_reader
         pause_compression: nobody
         pause_ingest: btc_ingest_admin
         register_s3_slice: btc_ingest_loader
         registry_pending: nobody
         registry_wake: nobody
         reload_slice: btc_ingest_admin
         requeue_failed: btc_ingest_loader
         resume_compression: nobody
         resume_ingest: btc_ingest_admin
         retry: btc_ingest_loader
         run_sweep: btc_ingest_loader
         skip: btc_ingest_admin
         stage_chunk: nobody
         start_backfill: btc_ingest_loader
         start_backfill_workers: btc_ingest_loader
         stats_since: btc_ingest_reader
         survey_backfill: btc_ingest_loader
         sweep: btc_ingest_loader
         sweep_step: btc_ingest_loader
         unwatch: btc_ingest_admin
         wake_workers: btc_ingest_loader
         watch: btc_ingest_admin
         watched: btc_ingest_reader
         workers: btc_ingest_reader",
    );
}

#[test]
fn a_reader_reads_a_loader_registers_an_admin_sets_policies_and_other_roles_see_nothing() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let role = |name: &str| format!("{name}_{}", db.name());
    for name in ["reader", "loader", "admin"] {
        let login = role(name);
        client.batch_execute(&format!("CREATE ROLE {login} LOGIN; GRANT btc_ingest_{name} TO {login}")).unwrap();
    }
    client.batch_execute(&format!("CREATE ROLE {} LOGIN", role("stranger"))).unwrap();
    let read = "SELECT count(*) FROM market_data.btc_ticks";
    let register = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri)
                    VALUES ('2024-08-08T12:00:00Z', 'A', 's3://landing/a')";
    let policy =
        "INSERT INTO ops.retention_jobs (job_name, hypertable, policy) VALUES ('a', 'market_data.btc_ticks', '{}')";
    let write = "DELETE FROM market_data.btc_ticks";
    let migrate = "SELECT btc_ingest.migrate()";
    let call = "SELECT btc_ingest.load_s3_slice('')";
    let doctor = "SELECT count(*) FROM btc_ingest.doctor()";
    for (name, allowed) in [
        ("stranger", &[][..]),
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
    let names = ["reader", "loader", "admin", "stranger"].map(role).join(", ");
    drop(db);
    cluster.client("postgres").batch_execute(&format!("DROP ROLE {names}")).unwrap();
}
