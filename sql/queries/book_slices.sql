INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                     first_event_time, last_event_time)
SELECT $1, $2, s.*
  FROM unnest($3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[],
              $9::timestamptz[]) AS s
ON CONFLICT DO NOTHING
