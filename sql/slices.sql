-- The ledger per slice, over all objects that hold ticks of it. It runs with the privileges of its caller.

CREATE FUNCTION btc_ingest.slice_ledger(
    asset text, "from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity',
    count_stored boolean DEFAULT false
) RETURNS TABLE (
    bucket_5m timestamptz, ticks bigint, first_trade_id bigint, last_trade_id bigint, missing_inside bigint,
    missing_before bigint, objects bigint, duplicates bigint, conflicts bigint, out_of_order bigint, skewed bigint,
    max_time_skew interval, unregistered bigint, first_event_time timestamptz, last_event_time timestamptz,
    first_seen timestamptz, last_changed timestamptz, stored bigint
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    sequential CONSTANT boolean := NOT EXISTS (SELECT FROM ingestion.assets a
                                                WHERE a.asset = slice_ledger.asset AND NOT a.sequential_ids);
BEGIN
    RETURN QUERY
    WITH slices AS (
        SELECT s.bucket_5m, count(DISTINCT s.s3_uri) AS objects, max(s.ticks) AS most, bool_or(s.ids IS NULL) AS sparse,
               max(s.missing_ids) AS missing, min(s.first_trade_id) AS first_id, max(s.last_trade_id) AS last_id,
               range_agg(coalesce(s.ids, '{}'::int8multirange)) AS ids,
               sum(s.duplicates)::bigint AS duplicates, sum(s.conflicts)::bigint AS conflicts,
               max(s.out_of_order) AS out_of_order, max(s.skewed) AS skewed, max(s.max_time_skew) AS max_time_skew,
               max(CASE WHEN s.unregistered THEN s.ticks ELSE 0 END) AS unregistered,
               min(s.first_event_time) AS first_time, max(s.last_event_time) AS last_time,
               min(coalesce(s.first_seen, s.loaded_at)) AS first_seen,
               coalesce(max(s.loaded_at) FILTER (WHERE s.ticks > s.duplicates), min(s.loaded_at)) AS last_changed
          FROM ingestion.object_slices s
         WHERE s.asset = slice_ledger.asset
           AND s.bucket_5m >= date_bin('5 minutes', "from", 'epoch'::timestamptz) AND s.bucket_5m < "to"
         GROUP BY s.bucket_5m
    ), counted AS (
        SELECT s.*, CASE WHEN s.sparse THEN s.most
                         ELSE (SELECT least(sum(coalesce(upper(r), 9223372036854775808) - lower(r)::numeric),
                                            9223372036854775807)
                                 FROM unnest(s.ids) AS r) END::bigint AS ticks,
               coalesce(lag(s.last_id) OVER (ORDER BY s.bucket_5m), (
                   SELECT max(b.last_trade_id) FROM ingestion.object_slices b
                    WHERE b.asset = slice_ledger.asset
                      AND b.bucket_5m = (SELECT max(p.bucket_5m) FROM ingestion.object_slices p
                                          WHERE p.asset = slice_ledger.asset AND p.bucket_5m < s.bucket_5m)
               )) AS id_before
          FROM slices s
    ), stored AS (
        SELECT t.bucket_5m, count(*) AS ticks
          FROM market_data.btc_ticks t
         WHERE count_stored AND t.symbol = slice_ledger.asset
           AND t.bucket_5m >= date_bin('5 minutes', "from", 'epoch'::timestamptz) AND t.bucket_5m < "to"
         GROUP BY t.bucket_5m
    )
    SELECT coalesce(c.bucket_5m, t.bucket_5m), coalesce(c.ticks, 0), c.first_id, c.last_id,
           -- least() passes over a null.
           CASE WHEN NOT sequential OR c.bucket_5m IS NULL THEN NULL WHEN c.sparse THEN c.missing
                ELSE least(c.last_id::numeric - c.first_id + 1 - c.ticks, 9223372036854775807)::bigint END,
           CASE WHEN sequential AND c.id_before IS NOT NULL THEN
               greatest(0, least(c.first_id::numeric - c.id_before - 1, 9223372036854775807))::bigint END,
           coalesce(c.objects, 0), coalesce(c.duplicates, 0), coalesce(c.conflicts, 0), coalesce(c.out_of_order, 0),
           coalesce(c.skewed, 0), c.max_time_skew, coalesce(c.unregistered, 0), c.first_time, c.last_time,
           c.first_seen, c.last_changed, CASE WHEN count_stored THEN coalesce(t.ticks, 0) END
      FROM counted c FULL JOIN stored t ON t.bucket_5m = c.bucket_5m
     ORDER BY 1;
END
$$;
COMMENT ON FUNCTION btc_ingest.slice_ledger(text, timestamptz, timestamptz, boolean) IS
'What is recorded of each slice of an asset, over all loaded versions of objects that hold ticks of it.

asset: symbol as stored, e.g. BTCUSDT.
from: a time in the first bucket. Default: no limit.
to: end (exclusive) of the buckets. Default: no limit.
count_stored: whether the stored ticks are counted as well, which reads the table. Default false.

Returns one row per slice:
bucket_5m: start of the bucket.
ticks: ticks that objects hold of the slice, each trade id counted once.
first_trade_id: lowest trade id.
last_trade_id: highest trade id.
missing_inside: trade ids between these two that no object of the slice holds; null if the ids are no sequence.
missing_before: trade ids between the slice before, whichever that is, and this one; null for the first slice and if the
  ids are no sequence. The view gaps knows if a tick of another slice has such an id.
objects: objects that hold ticks of the slice.
duplicates: ticks that were stored with the same values when an object with them was loaded.
conflicts: ticks that were stored with other values, or in a neighbouring bucket, when an object with them was loaded.
out_of_order: ticks whose event time is before that of the tick with the next lower trade id; of the object with most.
skewed: ticks whose event time and trade time differ by more than btc_ingest.time_skew_limit; of the object with most.
max_time_skew: largest difference between event time and trade time; null without trade times.
unregistered: ticks of an object that its producer had registered, but not for this slice; of the object with most.
first_event_time: earliest event time.
last_event_time: latest event time.
first_seen: when ticks of the slice were loaded first.
last_changed: when an object last brought ticks that were not stored with the same values.
stored: ticks that are stored; null unless they were counted. It differs from ticks if statements of your own, or
  retention, have deleted or added ticks.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest.slice_ledger(text, timestamptz, timestamptz, boolean) TO btc_ingest_reader;
