-- Records the ticks of an asset as dropped with their chunk. A range that is recorded already, of which only some ticks
-- came back, stays as it is recorded. $1 and $2: start and end (exclusive) of the chunk, $3: asset, $4: ticks,
-- $5: objects, $6: policy.
INSERT INTO ops.dropped_ranges (asset, from_time, to_time, ticks, objects, job_name)
SELECT $3, $1, $2, $4, $5, $6
 WHERE NOT EXISTS (SELECT FROM ops.dropped_ranges d
                    WHERE d.asset = $3 AND d.restored_at IS NULL AND d.from_time <= $1 AND d.to_time >= $2)
