//! Who may do what, and that nobody becomes more than she is through a load.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;

use btc_ingest_tests::stand::{BUCKET, Refusal, load, loaded, refused, session, stored, traces};
use btc_ingest_tests::ticks::time_us;
use btc_ingest_tests::{Cluster, FaultProxy, Generator, ParquetFile, Stand, Sums, TestDb};
use postgres::Client;

/// Every table of the contract.
const TABLES: [&str; 14] = [
    "landing.raw_blobs_5m",
    "landing.rejected_ticks",
    "market_data.btc_ticks",
    "signals.btc_embeddings",
    "ingestion.stream_offsets",
    "ingestion.objects",
    "ingestion.object_slices",
    "ingestion.load_history",
    "ingestion.backfills",
    "ingestion.backfill_workers",
    "ingestion.backfill_chunks",
    "ingestion.control",
    "ingestion.schema_version",
    "ops.retention_jobs",
];
const SCHEMAS: [&str; 5] = ["landing", "market_data", "signals", "ingestion", "ops"];

/// An object in the stand's bucket, and what it comes to.
fn object(key: &str) -> (String, Sums) {
    let ticks = Generator::new(1, "BTCUSDT", time_us("2024-08-08T12:00:00Z"), 1).per_second(2.0).next_slices(2);
    (Stand::shared().put(&format!("rights/{key}.parquet"), ParquetFile::new().bytes(&ticks)), Sums::of(&ticks))
}

/// Makes a login role of this database's own, a member of these roles, and returns its name.
fn user(db: &TestDb<'_>, name: &str, roles: &[&str]) -> String {
    let user = format!("{name}_{}", db.name());
    let mut client = db.client();
    client.batch_execute(&format!("CREATE ROLE {user} LOGIN")).unwrap();
    for role in roles {
        client.batch_execute(&format!("GRANT {role} TO {user}")).unwrap();
    }
    user
}

#[track_caller]
fn denied(client: &mut Client, sql: &str) -> Refusal {
    match client.batch_execute(sql) {
        Ok(()) => panic!("{sql} should be denied"),
        Err(error) => {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:?}");
            refusal
        }
    }
}

/// The first column of every row.
fn column(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn truth(client: &mut Client, sql: &str) -> bool {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// An endpoint to which nobody may connect.
struct Silence(TcpListener);

impl Silence {
    fn new() -> Silence {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Silence(listener)
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// A superuser's session that would ask here, and not wait long for an answer.
    fn session(&self, db: &TestDb<'_>) -> Client {
        let settings = [("btc_ingest.s3_read_timeout", "200ms"), ("btc_ingest.s3_max_attempts", "1")];
        session(db, &self.endpoint(), &settings)
    }

    #[track_caller]
    fn must_be_unbroken(&self) {
        let caller = self.0.accept().map(|(_, address)| address);
        assert_eq!(caller.map_err(|e| e.kind()), Err(std::io::ErrorKind::WouldBlock), "somebody connected");
    }
}

// ── roles ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn three_roles_exist_and_cannot_log_in() {
    let db = Stand::shared().db();
    let sql = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'btc_ingest%' AND NOT rolcanlogin AND NOT rolsuper
                  AND NOT rolcreaterole AND NOT rolcreatedb AND NOT rolbypassrls ORDER BY 1";
    assert_eq!(column(&mut db.client(), sql), ["btc_ingest_admin", "btc_ingest_loader", "btc_ingest_reader"]);
    let sql = "SELECT pg_has_role('btc_ingest_admin', 'btc_ingest_loader', 'usage')
                  AND pg_has_role('btc_ingest_loader', 'btc_ingest_reader', 'usage')
                  AND NOT pg_has_role('btc_ingest_reader', 'btc_ingest_loader', 'member')";
    assert!(truth(&mut db.client(), sql));
}

#[test]
fn somebody_without_a_role_can_call_nothing_and_read_nothing() {
    let stand = Stand::shared();
    let db = stand.db();
    let (uri, _) = object("nobody");
    loaded(&mut db.client(), &uri, "");
    let nobody = user(&db, "nobody", &[]);
    let mut admin = db.client();
    let functions = "FROM pg_proc WHERE pronamespace = 'btc_ingest'::regnamespace";
    assert!(column(&mut admin, &format!("SELECT proname::text {functions}")).len() >= 7);
    let callable = format!("SELECT proname::text {functions} AND has_function_privilege('{nobody}', oid, 'execute')");
    assert_eq!(column(&mut admin, &callable), [""; 0]);
    // Chunks as well: their schema is open to everybody.
    let readable = format!(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v', 'S')
            AND (relnamespace::regnamespace::text IN ('btc_ingest', '{}') OR oid IN (SELECT inhrelid FROM pg_inherits))
            AND has_table_privilege('{nobody}', oid, 'select, insert, update, delete, truncate, trigger, references')",
        SCHEMAS.join("', '")
    );
    assert_eq!(column(&mut admin, &readable), [""; 0]);
    assert!(truth(
        &mut admin,
        "SELECT count(*) > 0 FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass"
    ));

    let mut client = db.client_as(&nobody);
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
fn usage_of_the_schema_alone_lets_nobody_call_anything() {
    let db = Stand::shared().db();
    let nobody = user(&db, "guest", &[]);
    db.client().batch_execute(&format!("GRANT USAGE ON SCHEMA btc_ingest TO {nobody}")).unwrap();
    let refusal = refused(&mut db.client_as(&nobody), "s3://landing/x", "", "42501");
    assert!(refusal.message.contains("permission denied for function load_s3_slice"), "{refusal:?}");
}

#[test]
fn a_reader_reads_everything_and_changes_nothing() {
    let db = Stand::shared().db();
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
fn a_loader_loads_and_registers_and_writes_no_tick_herself() {
    let db = Stand::shared().db();
    let (uri, sums) = object("loader");
    let mut loader = db.client_as(&user(&db, "loader", &["btc_ingest_loader"]));
    loader.query_one("SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[&uri]).unwrap();
    loader.query_one("SELECT * FROM btc_ingest.inspect_s3($1)", &[&uri]).unwrap();
    assert!(!loader.query("SELECT * FROM btc_ingest.doctor()", &[]).unwrap().is_empty());
    loaded(&mut loader, &uri, "");
    stored(&mut loader).must_be(&sums, "as a loader");
    for table in TABLES {
        // A producer registers what she uploaded, and an outside job writes its vectors.
        if !matches!(table, "landing.raw_blobs_5m" | "signals.btc_embeddings") {
            denied(&mut loader, &format!("INSERT INTO {table} DEFAULT VALUES"));
        }
        denied(&mut loader, &format!("DELETE FROM {table}"));
        denied(&mut loader, &format!("TRUNCATE {table}"));
        denied(
            &mut loader,
            &format!("CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION btc_ingest.registry_pending()"),
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

// ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn settings_that_reach_the_network_or_take_memory_are_the_superusers() {
    let db = Stand::shared().db();
    let mut loader = db.client_as(&user(&db, "setter", &["btc_ingest_loader"]));
    // Loads the library.
    refused(&mut loader, "", "", "S3001");
    let sql = "SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND context = 'superuser' ORDER BY 1";
    let closed = column(&mut loader, sql);
    assert_eq!(
        closed,
        [
            "btc_ingest.allowed_prefixes",
            "btc_ingest.aws_profile",
            "btc_ingest.chunk_time_interval",
            "btc_ingest.log_loads",
            "btc_ingest.max_object_size",
            "btc_ingest.memory_limit",
            "btc_ingest.s3_ca_file",
            "btc_ingest.s3_connect_timeout",
            "btc_ingest.s3_endpoint",
            "btc_ingest.s3_force_path_style",
            "btc_ingest.s3_max_attempts",
            "btc_ingest.s3_read_timeout",
            "btc_ingest.s3_region",
        ]
    );
    for name in &closed {
        denied(&mut loader, &format!("SET {name} TO DEFAULT"));
        denied(&mut loader, &format!("SELECT set_config('{name}', '1', false)"));
    }
    let error = loader.batch_execute("SET btc_ingest.memory_limt = '1GB'").unwrap_err();
    assert_eq!(Refusal::from(error).sqlstate, "42602", "a misspelt name");
    // What workers go by is the configuration's: no session can set it at all.
    let sql = "SELECT name FROM pg_settings WHERE name LIKE 'btc\\_ingest.%' AND context NOT IN ('user', 'superuser') ORDER BY 1";
    let names = [
        "database",
        "history_retention",
        "max_attempts",
        "poll_interval",
        "queue_order",
        "retry_backoff",
        "retry_backoff_max",
        "workers",
    ]
    .map(|name| format!("btc_ingest.{name}"));
    assert_eq!(column(&mut loader, sql), names);
    for name in names {
        let error = loader.batch_execute(&format!("SET {name} TO DEFAULT")).unwrap_err();
        assert_eq!(Refusal::from(error).sqlstate, "55P02", "{name}");
    }
    loader.batch_execute("SET btc_ingest.max_kept_rejects = 5; SET btc_ingest.max_conflict_fraction = 0.5").unwrap();
}

#[test]
fn what_was_set_before_the_library_was_loaded_does_not_count() {
    let stand = Stand::shared();
    let db = stand.db();
    let silence = Silence::new();
    let (uri, _) = object("placeholder");
    let loader = user(&db, "early", &["btc_ingest_loader"]);
    let attack = |client: &mut Client| {
        let refusal = refused(client, "s3://elsewhere/x.parquet", "", "S3002");
        assert_eq!(refusal.detail, format!("Allowed are: s3://{BUCKET}."));
        // Goes to the server's own endpoint.
        loaded(client, &uri, "force => true");
        let sql = "SELECT current_setting('btc_ingest.memory_limit') = '64MB'";
        assert!(truth(client, sql));
    };

    let mut client = db.client_as(&loader);
    let early = format!(
        "SET btc_ingest.allowed_prefixes = 's3://elsewhere'; SET btc_ingest.s3_endpoint = '{}';
         SET btc_ingest.memory_limit = '1TB'",
        silence.endpoint()
    );
    client.batch_execute(&early).unwrap();
    assert!(truth(&mut client, "SELECT current_setting('btc_ingest.allowed_prefixes') = 's3://elsewhere'"));
    attack(&mut client);

    // Also within the transaction that loads, and by the connection's options.
    let mut client = db.client_as(&loader);
    client.batch_execute("BEGIN; SET LOCAL btc_ingest.allowed_prefixes = 's3://elsewhere'").unwrap();
    refused(&mut client, "s3://elsewhere/x.parquet", "", "S3002");
    let options = format!(
        "{} options='-c btc_ingest.allowed_prefixes=s3://elsewhere -c btc_ingest.s3_endpoint={}'",
        stand.cluster.connection_string_as(db.name(), &loader),
        silence.endpoint()
    );
    // PostgreSQL forgets the file's value of a setting that the connection's options named: only less is allowed then.
    let mut client = Client::connect(&options, postgres::NoTls).unwrap();
    refused(&mut client, "s3://elsewhere/x.parquet", "", "S3002");

    // Nor may she keep it for her next sessions.
    let mut client = db.client_as(&loader);
    denied(&mut client, &format!("ALTER ROLE {loader} SET btc_ingest.allowed_prefixes = 's3://elsewhere'"));
    attack(&mut db.client_as(&loader));
    silence.must_be_unbroken();
}

#[test]
fn a_loaders_session_cannot_bend_what_is_stored() {
    let db = Stand::shared().db();
    let (uri, sums) = object("bent");
    let mut loader = db.client_as(&user(&db, "bender", &["btc_ingest_loader"]));
    loader
        .batch_execute(
            "SET timezone = 'Asia/Kolkata'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard';
             SET search_path = pg_temp; SET extra_float_digits = -15; SET row_security = off;
             SET default_transaction_isolation = 'serializable';
             CREATE TEMP TABLE incoming_ticks (bucket_5m timestamptz, symbol text, trade_id bigint, price numeric);
             INSERT INTO incoming_ticks VALUES (now(), 'FORGED', 1, 1);
             CREATE TEMP TABLE btc_ticks (LIKE incoming_ticks);
             CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$",
        )
        .unwrap();
    loaded(&mut loader, &uri, "");
    stored(&mut db.client()).must_be(&sums, "from a bent session");
    let sql = "SELECT bool_and(bucket_5m = date_bin('5 minutes', event_time, 'epoch') AND symbol = 'BTCUSDT'
                               AND ingested_at > now() - interval '1 hour') FROM market_data.btc_ticks";
    assert!(truth(&mut db.client(), sql));
}

// ── other people's tables ───────────────────────────────────────────────────────────────────────────────────────────

/// A database whose tables belong to mallory, and a role that loads into it.
struct Owned {
    db: TestDb<'static>,
    mallory: String,
    loader: String,
}

impl Owned {
    fn new() -> Owned {
        let db = Stand::shared().db();
        let (mallory, loader) = (user(&db, "mallory", &[]), user(&db, "victim", &["btc_ingest_loader"]));
        let mut client = db.client();
        for table in TABLES {
            client.batch_execute(&format!("ALTER TABLE {table} OWNER TO {mallory}")).unwrap();
        }
        for schema in SCHEMAS {
            client.batch_execute(&format!("ALTER SCHEMA {schema} OWNER TO {mallory}")).unwrap();
        }
        client.batch_execute(&format!("CREATE SCHEMA mallory AUTHORIZATION {mallory}")).unwrap();
        Owned { db, mallory, loader }
    }

    #[track_caller]
    fn nobody_rose(&self, how: &str) {
        let sql = format!(
            "SELECT count(*) = 0 FROM pg_roles WHERE rolname IN ('{}', '{}') AND rolsuper",
            self.mallory, self.loader
        );
        assert!(truth(&mut self.db.client(), &sql), "{how} made somebody superuser");
    }

    /// The superuser and the loader: whoever calls, mallory's code must not run as them.
    fn callers(&self) -> [Client; 2] {
        [self.db.client(), self.db.client_as(&self.loader)]
    }
}

#[test]
fn loads_work_when_an_ordinary_role_owns_all_tables() {
    let owned = Owned::new();
    let (uri, sums) = object("owned");
    let [mut superuser, mut loader] = owned.callers();
    let report = loaded(&mut loader, &uri, "");
    assert_eq!(report.inserted as u64, sums.rows);
    let report = loaded(&mut superuser, &uri, "force => true");
    assert_eq!(report.duplicate as u64, sums.rows);
    stored(&mut superuser).must_be(&sums, "in an ordinary role's tables");
    superuser.query_one("SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[&uri]).unwrap();
    let sql = "SELECT ok FROM btc_ingest.doctor() WHERE \"check\" = 'tables'";
    assert!(truth(&mut loader, sql));
    // The caller is herself again.
    assert_eq!(column(&mut loader, "SELECT current_user::text"), [owned.loader.as_str()]);
}

#[test]
fn an_owners_trigger_runs_as_the_owner_and_cannot_become_superuser() {
    let owned = Owned::new();
    let (uri, sums) = object("trigger");
    let mallory = &owned.mallory;
    let mut author = owned.db.client_as(mallory);
    author.batch_execute("CREATE TABLE mallory.seen (who text, how text)").unwrap();
    let climbs = [
        format!("ALTER ROLE {mallory} SUPERUSER"),
        format!("GRANT pg_read_server_files, pg_execute_server_program TO {mallory}"),
        "SET ROLE postgres".to_owned(),
        "RESET ROLE".to_owned(),
        "SET SESSION AUTHORIZATION postgres".to_owned(),
        "RESET SESSION AUTHORIZATION".to_owned(),
        "PERFORM set_config('role', 'postgres', false)".to_owned(),
        "PERFORM set_config('session_authorization', 'postgres', false)".to_owned(),
        "COPY mallory.seen TO PROGRAM 'cat'".to_owned(),
        "COPY mallory.seen FROM '/etc/passwd'".to_owned(),
        "CREATE TEMP TABLE left_behind ()".to_owned(),
        "SET btc_ingest.allowed_prefixes = 's3://anything'".to_owned(),
    ];
    for table in ["market_data.btc_ticks", "landing.raw_blobs_5m", "ingestion.objects", "ingestion.stream_offsets"] {
        // Everything on the hypertable; elsewhere the shortest ways will do.
        let tried = if table == "market_data.btc_ticks" { &climbs[..] } else { &climbs[..1] };
        for climb in tried {
            // Openly: the load fails with what the trigger may not do.
            let how = format!("{climb} in a trigger of {table}");
            let function = format!(
                "CREATE OR REPLACE FUNCTION mallory.climb() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN {climb}; EXECUTE 'ALTER ROLE {mallory} SUPERUSER'; RETURN NEW; END $$"
            );
            author.batch_execute(&function).unwrap();
            let trigger = format!(
                "CREATE OR REPLACE TRIGGER climb BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION mallory.climb()"
            );
            author
                .batch_execute(&format!(
                    "DROP TRIGGER IF EXISTS climb ON {table}; {}",
                    trigger.replace("OR REPLACE ", "")
                ))
                .unwrap();
            for mut caller in owned.callers() {
                let refusal = refused(&mut caller, &uri, "", "42501");
                assert!(!refusal.message.is_empty());
                assert_eq!(traces(&mut caller), [], "{how}: {refusal:?}");
            }
            owned.nobody_rose(&how);
        }
        author.batch_execute(&format!("DROP TRIGGER climb ON {table}")).unwrap();
    }

    // In silence: the load succeeds, and all that was tried was tried as mallory.
    let tries: String = climbs
        .iter()
        .map(|climb| {
            let note = climb.replace('\'', "''");
            format!("BEGIN {climb}; INSERT INTO mallory.seen VALUES (current_user, '{note}'); EXCEPTION WHEN OTHERS THEN NULL; END;\n")
        })
        .collect();
    let function = format!(
        "CREATE OR REPLACE FUNCTION mallory.climb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         INSERT INTO mallory.seen VALUES (current_user, 'ran'); {tries} RETURN NEW; END $$"
    );
    author.batch_execute(&function).unwrap();
    for table in ["landing.raw_blobs_5m", "ingestion.objects", "ingestion.load_history"] {
        author
            .batch_execute(&format!(
                "CREATE TRIGGER climb BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION mallory.climb()"
            ))
            .unwrap();
    }
    let [mut superuser, mut loader] = owned.callers();
    loaded(&mut superuser, &uri, "");
    loaded(&mut loader, &uri, "force => true");
    owned.nobody_rose("silently");
    stored(&mut superuser).must_be(&sums, "past a trigger that tries everything");
    assert_eq!(column(&mut superuser, "SELECT DISTINCT who FROM mallory.seen"), [mallory.as_str()]);
    assert_eq!(column(&mut superuser, "SELECT DISTINCT how FROM mallory.seen"), ["ran"]);
}

#[test]
fn an_owners_trigger_that_waits_for_the_commit_is_refused() {
    let owned = Owned::new();
    let (uri, _) = object("deferred");
    let mut author = owned.db.client_as(&owned.mallory);
    author
        .batch_execute(&format!(
            "CREATE FUNCTION mallory.later() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'ALTER ROLE {} SUPERUSER'; RETURN NEW; END $$;
             CREATE CONSTRAINT TRIGGER later AFTER INSERT ON ingestion.objects DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION mallory.later()",
            owned.mallory
        ))
        .unwrap();
    for mut caller in owned.callers() {
        refused(&mut caller, &uri, "", "42501");
        owned.nobody_rose("a deferred trigger");
        assert_eq!(traces(&mut caller), []);
        assert!(caller.query("SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[&uri]).is_err());
        owned.nobody_rose("a deferred trigger of a registration");
    }
}

#[test]
fn tables_of_several_owners_are_refused_before_s3_is_asked() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mallory = user(&db, "mallory", &[]);
    let mut client = silence.session(&db);
    let written = TABLES.iter().filter(|table| !matches!(**table, "signals.btc_embeddings" | "ops.retention_jobs"));
    for table in written {
        client.batch_execute(&format!("BEGIN; ALTER TABLE {table} OWNER TO {mallory}; SAVEPOINT s")).unwrap();
        let refusal = refused(&mut client, "s3://landing/x.parquet", "", "42501");
        assert!(refusal.message.contains("different owners") && refusal.message.contains(&mallory), "{refusal:?}");
        client.batch_execute("ROLLBACK TO s").unwrap();
        let error =
            client.query("SELECT btc_ingest.register_s3_slice('s3://landing/x.parquet', 'A')", &[]).unwrap_err();
        assert_eq!(Refusal::from(error).sqlstate, "42501");
        client.batch_execute("ROLLBACK").unwrap();
    }
    silence.must_be_unbroken();
}

#[test]
fn a_schemas_owner_cannot_put_a_view_in_a_tables_place_and_become_superuser() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mallory = user(&db, "mallory", &["btc_ingest_loader"]);
    let mut client = silence.session(&db);
    client.batch_execute(&format!("ALTER SCHEMA ingestion OWNER TO {mallory}")).unwrap();
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "42501");
    assert!(refusal.message.contains("ingestion") && refusal.message.contains(&mallory), "{refusal:?}");
    assert_eq!(Refusal::from(client.query("SELECT btc_ingest.migrate()", &[]).unwrap_err()).sqlstate, "42501");

    let mut hers = db.client_as(&mallory);
    hers.batch_execute(&format!(
        "DROP TABLE ingestion.schema_version;
         CREATE FUNCTION ingestion.version() RETURNS int LANGUAGE plpgsql AS $f$
         BEGIN EXECUTE 'ALTER ROLE {mallory} SUPERUSER'; RETURN 1; END $f$;
         CREATE VIEW ingestion.schema_version AS SELECT true AS only_row, ingestion.version() AS version"
    ))
    .unwrap();
    for call in ["doctor()", "load_s3_slice('s3://landing/x.parquet')", "register_s3_slice('s3://landing/x', 'A')"] {
        let _ = hers.query(&format!("SELECT btc_ingest.{call}"), &[]);
        let _ = client.query(&format!("SELECT btc_ingest.{call}"), &[]);
    }
    let sql = "SELECT rolsuper FROM pg_roles WHERE rolname = $1";
    assert!(!client.query_one(sql, &[&mallory]).unwrap().get::<_, bool>(0));
}

#[test]
fn somebody_elses_function_on_a_superusers_table_is_refused_before_s3_is_asked() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mallory = user(&db, "mallory", &[]);
    let mut client = silence.session(&db);
    client.batch_execute(&format!("CREATE SCHEMA mallory AUTHORIZATION {mallory}")).unwrap();
    db.client_as(&mallory)
        .batch_execute(
            "CREATE FUNCTION mallory.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE FUNCTION mallory.fine(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
             CREATE FUNCTION mallory.fine(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
             CREATE FUNCTION mallory.text(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
             CREATE FUNCTION mallory.clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()';
             CREATE OPERATOR mallory.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = mallory.fine);
             CREATE DOMAIN mallory.note AS text CHECK (mallory.fine(VALUE));",
        )
        .unwrap();
    client
        .batch_execute("CREATE FUNCTION public.ours() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
        .unwrap();
    let cases = [
        "CREATE TRIGGER t BEFORE INSERT ON market_data.btc_ticks FOR EACH ROW EXECUTE FUNCTION mallory.fire()",
        "CREATE TRIGGER t AFTER UPDATE ON landing.raw_blobs_5m EXECUTE FUNCTION mallory.fire()",
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON ingestion.objects DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION mallory.fire()",
        "CREATE TRIGGER t BEFORE INSERT ON ingestion.objects FOR EACH ROW WHEN (mallory.fine(NEW.s3_uri)) EXECUTE FUNCTION public.ours()",
        "ALTER TABLE market_data.btc_ticks ALTER ingested_at SET DEFAULT mallory.clock()",
        "ALTER TABLE ingestion.load_history ALTER finished_at SET DEFAULT mallory.clock()",
        "ALTER TABLE market_data.btc_ticks ADD CHECK (mallory.fine(symbol))",
        "ALTER TABLE ingestion.objects ADD CHECK (mallory.fine(s3_uri)) NOT VALID",
        "ALTER TABLE ingestion.objects ADD CHECK (s3_uri OPERATOR(mallory.===) etag)",
        "CREATE INDEX ON market_data.btc_ticks (mallory.text(symbol))",
        "CREATE INDEX ON ingestion.load_history (mallory.text(s3_uri))",
        "CREATE INDEX ON landing.rejected_ticks (s3_uri) WHERE mallory.fine(reason)",
        "ALTER TABLE landing.rejected_ticks ADD COLUMN extra text GENERATED ALWAYS AS (mallory.text(reason)) STORED",
        "ALTER TABLE landing.rejected_ticks ADD COLUMN extra mallory.note",
        "CREATE RULE r AS ON INSERT TO ingestion.load_history DO ALSO SELECT mallory.clock()",
    ];
    let mut open = Vec::new();
    for case in cases {
        client.batch_execute(&format!("BEGIN; {case}; SAVEPOINT s")).unwrap();
        let refusal = Refusal::from(load(&mut client, "s3://landing/x.parquet", "").unwrap_err());
        if refusal.sqlstate != "42501" || !refusal.message.contains("mallory") {
            open.push((case, refusal));
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
    assert!(open.is_empty(), "{open:#?}");
    silence.must_be_unbroken();
    // Functions of a superuser's own are nobody else's.
    client
        .batch_execute(
            "CREATE TRIGGER t BEFORE INSERT ON ingestion.objects FOR EACH ROW EXECUTE FUNCTION public.ours()",
        )
        .unwrap();
    let (uri, _) = object("own function");
    loaded(&mut db.client(), &uri, "");
}

#[test]
fn a_trigger_of_somebody_else_on_a_chunk_is_refused() {
    let db = Stand::shared().db();
    let (uri, _) = object("chunk");
    loaded(&mut db.client(), &uri, "");
    let mallory = user(&db, "mallory", &[]);
    let mut client = db.client();
    client
        .batch_execute(&format!(
            "CREATE SCHEMA mallory AUTHORIZATION {mallory}; GRANT USAGE ON SCHEMA market_data TO {mallory};
             GRANT TRIGGER ON market_data.btc_ticks TO {mallory}"
        ))
        .unwrap();
    let chunk = column(&mut client, "SELECT show_chunks('market_data.btc_ticks')::text").remove(0);
    let mut author = db.client_as(&mallory);
    author
        .batch_execute("CREATE FUNCTION mallory.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
        .unwrap();
    let on_chunk = format!("CREATE TRIGGER t BEFORE INSERT ON {chunk} FOR EACH ROW EXECUTE FUNCTION mallory.fire()");
    author.batch_execute(&on_chunk).unwrap();
    let refusal = refused(&mut client, &uri, "force => true", "42501");
    assert!(refusal.message.contains("mallory.fire()"), "{refusal:?}");
}

#[test]
fn row_security_is_refused_before_s3_is_asked() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mut client = silence.session(&db);
    for table in ["market_data.btc_ticks", "landing.raw_blobs_5m", "ingestion.objects", "landing.rejected_ticks"] {
        client.batch_execute(&format!("BEGIN; ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")).unwrap();
        let refusal = refused(&mut client, "s3://landing/x.parquet", "", "TK010");
        assert!(refusal.message.contains(table) && !refusal.hint.is_empty(), "{refusal:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    silence.must_be_unbroken();
}

// ── transactions and TimescaleDB ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_read_only_transaction_is_refused_before_s3_is_asked() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mut client = silence.session(&db);
    for begin in ["BEGIN READ ONLY", "BEGIN; SET TRANSACTION READ ONLY"] {
        client.batch_execute(begin).unwrap();
        let refusal = refused(&mut client, "s3://landing/x.parquet", "", "25006");
        assert!(refusal.message.contains("read-only"), "{refusal:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    silence.must_be_unbroken();
}

#[test]
fn a_load_while_timescaledb_restores_is_refused_before_s3_is_asked() {
    let db = Stand::shared().db();
    let silence = Silence::new();
    let mut client = silence.session(&db);
    client.batch_execute("SET timescaledb.restoring = on").unwrap();
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "TK007");
    assert!(refusal.hint.contains("timescaledb_post_restore()"), "{refusal:?}");
    client.batch_execute("SET timescaledb.restoring = off; SELECT timescaledb_pre_restore()").unwrap();
    refused(&mut silence.session(&db), "s3://landing/x.parquet", "", "TK007");
    silence.must_be_unbroken();

    client.batch_execute("SELECT timescaledb_post_restore()").unwrap();
    let (uri, sums) = object("restored");
    loaded(&mut db.client(), &uri, "");
    stored(&mut db.client()).must_be(&sums, "after the restore");
}

#[test]
fn no_load_makes_the_root_of_the_hypertable_grow() {
    let db = Stand::shared().db();
    let proxy = FaultProxy::before(&Stand::shared().s3);
    let mut client = session(&db, &proxy.endpoint(), &[]);
    let size = "SELECT pg_relation_size('market_data.btc_ticks') + pg_relation_size('market_data.btc_ticks', 'fsm')";
    let mut root = || client.query_one(size, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(root(), 0);
    let (uri, sums) = object("root");
    for args in ["", "force => true", r#"options => '{"symbol": "OTHER"}'"#] {
        loaded(&mut client, &uri, args);
        assert_eq!(client.query_one(size, &[]).unwrap().get::<_, i64>(0), 0, "{args}");
    }
    let rows: i64 = client.query_one("SELECT count(*) FROM market_data.btc_ticks", &[]).unwrap().get(0);
    assert_eq!(rows as u64, 2 * sums.rows);
}
