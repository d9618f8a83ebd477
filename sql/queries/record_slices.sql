-- Records the slices that a version of an object holds ticks of, and notifies listeners when the transaction commits. A
-- slice that is recorded already was recorded of a part of the object, or with other options. $1: uri, $2: etag, $3:
-- buckets, $4: assets, $5: ticks, $6 and $7: first and last trade ids, $8 and $9: first and last event times, $10:
-- trade ids as int8multirange, $11: missing ids, $12: ticks out of the order of time, $13: time skews in microseconds,
-- $14: ticks over the limit of time skew, $15 and $16: ticks that were stored with the same and with other values.
WITH slices AS (
    SELECT bucket_5m, asset, ticks, first_trade_id, last_trade_id, first_event_time, last_event_time,
           ids::int8multirange AS ids, missing_ids, out_of_order, skew * interval '1 microsecond' AS max_time_skew,
           skewed, duplicates, conflicts,
           -- A row that its producer has not made pending is one that a load has recorded.
           EXISTS (SELECT FROM landing.raw_blobs_5m b WHERE b.s3_uri = $1 AND b.status NOT IN ('loaded', 'empty'))
           AND NOT EXISTS (SELECT FROM landing.raw_blobs_5m b
                            WHERE b.s3_uri = $1 AND b.bucket_5m = s.bucket_5m AND b.asset = s.asset) AS unregistered
      FROM unnest($3::timestamptz[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[],
                  $9::timestamptz[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                  $15::bigint[], $16::bigint[])
        AS s (bucket_5m, asset, ticks, first_trade_id, last_trade_id, first_event_time, last_event_time, ids,
              missing_ids, out_of_order, skew, skewed, duplicates, conflicts)
), recorded AS (
    INSERT INTO ingestion.object_slices AS o (s3_uri, etag, bucket_5m, asset, ticks, first_trade_id, last_trade_id,
                                              first_event_time, last_event_time, ids, missing_ids, out_of_order,
                                              max_time_skew, skewed, duplicates, conflicts, unregistered)
    SELECT $1, $2, s.* FROM slices s
    ON CONFLICT (s3_uri, etag, bucket_5m, asset) DO UPDATE
       SET ticks = excluded.ticks, first_trade_id = excluded.first_trade_id, last_trade_id = excluded.last_trade_id,
           first_event_time = excluded.first_event_time, last_event_time = excluded.last_event_time,
           ids = excluded.ids, missing_ids = excluded.missing_ids, out_of_order = excluded.out_of_order,
           max_time_skew = excluded.max_time_skew, skewed = excluded.skewed, unregistered = excluded.unregistered,
           -- What the part has stored is no duplicate, although the whole object finds it stored.
           duplicates = greatest(0, excluded.duplicates - (o.ticks - o.duplicates - o.conflicts)),
           conflicts = excluded.conflicts
     WHERE o.ticks < excluded.ticks OR (o.ticks = excluded.ticks AND o.ids IS DISTINCT FROM excluded.ids)
)
SELECT pg_notify('btc_ingest_loaded', json_build_object(
           'asset', asset, 'bucket', to_char(bucket_5m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           'rows', ticks)::text)
  FROM slices
