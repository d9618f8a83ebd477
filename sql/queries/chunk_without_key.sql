-- A chunk of the hypertable that has no valid unique index over exactly the key, or null: what it has already would be
-- stored again.
SELECT to_json((SELECT h.inhrelid::regclass::text
  FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid AND c.relkind = 'r'
 WHERE h.inhparent = 'market_data.btc_ticks'::regclass
   AND NOT EXISTS (
       SELECT FROM pg_index x
        WHERE x.indrelid = h.inhrelid AND x.indisunique AND x.indimmediate AND x.indisvalid AND x.indisready
          AND x.indexprs IS NULL AND x.indpred IS NULL AND x.indnkeyatts = 3
          AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
                WHERE a.attrelid = x.indrelid AND a.attnum = ANY ((x.indkey::smallint[])[0:2]))
              = '{bucket_5m,symbol,trade_id}')
 ORDER BY 1 LIMIT 1))::text
