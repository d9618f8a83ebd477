-- Questions about the stored ticks. The functions run with the privileges of their caller.

-- ticks() is written so that PostgreSQL puts it into the calling statement: in SQL, stable, without SET, and not
-- SECURITY DEFINER. The planner then sees the range of buckets, and reads only the chunks of that range. Without a
-- search path of its own, it qualifies all names.
CREATE FUNCTION btc_ingest.ticks(symbol text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (bucket_5m timestamptz, event_time timestamptz, trade_time timestamptz, symbol text, trade_id bigint,
               price numeric, quantity numeric, buyer_order_id text, seller_order_id text, is_market_maker boolean)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT t.bucket_5m, t.event_time, t.trade_time, t.symbol, t.trade_id, t.price, t.quantity, t.buyer_order_id,
           t.seller_order_id, t.is_market_maker
      FROM market_data.btc_ticks t
     WHERE t.symbol OPERATOR(pg_catalog.=) ticks.symbol
       AND t.event_time OPERATOR(pg_catalog.>=) "from" AND t.event_time OPERATOR(pg_catalog.<) "to"
       AND t.bucket_5m OPERATOR(pg_catalog.>=)
           pg_catalog.date_bin('5 minutes'::pg_catalog.interval, "from",
                               '1970-01-01 00:00:00+00'::pg_catalog.timestamptz)
       AND t.bucket_5m OPERATOR(pg_catalog.<) "to"
       -- Evaluated once, not per row: a range cannot end before it begins, and PostgreSQL says so.
       AND NOT pg_catalog.isempty(pg_catalog.tstzrange("from", "to"))
$$;
COMMENT ON FUNCTION btc_ingest.ticks(text, timestamptz, timestamptz) IS
'Ticks of a symbol in a range of event time, in any order. Only the chunks of the range are read.

symbol: symbol as stored, e.g. BTCUSDT.
from: first event time.
to: end (exclusive) of the event times. It must not be before "from".

Returns one row per tick; none for a symbol of which no tick is stored:
bucket_5m: start of the tick''s bucket.
event_time: time of the exchange''s event.
trade_time: time of the match; null if the feed has none.
symbol: symbol as stored.
trade_id: the exchange''s number of the trade.
price: price in the quote asset.
quantity: quantity in the base asset.
buyer_order_id: order of the buyer; null where the feed has none.
seller_order_id: order of the seller; null where the feed has none.
is_market_maker: true if the buyer was the maker. A taker buy is NOT is_market_maker.';

CREATE FUNCTION btc_ingest_internal.refuse_symbol(symbol text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    known text;
BEGIN
    WITH RECURSIVE assets AS (
        (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
        UNION ALL
        SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
          FROM assets a WHERE a.asset IS NOT NULL
    )
    SELECT string_agg(a.asset, ', ') INTO known
      FROM (SELECT f.asset FROM assets f WHERE f.asset IS NOT NULL LIMIT 20) AS a;
    RAISE EXCEPTION 'no tick of % is stored', coalesce(quote_literal(refuse_symbol.symbol), 'a symbol that is null')
        USING ERRCODE = 'TK030',
              HINT = CASE WHEN known IS NULL
                          THEN 'Load ticks first: SELECT * FROM btc_ingest.load_s3_slice(''s3://bucket/key'');'
                          ELSE format('Name a symbol as it is stored, for example one of these: %s.', known) END;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.refuse_symbol(text) IS
    'Raises the error of a question about a symbol of which no tick is stored';

CREATE FUNCTION btc_ingest.last_price(symbol text)
RETURNS TABLE (event_time timestamptz, trade_id bigint, price numeric, quantity numeric)
-- Without statistics, as of a chunk that is new, the planner would read and sort all of its ticks.
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_sort = off
AS $$
DECLARE
    span record;
BEGIN
    -- Chunk after chunk from the newest on: the plan of each look has one chunk, however many there are.
    FOR span IN
        SELECT _timescaledb_functions.to_timestamp(s.range_start) AS first,
               _timescaledb_functions.to_timestamp(s.range_end) AS after
          FROM _timescaledb_catalog.hypertable h
          JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id AND d.column_name = 'bucket_5m'
          JOIN _timescaledb_catalog.dimension_slice s ON s.dimension_id = d.id
         WHERE h.schema_name = 'market_data' AND h.table_name = 'btc_ticks'
         ORDER BY s.range_start DESC
    LOOP
        RETURN QUERY EXECUTE
            'SELECT t.event_time, t.trade_id, t.price::numeric, t.quantity::numeric FROM market_data.btc_ticks t
              WHERE t.symbol = $1 AND t.bucket_5m >= $2 AND t.bucket_5m < $3 AND t.price IS NOT NULL
              ORDER BY t.event_time DESC, t.trade_id DESC LIMIT 1'
            USING last_price.symbol, span.first, span.after;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
    PERFORM btc_ingest_internal.refuse_symbol(last_price.symbol);
END
$$;
COMMENT ON FUNCTION btc_ingest.last_price(text) IS
'The last trade of a symbol by event time and trade id. An error (TK030) if none is stored.

symbol: symbol as stored, e.g. BTCUSDT.

Returns one row:
event_time: time of the trade.
trade_id: number of the trade.
price: its price.
quantity: its quantity.';

CREATE FUNCTION btc_ingest_internal.incomplete_ranges(only_asset text DEFAULT NULL)
RETURNS TABLE (asset text, from_time timestamptz, to_time timestamptz, reason text, what text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    WITH objects AS MATERIALIZED (
        SELECT o.s3_uri, o.span_from, o.span_to, coalesce(o.metadata ->> 'symbol', o.asset) AS asset,
               CASE o.status WHEN 'quarantined' THEN 'an object is quarantined' ELSE 'an object waits' END AS reason
          FROM ingestion.objects o WHERE o.status IN ('pending', 'failed', 'quarantined')
    ), ranges AS (
        -- An object that its registry rows name concerns their slices only.
        SELECT r.asset, r.bucket_5m AS from_time, r.bucket_5m + interval '5 minutes' AS to_time, o.reason,
               o.s3_uri AS what
          FROM objects o JOIN landing.raw_blobs_5m r ON r.s3_uri = o.s3_uri
        UNION ALL
        SELECT o.asset, o.span_from, o.span_to, o.reason, o.s3_uri FROM objects o
         WHERE NOT EXISTS (SELECT FROM landing.raw_blobs_5m r WHERE r.s3_uri = o.s3_uri)
        UNION ALL
        SELECT r.asset, r.bucket_5m, r.bucket_5m + interval '5 minutes', 'an object waits', r.s3_uri
          FROM landing.raw_blobs_5m r
         WHERE r.status = 'pending' AND r.queued_at IS NULL
           AND NOT EXISTS (SELECT FROM objects o WHERE o.s3_uri = r.s3_uri)
        UNION ALL
        -- The ticks around the hole share their candles with the missing ones.
        SELECT g.asset, g.before_time, g.after_time + interval '1 microsecond', 'a gap is open',
               format('trade ids %s to %s', g.first_trade_id, g.last_trade_id)
          FROM btc_ingest_internal.gap_rows(only_asset) g WHERE g.state = 'open'
        UNION ALL
        -- Where trade ids are no sequence, only a missing slice shows that ticks are missing.
        SELECT s.asset, s.previous + interval '5 minutes', s.bucket_5m, 'slices are missing', NULL
          FROM (SELECT d.asset, d.bucket_5m,
                       lag(d.bucket_5m) OVER (PARTITION BY d.asset ORDER BY d.bucket_5m) AS previous
                  FROM (SELECT DISTINCT i.asset, i.bucket_5m FROM ingestion.object_slices i
                          JOIN ingestion.assets a ON a.asset = i.asset AND NOT a.sequential_ids) AS d) AS s
         WHERE s.previous < s.bucket_5m - interval '5 minutes'
    )
    SELECT r.asset, r.from_time, r.to_time, r.reason, r.what FROM ranges r
     WHERE only_asset IS NULL OR r.asset IS NULL OR r.asset = only_asset;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.incomplete_ranges(text) IS
    'Rows of the view incomplete; only_asset null: of all assets';

CREATE VIEW btc_ingest.incomplete AS SELECT * FROM btc_ingest_internal.incomplete_ranges();
COMMENT ON VIEW btc_ingest.incomplete IS
    'Ranges of event time in which ticks are or may be missing: one row per object that waits or is quarantined, and '
    'per gap. A candle that touches none of them is complete as far as the ledger knows';
COMMENT ON COLUMN btc_ingest.incomplete.asset IS 'Symbol as stored; null if the object may hold ticks of any';
COMMENT ON COLUMN btc_ingest.incomplete.from_time IS 'Start of the range; -infinity if unknown';
COMMENT ON COLUMN btc_ingest.incomplete.to_time IS 'End (exclusive) of the range; infinity if unknown';
COMMENT ON COLUMN btc_ingest.incomplete.reason IS
    '"an object waits", "an object is quarantined", "a gap is open" or "slices are missing"';
COMMENT ON COLUMN btc_ingest.incomplete.what IS 'The object''s uri, or the missing trade ids';

CREATE FUNCTION btc_ingest.complete_until(asset text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    loaded record;
    first_range timestamptz;
BEGIN
    SELECT (SELECT s.first_event_time FROM ingestion.object_slices s WHERE s.asset = complete_until.asset
             ORDER BY s.bucket_5m LIMIT 1) AS first,
           (SELECT max(s.last_event_time) FROM ingestion.object_slices s
             WHERE s.asset = complete_until.asset
               AND s.bucket_5m = (SELECT n.bucket_5m FROM ingestion.object_slices n
                                   WHERE n.asset = complete_until.asset ORDER BY n.bucket_5m DESC LIMIT 1)) AS last
      INTO loaded;
    IF loaded.first IS NULL THEN
        PERFORM btc_ingest_internal.refuse_symbol(complete_until.asset);
    END IF;
    SELECT min(r.from_time) INTO first_range FROM btc_ingest_internal.incomplete_ranges(complete_until.asset) r
     WHERE r.to_time > loaded.first;
    first_range := least(first_range, loaded.last);
    -- Nothing is certain before the first tick.
    RETURN CASE WHEN first_range > loaded.first THEN first_range END;
END
$$;
COMMENT ON FUNCTION btc_ingest.complete_until(text) IS
'The event time up to which no tick of an asset is known to be missing, from its first tick on: no object waits or is
quarantined, no gap is open, and something is loaded. Null if not even the first ticks are complete. An error (TK030) if
nothing of the asset is loaded.

asset: symbol as stored, e.g. BTCUSDT.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.ticks(text, timestamptz, timestamptz), btc_ingest.last_price(text), btc_ingest.complete_until(text),
    btc_ingest_internal.refuse_symbol(text), btc_ingest_internal.incomplete_ranges(text)
TO btc_ingest_reader;
GRANT SELECT ON btc_ingest.incomplete TO btc_ingest_reader;
