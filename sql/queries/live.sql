-- Live objects in queue order, without those whose prefix waits for S3. An object with an unknown span counts from its
-- registration. `queue/live.rs` fills in the direction, because a plan can use an index for a fixed direction only.
-- $1: objects at most, $2: only objects of these assets (null: all), $3: only objects under this prefix, which waits
-- for S3 (null: none that waits), $4 and $5: beginnings and ends of chunks whose objects are left out.
SELECT coalesce(json_agg(c.s3_uri), '[]')::text
  FROM (
    SELECT o.s3_uri
      FROM ingestion.objects o
     WHERE o.backfill IS NULL AND o.status = 'pending'
       AND CASE WHEN $3::text IS NULL
                THEN NOT o.s3_uri ^@ ANY (ARRAY(SELECT t.prefix FROM ingestion.outages t WHERE t.ended_at IS NULL))
                ELSE o.s3_uri ^@ $3 END
       AND NOT EXISTS (SELECT FROM unnest($4::timestamptz[], $5::timestamptz[]) AS h (begins, ends)
                        WHERE o.span_from >= h.begins AND o.span_from < h.ends)
       AND ($2::text[] IS NULL OR o.metadata ->> 'symbol' = ANY ($2)
            OR EXISTS (SELECT FROM landing.raw_blobs_5m b WHERE b.s3_uri = o.s3_uri AND b.asset = ANY ($2)))
     ORDER BY (CASE WHEN isfinite(o.span_from) THEN o.span_from ELSE o.registered_at END) /*direction*/,
              o.s3_uri /*direction*/
     LIMIT $1
  ) AS c
