-- The keys and indexes of the contract, in one place: migrate() creates those that are missing, and doctor() names
-- them.

CREATE FUNCTION btc_ingest_internal.missing_indexes() RETURNS TABLE (name text, statement text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH contract (on_table, columns, name, kind, condition) AS (VALUES
        ('market_data.btc_ticks', '(bucket_5m, symbol, trade_id)', 'btc_ticks_pkey', 'key', ''),
        ('market_data.btc_ticks', '(symbol, event_time DESC)', 'btc_ticks_symbol_event_time_idx', '', ''),
        ('market_data.btc_ticks', '(bucket_5m)', 'btc_ticks_bucket_5m_idx', '', ''),
        ('landing.raw_blobs_5m', '(bucket_5m, asset)', 'raw_blobs_5m_pkey', 'key', ''),
        ('landing.raw_blobs_5m', '(asset, bucket_5m)', 'raw_blobs_5m_asset_bucket_5m_idx', 'unique', ''),
        ('landing.raw_blobs_5m', '(s3_uri)', 'raw_blobs_5m_s3_uri_idx', '', ''),
        ('landing.rejected_ticks', '(s3_uri, etag)', 'rejected_ticks_s3_uri_etag_idx', '', ''),
        ('signals.btc_embeddings', '(bucket, exchange, asset)', 'btc_embeddings_pkey', 'key', ''),
        ('signals.btc_embeddings', '(feature_vector)', 'btc_embeddings_feature_vector_idx', 'ivfflat', ''),
        ('ingestion.stream_offsets', '(source)', 'stream_offsets_pkey', 'key', ''),
        ('ingestion.objects', '(s3_uri)', 'objects_pkey', 'key', ''),
        ('ingestion.objects', '(status, next_attempt_at, registered_at)', 'objects_queue_idx', '', ''),
        ('ingestion.object_slices', '(s3_uri, etag, bucket_5m, asset)', 'object_slices_pkey', 'key', ''),
        ('ingestion.object_slices', '(asset, bucket_5m)', 'object_slices_asset_bucket_5m_idx', '', ''),
        ('ingestion.object_slices', '(asset, first_trade_id)', 'object_slices_asset_first_trade_id_idx', '', ''),
        ('ingestion.load_history', '(s3_uri, started_at)', 'load_history_s3_uri_started_at_idx', '', ''),
        ('ingestion.load_history', '(started_at)', 'load_history_started_at_idx', '', ''),
        -- Pending objects of backfills and live objects have an index each, so that a million objects of a backfill
        -- do not slow down the search for live ones.
        ('ingestion.objects', '(backfill, span_from, s3_uri)', 'objects_backfill_idx', '',
            'status = ''pending'' AND backfill IS NOT NULL'),
        ('ingestion.objects', '((CASE WHEN isfinite(span_from) THEN span_from ELSE registered_at END), s3_uri)',
            'objects_due_idx', '', 'status = ''pending'' AND backfill IS NULL'),
        ('ingestion.objects', '(backfill, next_attempt_at)', 'objects_failed_idx', '',
            'status IN (''failed'', ''quarantined'')'),
        ('ingestion.objects', '(loaded_at)', 'objects_conflicts_idx', '', 'rows_conflicting > 0 OR rows_rejected > 0'),
        ('landing.raw_blobs_5m', '(bucket_5m, asset)', 'raw_blobs_5m_unqueued_idx', '',
            'status = ''pending'' AND queued_at IS NULL'),
        ('landing.raw_blobs_5m', '(bucket_5m, asset)', 'raw_blobs_5m_empty_idx', '', 'status = ''empty'''),
        -- What the views count: lag reads only this index.
        ('ingestion.objects', '(asset, span_from, queued_at, backfill)', 'objects_waiting_idx', '',
            'status IN (''pending'', ''failed'')'),
        ('ingestion.work_units', '(kind, asset, from_time, to_time)', 'work_units_range_idx', 'unique', ''),
        ('ingestion.work_units', '(token)', 'work_units_token_idx', '', ''),
        -- Empty as a rule: every load looks here for its assets.
        ('ingestion.id_sets', '(asset)', 'id_sets_not_held_idx', '', 'kind <> ''held'''),
        -- Loads and refreshes of candles ask for the ranges that were dropped: those that end behind a bucket, and the
        -- next one.
        ('ops.dropped_ranges', '(from_time, to_time)', 'dropped_ranges_open_idx', '', 'restored_at IS NULL'),
        ('ops.dropped_ranges', '(to_time, from_time)', 'dropped_ranges_end_idx', '', 'restored_at IS NULL'),
        -- What stats and doctor() count. These indexes hold few rows, however many the tables hold.
        ('landing.raw_blobs_5m', '(s3_uri)', 'raw_blobs_5m_quarantined_idx', '', 'status = ''quarantined'''),
        ('ingestion.load_history', '(started_at)', 'load_history_failed_idx', '', 'sqlstate IS NOT NULL'),
        ('ingestion.load_history', '(started_at)', 'load_history_differing_idx', '',
            'rows_conflicting > 0 OR rows_rejected > 0')
    )
    SELECT c.name,
           -- An invalid index, which a failed CREATE INDEX CONCURRENTLY leaves, occupies the name.
           CASE WHEN EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
                              WHERE x.indrelid = to_regclass(c.on_table) AND i.relname = c.name AND NOT x.indisvalid)
                THEN format('DROP INDEX %I.%I; ', split_part(c.on_table, '.', 1), c.name) ELSE '' END
           || CASE WHEN c.kind = 'key' THEN format('ALTER TABLE %s ADD PRIMARY KEY %s;', c.on_table, c.columns)
                   ELSE format('CREATE %sINDEX %I ON %s %s%s%s%s;',
                               CASE WHEN c.kind = 'unique' THEN 'UNIQUE ' ELSE '' END, c.name, c.on_table,
                               CASE WHEN c.kind = 'ivfflat' THEN 'USING ivfflat ' ELSE '' END, c.columns,
                               CASE WHEN c.kind = 'ivfflat' THEN ' WITH (lists = 200)' ELSE '' END,
                               CASE WHEN c.condition <> '' THEN ' WHERE ' || c.condition ELSE '' END) END
      FROM contract c
     WHERE to_regclass(c.on_table) IS NOT NULL
       -- Compared by columns, not by name, because adopted tables may use other names. Indexes with a condition are
       -- all ours.
       AND NOT EXISTS (
            SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
             WHERE x.indrelid = to_regclass(c.on_table) AND x.indisvalid
               AND CASE WHEN c.condition <> '' THEN i.relname = c.name
                        -- rebuild_embedding_index() may have made an index of another kind.
                        WHEN c.kind = 'ivfflat'
                        THEN x.indpred IS NULL
                             AND pg_get_indexdef(x.indexrelid) ~ ' USING (ivfflat|hnsw) \(feature_vector[ )]'
                        ELSE x.indpred IS NULL AND (x.indisunique OR c.kind NOT IN ('key', 'unique'))
                             AND substring(pg_get_indexdef(x.indexrelid) FROM ' USING \w+ (\([^)]*\))') = c.columns END)
$$;
COMMENT ON FUNCTION btc_ingest_internal.missing_indexes() IS
    'Part of migrate() and doctor(): keys and indexes of the contract that are missing, each with the statement that '
    'creates it';
