//! Settings of databases and roles that change how values read as texts, and what a statement means. A cluster has them
//! if its builder says so, or if the environment variable [`VARIABLE`] is set: then any test binary runs under them.

use postgres::{Client, NoTls};

/// The environment variable that gives them to every cluster of the kit.
const VARIABLE: &str = "BTC_INGEST_TEST_HOSTILE";

/// Settings of each database. India's time zone has half an hour, and `DateStyle` writes it as IST, which PostgreSQL
/// reads as the time of Israel.
const OF_DATABASE: [(&str, &str); 6] = [
    ("datestyle", "SQL, DMY"),
    ("timezone", "Asia/Kolkata"),
    ("intervalstyle", "sql_standard"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
];

/// Settings of the superuser, which is also the role of the workers.
const OF_ROLE: [(&str, &str); 6] = [
    ("quote_all_identifiers", "on"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("row_security", "off"),
    ("plpgsql.extra_errors", "all"),
    ("plpgsql.variable_conflict", "use_variable"),
];

/// Settings of a database that no session of a test can do with, but that workers must not care about.
const AGAINST_WORKERS: [(&str, &str); 5] = [
    ("session_replication_role", "replica"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("lock_timeout", "1ms"),
    ("statement_timeout", "1ms"),
];

/// Returns whether the environment asks for them.
pub(super) fn wanted() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Gives the settings to a database, whose name is quoted.
pub(super) fn of_database(client: &mut Client, database: &str) {
    set(client, &format!("DATABASE {database}"), &OF_DATABASE);
}

/// Gives the settings to the superuser.
pub(super) fn of_role(client: &mut Client) {
    set(client, "ROLE postgres", &OF_ROLE);
}

/// Gives a database, whose name is quoted, settings that only workers can do with.
pub fn against_workers(client: &mut Client, database: &str) {
    set(client, &format!("DATABASE {database}"), &AGAINST_WORKERS);
}

/// Opens a superuser's session without the settings of [`against_workers`].
pub fn session_without_them(connection: &str) -> Client {
    // The timeout would end the statement that changes it.
    let connection = format!("{connection} options='-c statement_timeout=0'");
    let mut client = Client::connect(&connection, NoTls).expect("a session");
    client
        .batch_execute(
            "SET lock_timeout = 0; SET session_replication_role = origin;
             SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off",
        )
        .expect("the settings of the session");
    client
}

fn set(client: &mut Client, of: &str, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        client
            .batch_execute(&format!("ALTER {of} SET {name} = '{value}'"))
            .unwrap_or_else(|error| panic!("{name} of {of}: {error:?}"));
    }
}
