-- The compression policies of market_data.btc_ticks: job, whether it is scheduled, and whether the tables' owner may
-- alter it. A job of another role is left alone: alter_job may run its check function. The Apache edition has none.
-- $1: oid of the tables' owner.
SELECT coalesce(json_agg(json_build_object(
           'job', j.job_id, 'scheduled', j.scheduled,
           'own', j.owner = w.oid OR (w.rolsuper AND coalesce(o.rolsuper, false)))), '[]')::text
  FROM timescaledb_information.jobs j JOIN pg_roles w ON w.oid = $1::bigint::oid
  LEFT JOIN pg_roles o ON o.oid = j.owner
 WHERE current_setting('timescaledb.license', true) = 'timescale'
   AND j.proc_name = 'policy_compression' AND j.config ? 'compress_after'
   AND j.hypertable_schema = 'market_data' AND j.hypertable_name = 'btc_ticks'
