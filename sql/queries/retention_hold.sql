-- What holds a chunk back, as one sentence; null if nothing does. Ticks that are still to come belong to it as well as
-- those that are stored: an object with unknown times may hold some of any chunk. Candles of a range that was dropped
-- before are computed no more, so they hold nothing back. $1 and $2: start and end (exclusive) of the chunk.
WITH bounds AS (
    SELECT (extract(epoch FROM $1::timestamptz) * 1000000)::bigint AS first,
           (extract(epoch FROM $2::timestamptz) * 1000000)::bigint AS after
), waiting AS (
    SELECT count(*) AS number, min(o.s3_uri) AS example, string_agg(DISTINCT o.status, ', ') AS statuses
      FROM ingestion.objects o
     WHERE o.status IN ('pending', 'failed', 'quarantined') AND o.span_from < $2 AND o.span_to > $1
), registered AS (
    SELECT count(*) AS number, min(b.s3_uri) AS example FROM landing.raw_blobs_5m b
     WHERE b.status = 'pending' AND b.bucket_5m >= $1 AND b.bucket_5m < $2
), backfills AS (
    SELECT min(f.id) AS id FROM ingestion.backfills f
     WHERE f.status IN ('pending', 'listing', 'loading')
       AND coalesce(f.from_time, '-infinity') < $2 AND coalesce(f.to_time, 'infinity') > $1
), refreshes AS (
    SELECT min(c.backfill) AS backfill FROM ingestion.backfill_chunks c
     WHERE c.refresh_due AND c.chunk_from < $2 AND c.chunk_to > $1
), aggregates AS (
    SELECT string_agg(format('%I.%I', a.user_view_schema, a.user_view_name), ', ' ORDER BY a.user_view_name) AS names
      FROM bounds b CROSS JOIN _timescaledb_catalog.hypertable h
      JOIN _timescaledb_catalog.continuous_agg a ON a.raw_hypertable_id = h.id
     WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
       AND NOT EXISTS (SELECT FROM ops.dropped_ranges d
                        WHERE d.restored_at IS NULL AND d.from_time <= $1 AND d.to_time >= $2)
       AND (EXISTS (SELECT FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log l
                     WHERE l.hypertable_id = h.id AND l.lowest_modified_value < b.after
                       AND l.greatest_modified_value >= b.first)
            OR EXISTS (SELECT FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log l
                        WHERE l.materialization_id = a.mat_hypertable_id AND l.lowest_modified_value < b.after
                          AND l.greatest_modified_value >= b.first)
            OR EXISTS (SELECT FROM _timescaledb_catalog.continuous_aggs_materialization_ranges l
                        WHERE l.materialization_id = a.mat_hypertable_id AND l.lowest_modified_value < b.after
                          AND l.greatest_modified_value >= b.first)
            OR EXISTS (SELECT FROM market_data.btc_ticks t
                        WHERE t.bucket_5m >= $1 AND t.bucket_5m < $2
                          AND t.bucket_5m >= coalesce((
                              SELECT CASE WHEN w.watermark <= b.first THEN '-infinity'
                                          WHEN w.watermark >= b.after THEN 'infinity'
                                          ELSE to_timestamp(w.watermark / 1000000.0) END
                                FROM _timescaledb_catalog.continuous_aggs_watermark w
                               WHERE w.mat_hypertable_id = a.mat_hypertable_id), '-infinity')))
)
SELECT to_json(CASE
    WHEN w.number > 0
        THEN format('%s objects that may hold ticks of it are not loaded (%s), e.g. %s', w.number, w.statuses,
                    w.example)
    WHEN r.number > 0 THEN format('%s registered objects of it wait, e.g. %s', r.number, r.example)
    WHEN f.id IS NOT NULL THEN format('backfill %s is to load ticks of it', f.id)
    WHEN c.backfill IS NOT NULL THEN format('candles are to be refreshed over a chunk of backfill %s', c.backfill)
    WHEN a.names IS NOT NULL THEN format('it has changed since the last refresh of %s', a.names) END)::text
  FROM waiting w, registered r, backfills f, refreshes c, aggregates a
