-- The ranges whose ticks retention has dropped and that no role wants back, in microseconds since 1970.
SELECT coalesce(json_agg(json_build_array(d.asset, (extract(epoch FROM d.from_time) * 1000000)::bigint,
                                          (extract(epoch FROM d.to_time) * 1000000)::bigint)), '[]')::text
  FROM ops.dropped_ranges d WHERE d.restored_at IS NULL AND d.wanted_at IS NULL
