-- The statements that make the keys and indexes which a table does not have yet before it becomes a chunk, for the
-- tables' owner to run. $1: oid of the table, $2: whether the table is empty. Then only those are made that are filled
-- with the table.
SELECT coalesce(json_agg(CASE WHEN item.key IS NOT NULL
                              THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s',
                                          item.staged, item.made, pg_get_constraintdef(item.key))
                              ELSE format('CREATE %s %I ON %s %s', item.kind, item.made, item.staged,
                                          substr(item.definition, length(item.prefix) + 1)) END
                         ORDER BY item.conname NULLS LAST, item.indexrelid), '[]')::text
  FROM (
    -- The order is that of create_chunk. create_chunk itself builds unusual indexes, and those with a name that could
    -- be truncated.
    SELECT x.indexrelid, k.oid AS key, k.conname, pg_get_indexdef(x.indexrelid) AS definition, f.kind,
           s.oid::regclass AS staged, format('%s_%s', s.relname, x.indexrelid) AS made,
           format('CREATE %s %I ON %s ', f.kind, i.relname, r.oid::regclass) AS prefix
      FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
      JOIN _timescaledb_catalog.hypertable h ON (h.schema_name, h.table_name) = (n.nspname, r.relname)
      JOIN pg_class s ON s.oid = $1::bigint::oid
      JOIN pg_index x ON x.indrelid = r.oid JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am a ON a.oid = i.relam
     CROSS JOIN LATERAL (SELECT CASE WHEN x.indisunique THEN 'UNIQUE INDEX' ELSE 'INDEX' END AS kind) AS f
      LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = r.oid AND k.contype IN ('p', 'u')
     WHERE r.oid = 'market_data.btc_ticks'::regclass AND a.amname = 'btree' AND x.indisvalid
       AND NOT x.indisexclusion AND x.indexprs IS NULL AND x.indpred IS NULL AND i.reltablespace = 0
       -- The table is filled by appends, which know immediate indexes. What they fill row by row is built later.
       AND (NOT $2 OR (x.indimmediate AND x.indnkeyatts = x.indnatts))
       AND NOT EXISTS (SELECT FROM pg_class m
                        WHERE m.relnamespace = s.relnamespace AND m.relname = format('%s_%s', s.relname, x.indexrelid))
       AND octet_length(concat_ws('_', h.associated_table_prefix, '2147483647', 'chunk', i.relname)) < 64
       -- create_chunk uses the table's keys and indexes if they exist, and then holds its lock on the root for a moment
       -- only. TimescaleDB versions with the catalog chunk_constraint record the names of constraints, which
       -- finish_chunk changes. There create_chunk must build the indexes.
       AND NOT EXISTS (SELECT FROM pg_class
                        WHERE oid = to_regclass('_timescaledb_catalog.chunk_constraint') AND relkind = 'r')
  ) AS item
 WHERE item.key IS NOT NULL OR starts_with(item.definition, item.prefix)
