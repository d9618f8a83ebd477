-- Policies for the ticks that ops.retention_jobs wants: what is to be done after which age.
SELECT coalesce(json_agg(json_build_object(
           'job', r.job_name, 'compress_after', r.policy ->> 'compress_after', 'drop_after', r.policy ->> 'drop_after')
       ORDER BY r.job_name), '[]')::text
  FROM ops.retention_jobs r
 WHERE r.enabled AND r.hypertable = 'market_data.btc_ticks' AND jsonb_typeof(r.policy) = 'object'
