-- The assets of which loads have stored slices, or the one that is asked for. $1 and $2: first bucket and end
-- (exclusive), $3: asset or null.
SELECT CASE WHEN $3::text IS NOT NULL THEN json_build_array($3::text)
            ELSE (SELECT json_agg(DISTINCT s.asset) FROM ingestion.object_slices s
                   WHERE s.bucket_5m >= $1 AND s.bucket_5m < $2) END::text
