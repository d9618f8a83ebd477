-- Where pgvector is, and how the column of vectors is declared and indexed. It reads catalogs only.
SELECT json_build_object(
    'vector', (SELECT quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
                WHERE x.extname = 'vector'),
    'dimensions', (SELECT nullif(a.atttypmod, -1) FROM pg_attribute a
                    WHERE a.attrelid = to_regclass('signals.btc_embeddings') AND a.attname = 'feature_vector'),
    'rows', (SELECT trunc(c.reltuples) FROM pg_class c
              WHERE c.oid = to_regclass('signals.btc_embeddings') AND c.reltuples >= 0),
    'lists', max(substring(array_to_string(i.reloptions, ',') FROM 'lists=(\d+)')::bigint)
                 FILTER (WHERE m.amname = 'ivfflat' AND x.indisvalid),
    'kind', max(m.amname) FILTER (WHERE x.indisvalid),
    'indexes', coalesce(json_agg(format('%I.%I', n.nspname, i.relname) ORDER BY i.relname)
                            FILTER (WHERE i.oid IS NOT NULL), '[]')
)::text
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
  JOIN pg_namespace n ON n.oid = i.relnamespace
 WHERE x.indrelid = to_regclass('signals.btc_embeddings') AND m.amname IN ('ivfflat', 'hnsw')
