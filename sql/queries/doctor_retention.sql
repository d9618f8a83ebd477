-- What would drop ticks or candles beside btc_ingest, and what retention holds back. A refresh that reaches over a
-- range without ticks deletes its candles, so a policy with a range that begins before the oldest chunk does; without
-- the drops of btc_ingest and of other policies, there is no such range.
WITH aggregates AS (
    SELECT a.mat_hypertable_id AS id, format('%I.%I', a.user_view_schema, a.user_view_name) AS name
      FROM _timescaledb_catalog.continuous_agg a
      JOIN _timescaledb_catalog.hypertable h ON h.id = a.raw_hypertable_id
     WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
), jobs AS (
    SELECT j.job_id, j.proc_name, j.config, j.hypertable_schema, j.hypertable_name,
           (j.config ->> 'hypertable_id')::integer AS hypertable_id,
           (j.config ->> 'mat_hypertable_id')::integer AS mat_hypertable_id
      FROM timescaledb_information.jobs j
     WHERE j.proc_name IN ('policy_retention', 'policy_refresh_continuous_aggregate')
)
SELECT json_build_object(
    'dropping', (SELECT coalesce(json_agg(j.job_id ORDER BY j.job_id), '[]') FROM jobs j
                   JOIN _timescaledb_catalog.hypertable h ON h.id = j.hypertable_id
                  WHERE j.proc_name = 'policy_retention'
                    AND h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'),
    'aggregates', (SELECT count(*) FROM aggregates),
    'dropping_candles', (SELECT coalesce(json_agg(json_build_array(j.job_id, a.name) ORDER BY j.job_id), '[]')
                           FROM jobs j JOIN aggregates a ON a.id = j.hypertable_id
                          WHERE j.proc_name = 'policy_retention'),
    'refreshing', (SELECT coalesce(json_agg(json_build_array(j.job_id, a.name) ORDER BY j.job_id), '[]')
                     FROM jobs j JOIN aggregates a ON a.id = j.mat_hypertable_id
                    WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
                      AND (SELECT min(d.from_time) FROM ops.dropped_ranges d WHERE d.restored_at IS NULL) IS NOT NULL
                      AND (j.config ->> 'start_offset' IS NULL
                           OR clock_timestamp() - (j.config ->> 'start_offset')::interval
                              < (SELECT max(d.to_time) FROM ops.dropped_ranges d WHERE d.restored_at IS NULL))),
    'held', (SELECT coalesce(json_agg(json_build_array(to_char(h.chunk_from AT TIME ZONE 'UTC', 'YYYY-MM-DD'), h.why)
                                      ORDER BY h.chunk_from, h.why), '[]')
               FROM (SELECT k.chunk_from, k.held_by AS why FROM ops.retention_checks k WHERE k.held_by IS NOT NULL
                     UNION ALL
                     SELECT c.from_time, format('%s: %s', c.hypertable, c.held_by) FROM ops.chunk_drops c
                      WHERE c.held_by IS NOT NULL) AS h),
    'dropped', (SELECT count(*) FROM ops.dropped_ranges d WHERE d.restored_at IS NULL),
    'off', (SELECT min(r.job_name) FROM ops.retention_jobs r
             WHERE r.policy ? 'drop_after' AND NOT coalesce(r.enabled, false)
               AND replace(r.hypertable, '"', '') = 'market_data.btc_ticks')
)::text
