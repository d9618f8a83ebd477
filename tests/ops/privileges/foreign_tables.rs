//! A load runs with the privileges of the tables' owner, and nothing else does.

use super::*;

/// A database whose tables belong to mallory, and a role that loads into it.
pub(super) struct OwnedFixture {
    pub(super) db: TestDb<'static>,
    pub(super) mallory: String,
    pub(super) loader: String,
}

impl OwnedFixture {
    pub(super) fn new() -> OwnedFixture {
        let db = ServerFixture::shared().db();
        let (mallory, loader) = (user(&db, "mallory", &[]), user(&db, "victim", &["btc_ingest_loader"]));
        let mut client = db.client();
        for table in TABLES {
            client.batch_execute(&format!("ALTER TABLE {table} OWNER TO {mallory}")).unwrap();
        }
        for schema in SCHEMAS {
            client.batch_execute(&format!("ALTER SCHEMA {schema} OWNER TO {mallory}")).unwrap();
        }
        client.batch_execute(&format!("CREATE SCHEMA mallory AUTHORIZATION {mallory}")).unwrap();
        OwnedFixture { db, mallory, loader }
    }

    #[track_caller]
    pub(super) fn must_have_no_new_superuser(&self, how: &str) {
        let sql = format!(
            "SELECT count(*) = 0 FROM pg_roles WHERE rolname IN ('{}', '{}') AND rolsuper",
            self.mallory, self.loader
        );
        assert!(truth(&mut self.db.client(), &sql), "{how} made a role superuser");
    }

    /// The superuser and the loader: mallory's code must run as neither, although both call.
    pub(super) fn callers(&self) -> [Client; 2] {
        [self.db.client(), self.db.client_as(&self.loader)]
    }
}

#[test]
fn loads_work_when_an_ordinary_role_owns_all_tables() {
    let fixture = OwnedFixture::new();
    let (uri, sums) = object("fixture");
    let [mut superuser, mut loader] = fixture.callers();
    let report = loaded(&mut loader, &uri, "");
    assert_eq!(report.inserted as u64, sums.rows);
    let report = loaded(&mut superuser, &uri, "force => true");
    assert_eq!(report.duplicate as u64, sums.rows);
    stored(&mut superuser).must_be(&sums, "in an ordinary role's tables");
    superuser.query_one("SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[&uri]).unwrap();
    let sql = "SELECT ok FROM btc_ingest.doctor() WHERE name = 'tables'";
    assert!(truth(&mut loader, sql));
    // The current user is the caller again.
    assert_eq!(column(&mut loader, "SELECT current_user::text"), [fixture.loader.as_str()]);
}

/// Checks that a load fails with what the trigger may not do, and that no role gains a privilege.
fn must_fail_openly(fixture: &OwnedFixture, author: &mut Client, uri: &str, table: &str, climb: &str) {
    let mallory = &fixture.mallory;
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
        .batch_execute(&format!("DROP TRIGGER IF EXISTS climb ON {table}; {}", trigger.replace("OR REPLACE ", "")))
        .unwrap();
    for mut caller in fixture.callers() {
        let refusal = refused(&mut caller, uri, "", "42501");
        assert!(!refusal.message.is_empty());
        assert_eq!(traces(&mut caller), [], "{how}: {refusal:?}");
    }
    fixture.must_have_no_new_superuser(&how);
}

/// Checks that a load succeeds if the trigger catches every error, and that the trigger ran as mallory.
fn must_be_harmless_in_silence(fixture: &OwnedFixture, author: &mut Client, object: (&str, &Sums), climbs: &[String]) {
    let (mallory, (uri, sums)) = (&fixture.mallory, object);
    let tries: String = climbs
        .iter()
        .map(|climb| {
            let note = climb.replace('\'', "''");
            format!(
                "BEGIN {climb}; INSERT INTO mallory.seen
                     VALUES (current_user, '{note}'); EXCEPTION WHEN OTHERS THEN NULL; END;\n"
            )
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
    let [mut superuser, mut loader] = fixture.callers();
    loaded(&mut superuser, uri, "");
    loaded(&mut loader, uri, "force => true");
    fixture.must_have_no_new_superuser("silently");
    stored(&mut superuser).must_be(sums, "past a trigger that tries everything");
    assert_eq!(column(&mut superuser, "SELECT DISTINCT who FROM mallory.seen"), [mallory.as_str()]);
    assert_eq!(column(&mut superuser, "SELECT DISTINCT how FROM mallory.seen"), ["ran"]);
}

#[test]
fn an_owners_trigger_runs_as_the_owner_and_cannot_become_superuser() {
    let fixture = OwnedFixture::new();
    let (uri, sums) = object("trigger");
    let mallory = &fixture.mallory;
    let mut author = fixture.db.client_as(mallory);
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
        // All attempts on the hypertable; the first one is enough on the other tables.
        let tried = if table == "market_data.btc_ticks" { &climbs[..] } else { &climbs[..1] };
        for climb in tried {
            must_fail_openly(&fixture, &mut author, &uri, table, climb);
        }
        author.batch_execute(&format!("DROP TRIGGER climb ON {table}")).unwrap();
    }

    must_be_harmless_in_silence(&fixture, &mut author, (&uri, &sums), &climbs);
}

#[test]
fn an_owners_trigger_that_waits_for_the_commit_is_refused() {
    let fixture = OwnedFixture::new();
    let (uri, _) = object("deferred");
    let mut author = fixture.db.client_as(&fixture.mallory);
    author
        .batch_execute(&format!(
            "CREATE FUNCTION mallory.later() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'ALTER ROLE {} SUPERUSER'; RETURN NEW; END $$;
             CREATE CONSTRAINT TRIGGER later AFTER INSERT ON ingestion.objects DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION mallory.later()",
            fixture.mallory
        ))
        .unwrap();
    for mut caller in fixture.callers() {
        refused(&mut caller, &uri, "", "42501");
        fixture.must_have_no_new_superuser("a deferred trigger");
        assert_eq!(traces(&mut caller), []);
        assert!(caller.query("SELECT * FROM btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[&uri]).is_err());
        fixture.must_have_no_new_superuser("a deferred trigger of a registration");
    }
}

#[test]
fn tables_of_several_owners_are_refused_before_s3_is_asked() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mallory = user(&db, "mallory", &[]);
    let mut client = silent_session(&silence, &db);
    let written = TABLES.iter().filter(|table| **table != "signals.btc_embeddings");
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
    silence.must_be_unused();
}

#[test]
fn a_schemas_owner_cannot_put_a_view_in_a_tables_place_and_become_superuser() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mallory = user(&db, "mallory", &["btc_ingest_loader"]);
    let mut client = silent_session(&silence, &db);
    client.batch_execute(&format!("ALTER SCHEMA ingestion OWNER TO {mallory}")).unwrap();
    let refusal = refused(&mut client, "s3://landing/x.parquet", "", "42501");
    assert!(refusal.message.contains("ingestion") && refusal.message.contains(&mallory), "{refusal:?}");
    assert_eq!(Refusal::from(client.query("SELECT btc_ingest.migrate()", &[]).unwrap_err()).sqlstate, "42501");

    let mut mallory_session = db.client_as(&mallory);
    mallory_session
        .batch_execute(&format!(
            "DROP TABLE ingestion.schema_version;
         CREATE FUNCTION ingestion.version() RETURNS int LANGUAGE plpgsql AS $f$
         BEGIN EXECUTE 'ALTER ROLE {mallory} SUPERUSER'; RETURN 1; END $f$;
         CREATE VIEW ingestion.schema_version AS SELECT true AS only_row, ingestion.version() AS version"
        ))
        .unwrap();
    for call in ["doctor()", "load_s3_slice('s3://landing/x.parquet')", "register_s3_slice('s3://landing/x', 'A')"] {
        let _ = mallory_session.query(&format!("SELECT btc_ingest.{call}"), &[]);
        let _ = client.query(&format!("SELECT btc_ingest.{call}"), &[]);
    }
    let sql = "SELECT rolsuper FROM pg_roles WHERE rolname = $1";
    assert!(!client.query_one(sql, &[&mallory]).unwrap().get::<_, bool>(0));
}

#[test]
fn another_roles_function_on_a_superusers_table_is_refused_before_s3_is_asked() {
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mallory = user(&db, "mallory", &[]);
    let mut client = silent_session(&silence, &db);
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
        "CREATE TRIGGER t BEFORE INSERT ON ingestion.objects FOR EACH ROW
           WHEN (mallory.fine(NEW.s3_uri)) EXECUTE FUNCTION public.ours()",
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
    silence.must_be_unused();
    // Functions that belong to a superuser may be called.
    client
        .batch_execute(
            "CREATE TRIGGER t BEFORE INSERT ON ingestion.objects FOR EACH ROW EXECUTE FUNCTION public.ours()",
        )
        .unwrap();
    let (uri, _) = object("own function");
    loaded(&mut db.client(), &uri, "");
}

#[test]
fn a_trigger_of_another_role_on_a_chunk_is_refused() {
    let db = ServerFixture::shared().db();
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
    let db = ServerFixture::shared().db();
    let silence = SilentEndpoint::new();
    let mut client = silent_session(&silence, &db);
    for table in ["market_data.btc_ticks", "landing.raw_blobs_5m", "ingestion.objects", "landing.rejected_ticks"] {
        client.batch_execute(&format!("BEGIN; ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")).unwrap();
        let refusal = refused(&mut client, "s3://landing/x.parquet", "", "TK010");
        assert!(refusal.message.contains(table) && !refusal.hint.is_empty(), "{refusal:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    silence.must_be_unused();
}
