-- The vectors by the planner's estimate, how many numbers each has, the index on them, and the version of pgvector. It
-- reads catalogs only.
-- $1: names that the upkeep of the index gives to indexes while it works
SELECT json_build_object(
    'rows', (SELECT greatest(c.reltuples, 0)::bigint FROM pg_class c
              WHERE c.oid = to_regclass('signals.btc_embeddings')),
    'dimensions', (SELECT a.atttypmod FROM pg_attribute a
                    WHERE a.attrelid = to_regclass('signals.btc_embeddings') AND a.attname = 'feature_vector'),
    'kind', max(m.amname) FILTER (WHERE x.indisvalid),
    'made_over', max(substring(obj_description(i.oid, 'pg_class') FROM 'over (\d{1,18}) vectors')::bigint)
                     FILTER (WHERE x.indisvalid),
    -- What the upkeep may replace: an index as the library itself makes it, under its usual name if there are several.
    'replaceable', (array_agg(quote_ident(i.relname)
                              ORDER BY i.relname <> 'btc_embeddings_feature_vector_idx', i.relname)
                        FILTER (WHERE x.indisvalid AND m.amname = 'ivfflat' AND x.indpred IS NULL
                                      AND o.opcname = 'vector_l2_ops' AND i.relname <> ALL ($1)))[1],
    'left', coalesce(json_agg(quote_ident(i.relname) ORDER BY i.relname) FILTER (WHERE i.relname = ANY ($1)), '[]'),
    'useless', coalesce(json_agg(quote_ident(i.relname) ORDER BY i.relname)
                            FILTER (WHERE (NOT x.indisvalid OR i.relname = ANY ($1))
                                          AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                                                           WHERE p.index_relid = i.oid)), '[]'),
    'owner', (SELECT quote_ident(r.rolname) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
               WHERE c.oid = to_regclass('signals.btc_embeddings')),
    'may_log_in', (SELECT r.rolcanlogin FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                    WHERE c.oid = to_regclass('signals.btc_embeddings')),
    'pgvector', (SELECT coalesce(sum(part::bigint * (ARRAY[10000, 100, 1])[place]), 0)
                   FROM pg_extension e
                  CROSS JOIN LATERAL string_to_table(substring(e.extversion FROM '^\d+\.\d+\.\d+'), '.')
                        WITH ORDINALITY AS p (part, place)
                  WHERE e.extname = 'vector')
)::text
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
  JOIN pg_opclass o ON o.oid = x.indclass[0]
 WHERE x.indrelid = to_regclass('signals.btc_embeddings') AND m.amname IN ('ivfflat', 'hnsw')
