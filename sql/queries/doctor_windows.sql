-- The vectors by the planner's estimate, how many numbers each has, the index on them, and the version of pgvector. It
-- reads catalogs only.
SELECT json_build_object(
    'rows', (SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c
              WHERE c.oid = to_regclass('signals.btc_embeddings')),
    'dimensions', (SELECT a.atttypmod FROM pg_attribute a
                    WHERE a.attrelid = to_regclass('signals.btc_embeddings') AND a.attname = 'feature_vector'),
    'kind', max(m.amname),
    'made_over', max(substring(obj_description(i.oid, 'pg_class') FROM 'over (\d{1,18}) vectors')::bigint),
    'pgvector', (SELECT coalesce(sum(part::bigint * (ARRAY[10000, 100, 1])[place]), 0)
                   FROM pg_extension x
                  CROSS JOIN LATERAL string_to_table(substring(x.extversion FROM '^\d+\.\d+\.\d+'), '.')
                        WITH ORDINALITY AS p (part, place)
                  WHERE x.extname = 'vector')
)::text
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
 WHERE x.indrelid = to_regclass('signals.btc_embeddings') AND x.indisvalid AND m.amname IN ('ivfflat', 'hnsw')
