//! Ways in which a role without privileges of its own could make the extension run its code with more of them. Each of
//! these tests has found a superuser in mallory before the code was changed.

use std::thread::JoinHandle;

use btc_ingest_kit::fixture::backfill::owned_by;
use btc_ingest_kit::fixture::{cluster_of, server};
use btc_ingest_kit::sql::{execute, texts, wait_until_true};
use btc_ingest_kit::wait::{SOON, wait_until};

use super::foreign_tables::OwnedFixture;
use super::*;

/// Waits until a session of this kind waits for a lock in this database.
fn wait_until_locked(client: &mut Client, kind: &str) {
    let sql = format!(
        "EXISTS (SELECT FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock' AND backend_type = '{kind}')"
    );
    wait_until_true(client, "a session that waits for a lock", &sql);
}

/// Calls `load_s3_slice` from a thread, in a superuser's session.
fn load_from_a_thread(db: &TestDb<'_>, uri: &str) -> JoinHandle<Option<Refusal>> {
    let (mut client, uri) = (db.client(), uri.to_owned());
    std::thread::spawn(move || load(&mut client, &uri, "").err().map(Refusal::from))
}

/// A server whose workers live in the database `climb`, in which everything belongs to mallory.
struct WorkedFixture {
    cluster: Cluster,
    _s3: btc_ingest_kit::s3::S3Server,
}

impl WorkedFixture {
    fn new() -> WorkedFixture {
        let s3 = server();
        let cluster = cluster_of(&s3.endpoint())
            .preload("btc_ingest")
            .setting("btc_ingest.database", "climb")
            .setting("btc_ingest.poll_interval", "100ms")
            .start();
        cluster.create_database("climb");
        cluster.install_extension("climb");
        let mut client = cluster.client("climb");
        execute(&mut client, &owned_by("mallory"));
        execute(
            &mut client,
            "ALTER ROLE mallory LOGIN; CREATE SCHEMA mallory AUTHORIZATION mallory;
             CREATE TABLE mallory.seen (who text, pid integer); ALTER TABLE mallory.seen OWNER TO mallory",
        );
        WorkedFixture { cluster, _s3: s3 }
    }

    fn superuser(&self) -> Client {
        self.cluster.client("climb")
    }

    fn mallory(&self) -> Client {
        self.cluster.client_as("climb", "mallory")
    }

    #[track_caller]
    fn must_have_no_new_superuser(&self) {
        assert!(truth(&mut self.superuser(), "SELECT NOT rolsuper FROM pg_roles WHERE rolname = 'mallory'"));
    }
}

/// Tries to climb, and notes as which role it ran.
const CLIMB: &str = "BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
     INSERT INTO mallory.seen VALUES (current_user, pg_backend_pid());";

#[test]
fn a_worker_reads_the_pause_as_the_tables_owner() {
    let worked = WorkedFixture::new();
    let mut mallory = worked.mallory();
    execute(
        &mut mallory,
        &format!(
            "CREATE TYPE mallory.flag AS ENUM ('no');
             CREATE FUNCTION mallory.climb(mallory.flag) RETURNS json LANGUAGE plpgsql
                 AS $$ BEGIN {CLIMB} RETURN 'false'; END $$;
             CREATE CAST (mallory.flag AS json) WITH FUNCTION mallory.climb(mallory.flag);
             ALTER TABLE ingestion.control ALTER paused DROP DEFAULT;
             ALTER TABLE ingestion.control ALTER paused TYPE mallory.flag USING 'no'::mallory.flag"
        ),
    );
    let read = "EXISTS (SELECT FROM mallory.seen JOIN pg_stat_activity USING (pid)
                         WHERE backend_type = 'btc_ingest loader')";
    wait_until_true(&mut worked.superuser(), "a loader that reads the pause", read);
    assert_eq!(texts(&mut mallory, "SELECT DISTINCT who FROM mallory.seen"), ["mallory"]);
    worked.must_have_no_new_superuser();
}

#[test]
fn a_view_that_takes_a_tables_place_while_a_worker_waits_gains_nothing() {
    let worked = WorkedFixture::new();
    let mut mallory = worked.mallory();
    wait_until_true(
        &mut worked.superuser(),
        "a loader",
        "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'btc_ingest loader')",
    );
    execute(
        &mut mallory,
        &format!(
            "CREATE FUNCTION mallory.climb() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {CLIMB} RETURN false; END $$;
             BEGIN; ALTER TABLE ingestion.control RENAME TO old;
             CREATE VIEW ingestion.control AS SELECT true AS only_row, mallory.climb() AS paused"
        ),
    );
    wait_until_locked(&mut worked.superuser(), "btc_ingest loader");
    execute(&mut mallory, "COMMIT");
    // The guard of a later turn names the view.
    wait_until("the guard", SOON, || worked.cluster.log().contains("not a table: ingestion.control"));
    worked.must_have_no_new_superuser();
    assert!(!texts(&mut mallory, "SELECT who FROM mallory.seen").contains(&"postgres".to_owned()));
}

#[test]
fn a_trigger_that_is_created_while_a_load_waits_is_refused() {
    let db = ServerFixture::shared().db();
    let mallory = user(&db, "mallory", &[]);
    let mut client = db.client();
    client.batch_execute(&format!("CREATE SCHEMA mallory AUTHORIZATION {mallory}")).unwrap();
    let mut author = db.client_as(&mallory);
    author
        .batch_execute(&format!(
            "CREATE FUNCTION mallory.fire() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'ALTER ROLE {mallory} SUPERUSER'; RETURN NEW; END $$"
        ))
        .unwrap();
    for table in ["ingestion.objects", "ingestion.load_history", "market_data.btc_ticks"] {
        let schema = table.split('.').next().unwrap();
        client
            .batch_execute(&format!(
                "GRANT USAGE ON SCHEMA {schema} TO {mallory}; GRANT TRIGGER ON {table} TO {mallory}"
            ))
            .unwrap();
        let (uri, _) = object(&format!("late trigger {table}").replace(' ', "_"));
        let create =
            format!("CREATE TRIGGER fire BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION mallory.fire()");
        author.batch_execute(&format!("BEGIN; {create}")).unwrap();
        let loading = load_from_a_thread(&db, &uri);
        wait_until_locked(&mut client, "client backend");
        author.batch_execute("COMMIT").unwrap();
        let refusal = loading.join().unwrap().expect("a refusal");
        assert_eq!(refusal.sqlstate, "42501", "{table}: {refusal:?}");
        assert!(refusal.message.contains("mallory.fire()"), "{table}: {refusal:?}");
        assert!(truth(&mut client, &format!("SELECT NOT rolsuper FROM pg_roles WHERE rolname = '{mallory}'")));
        client.batch_execute(&format!("DROP TRIGGER fire ON {table}")).unwrap();
    }
}

#[test]
fn tables_that_change_their_owner_while_a_load_waits_are_refused() {
    let db = ServerFixture::shared().db();
    let mallory = user(&db, "mallory", &[]);
    let (uri, _) = object("late_owner");
    let mut client = db.client();
    let mut other = db.client();
    other.batch_execute(&format!("BEGIN; ALTER TABLE market_data.btc_ticks OWNER TO {mallory}")).unwrap();
    let loading = load_from_a_thread(&db, &uri);
    wait_until_locked(&mut client, "client backend");
    other.batch_execute("COMMIT").unwrap();
    let refusal = loading.join().unwrap().expect("a refusal");
    assert_eq!(refusal.sqlstate, "42501", "{refusal:?}");
    assert!(refusal.message.contains("different owners"), "{refusal:?}");
}

#[test]
fn a_hypertable_that_is_replaced_while_a_load_waits_is_refused_and_the_next_load_works() {
    let db = ServerFixture::shared().db();
    let (uri, sums) = object("replaced_hypertable");
    let (mut client, mut other) = (db.client(), db.client());
    other
        .batch_execute(
            "SET client_min_messages = warning; BEGIN; DROP TABLE market_data.btc_ticks; SELECT btc_ingest.migrate()",
        )
        .unwrap();
    let loading = load_from_a_thread(&db, &uri);
    wait_until_locked(&mut client, "client backend");
    other.batch_execute("COMMIT").unwrap();
    let refusal = loading.join().unwrap().expect("a refusal");
    assert_eq!(refusal.sqlstate, "TK018", "{refusal:?}");
    assert_eq!(traces(&mut client), []);
    loaded(&mut client, &uri, "");
    stored(&mut client).must_be(&sums, "in the new hypertable");
}

/// Checks that a trigger that names its table without schema never finds the loader's temporary one.
fn must_not_find_temporary_tables(db: &TestDb<'_>, author: &mut Client, loader: &str, key: &str) {
    let (uri, _) = object(key);
    author
        .batch_execute(
            "CREATE TABLE ingestion.audit (uri text);
             CREATE FUNCTION ingestion.note() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO audit VALUES (NEW.s3_uri); RETURN NEW; END $$;
             CREATE TRIGGER note AFTER INSERT ON ingestion.load_history
                 FOR EACH ROW EXECUTE FUNCTION ingestion.note()",
        )
        .unwrap();
    let mut attacker = db.client_as(loader);
    attacker
        .batch_execute(&format!(
            "CREATE TEMP TABLE audit (uri text);
             CREATE FUNCTION pg_temp.climb() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'ALTER ROLE {loader} SUPERUSER'; RETURN NEW; END $$;
             CREATE TRIGGER climb BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION pg_temp.climb()"
        ))
        .unwrap();
    let refusal = refused(&mut attacker, &uri, "", "TK017");
    assert!(refusal.message.contains("ingestion.note()"), "{refusal:?}");
    assert!(refusal.hint.contains("ALTER FUNCTION") && refusal.hint.contains("pg_temp"), "{refusal:?}");
    assert!(truth(&mut db.client(), &format!("SELECT NOT rolsuper FROM pg_roles WHERE rolname = '{loader}'")));
    // A path that names pg_temp last is what the hint says, and one without pg_temp finds temporary tables first.
    for (path, sqlstate) in [("pg_catalog, ingestion", Some("TK017")), ("pg_catalog, ingestion, pg_temp", None)] {
        author.batch_execute(&format!("ALTER FUNCTION ingestion.note() SET search_path = {path}")).unwrap();
        match sqlstate {
            Some(sqlstate) => drop(refused(&mut attacker, &uri, "", sqlstate)),
            None => drop(loaded(&mut attacker, &uri, "")),
        }
    }
    assert_eq!(column(author, "SELECT uri FROM ingestion.audit"), [uri.as_str()]);
    assert_eq!(column(&mut attacker, "SELECT uri FROM pg_temp.audit"), [""; 0]);
    // Without temporary objects, the function may do without a path.
    author.batch_execute("ALTER FUNCTION ingestion.note() RESET search_path").unwrap();
    attacker.batch_execute("DISCARD TEMP; DROP FUNCTION IF EXISTS pg_temp.climb() CASCADE").unwrap();
    refused(&mut attacker, &uri, "force => true", "42P01");
}

#[test]
fn a_superusers_trigger_does_not_find_the_loaders_temporary_table() {
    let db = ServerFixture::shared().db();
    let loader = user(&db, "loader", &["btc_ingest_loader"]);
    must_not_find_temporary_tables(&db, &mut db.client(), &loader, "temporary_superuser");
}

#[test]
fn an_owners_trigger_does_not_find_the_loaders_temporary_table() {
    let owned = OwnedFixture::new();
    let mut author = owned.db.client_as(&owned.mallory);
    must_not_find_temporary_tables(&owned.db, &mut author, &owned.loader, "temporary_owner");
}

#[test]
fn settings_of_a_trigger_end_with_the_owners_part() {
    let owned = OwnedFixture::new();
    let mallory = &owned.mallory;
    let mut author = owned.db.client_as(mallory);
    // The guard reads the catalogs again before the second object, because the trigger has changed them.
    author
        .batch_execute(&format!(
            "CREATE TABLE mallory.seen (who text);
             CREATE FUNCTION mallory.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO mallory.seen VALUES (current_user); EXECUTE 'ALTER ROLE {mallory} SUPERUSER';
                RETURN pg_catalog.to_regclass($1); END $$;
             CREATE FUNCTION mallory.bend() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_catalog.set_config('search_path', 'mallory, pg_catalog', false);
                EXECUTE pg_catalog.format('CREATE TABLE mallory.%I ()', NEW.s3_uri); RETURN NEW; END $$;
             CREATE TRIGGER bend AFTER INSERT ON ingestion.load_history
                 FOR EACH ROW EXECUTE FUNCTION mallory.bend()"
        ))
        .unwrap();
    let uris = ["a", "b"].map(|key| object(&format!("bend/{key}")).0);
    for mut caller in owned.callers() {
        for uri in &uris {
            caller.query("SELECT btc_ingest.register_s3_slice($1, 'BTCUSDT')", &[uri]).unwrap();
        }
        let path = column(&mut caller, "SHOW search_path");
        caller.query("SELECT * FROM btc_ingest.sweep()", &[]).unwrap();
        owned.must_have_no_new_superuser("a search path");
        assert_eq!(column(&mut caller, "SHOW search_path"), path);
        assert_eq!(column(&mut author, "SELECT who FROM mallory.seen"), [""; 0]);
        for uri in &uris {
            author.batch_execute(&format!("DROP TABLE IF EXISTS mallory.\"{uri}\"")).unwrap();
        }
    }
}

#[test]
fn another_roles_type_on_a_superusers_table_is_refused() {
    let db = ServerFixture::shared().db();
    let mallory = user(&db, "mallory", &[]);
    let mut client = db.client();
    client.batch_execute(&format!("CREATE SCHEMA mallory AUTHORIZATION {mallory}")).unwrap();
    db.client_as(&mallory).batch_execute("CREATE TYPE mallory.note AS ENUM ('a')").unwrap();
    client.batch_execute("ALTER TABLE landing.rejected_ticks ADD COLUMN extra mallory.note").unwrap();
    let (uri, _) = object("type");
    let refusal = refused(&mut client, &uri, "", "42501");
    assert!(refusal.message.contains("mallory.note"), "{refusal:?}");
}

#[test]
fn a_function_of_another_role_in_a_dimension_is_refused() {
    let db = ServerFixture::shared().db();
    let mallory = user(&db, "mallory", &[]);
    let mut client = db.client();
    client.batch_execute(&format!("CREATE SCHEMA mallory AUTHORIZATION {mallory}")).unwrap();
    db.client_as(&mallory)
        .batch_execute(
            "CREATE FUNCTION mallory.part(anyelement) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
             $$ BEGIN RETURN 1; END $$",
        )
        .unwrap();
    client
        .batch_execute(
            "SELECT add_dimension('market_data.btc_ticks', 'symbol', number_partitions => 2,
                                  partitioning_func => 'mallory.part')",
        )
        .unwrap();
    let (uri, _) = object("dimension");
    let refusal = refused(&mut client, &uri, "", "42501");
    assert!(refusal.message.contains("mallory.part"), "{refusal:?}");
}

#[test]
fn a_type_in_the_callers_search_path_gains_nothing_by_a_procedure() {
    let owned = OwnedFixture::new();
    let mallory = &owned.mallory;
    owned
        .db
        .client_as(mallory)
        .batch_execute(&format!(
            "CREATE FUNCTION mallory.climb() RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'ALTER ROLE {mallory} SUPERUSER'; RETURN true;
                EXCEPTION WHEN OTHERS THEN RETURN true; END $$;
             CREATE DOMAIN mallory.text AS pg_catalog.text CHECK (mallory.climb());
             CREATE DOMAIN mallory.timestamptz AS pg_catalog.timestamptz CHECK (mallory.climb());
             CREATE DOMAIN mallory.interval AS pg_catalog.interval CHECK (mallory.climb())"
        ))
        .unwrap();
    let mut caller = owned.db.client();
    caller.batch_execute("SET search_path = mallory, pg_catalog, public; SET statement_timeout = '20s'").unwrap();
    for call in [
        "btc_ingest.verify_all('BTCUSDT'::pg_catalog.text)",
        "btc_ingest.backfill('s3://landing/privileges/none/'::pg_catalog.text)",
        "btc_ingest.run_sweep()",
        "btc_ingest.refresh_candles()",
        "btc_ingest.run_candles()",
    ] {
        // Some of them have nothing to do, and say so.
        let _ = caller.batch_execute(&format!("CALL {call}"));
        owned.must_have_no_new_superuser(call);
    }
}

#[test]
fn an_owners_code_gains_nothing_by_doctor() {
    let owned = OwnedFixture::new();
    let (uri, _) = object("doctor");
    let mallory = &owned.mallory;
    loaded(&mut owned.db.client_as(&owned.loader), &uri, "");
    let mut author = owned.db.client_as(mallory);
    let climb = format!("BEGIN EXECUTE 'ALTER ROLE {mallory} SUPERUSER'; RETURN true; END");
    author
        .batch_execute(&format!(
            "CREATE FUNCTION mallory.fine(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
                 AS $$ BEGIN RETURN true; END $$;
             CREATE FUNCTION mallory.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             ALTER TABLE ingestion.objects ADD CHECK (mallory.fine('x'));
             ALTER TABLE market_data.btc_ticks ADD CHECK (mallory.fine('x'));
             CREATE INDEX ON ingestion.load_history (s3_uri) WHERE mallory.fine('x');
             CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON ingestion.objects
                 FOR EACH ROW EXECUTE FUNCTION mallory.fire();
             CREATE OR REPLACE FUNCTION mallory.fine(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ {climb} $$"
        ))
        .unwrap();
    for mut caller in owned.callers() {
        let lines = caller.query("SELECT * FROM btc_ingest.doctor()", &[]).unwrap();
        assert!(!lines.is_empty());
        owned.must_have_no_new_superuser("doctor()");
    }
}
