-- What reference_embeddings() must know of its target. It reads catalogs only. $1: the target, $2 and $3: its columns
-- of the bucket and, or null, of the asset.
SELECT json_build_object(
    'name', c.oid::regclass,
    'kind', CASE WHEN a.view_name IS NOT NULL THEN 'aggregate' WHEN c.relkind IN ('r', 'p') THEN 'table'
                 WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'other' END,
    'permanent', c.relpersistence = 'p',
    'itself', c.oid = to_regclass('signals.btc_embeddings'),
    'owner', pg_get_userbyid(c.relowner),
    'trusted', (SELECT r.rolsuper OR r.rolname = current_user FROM pg_roles r WHERE r.oid = c.relowner),
    'bucket_type', (SELECT format_type(t.atttypid, NULL) FROM pg_attribute t
                     WHERE t.attrelid = c.oid AND t.attname = $2 AND t.attnum > 0 AND NOT t.attisdropped),
    'asset_type', (SELECT format_type(t.atttypid, NULL) FROM pg_attribute t
                    WHERE t.attrelid = c.oid AND t.attname = $3 AND t.attnum > 0 AND NOT t.attisdropped),
    -- What a foreign key needs: a unique index over these columns and no others.
    'unique', EXISTS (SELECT FROM pg_index x
                       WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indimmediate
                         AND x.indpred IS NULL AND x.indexprs IS NULL
                         AND (SELECT array_agg(t.attname::text ORDER BY t.attname)
                                FROM unnest(x.indkey[0 : x.indnkeyatts - 1]) AS k (attnum)
                                JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum = k.attnum)
                             = (SELECT array_agg(w.name ORDER BY w.name COLLATE "C")
                                  FROM unnest(ARRAY[$2, $3]) AS w (name) WHERE w.name IS NOT NULL))
)::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN timescaledb_information.continuous_aggregates a
    ON (a.view_schema, a.view_name) = (n.nspname, c.relname)
 WHERE c.oid = $1
