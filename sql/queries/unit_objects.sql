-- Objects of a backfill that can hold ticks of a chunk. Those that have their place in the order of loads come first,
-- in this order. $1: backfill, $2 and $3: start and end of the chunk in microseconds since 1970.
SELECT coalesce(json_agg(s3_uri ORDER BY CASE WHEN reload OR rows_staged > 0 THEN load_order END NULLS LAST,
                                         span_from, s3_uri), '[]')::text
  FROM ingestion.objects
 WHERE backfill = $1 AND status = 'pending' AND isfinite(span_from) AND isfinite(span_to)
   AND span_from < to_timestamp($3 / 1000000.0) AND span_to > to_timestamp($2 / 1000000.0)
