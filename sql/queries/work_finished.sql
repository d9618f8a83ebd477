-- Records a unit as finished. $1: token, $2: parts that count, or null for all.
WITH finished AS (
    UPDATE ingestion.work_units u
       SET state = 'finished', buckets = NULL, last_error = NULL, finished_at = clock_timestamp(),
           slices = (SELECT count(*) FROM ingestion.staged_slices s
                      WHERE s.token = $1 AND ($2::uuid[] IS NULL OR s.part = ANY ($2))),
           candles = (SELECT count(*) FROM ingestion.staged_candles c
                       WHERE c.token = $1 AND ($2::uuid[] IS NULL OR c.part = ANY ($2)))
     WHERE u.token = $1
    RETURNING u.id, u.slices, u.candles, u.vectors
)
SELECT json_build_object('before', false, 'unit', f.id, 'slices', f.slices, 'candles', f.candles,
                         'vectors', f.vectors)::text
  FROM finished f
