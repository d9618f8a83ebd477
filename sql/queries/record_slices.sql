-- Records the slices that a version of an object holds ticks of, and notifies listeners when the transaction commits.
-- $1: uri, $2: etag, $3: buckets, $4: assets, $5: ticks, $6 and $7: first and last trade ids, $8 and $9: first and
-- last event times.
WITH slices AS (
    SELECT * FROM unnest($3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::timestamptz[], $9::timestamptz[])
        AS s (bucket_5m, asset, ticks, first_trade_id, last_trade_id, first_event_time, last_event_time)
), recorded AS (
    INSERT INTO ingestion.object_slices AS o (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                         first_event_time, last_event_time)
    SELECT $1, $2, s.* FROM slices s
    -- A backfill in mode chunk may have recorded a part of a slice.
    ON CONFLICT (s3_uri, etag, bucket_5m, asset) DO UPDATE
       SET ticks = excluded.ticks, first_trade_id = excluded.first_trade_id, last_trade_id = excluded.last_trade_id,
           first_event_time = excluded.first_event_time, last_event_time = excluded.last_event_time
     WHERE o.ticks < excluded.ticks
)
SELECT pg_notify('btc_ingest_loaded', json_build_object(
           'asset', asset, 'bucket', to_char(bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'rows', ticks)::text)
  FROM slices
