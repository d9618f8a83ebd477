-- Which slices a version of an object has ticks in, and a word to whoever listens, when this commits.
WITH slices AS (
    SELECT * FROM unnest($3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::timestamptz[])
        AS s (bucket_5m, asset, ticks, first_trade_id, last_trade_id, first_event_time, last_event_time)
), booked AS (
    INSERT INTO ingestion.object_slices (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                         first_event_time, last_event_time)
    SELECT $1, $2, s.* FROM slices s
    ON CONFLICT DO NOTHING
)
SELECT pg_notify('btc_ingest_loaded', json_build_object(
           'asset', asset, 'bucket', to_char(bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'rows', ticks)::text)
  FROM slices
