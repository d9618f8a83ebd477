-- The statement that compresses the earliest chunk that is due by a suspended policy and that no backfill fills, for
-- the tables' owner to run. Returns null if there is none. $1: jobs of the suspended policies.
SELECT to_json(format('SELECT %I.compress_chunk(%L::regclass, true)', n.nspname,
                      format('%I.%I', c.chunk_schema, c.chunk_name)))::text
  FROM timescaledb_information.chunks c
 CROSS JOIN pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'timescaledb'
   AND c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks' AND NOT c.is_compressed
   AND c.range_end < now() - (SELECT min((j.config ->> 'compress_after')::interval) FROM timescaledb_information.jobs j
                               WHERE j.job_id = ANY ($1::bigint[]) AND j.proc_name = 'policy_compression'
                                 AND j.hypertable_schema = 'market_data' AND j.hypertable_name = 'btc_ticks')
   AND NOT EXISTS (SELECT FROM ingestion.objects o JOIN ingestion.backfills b ON b.id = o.backfill
                    WHERE o.status IN ('pending', 'failed') AND b.status IN ('pending', 'listing', 'loading')
                      AND (NOT isfinite(o.span_from) OR (o.span_from < c.range_end AND o.span_to > c.range_start)))
   AND NOT EXISTS (SELECT FROM ingestion.backfills b WHERE b.status IN ('pending', 'listing'))
 ORDER BY c.range_start LIMIT 1
