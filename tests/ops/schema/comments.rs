//! Everything that a user sees in psql has a description.

use btc_ingest_kit::sql::texts;

/// What lacks a comment in the schemas of the extension and of its data. The comment of a public function describes
/// each argument and result column in a line `name: …`.
const WITHOUT_COMMENT: &str = r"
WITH spaces AS (
    SELECT oid FROM pg_namespace WHERE nspname IN
        ('btc_ingest', 'btc_ingest_internal', 'landing', 'market_data', 'signals', 'ingestion', 'ops')
)
SELECT 'schema ' || n.oid::regnamespace FROM pg_namespace n
 WHERE n.oid IN (SELECT oid FROM spaces) AND obj_description(n.oid, 'pg_namespace') IS NULL
 UNION ALL
SELECT 'relation ' || c.oid::regclass FROM pg_class c
 WHERE c.relnamespace IN (SELECT oid FROM spaces) AND c.relkind IN ('r', 'v')
   AND obj_description(c.oid, 'pg_class') IS NULL
 UNION ALL
SELECT format('column %s.%s', c.oid::regclass, a.attname)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relnamespace IN (SELECT oid FROM spaces) AND c.relkind IN ('r', 'v', 'c') AND a.attnum > 0
   AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
 UNION ALL
SELECT 'type ' || t.oid::regtype FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
 WHERE t.typnamespace IN (SELECT oid FROM spaces) AND obj_description(t.oid, 'pg_type') IS NULL
 UNION ALL
SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace IN (SELECT oid FROM spaces) AND obj_description(p.oid, 'pg_proc') IS NULL
 UNION ALL
SELECT format('argument or column %s of %s', a.name, p.oid::regprocedure)
  FROM pg_proc p, unnest(p.proargnames) AS a (name)
 WHERE p.pronamespace = 'btc_ingest'::regnamespace
   AND NOT coalesce(obj_description(p.oid, 'pg_proc'), '') ~ format('(^|\n)%s: ', a.name)";

#[test]
fn everything_that_a_user_sees_in_psql_has_a_description() {
    assert_eq!(texts(&mut super::client(), WITHOUT_COMMENT), Vec::<String>::new());
}

#[test]
fn what_lacks_a_description_is_found() {
    let mut client = super::client();
    client
        .batch_execute(
            "BEGIN; COMMENT ON VIEW btc_ingest.queue IS NULL; COMMENT ON FUNCTION btc_ingest.workers() IS NULL",
        )
        .unwrap();
    let found = texts(&mut client, WITHOUT_COMMENT);
    assert!(found.iter().any(|line| line == "relation btc_ingest.queue"), "{found:?}");
    assert!(found.iter().any(|line| line == "function btc_ingest.workers()"), "{found:?}");
    client.batch_execute("ROLLBACK").unwrap();
}
