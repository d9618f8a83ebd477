-- The oldest chunk of another hypertable than the ticks that is due to be dropped and that this run has not looked at.
-- A continuous aggregate counts as a hypertable. based: continuous aggregates over it, whose next refresh would lose
-- what is dropped. Only what belongs to the owner of the tables, who drops it. $1: when the run began.
WITH relations AS (
    SELECT h.id, format('%I.%I', h.schema_name, h.table_name) AS name, h.schema_name, h.table_name
      FROM _timescaledb_catalog.hypertable h
    UNION ALL
    SELECT h.id, format('%I.%I', a.user_view_schema, a.user_view_name), h.schema_name, h.table_name
      FROM _timescaledb_catalog.continuous_agg a JOIN _timescaledb_catalog.hypertable h ON h.id = a.mat_hypertable_id
), due AS (
    SELECT r.job_name, x.id, x.name, c.chunk_schema, c.chunk_name, c.range_start, c.range_end
      FROM ops.retention_jobs r
      JOIN pg_class t ON t.oid = to_regclass(r.hypertable)
      JOIN pg_roles o ON o.oid = t.relowner
      JOIN pg_roles me ON me.rolname = current_user AND (me.oid = o.oid OR (me.rolsuper AND o.rolsuper))
      JOIN relations x ON to_regclass(x.name) = t.oid
      JOIN timescaledb_information.chunks c
        ON c.hypertable_schema = x.schema_name AND c.hypertable_name = x.table_name
       AND c.range_end <= clock_timestamp() - (r.policy ->> 'drop_after')::interval
     WHERE r.enabled AND r.policy ? 'drop_after' AND t.oid <> 'market_data.btc_ticks'::regclass
       AND NOT EXISTS (SELECT FROM ops.chunk_drops k
                        WHERE k.hypertable = x.name AND k.from_time = c.range_start AND k.held_by IS NOT NULL
                          AND k.checked_at >= $1)
     ORDER BY c.range_start, x.name, r.job_name LIMIT 1
)
SELECT json_build_object(
    'job', d.job_name, 'relation', d.name, 'chunk', format('%I.%I', d.chunk_schema, d.chunk_name),
    'from', (extract(epoch FROM d.range_start) * 1000000)::bigint,
    'to', (extract(epoch FROM d.range_end) * 1000000)::bigint,
    'based', (SELECT string_agg(format('%I.%I', a.user_view_schema, a.user_view_name), ', ' ORDER BY a.user_view_name)
                FROM _timescaledb_catalog.continuous_agg a WHERE a.raw_hypertable_id = d.id))::text
  FROM due d
