-- Privileges that the extension's roles have lost since CREATE EXTENSION: roles that do not exist, the statements that
-- grant what is missing on functions, views and schemas of the extension, and whether a table or a schema of the data
-- lacks a grant of migrate().
WITH roles AS (
    SELECT w.name, r.oid
      FROM unnest('{btc_ingest_monitor,btc_ingest_reader,btc_ingest_loader,btc_ingest_admin}'::text[]) AS w (name)
      LEFT JOIN pg_roles r ON r.rolname = w.name
), members AS (
    SELECT i.initprivs, coalesce(p.proacl, c.relacl, n.nspacl) AS now,
           CASE WHEN p.prokind = 'p' THEN 'PROCEDURE ' || p.oid::regprocedure
                WHEN p.oid IS NOT NULL THEN 'FUNCTION ' || p.oid::regprocedure
                WHEN c.oid IS NOT NULL THEN 'TABLE ' || c.oid::regclass
                ELSE 'SCHEMA ' || n.oid::regnamespace END AS name
      FROM pg_init_privs i
      JOIN pg_depend d ON d.classid = i.classoid AND d.objid = i.objoid AND d.deptype = 'e'
       AND d.refclassid = 'pg_extension'::regclass
      JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'btc_ingest'
      LEFT JOIN pg_proc p ON i.classoid = 'pg_proc'::regclass AND p.oid = i.objoid
      LEFT JOIN pg_class c ON i.classoid = 'pg_class'::regclass AND c.oid = i.objoid
      LEFT JOIN pg_namespace n ON i.classoid = 'pg_namespace'::regclass AND n.oid = i.objoid
     WHERE i.objsubid = 0
), lost AS (
    SELECT m.name, g.privilege_type AS privilege, r.name AS role
      FROM members m CROSS JOIN LATERAL aclexplode(m.initprivs) g JOIN roles r ON r.oid = g.grantee
     WHERE NOT EXISTS (SELECT FROM aclexplode(m.now) h
                        WHERE h.grantee = g.grantee AND h.privilege_type = g.privilege_type)
)
SELECT json_build_object(
    'no_role', (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM roles r WHERE r.oid IS NULL),
    'grants', (SELECT string_agg(format('GRANT %s ON %s TO %I;', l.privilege, l.name, l.role), ' '
                                 ORDER BY l.name, l.role) FROM lost l),
    'data', (SELECT string_agg(DISTINCT t.name, ', ')
               FROM btc_ingest_internal.tables() t CROSS JOIN roles r
              WHERE to_regclass(t.name) IS NOT NULL
                AND ((r.name = 'btc_ingest_reader'
                      AND NOT (has_table_privilege(r.oid, to_regclass(t.name), 'SELECT')
                               AND has_schema_privilege(r.oid, split_part(t.name, '.', 1), 'USAGE')))
                     OR (r.name = 'btc_ingest_monitor' AND t.name IN ('landing.raw_blobs_5m', 'ingestion.objects')
                         AND NOT has_table_privilege(r.oid, to_regclass(t.name), 'SELECT'))
                     OR (r.name = 'btc_ingest_loader' AND t.name = 'landing.raw_blobs_5m'
                         AND NOT (has_column_privilege(r.oid, to_regclass(t.name), 's3_uri', 'INSERT')
                                  AND has_column_privilege(r.oid, to_regclass(t.name), 's3_uri', 'UPDATE')))))
)::text
