-- Objects of a backfill that can hold ticks of a chunk, except those that reach over too many chunks (units_plan.sql).
-- Those that have their place in the order of loads come first, in this order. $1: backfill, $2 and $3: start and end
-- of the chunk, $4: chunks that an object may reach over.
SELECT coalesce(json_agg(s3_uri ORDER BY CASE WHEN reload OR rows_staged > 0 THEN load_order END NULLS LAST,
                                         span_from, s3_uri), '[]')::text
  FROM ingestion.objects
 WHERE backfill = $1 AND status = 'pending' AND isfinite(span_from) AND isfinite(span_to)
   AND span_from < $3 AND span_to > $2
   AND extract(epoch FROM span_to) - extract(epoch FROM span_from)
       <= $4 * (extract(epoch FROM $3) - extract(epoch FROM $2))
