-- Tablespaces of the ticks besides the data directory: those attached to the hypertable, the hypertable's own, and
-- those of its chunks. The path is relative to the data directory, because only superusers may see the location of a
-- tablespace.
SELECT coalesce(json_agg(json_build_object('path', 'pg_tblspc/' || t.oid, 'name', t.spcname)
                         ORDER BY t.spcname), '[]')::text
  FROM pg_tablespace t
 WHERE t.spcname NOT IN ('pg_default', 'pg_global')
   AND (t.spcname IN (SELECT a.tablespace_name FROM _timescaledb_catalog.tablespace a
                        JOIN _timescaledb_catalog.hypertable h ON h.id = a.hypertable_id
                       WHERE (h.schema_name, h.table_name) = ('market_data', 'btc_ticks'))
        OR t.oid IN (SELECT coalesce(nullif(c.reltablespace, 0), d.dattablespace)
                       FROM pg_class c JOIN pg_database d ON d.datname = current_database()
                      WHERE c.oid = to_regclass('market_data.btc_ticks')
                         OR c.oid IN (SELECT inhrelid FROM pg_inherits
                                       WHERE inhparent = to_regclass('market_data.btc_ticks'))))
