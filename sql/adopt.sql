-- Helpers of migrate(): the shape of tables that stood already, and what every table is granted and called.

CREATE FUNCTION btc_ingest_internal.adopt_shapes(vector_schema text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
    found text;
    problems text[] := '{}';
    old_key text;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('landing.raw_blobs_5m', 'bucket_5m', 'timestamp with time zone', NULL),
            ('landing.raw_blobs_5m', 'asset', 'text', NULL),
            ('landing.raw_blobs_5m', 's3_uri', 'text', NULL),
            ('landing.raw_blobs_5m', 'object_size_bytes', 'bigint', ''),
            ('landing.raw_blobs_5m', 'ingested_tick_span', 'tsrange', ''),
            ('landing.raw_blobs_5m', 'metadata', 'jsonb', ''),
            ('landing.raw_blobs_5m', 'created_at', 'timestamp with time zone', 'DEFAULT now()'),
            ('landing.raw_blobs_5m', 'status', 'text',
             'NOT NULL DEFAULT ''pending'' CHECK (status IN (''pending'', ''loaded'', ''failed'', ''quarantined'', ''skipped''))'),
            ('landing.raw_blobs_5m', 'loaded_at', 'timestamp with time zone', ''),
            ('landing.raw_blobs_5m', 'queued_at', 'timestamp with time zone', ''),
            ('market_data.btc_ticks', 'bucket_5m', 'timestamp with time zone', NULL),
            ('market_data.btc_ticks', 'event_time', 'timestamp with time zone', NULL),
            ('market_data.btc_ticks', 'trade_time', 'timestamp with time zone', ''),
            ('market_data.btc_ticks', 'symbol', 'text', NULL),
            ('market_data.btc_ticks', 'trade_id', 'bigint', NULL),
            ('market_data.btc_ticks', 'price', 'numeric(18,8)', NULL),
            ('market_data.btc_ticks', 'quantity', 'numeric(24,12)', NULL),
            ('market_data.btc_ticks', 'buyer_order_id', 'text', ''),
            ('market_data.btc_ticks', 'seller_order_id', 'text', ''),
            ('market_data.btc_ticks', 'is_market_maker', 'boolean', ''),
            ('market_data.btc_ticks', 'ingested_at', 'timestamp with time zone', 'DEFAULT now()'),
            ('signals.btc_embeddings', 'bucket', 'timestamp with time zone', NULL),
            ('signals.btc_embeddings', 'exchange', 'text', NULL),
            ('signals.btc_embeddings', 'feature_vector', vector_schema || '.vector(256)', ''),
            ('signals.btc_embeddings', 'label_snapshot', 'jsonb', ''),
            ('signals.btc_embeddings', 'created_at', 'timestamp with time zone', 'DEFAULT now()'),
            ('signals.btc_embeddings', 'asset', 'text', 'NOT NULL DEFAULT ''BTCUSDT'''),
            ('ingestion.stream_offsets', 'source', 'text', NULL),
            ('ingestion.stream_offsets', 'last_sequence', 'bigint', ''),
            ('ingestion.stream_offsets', 'last_ts', 'timestamp with time zone', ''),
            ('ingestion.stream_offsets', 'state', 'jsonb', ''),
            ('ingestion.stream_offsets', 'updated_at', 'timestamp with time zone', 'DEFAULT now()'),
            ('ingestion.objects', 'listed_etag', 'text', ''),
            ('ingestion.objects', 'listed_size', 'bigint', ''),
            ('ingestion.objects', 'backfill', 'bigint', ''),
            ('ingestion.objects', 'span_from', 'timestamp with time zone', 'NOT NULL DEFAULT ''-infinity'''),
            ('ingestion.objects', 'span_to', 'timestamp with time zone', 'NOT NULL DEFAULT ''infinity'''),
            ('ingestion.objects', 'rows_staged', 'bigint', 'NOT NULL DEFAULT 0'),
            ('ingestion.backfills', 'bytes_total', 'bigint', 'NOT NULL DEFAULT 0'),
            ('ingestion.backfills', 'objects_known', 'bigint', 'NOT NULL DEFAULT 0'),
            ('ingestion.backfills', 'requested_by', 'text', 'NOT NULL DEFAULT session_user'),
            ('ingestion.backfills', 'sqlstate', 'text', ''),
            ('ingestion.backfills', 'message', 'text', ''),
            ('ops.retention_jobs', 'job_name', 'text', NULL),
            ('ops.retention_jobs', 'hypertable', 'text', NULL),
            ('ops.retention_jobs', 'policy', 'jsonb', NULL),
            ('ops.retention_jobs', 'enabled', 'boolean', 'DEFAULT true'),
            ('ops.retention_jobs', 'created_at', 'timestamp with time zone', 'DEFAULT now()')
        ) AS c (on_table, name, type, add_as)
    LOOP
        SELECT format_type(a.atttypid, a.atttypmod) INTO found FROM pg_attribute a
         WHERE a.attrelid = item.on_table::regclass AND a.attname = item.name AND NOT a.attisdropped;
        IF found IS NULL AND item.add_as IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s %s', item.on_table, item.name, item.type, item.add_as);
        ELSIF found IS NULL THEN
            problems := problems || format('%s has no column %s %s', item.on_table, item.name, item.type);
        ELSIF found <> item.type AND NOT (item.name = 'feature_vector' AND found ~ '(^|\.)vector\(256\)$') THEN
            problems := problems || format('%s.%s is %s, expected %s', item.on_table, item.name, found, item.type);
        END IF;
    END LOOP;
    IF problems <> '{}' THEN
        RAISE EXCEPTION 'btc_ingest cannot adopt tables of another shape: %', array_to_string(problems, '; ')
            USING ERRCODE = '42804', HINT = 'Change the columns, or rename the tables, and call btc_ingest.migrate() again.';
    END IF;

    -- The documented keys are narrower than what they must identify: one row per bucket and asset, one vector per
    -- bucket, venue and asset.
    FOR item IN
        SELECT * FROM (VALUES
            ('landing.raw_blobs_5m', 'bucket_5m, asset'),
            ('signals.btc_embeddings', 'bucket, exchange, asset'),
            ('market_data.btc_ticks', 'bucket_5m, symbol, trade_id')
        ) AS k (on_table, key)
    LOOP
        SELECT c.conname, string_agg(a.attname, ', ' ORDER BY k.place) AS key INTO old_key, found
          FROM pg_constraint c
          CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (attnum, place)
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
         WHERE c.conrelid = item.on_table::regclass AND c.contype = 'p'
         GROUP BY c.conname;
        IF found IS DISTINCT FROM item.key THEN
            IF old_key IS NOT NULL THEN
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', item.on_table, old_key);
            END IF;
            EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (%s)', item.on_table, item.key);
        END IF;
    END LOOP;

    -- Identifiers compare by byte, which is cheaper in every index. A table with ticks keeps what it has: changing it
    -- would rebuild all of them.
    IF (SELECT attcollation <> '"C"'::regcollation FROM pg_attribute
         WHERE attrelid = 'market_data.btc_ticks'::regclass AND attname = 'symbol') THEN
        EXECUTE 'SELECT 1 FROM market_data.btc_ticks LIMIT 1' INTO found;
        IF found IS NULL THEN
            ALTER TABLE market_data.btc_ticks ALTER COLUMN symbol TYPE text COLLATE "C";
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.adopt_shapes(text) IS 'Part of migrate(): gives tables that stood already the columns and keys of the contract';

CREATE FUNCTION btc_ingest_internal.rename_stored_modes() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ingestion.backfills SET mode = 'object' WHERE mode = 'slice';
    ALTER TABLE ingestion.backfills ALTER COLUMN mode SET DEFAULT 'object';
    IF EXISTS (SELECT FROM pg_constraint
                WHERE conrelid = 'ingestion.backfill_chunks'::regclass AND pg_get_constraintdef(oid) LIKE '%''slices''%') THEN
        ALTER TABLE ingestion.backfill_chunks DROP CONSTRAINT backfill_chunks_status_check;
        UPDATE ingestion.backfill_chunks SET status = 'objects' WHERE status = 'slices';
        ALTER TABLE ingestion.backfill_chunks
            ADD CONSTRAINT backfill_chunks_status_check CHECK (status IN ('pending', 'attached', 'objects', 'done'));
    END IF;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.rename_stored_modes() IS
    'Part of migrate(): up to schema version 3 the mode and the status of objects that are loaded one by one were called slice and slices';

CREATE FUNCTION btc_ingest_internal.grant_and_comment() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    GRANT USAGE ON SCHEMA landing, market_data, signals, ingestion, ops TO btc_ingest_reader;
    GRANT SELECT ON landing.raw_blobs_5m, landing.rejected_ticks, market_data.btc_ticks, signals.btc_embeddings,
        ingestion.stream_offsets, ingestion.objects, ingestion.object_slices, ingestion.load_history,
        ingestion.backfills, ingestion.backfill_workers, ingestion.backfill_chunks, ingestion.control,
        ingestion.schema_version, ops.retention_jobs TO btc_ingest_reader;
    -- Producers register what they uploaded.
    GRANT INSERT, UPDATE ON landing.raw_blobs_5m TO btc_ingest_loader;
    GRANT INSERT, UPDATE ON signals.btc_embeddings TO btc_ingest_loader;
    GRANT INSERT, UPDATE, DELETE ON ops.retention_jobs TO btc_ingest_admin;

    FOR item IN
        SELECT * FROM (VALUES
            ('landing.raw_blobs_5m', 'Registry: which object in S3 holds the ticks of a bucket and asset'),
            ('landing.raw_blobs_5m.bucket_5m', 'Start of the 5-minute bucket'),
            ('landing.raw_blobs_5m.asset', 'Symbol as stored, e.g. BTCUSDT'),
            ('landing.raw_blobs_5m.s3_uri', 's3://bucket/key of the object; writing it makes the row pending'),
            ('landing.raw_blobs_5m.object_size_bytes', 'Size of the object in bytes; what a producer writes here is checked by the load'),
            ('landing.raw_blobs_5m.ingested_tick_span', 'First to last event time (UTC) that the object put into the bucket'),
            ('landing.raw_blobs_5m.metadata', 'Producer''s keys (sha256, rows, options of the load) and the load''s (etag, writer, schema_fingerprint, row_count)'),
            ('landing.raw_blobs_5m.created_at', 'When the row was registered'),
            ('landing.raw_blobs_5m.status', 'pending, loaded, failed, quarantined or skipped; loaded when its own object is'),
            ('landing.raw_blobs_5m.loaded_at', 'When its object was loaded'),
            ('landing.raw_blobs_5m.queued_at', 'When its object was put into the queue; null: not yet'),
            ('landing.rejected_ticks', 'Rows that are no ticks, and ticks that conflict with stored ones; at most btc_ingest.max_kept_rejects per load'),
            ('landing.rejected_ticks.s3_uri', 'The object'),
            ('landing.rejected_ticks.etag', 'Its version'),
            ('landing.rejected_ticks.row_number', 'Row of the object, counted from 0'),
            ('landing.rejected_ticks.reason', 'Why the row was not stored'),
            ('landing.rejected_ticks.row_data', 'The row'),
            ('market_data.btc_ticks', 'Hypertable: one row per trade at native resolution, exactly once'),
            ('market_data.btc_ticks.bucket_5m', '5-minute floor of event_time, UTC; the hypertable''s time column'),
            ('market_data.btc_ticks.event_time', 'Time of the exchange''s event; nanoseconds are truncated to microseconds'),
            ('market_data.btc_ticks.trade_time', 'Time of the match, if the feed has it'),
            ('market_data.btc_ticks.symbol', 'e.g. BTCUSDT'),
            ('market_data.btc_ticks.trade_id', 'The exchange''s sequence per symbol'),
            ('market_data.btc_ticks.price', 'Price of the trade'),
            ('market_data.btc_ticks.quantity', 'Quantity in the base asset'),
            ('market_data.btc_ticks.buyer_order_id', 'As in the feed; null where it has none (Binance since 2024)'),
            ('market_data.btc_ticks.seller_order_id', 'As in the feed; null where it has none (Binance since 2024)'),
            ('market_data.btc_ticks.is_market_maker', 'Binance''s m: true if the BUYER was the maker, so that the seller was the aggressor. A taker buy is NOT is_market_maker.'),
            ('market_data.btc_ticks.ingested_at', 'When the row was stored'),
            ('signals.btc_embeddings', 'One vector of 256 numbers per bucket, venue and asset'),
            ('signals.btc_embeddings.bucket', 'Start of the 5-minute bucket'),
            ('signals.btc_embeddings.exchange', 'Venue, e.g. binance'),
            ('signals.btc_embeddings.feature_vector', 'The vector'),
            ('signals.btc_embeddings.label_snapshot', 'Labels, e.g. future returns'),
            ('signals.btc_embeddings.created_at', 'When the row was written'),
            ('signals.btc_embeddings.asset', 'Symbol; BTCUSDT where the writer does not name one'),
            ('ingestion.stream_offsets', 'Highest sequence per source; every load moves it forward, never back'),
            ('ingestion.stream_offsets.source', 'options.source of the load, else s3:<exchange>:<asset>'),
            ('ingestion.stream_offsets.last_sequence', 'Highest trade id that was loaded'),
            ('ingestion.stream_offsets.last_ts', 'Event time of that trade'),
            ('ingestion.stream_offsets.state', 'The object it came from, and cursors of discovery'),
            ('ingestion.stream_offsets.updated_at', 'When the offset moved last'),
            ('ingestion.objects', 'One row per object in S3: the unit of claim, state and retry. Never pruned'),
            ('ingestion.objects.etag', 'Version that was loaded last'),
            ('ingestion.objects.generation', 'Grows with every change of state, for compare-and-set'),
            ('ingestion.objects.options', 'What the object was loaded with: symbol, time_unit, columns'),
            ('ingestion.objects.metadata', 'Producer''s keys and the load''s, as in landing.raw_blobs_5m'),
            ('ingestion.object_slices', 'Which version of which object put how many ticks into which slice; insert-only'),
            ('ingestion.load_history', 'One row per attempt'),
            ('ingestion.objects.listed_etag', 'Version that a LIST showed and that has not been loaded yet'),
            ('ingestion.objects.listed_size', 'Its size in bytes'),
            ('ingestion.objects.backfill', 'The backfill that registered the object; null for a live one'),
            ('ingestion.objects.span_from', 'Earliest bucket that the object can hold, by its key or footer; -infinity: not known'),
            ('ingestion.objects.span_to', 'End of what it can hold; infinity: not known'),
            ('ingestion.objects.rows_staged', 'Rows that committed chunks hold of an object that is not finished'),
            ('ingestion.backfills', 'One row per backfill; see btc_ingest.backfill_status()'),
            ('ingestion.backfills.status', 'pending, listing, loading, stopped, done or cancelled'),
            ('ingestion.backfills.objects_total', 'Objects found under the prefixes, within the time range'),
            ('ingestion.backfills.objects_known', 'How many of them were loaded before, at the same etag'),
            ('ingestion.backfills.state', 'Where the listing stands, and what is to be put back at the end'),
            ('ingestion.backfill_workers', 'What each worker of a backfill has done; one row per worker slot'),
            ('ingestion.backfill_chunks', 'Chunks of a backfill in mode "chunk": attached as a whole, or loaded by slices, and why'),
            ('ingestion.control', 'Whether workers may take new work; see btc_ingest.pause_ingest()'),
            ('ingestion.schema_version', 'Schema version of these tables; see btc_ingest.migrate()'),
            ('ops.retention_jobs', 'Compression and retention policies'),
            ('ops.retention_jobs.job_name', 'Name for people'),
            ('ops.retention_jobs.enabled', 'Whether the policy is applied'),
            ('ops.retention_jobs.created_at', 'When the row was written'),
            ('ops.retention_jobs.policy', 'e.g. {"compress_after": "30 days", "drop_after": "90 days"}'),
            ('ops.retention_jobs.hypertable', 'Target, e.g. market_data.btc_ticks')
        ) AS c (name, description)
    LOOP
        EXECUTE format('COMMENT ON %s %s IS %L',
                       CASE WHEN item.name LIKE '%.%.%' THEN 'COLUMN' ELSE 'TABLE' END, item.name, item.description);
    END LOOP;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.grant_and_comment() IS 'Part of migrate(): grants and comments of every table';
