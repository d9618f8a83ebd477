//! PostgreSQL's own checks of B-trees and heaps, by its extension `amcheck`.
//!
//! A test asks for them by [`must_be_sound`]. With the switch of [`crate::switches::amcheck`], every database is
//! checked when its test ends, and a finding fails the test.

use postgres::{Client, NoTls};

/// The session of a check at the end of a test has none of the limits that the test has given its database.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=20s -c session_replication_role=origin \
                       -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off \
                       -c default_transaction_read_only=off";

/// Makes the extension where that is possible. A standby has it from its primary.
const INSTALL: &str = "SET client_min_messages = error; CREATE SCHEMA IF NOT EXISTS amcheck;
                       CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA amcheck; RESET client_min_messages";

/// Valid B-trees of permanent tables, those of catalogs aside.
const INDEXES: &str = "
    SELECT x.indexrelid, x.indexrelid::regclass::text
      FROM pg_catalog.pg_index x
      JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
      JOIN pg_catalog.pg_am a ON a.oid = c.relam
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND x.indisvalid AND x.indisready
       AND n.nspname !~ '^(pg_|information_schema$|_timescaledb_(catalog|config|cache)$)'
     ORDER BY x.indexrelid";

/// Permanent heaps, those of catalogs aside.
const TABLES: &str = "
    SELECT c.oid, c.oid::regclass::text
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_am a ON a.oid = c.relam
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm') AND c.relpersistence = 'p'
       AND n.nspname !~ '^(pg_|information_schema$|_timescaledb_(catalog|config|cache)$)'
     ORDER BY c.oid";

/// Looks for a table or an index that another session may have dropped meanwhile.
const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $1)";

/// Checks every B-tree and every heap of the client's database: their structure, every tuple of a heap against the
/// index, and every tuple of the index by a search from the root. A standby can check less: the structure of each leaf
/// level and the tuples of the heap. Returns what is wrong.
pub fn findings(client: &mut Client) -> Vec<String> {
    let standby: bool = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).expect("a state").get(0);
    if !standby {
        client.batch_execute(INSTALL).expect("amcheck, which is in PostgreSQL's contrib");
    } else if client.query("SELECT FROM pg_catalog.pg_extension WHERE extname = 'amcheck'", &[]).unwrap().is_empty() {
        println!("skipped: the primary has not made amcheck");
        return Vec::new();
    }
    let index = if standby {
        "SELECT amcheck.bt_index_check($1::oid, true)::text"
    } else {
        "SELECT amcheck.bt_index_parent_check($1::oid, true, true)::text"
    };
    let table = "SELECT pg_catalog.format('block %s, item %s, column %s: %s', blkno, offnum, attnum, msg)
                   FROM amcheck.verify_heapam($1::oid, check_toast => true) LIMIT 5";
    let mut wrong = check(client, INDEXES, index);
    wrong.extend(check(client, TABLES, table));
    wrong
}

/// Checks every B-tree and every heap of the client's database, see [`findings`].
#[track_caller]
pub fn must_be_sound(client: &mut Client, when: &str) {
    let wrong = findings(client);
    assert!(wrong.is_empty(), "{when}: amcheck has found\n{}", wrong.join("\n"));
}

/// Runs a statement for each relation of a list. An error, and each row that is not null or empty, is a finding.
fn check(client: &mut Client, list: &str, sql: &str) -> Vec<String> {
    let relations = client.query(list, &[]).expect("the catalogs");
    let mut wrong = Vec::new();
    for relation in relations {
        let (oid, name): (u32, String) = (relation.get(0), relation.get(1));
        match client.query(sql, &[&oid]) {
            Ok(rows) => {
                let texts = rows.iter().filter_map(|row| row.get::<_, Option<String>>(0));
                wrong.extend(texts.filter(|text| !text.is_empty()).map(|text| format!("{name}: {text}")));
            }
            Err(error) => {
                let exists: bool = client.query_one(EXISTS, &[&oid]).expect("the catalogs").get(0);
                if exists {
                    wrong.push(format!("{name}: {}", said(&error)));
                }
            }
        }
    }
    wrong
}

fn said(error: &postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return error.to_string() };
    let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail}", error.message())
}

/// Returns what is wrong in a database whose test has ended. Ends the sessions that are left in it, as its end would.
/// Returns nothing if the server does not answer.
pub(crate) fn at_the_end(connection: &str) -> Vec<String> {
    let Ok(mut client) = Client::connect(&format!("{connection} options='{OPTIONS}'"), NoTls) else {
        println!("amcheck: the server does not answer");
        return Vec::new();
    };
    let end = "SELECT pg_catalog.pg_terminate_backend(pid, 10000) FROM pg_catalog.pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    client.query(end, &[]).expect("sessions");
    findings(&mut client)
}

/// Returns what is wrong in any database of a cluster whose test has ended.
pub(crate) fn of_cluster(connection: impl Fn(&str) -> String) -> Vec<String> {
    let Ok(mut client) = Client::connect(&format!("{} options='{OPTIONS}'", connection("postgres")), NoTls) else {
        println!("amcheck: the server does not answer");
        return Vec::new();
    };
    let sql = "SELECT datname::text FROM pg_catalog.pg_database
                WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres'";
    let names: Vec<String> = client.query(sql, &[]).expect("databases").iter().map(|row| row.get(0)).collect();
    let of_one = |name: &String| {
        at_the_end(&connection(name)).into_iter().map(|finding| format!("{name}: {finding}")).collect::<Vec<_>>()
    };
    names.iter().flat_map(of_one).collect()
}
