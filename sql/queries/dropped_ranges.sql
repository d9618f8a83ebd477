-- The ranges that overlap some buckets, whose ticks retention has dropped and that no role wants back; and where the
-- next one begins behind them (null: none). Times are in microseconds since 1970. Each part reads an index of its own
-- from where the buckets are, so that loads of new ticks find nothing to read, however many ranges were dropped.
-- $1 and $2: first and last bucket.
SELECT json_build_object(
    'ranges', (SELECT coalesce(json_agg(json_build_array(d.asset, (extract(epoch FROM d.from_time) * 1000000)::bigint,
                                                         (extract(epoch FROM d.to_time) * 1000000)::bigint)), '[]')
                 FROM ops.dropped_ranges d
                WHERE d.to_time > $1 AND d.from_time <= $2 AND d.restored_at IS NULL AND d.wanted_at IS NULL),
    'next', (SELECT (extract(epoch FROM min(d.from_time)) * 1000000)::bigint FROM ops.dropped_ranges d
              WHERE d.from_time > $2 AND d.restored_at IS NULL AND d.wanted_at IS NULL))::text
