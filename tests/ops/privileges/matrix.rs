//! Every schema, function, view, table and column beside what each role may do with it.

use btc_ingest_kit::fixture::backfill::owned_by;
use btc_ingest_kit::sql::{execute, texts};

use super::*;

/// What each role may do. A role that is not named may do nothing. Letters are those of an access control list in
/// PostgreSQL: U usage, C create, X execute, r select, a insert, w update, d delete, D truncate, x references,
/// t trigger. Columns are listed only where they differ from their table.
const EXPECTED: &str = include_str!("matrix.txt");

/// The roles, and the privileges that are asked for. $1: a role without any role of btc_ingest, $2: the tables' owner.
const FOUND: &str = "
WITH roles (place, name, role) AS (
    VALUES (1, 'public', $1), (2, 'monitor', 'btc_ingest_monitor'), (3, 'reader', 'btc_ingest_reader'),
           (4, 'loader', 'btc_ingest_loader'), (5, 'admin', 'btc_ingest_admin'), (6, 'owner', $2)
), schemas AS (
    SELECT oid, nspname FROM pg_namespace
     WHERE nspname IN ('landing', 'market_data', 'signals', 'ingestion', 'ops', 'btc_ingest', 'btc_ingest_internal')
), letters (place, letter, privilege) AS (
    VALUES (1, 'r', 'SELECT'), (2, 'a', 'INSERT'), (3, 'w', 'UPDATE'), (4, 'd', 'DELETE'), (5, 'D', 'TRUNCATE'),
           (6, 'x', 'REFERENCES'), (7, 't', 'TRIGGER')
), column_letters AS MATERIALIZED (
    SELECT * FROM letters WHERE letter IN ('r', 'a', 'w', 'x')
), relations AS (
    SELECT c.oid, format('%s %s', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' ELSE 'other' END,
                         c.oid::regclass) AS name
      FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p')
), granted AS (
    SELECT 1 AS kind, format('schema %s', s.nspname) AS object, r.place, r.name,
           concat(CASE WHEN has_schema_privilege(r.role, s.oid, 'USAGE') THEN 'U' END,
                  CASE WHEN has_schema_privilege(r.role, s.oid, 'CREATE') THEN 'C' END) AS may
      FROM schemas s CROSS JOIN roles r
    UNION ALL
    SELECT 2, format('%s %s.%s', CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, s.nspname, p.proname),
           r.place, r.name, CASE WHEN has_function_privilege(r.role, p.oid, 'EXECUTE') THEN 'X' ELSE '' END
      FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace CROSS JOIN roles r
    UNION ALL
    SELECT 3, t.name, r.place, r.name,
           (SELECT coalesce(string_agg(l.letter, '' ORDER BY l.place), '') FROM letters l
             WHERE has_table_privilege(r.role, t.oid, l.privilege))
      FROM relations t CROSS JOIN roles r
    UNION ALL
    SELECT 4, format('column %s.%s', t.name, a.attname), r.place, r.name,
           (SELECT coalesce(string_agg(l.letter, '' ORDER BY l.place), '') FROM column_letters l
             WHERE has_column_privilege(r.role, t.oid, a.attnum, l.privilege))
      FROM relations t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
     CROSS JOIN roles r
     WHERE EXISTS (SELECT FROM roles q CROSS JOIN column_letters l
                    WHERE has_column_privilege(q.role, t.oid, a.attnum, l.privilege)
                          <> has_table_privilege(q.role, t.oid, l.privilege))
)
SELECT DISTINCT kind, format('%s:%s', object, string_agg(format(' %s %s', name, may), ',' ORDER BY place)
                                                  FILTER (WHERE may <> '')) AS line
  FROM granted GROUP BY kind, object ORDER BY kind, line";

#[test]
fn every_role_has_exactly_these_privileges() {
    let db = ServerFixture::shared().db();
    let outsider = user(&db, "outsider", &[]);
    let mut client = db.client();
    execute(&mut client, &owned_by("matrix_owner"));
    let literal = |name: &str| format!("'{name}'::name");
    let sql = FOUND.replace("$1", &literal(&outsider)).replace("$2", &literal("matrix_owner"));
    let found = texts(&mut client, &format!("SELECT line FROM ({sql}) AS found ORDER BY kind, line COLLATE \"C\""));
    let found: String = found.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(found, EXPECTED, "found:\n{found}");
}
