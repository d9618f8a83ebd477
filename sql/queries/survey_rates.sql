-- Figures for an estimate: the directory of new chunks, bytes per tick in analyzed chunks, and rows per second of
-- recent loads. The directory is relative to the data directory, which only superusers may see.
SELECT json_build_object(
    'directory', (SELECT coalesce(nullif(pg_tablespace_location(
                             coalesce(nullif(c.reltablespace, 0), d.dattablespace)), ''), '.')
                    FROM pg_class c, pg_database d
                   WHERE c.oid = 'market_data.btc_ticks'::regclass AND d.datname = current_database()),
    'bytes_per_row', (SELECT sum(pg_total_relation_size(c.oid)) / nullif(sum(c.reltuples), 0)
                        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                       WHERE i.inhparent = 'market_data.btc_ticks'::regclass AND c.reltuples > 100000),
    'rows_per_second', (SELECT sum(rows_inserted) * 1000 / nullif(sum(elapsed_ms), 0)
                          FROM (SELECT rows_inserted, elapsed_ms FROM ingestion.load_history
                                 WHERE outcome = 'loaded' AND rows_inserted > 1000
                                 ORDER BY started_at DESC LIMIT 100) AS recent)
)::text
