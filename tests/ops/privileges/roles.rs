//! What each role may call and see.

use super::*;

#[test]
fn four_roles_exist_and_cannot_log_in() {
    let db = ServerFixture::shared().db();
    let sql = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'btc_ingest%' AND NOT rolcanlogin AND NOT rolsuper
                  AND NOT rolcreaterole AND NOT rolcreatedb AND NOT rolbypassrls ORDER BY 1";
    let roles = ["btc_ingest_admin", "btc_ingest_loader", "btc_ingest_monitor", "btc_ingest_reader"];
    assert_eq!(column(&mut db.client(), sql), roles);
    let sql = "SELECT pg_has_role('btc_ingest_admin', 'btc_ingest_loader', 'usage')
                  AND pg_has_role('btc_ingest_loader', 'btc_ingest_reader', 'usage')
                  AND NOT pg_has_role('btc_ingest_reader', 'btc_ingest_loader', 'member')";
    assert!(truth(&mut db.client(), sql));
}

#[test]
fn a_user_without_a_role_can_call_nothing_and_read_nothing() {
    let server = ServerFixture::shared();
    let db = server.db();
    let (uri, _) = object("outsider");
    loaded(&mut db.client(), &uri, "");
    let outsider = user(&db, "outsider", &[]);
    let mut admin = db.client();
    let functions =
        "FROM pg_proc WHERE pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)";
    assert!(column(&mut admin, &format!("SELECT proname::text {functions}")).len() >= 7);
    let callable = format!("SELECT proname::text {functions} AND has_function_privilege('{outsider}', oid, 'execute')");
    assert_eq!(column(&mut admin, &callable), [""; 0]);
    // The same holds for chunks, although their schema is open to all roles.
    let readable = format!(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v', 'S')
            AND (relnamespace::regnamespace::text IN ('btc_ingest', '{}') OR oid IN (SELECT inhrelid FROM pg_inherits))
            AND has_table_privilege('{outsider}', oid,
                                    'select, insert, update, delete, truncate, trigger, references')",
        SCHEMAS.join("', '")
    );
    assert_eq!(column(&mut admin, &readable), [""; 0]);
    assert!(truth(
        &mut admin,
        "SELECT count(*) > 0 FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass"
    ));

    let mut client = db.client_as(&outsider);
    let refusal = refused(&mut client, &uri, "", "42501");
    assert!(refusal.message.contains("permission denied for schema btc_ingest"), "{refusal:?}");
    for call in ["doctor()", "inspect_s3('s3://landing/x')", "register_s3_slice('s3://landing/x', 'A')", "migrate()"] {
        denied(&mut client, &format!("SELECT btc_ingest.{call}"));
    }
    for table in TABLES {
        denied(&mut client, &format!("SELECT FROM {table}"));
    }
}

#[test]
fn usage_of_the_schema_alone_lets_no_role_call_anything() {
    let db = ServerFixture::shared().db();
    let outsider = user(&db, "guest", &[]);
    db.client().batch_execute(&format!("GRANT USAGE ON SCHEMA btc_ingest TO {outsider}")).unwrap();
    let refusal = refused(&mut db.client_as(&outsider), "s3://landing/x", "", "42501");
    assert!(refusal.message.contains("permission denied for function load_s3_slice"), "{refusal:?}");
}

#[test]
fn a_reader_reads_everything_and_changes_nothing() {
    let db = ServerFixture::shared().db();
    let (uri, sums) = object("reader");
    loaded(&mut db.client(), &uri, "");
    let mut reader = db.client_as(&user(&db, "reader", &["btc_ingest_reader"]));
    stored(&mut reader).must_be(&sums, "as a reader");
    for table in TABLES {
        reader.query(&format!("SELECT * FROM {table}"), &[]).unwrap();
        denied(&mut reader, &format!("INSERT INTO {table} DEFAULT VALUES"));
        denied(&mut reader, &format!("DELETE FROM {table}"));
        denied(&mut reader, &format!("TRUNCATE {table}"));
    }
    let refusal = refused(&mut reader, &uri, "", "42501");
    assert!(refusal.message.contains("permission denied for function"), "{refusal:?}");
    for call in ["doctor()", "inspect_s3('s3://landing/x')", "register_s3_slice('s3://landing/x', 'A')", "migrate()"] {
        denied(&mut reader, &format!("SELECT btc_ingest.{call}"));
    }
}

#[test]
fn every_view_and_table_function_can_be_read_by_each_role_that_it_is_granted_to() {
    let db = ServerFixture::shared().db();
    let mut admin = db.client();
    let (uri, _) = object("views");
    loaded(&mut admin, &uri, "");
    let mut read = 0;
    for role in ["btc_ingest_monitor", "btc_ingest_reader", "btc_ingest_loader", "btc_ingest_admin"] {
        let views = format!(
            "SELECT oid::regclass::text FROM pg_class
              WHERE relnamespace = 'btc_ingest'::regnamespace AND relkind = 'v'
                AND has_table_privilege('{role}', oid, 'SELECT')"
        );
        // What needs no argument and returns rows; the statuses, not the commands.
        let functions = format!(
            "SELECT oid::regproc || '()' FROM pg_proc
              WHERE pronamespace = 'btc_ingest'::regnamespace AND pronargs = pronargdefaults AND proretset
                AND provolatile = 's' AND has_function_privilege('{role}', oid, 'EXECUTE')"
        );
        let mut named = column(&mut admin, &views);
        assert!(named.len() >= 9, "{role}: {named:?}");
        named.extend(column(&mut admin, &functions));
        let short = role.trim_start_matches("btc_ingest_");
        let mut client = db.client_as(&user(&db, &format!("{short}_of_views"), &[role]));
        for name in named {
            client.query(&format!("SELECT * FROM {name}"), &[]).unwrap_or_else(|e| panic!("{role}: {name}: {e:?}"));
            read += 1;
        }
    }
    assert!(read > 40, "{read}");
}

#[test]
fn a_loader_loads_and_registers_and_writes_no_tick_herself() {
    let db = ServerFixture::shared().db();
    let (uri, sums) = object("loader");
    let mut loader = db.client_as(&user(&db, "loader", &["btc_ingest_loader"]));
    loader.query_one("SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[&uri]).unwrap();
    loader.query_one("SELECT * FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap();
    assert!(!loader.query("SELECT * FROM btc_ingest.doctor()", &[]).unwrap().is_empty());
    loaded(&mut loader, &uri, "");
    stored(&mut loader).must_be(&sums, "as a loader");
    for table in TABLES {
        // A producer registers what it uploaded, and external jobs write their vectors and stage their results.
        if !matches!(table, "landing.raw_blobs_5m" | "signals.btc_embeddings") && !table.contains(".staged_") {
            denied(&mut loader, &format!("INSERT INTO {table} DEFAULT VALUES"));
        }
        denied(&mut loader, &format!("DELETE FROM {table}"));
        denied(&mut loader, &format!("TRUNCATE {table}"));
        denied(
            &mut loader,
            &format!(
                "CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION btc_ingest_internal.registry_pending()"
            ),
        );
    }
    denied(&mut loader, "UPDATE market_data.btc_ticks SET price = 0");
    denied(&mut loader, "SELECT btc_ingest.migrate()");
}

#[test]
fn an_existing_login_role_of_our_name_is_refused_and_left_alone() {
    let cluster = Cluster::builder().start();
    let db = TestDb::new(&cluster);
    let mut client = db.client();
    client.batch_execute("CREATE ROLE btc_ingest_loader LOGIN").unwrap();
    let error = client.batch_execute("CREATE EXTENSION btc_ingest CASCADE").unwrap_err();
    let refusal = Refusal::from(error);
    assert_eq!(refusal.sqlstate, "42710", "{refusal:?}");
    assert_eq!(refusal.message, "role \"btc_ingest_loader\" exists and can log in");
    assert!(refusal.hint.contains("ALTER ROLE btc_ingest_loader NOLOGIN;"), "{refusal:?}");
    assert!(truth(&mut client, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'btc_ingest_loader'"));
    assert!(truth(&mut client, "SELECT to_regnamespace('btc_ingest') IS NULL AND to_regnamespace('landing') IS NULL"));
    client.batch_execute("ALTER ROLE btc_ingest_loader NOLOGIN; CREATE EXTENSION btc_ingest CASCADE").unwrap();
}
