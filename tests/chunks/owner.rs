//! Backfills by chunks into tables of a role that is no superuser: chunks are built, compressed and attached with that
//! role's privileges, and none of its functions runs with more.

use btc_ingest_kit::fixture::backfill::{BackfillFixture, owned_by, role};
use btc_ingest_kit::fixture::chunks::{COMPRESSIBLE, chunk_fixture, put_weeks};
use btc_ingest_kit::sql::Session;

/// Tries to make the owner a superuser, and notes as which role it ran.
fn climb(owner: &str) -> String {
    format!(
        "BEGIN UPDATE pg_catalog.pg_authid SET rolsuper = true WHERE rolname = '{owner}';
         EXCEPTION WHEN OTHERS THEN NULL; END;
         INSERT INTO {owner}.seen VALUES (current_user);"
    )
}

/// Makes a database whose tables belong to a role of this name, with a schema of that name for its own code.
fn owned(owner: &str) -> Option<BackfillFixture> {
    let mut fixture = chunk_fixture()?;
    fixture.run(&owned_by(owner));
    own_schema(&mut fixture, owner);
    Some(fixture)
}

fn own_schema(fixture: &mut BackfillFixture, owner: &str) {
    fixture.run(&role(owner));
    fixture.run(&format!(
        "ALTER ROLE {owner} LOGIN; CREATE SCHEMA {owner} AUTHORIZATION {owner};
         CREATE TABLE {owner}.seen (who text); ALTER TABLE {owner}.seen OWNER TO {owner}"
    ));
}

#[track_caller]
fn must_not_have_climbed(fixture: &mut BackfillFixture, owner: &str) {
    assert_eq!(fixture.text(&format!("SELECT rolsuper::text FROM pg_roles WHERE rolname = '{owner}'")), "false");
    assert!(fixture.texts(&format!("SELECT DISTINCT who FROM {owner}.seen WHERE who <> '{owner}'")).is_empty());
}

const JOB: &str =
    "SELECT bool_and(scheduled)::text FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression'";

#[test]
fn an_ordinary_owner_gets_chunks_like_any_other_and_compressed_ones() {
    let Some(mut fixture) = owned("chunk_owner") else { return };
    let mut owner = fixture.db.client_as("chunk_owner");
    owner.batch_execute(COMPRESSIBLE).unwrap();
    owner.batch_execute("SELECT public.add_compression_policy('market_data.btc_ticks', interval '7 days')").unwrap();
    let all = put_weeks(&fixture, 0..3, 2);
    fixture.chunked(&fixture.by_bucket(), "parallel => 2");
    assert!(fixture.units().iter().all(|unit| unit.starts_with("attached ")), "{:?}", fixture.units());
    fixture.must_hold_chunks(&all);
    let chunks = "SELECT DISTINCT format('%s %s', relowner::regrole, relacl = (SELECT relacl FROM pg_class
                      WHERE oid = 'market_data.btc_ticks'::regclass)) FROM pg_class
                   WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'market_data.btc_ticks'::regclass)";
    assert_eq!(fixture.texts(chunks), ["chunk_owner t"]);
    assert_eq!(fixture.number("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"), 3);
    assert_eq!(fixture.text(JOB), "true");
}

#[test]
fn an_owner_that_may_not_create_tables_is_refused_with_the_grant_that_helps() {
    let Some(mut fixture) = owned("bare_owner") else { return };
    fixture.run("ALTER SCHEMA ingestion OWNER TO postgres; GRANT USAGE ON SCHEMA ingestion TO bare_owner");
    put_weeks(&fixture, 0..1, 1);
    let refusal = fixture.call(&fixture.by_bucket(), "mode => 'chunk'").refusal.expect("a refusal");
    assert_eq!(refusal.sqlstate, "TK019", "{refusal:?}");
    assert!(refusal.hint.contains("GRANT CREATE ON SCHEMA ingestion"), "{refusal:?}");
    fixture.run("GRANT CREATE ON SCHEMA ingestion TO bare_owner");
    fixture.chunked(&fixture.by_bucket(), "");
}

/// Lets a compression policy call a function of this role's whenever it is altered.
fn with_checked_policy(fixture: &mut BackfillFixture, owner: &str) {
    fixture.run(&format!(
        "{COMPRESSIBLE}; SELECT add_compression_policy('market_data.btc_ticks', interval '100 years');
         CREATE FUNCTION {owner}.check_config(jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN {} END $$;
         ALTER FUNCTION {owner}.check_config(jsonb) OWNER TO {owner};
         UPDATE _timescaledb_catalog.bgw_job
            SET owner = '{owner}', check_schema = '{owner}', check_name = 'check_config'
          WHERE proc_name = 'policy_compression'",
        climb(owner)
    ));
}

#[test]
fn a_policys_check_runs_as_the_owner_only() {
    let Some(mut fixture) = owned("check_owner") else { return };
    with_checked_policy(&mut fixture, "check_owner");
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    must_not_have_climbed(&mut fixture, "check_owner");
    assert_eq!(fixture.text(JOB), "true");
}

#[test]
fn a_policy_of_another_role_on_a_superusers_hypertable_is_left_alone() {
    let Some(mut fixture) = chunk_fixture() else { return };
    own_schema(&mut fixture, "check_guest");
    with_checked_policy(&mut fixture, "check_guest");
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    must_not_have_climbed(&mut fixture, "check_guest");
    assert_eq!(fixture.texts("SELECT who FROM check_guest.seen"), [""; 0]);
    assert!(fixture.db.log().contains("does not belong to the tables' owner"));
    let told = "SELECT detail FROM btc_ingest.doctor() WHERE name = 'compression'";
    assert!(fixture.text(told).contains("of \"check_guest\", so backfills do not pause it"), "{}", fixture.text(told));
}

/// Makes a function of this role's the partitioning function of the hypertable. TimescaleDB wants an immutable one,
/// which may call another.
fn with_partitioning_function(fixture: &mut BackfillFixture, owner: &str) {
    fixture.run(&format!(
        "CREATE FUNCTION {owner}.climb() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {} END $$;
         ALTER FUNCTION {owner}.climb() OWNER TO {owner};
         CREATE FUNCTION {owner}.part(timestamptz) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS
             $$ BEGIN PERFORM {owner}.climb(); RETURN $1; END $$;
         ALTER FUNCTION {owner}.part(timestamptz) OWNER TO {owner};
         UPDATE _timescaledb_catalog.dimension SET partitioning_func_schema = '{owner}', partitioning_func = 'part'",
        climb(owner)
    ));
}

#[test]
fn a_partitioning_function_runs_as_the_owner_only() {
    let Some(mut fixture) = owned("part_owner") else { return };
    with_partitioning_function(&mut fixture, "part_owner");
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    assert!(fixture.units()[0].starts_with("attached "), "{:?}", fixture.units());
    assert_eq!(fixture.texts("SELECT DISTINCT who FROM part_owner.seen"), ["part_owner"]);
    must_not_have_climbed(&mut fixture, "part_owner");
}

#[test]
fn a_partitioning_function_of_another_role_is_refused() {
    let Some(mut fixture) = chunk_fixture() else { return };
    own_schema(&mut fixture, "part_guest");
    with_partitioning_function(&mut fixture, "part_guest");
    put_weeks(&fixture, 0..1, 2);
    let refusal = fixture.call(&fixture.by_bucket(), "mode => 'chunk'").refusal.expect("a refusal");
    assert_eq!(refusal.sqlstate, "42501", "{refusal:?}");
    assert!(refusal.message.contains("part_guest.part"), "{refusal:?}");
    must_not_have_climbed(&mut fixture, "part_guest");
}

/// Creates an aggregate as this role, with a function of the role's in its view.
fn with_aggregate(fixture: &mut BackfillFixture, role: &str) {
    fixture
        .run(&format!("GRANT SELECT ON market_data.btc_ticks TO {role}; GRANT USAGE ON SCHEMA market_data TO {role}"));
    let mut author = fixture.db.client_as(role);
    author
        .batch_execute(&format!(
            "CREATE FUNCTION {role}.same(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1; END $$;
             CREATE MATERIALIZED VIEW {role}.sums WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
                 SELECT public.time_bucket('1 hour', bucket_5m) AS bucket, {role}.same(symbol) AS symbol, count(*) AS n
                   FROM market_data.btc_ticks GROUP BY 1, 2 WITH NO DATA;
             CREATE OR REPLACE FUNCTION {role}.same(text) RETURNS text LANGUAGE plpgsql VOLATILE AS
                 $$ BEGIN {} RETURN $1; END $$",
            climb(role)
        ))
        .unwrap();
}

#[test]
fn an_ordinary_owners_aggregates_are_refreshed_in_a_session_of_the_owner() {
    let Some(mut fixture) = owned("refresh_owner") else { return };
    with_aggregate(&mut fixture, "refresh_owner");
    let all = put_weeks(&fixture, 0..2, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    fixture.must_hold_chunks(&all);
    assert_eq!(fixture.number("SELECT sum(n)::bigint FROM refresh_owner.sums"), all.len() as i64);
    assert_eq!(fixture.texts("SELECT DISTINCT who FROM refresh_owner.seen"), ["refresh_owner"]);
    must_not_have_climbed(&mut fixture, "refresh_owner");
}

#[test]
fn an_owner_that_may_not_log_in_gets_a_note_instead_of_a_refresh() {
    let Some(mut fixture) = owned("nologin_owner") else { return };
    with_aggregate(&mut fixture, "nologin_owner");
    fixture.run("ALTER ROLE nologin_owner NOLOGIN");
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    let units = fixture.units();
    assert!(units[0].contains("not refreshed (the owner nologin_owner may not log in)"), "{units:?}");
    let told = "SELECT detail FROM btc_ingest.doctor() WHERE name = 'continuous aggregates'";
    assert!(fixture.text(told).contains("may not log in"), "{}", fixture.text(told));
}

#[test]
fn another_roles_aggregate_over_a_superusers_hypertable_is_not_refreshed_and_the_unit_says_so() {
    let Some(mut fixture) = chunk_fixture() else { return };
    own_schema(&mut fixture, "refresh_guest");
    with_aggregate(&mut fixture, "refresh_guest");
    put_weeks(&fixture, 0..1, 2);
    fixture.chunked(&fixture.by_bucket(), "");
    let units = fixture.units();
    assert!(units[0].contains("not refreshed (they belong to refresh_guest)"), "{units:?}");
    must_not_have_climbed(&mut fixture, "refresh_guest");
    assert_eq!(fixture.texts("SELECT who FROM refresh_guest.seen"), [""; 0]);
}
