-- The oldest chunk of the ticks that is due to be dropped, behind a time, and what is proven of its objects. A proof
-- that is older than a day counts no more. A range that was restored is left alone for its time. $1: where the last
-- chunk that was looked at begins.
SELECT json_build_object(
    'job', d.job_name, 'chunk', format('%I.%I', d.chunk_schema, d.chunk_name),
    'from', (extract(epoch FROM d.range_start) * 1000000)::bigint,
    'to', (extract(epoch FROM d.range_end) * 1000000)::bigint,
    'proven_to', k.proven_to, 'proven', k.proven_at IS NOT NULL, 'found', k.found)::text
  FROM (SELECT r.job_name, c.chunk_schema, c.chunk_name, c.range_start, c.range_end
          FROM ops.retention_jobs r
          JOIN timescaledb_information.chunks c
            ON c.hypertable_schema = 'market_data' AND c.hypertable_name = 'btc_ticks'
           AND c.range_end <= clock_timestamp() - (r.policy ->> 'drop_after')::interval
         WHERE r.enabled AND r.policy ? 'drop_after' AND to_regclass(r.hypertable) = 'market_data.btc_ticks'::regclass
           AND c.range_start > $1
           AND NOT EXISTS (SELECT FROM ops.dropped_ranges k
                            WHERE k.from_time < c.range_end AND k.to_time > c.range_start
                              AND (k.keep_until > clock_timestamp()
                                   OR (k.wanted_at IS NOT NULL AND k.restored_at IS NULL)))
         ORDER BY c.range_start, r.job_name LIMIT 1) AS d
  LEFT JOIN ops.retention_checks k
    ON k.chunk_from = d.range_start AND k.chunk_to = d.range_end
   AND k.proof_began > clock_timestamp() - interval '1 day'
