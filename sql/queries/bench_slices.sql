-- For measurements only: records slices without the ledger, with the arguments of record_slices.sql.
WITH slices AS (
    SELECT bucket_5m, asset, ticks, first_trade_id, last_trade_id, first_event_time, last_event_time
      FROM unnest($3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[],
                  $9::timestamptz[])
        AS s (bucket_5m, asset, ticks, first_trade_id, last_trade_id, first_event_time, last_event_time)
     WHERE ($10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[])
           IS NOT NULL
), recorded AS (
    INSERT INTO ingestion.object_slices AS o (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                              first_event_time, last_event_time)
    SELECT $1, $2, s.* FROM slices s
    ON CONFLICT (s3_uri, etag, bucket_5m, asset) DO UPDATE
       SET ticks = excluded.ticks, first_trade_id = excluded.first_trade_id, last_trade_id = excluded.last_trade_id,
           first_event_time = excluded.first_event_time, last_event_time = excluded.last_event_time
     WHERE o.ticks < excluded.ticks
)
SELECT pg_notify('btc_ingest_loaded', json_build_object(
           'asset', asset, 'bucket', to_char(bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'rows', ticks)::text)
  FROM slices
