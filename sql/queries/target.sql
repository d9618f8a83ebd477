-- Everything a load must know of its tables before it asks S3 for anything. Catalogs only: nothing of the tables' own
-- runs here, so it is safe as the extension's owner. $1: the tables.
WITH named AS (
    SELECT name, to_regclass(name) AS rel FROM unnest($1::text[]) AS name
), tables AS (
    SELECT c.* FROM named JOIN pg_class c ON c.oid = named.rel
), hanging AS (
    -- Functions that run when a row is written: by trigger (of a chunk, too), default, constraint or index expression.
    SELECT t.tgrelid AS rel, t.tgfoid AS fn FROM pg_trigger t WHERE t.tgrelid IN (SELECT oid FROM tables) AND NOT t.tgisinternal
    UNION
    SELECT t.tgrelid, t.tgfoid FROM pg_inherits i JOIN pg_trigger t ON t.tgrelid = i.inhrelid
     WHERE i.inhparent IN (SELECT oid FROM tables) AND NOT t.tgisinternal
    UNION
    SELECT a.adrelid, d.refobjid FROM pg_attrdef a
      JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_proc'::regclass
     WHERE a.adrelid IN (SELECT oid FROM tables)
    UNION
    SELECT k.conrelid, d.refobjid FROM pg_constraint k
      JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass
     WHERE k.conrelid IN (SELECT oid FROM tables)
    UNION
    SELECT x.indrelid, d.refobjid FROM pg_index x
      JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid AND d.refclassid = 'pg_proc'::regclass
     WHERE x.indrelid IN (SELECT oid FROM tables)
)
SELECT json_build_object(
    'read_only', pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
    'restoring', current_setting('timescaledb.restoring', true),
    'missing', (SELECT string_agg(name, ', ') FROM named WHERE rel IS NULL),
    'not_tables', (SELECT string_agg(oid::regclass::text, ', ') FROM tables WHERE relkind <> 'r'),
    'row_security', (SELECT string_agg(oid::regclass::text, ', ') FROM tables WHERE relrowsecurity),
    'owners', (SELECT string_agg(format('%s of "%s"', oid::regclass, pg_get_userbyid(relowner)), ', ')
                 FROM tables HAVING count(DISTINCT relowner) > 1),
    'owner', (SELECT min(relowner)::bigint FROM tables),
    'owner_is_superuser', (SELECT rolsuper FROM pg_roles WHERE oid = (SELECT min(relowner) FROM tables)),
    'foreign_functions', (SELECT string_agg(format('%s on %s of "%s"', p.oid::regprocedure, h.rel::regclass, r.rolname), ', ')
                            FROM hanging h JOIN pg_proc p ON p.oid = h.fn JOIN pg_roles r ON r.oid = p.proowner
                           WHERE NOT r.rolsuper AND p.proowner <> (SELECT min(relowner) FROM tables)),
    'hypertable', EXISTS (SELECT FROM _timescaledb_catalog.hypertable
                           WHERE schema_name = 'market_data' AND table_name = 'btc_ticks'),
    'symbol_collation', (SELECT attcollation::bigint FROM pg_attribute
                          WHERE attrelid = to_regclass('market_data.btc_ticks') AND attname = 'symbol')
)::text
