-- What a load must know of its tables before it sends a request to S3. It reads catalogs only and runs no function
-- that belongs to a table, so it is safe as the extension's owner. $1: the tables.
WITH RECURSIVE named AS (
    SELECT name, to_regclass(name) AS rel, place FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place)
), tables AS (
    SELECT c.* FROM named JOIN pg_class c ON c.oid = named.rel
), attached AS (
    -- What runs when a row is written: triggers, defaults, constraints, index expressions, rules and domains. On a
    -- chunk, roles other than the owner can be granted only the privilege to create triggers, so only triggers are
    -- searched there.
    SELECT t.tgrelid AS rel, 'pg_trigger'::regclass::oid AS class, t.oid AS obj FROM pg_trigger t
     WHERE NOT t.tgisinternal
       AND (t.tgrelid IN (SELECT oid FROM tables)
            OR t.tgrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent IN (SELECT oid FROM tables)))
    UNION
    SELECT a.adrelid, 'pg_attrdef'::regclass, a.oid FROM pg_attrdef a WHERE a.adrelid IN (SELECT oid FROM tables)
    UNION
    SELECT k.conrelid, 'pg_constraint'::regclass, k.oid FROM pg_constraint k
     WHERE k.conrelid IN (SELECT oid FROM tables)
    UNION
    SELECT x.indrelid, 'pg_class'::regclass, x.indexrelid FROM pg_index x WHERE x.indrelid IN (SELECT oid FROM tables)
    UNION
    SELECT w.ev_class, 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w WHERE w.ev_class IN (SELECT oid FROM tables)
    UNION
    SELECT a.attrelid, 'pg_type'::regclass, a.atttypid FROM pg_attribute a
     WHERE a.attrelid IN (SELECT oid FROM tables) AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    -- TimescaleDB calls the functions of a dimension for each row. They are named in its catalog and not in pg_depend.
    SELECT t.oid, 'pg_proc'::regclass, p.oid
      FROM tables t JOIN pg_namespace n ON n.oid = t.relnamespace
      JOIN _timescaledb_catalog.hypertable y ON (y.schema_name, y.table_name) = (n.nspname, t.relname)
      JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = y.id
     CROSS JOIN LATERAL (VALUES (d.partitioning_func_schema, d.partitioning_func),
                                (d.integer_now_func_schema, d.integer_now_func)) AS f (schema, name)
      JOIN pg_namespace s ON s.nspname = f.schema JOIN pg_proc p ON (p.pronamespace, p.proname) = (s.oid, f.name)
    UNION
    -- A function may be called through an operator, or by the constraint of a domain.
    SELECT h.rel, further.class, further.obj FROM attached h CROSS JOIN LATERAL (
        SELECT d.refclassid AS class, d.refobjid AS obj FROM pg_depend d
         WHERE d.classid = h.class AND d.objid = h.obj AND h.class <> 'pg_proc'::regclass
           AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
        UNION ALL
        SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k
         WHERE h.class = 'pg_type'::regclass AND k.contypid = h.obj
    ) AS further
)
SELECT json_build_object(
    'missing', (SELECT string_agg(name, ', ') FROM named WHERE rel IS NULL),
    'not_tables', (SELECT string_agg(oid::regclass::text, ', ') FROM tables WHERE relkind <> 'r'),
    'row_security', (SELECT string_agg(oid::regclass::text, ', ') FROM tables WHERE relrowsecurity),
    'owners', (SELECT string_agg(format('%s of "%s"', oid::regclass, pg_get_userbyid(relowner)), ', ')
                 FROM tables HAVING count(DISTINCT relowner) > 1),
    'foreign_schemas', (SELECT string_agg(DISTINCT format('schema %I of "%s"', n.nspname, r.rolname), ', ')
                          FROM tables t JOIN pg_namespace n ON n.oid = t.relnamespace
                          JOIN pg_roles r ON r.oid = n.nspowner
                         WHERE NOT r.rolsuper AND n.nspowner <> t.relowner),
    'root', to_regclass('market_data.btc_ticks')::oid::bigint,
    'owner', (SELECT min(relowner)::bigint FROM tables),
    'owner_is_superuser', (SELECT rolsuper FROM pg_roles WHERE oid = (SELECT min(relowner) FROM tables)),
    'foreign_functions', (SELECT string_agg(format('%s on %s of "%s"', f.name, f.rel::regclass, r.rolname), ', ')
                            FROM (SELECT p.oid::regprocedure::text AS name, p.proowner AS owner, a.rel
                                    FROM attached a
                                    JOIN pg_proc p ON p.oid = a.obj AND a.class = 'pg_proc'::regclass
                                   UNION
                                  SELECT format_type(t.oid, NULL), t.typowner, a.rel
                                    FROM attached a
                                    JOIN pg_type t ON t.oid = a.obj AND a.class = 'pg_type'::regclass
                                   UNION
                                  -- What a constraint trigger refers to, and reads: reference_embeddings() makes one.
                                  SELECT v.oid::regclass::text, v.relowner, t.tgrelid
                                    FROM pg_trigger t JOIN pg_class v ON v.oid = t.tgconstrrelid
                                   WHERE NOT t.tgisinternal AND t.tgrelid IN (SELECT oid FROM tables)) AS f
                            JOIN pg_roles r ON r.oid = f.owner
                           WHERE NOT r.rolsuper AND f.owner <> (SELECT min(relowner) FROM tables)),
    -- Functions that look names up when they run, without a search path of their own in which pg_temp is not the first.
    'exposed_functions', (SELECT string_agg(DISTINCT p.oid::regprocedure::text, ', ')
                            FROM attached a JOIN pg_proc p ON p.oid = a.obj AND a.class = 'pg_proc'::regclass
                            JOIN pg_language l ON l.oid = p.prolang
                           WHERE l.lanname NOT IN ('internal', 'c') AND p.prosqlbody IS NULL
                             AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting
                                              WHERE setting ~ '^search_path=.+,\s*"?pg_temp"?\s*(,|$)')),
    'tables', (SELECT json_agg(n.rel::oid::bigint ORDER BY n.place) FROM named n),
    'hypertable', EXISTS (SELECT FROM _timescaledb_catalog.hypertable
                           WHERE schema_name = 'market_data' AND table_name = 'btc_ticks'),
    'chunk_constraint', EXISTS (SELECT FROM pg_class
                                 WHERE oid = to_regclass('_timescaledb_catalog.chunk_constraint') AND relkind = 'r'),
    -- Whether a unique index over exactly the key decides what is a duplicate.
    'key', EXISTS (
        SELECT FROM pg_index x
         WHERE x.indrelid = to_regclass('market_data.btc_ticks') AND x.indisunique AND x.indimmediate
           AND x.indisvalid AND x.indisready AND x.indexprs IS NULL AND x.indpred IS NULL AND x.indnkeyatts = 3
           AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
                 WHERE a.attrelid = x.indrelid AND a.attnum = ANY ((x.indkey::smallint[])[0:2]))
               = '{bucket_5m,symbol,trade_id}'),
    'symbol_collation', (SELECT attcollation::bigint FROM pg_attribute
                          WHERE attrelid = to_regclass('market_data.btc_ticks') AND attname = 'symbol')
)::text
