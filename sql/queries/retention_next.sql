-- The next chunk of the ticks that is due to be dropped, and what is proven of its objects: the oldest one that is not
-- held back, then those that are held back, beginning with the one that was looked at least recently. So chunks that
-- are held back never take the time of a run from all others. One that this run has held back is left out. A proof that
-- is older than a day counts no more. A range that was restored is left alone for its time. $1: when the run began.
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
          LEFT JOIN ops.retention_checks h ON h.chunk_from = c.range_start AND h.chunk_to = c.range_end
         WHERE r.enabled AND r.policy ? 'drop_after' AND to_regclass(r.hypertable) = 'market_data.btc_ticks'::regclass
           AND NOT EXISTS (SELECT FROM ops.dropped_ranges k
                            WHERE k.from_time < c.range_end AND k.to_time > c.range_start
                              AND (k.keep_until > clock_timestamp()
                                   OR (k.wanted_at IS NOT NULL AND k.restored_at IS NULL)))
           AND (h.held_by IS NULL OR h.checked_at < $1)
         ORDER BY h.held_by IS NOT NULL, CASE WHEN h.held_by IS NOT NULL THEN h.checked_at END, c.range_start,
                  r.job_name
         LIMIT 1) AS d
  LEFT JOIN ops.retention_checks k
    ON k.chunk_from = d.range_start AND k.chunk_to = d.range_end
   AND k.proof_began > clock_timestamp() - interval '1 day'
