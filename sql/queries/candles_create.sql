-- The statements that make candles, for the tables' owner. With TimescaleDB's Community edition they are a continuous
-- aggregate, elsewhere a view. Open and close go by one order: time, then trade id, as one number. By trade time, a
-- candle may have ticks in several buckets, and an aggregate groups by buckets: it holds parts of candles with the
-- order of their first and last tick, and a view puts the parts together. $1: name, $2: width, $3: event_time or
-- trade_time, $4: chunk interval of the aggregate.
WITH given AS (
    SELECT $1::text AS name, $2::interval AS width, greatest($2::interval, interval '5 minutes') AS step,
           $3::text = 'trade_time' AS by_trade,
           current_setting('timescaledb.license', true) IS NOT DISTINCT FROM 'timescale' AS community,
           CASE $3::text WHEN 'trade_time' THEN 'coalesce(trade_time, event_time)' ELSE 'event_time' END AS time,
           (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
             WHERE e.extname = 'timescaledb') AS timescale
), named AS (
    SELECT g.*, format('date_bin(interval %L, %s, timestamptz %L)', g.width, g.time, '1970-01-01 00:00:00+00') AS bin,
           format('%s.time_bucket(interval %L, bucket_5m)', g.timescale, g.step) AS buckets,
           format('(extract(epoch FROM %s AT TIME ZONE %L) * 1e26 + trade_id)', g.time, 'UTC') AS place,
           CASE WHEN g.community AND g.by_trade THEN g.name || '_parts' WHEN g.community THEN g.name END AS aggregate
      FROM given g
), parts AS (
    SELECT n.*,
           format('%s.first(price, %s) FILTER (WHERE price IS NOT NULL) AS open', n.timescale, n.place) AS open,
           format('%s.last(price, %s) FILTER (WHERE price IS NOT NULL) AS close', n.timescale, n.place) AS close,
           'max(price) AS high, min(price) AS low' AS range,
           'sum(quantity) AS volume, sum(price * quantity) AS quote_volume, count(*) AS trades,
            coalesce(sum(quantity) FILTER (WHERE NOT is_market_maker), 0) AS taker_buy_volume,
            coalesce(sum(price * quantity) FILTER (WHERE NOT is_market_maker), 0) AS taker_buy_quote_volume' AS sums,
           'sum(quantity) FILTER (WHERE price IS NOT NULL)' AS priced,
           'min(trade_id) AS first_trade_id, max(trade_id) AS last_trade_id' AS ids
      FROM named n
), selected AS (
    SELECT p.*,
           format('SELECT %s AS bucket, %s AS bucket_5m, symbol, %s, %s, %s, %s, sum(price * quantity) / nullif(%s, 0)
                          AS vwap, %s FROM market_data.btc_ticks GROUP BY 1, 2, symbol',
                  -- By a plain column, or by time_bucket of it, the planner leaves out chunks.
                  CASE WHEN p.community OR p.width <= interval '5 minutes' THEN p.bin ELSE p.buckets END,
                  CASE WHEN p.community OR p.width > interval '5 minutes' THEN p.buckets ELSE 'bucket_5m' END,
                  p.open, p.range, p.close, p.sums, p.priced, p.ids) AS by_event,
           format('SELECT %s AS bucket, date_bin(interval %L, %s, timestamptz %L) AS bucket_5m, symbol, %s, %s, %s, %s,
                          sum(price * quantity) / nullif(%s, 0) AS vwap, %s
                     FROM market_data.btc_ticks GROUP BY 1, 2, symbol',
                  p.bin, '5 minutes', p.bin, '1970-01-01 00:00:00+00', p.open, p.range, p.close, p.sums, p.priced,
                  p.ids) AS by_trade_time,
           format('SELECT %s AS bucket, %s AS bucket_5m, symbol, %s, %s, %s, %s, %s AS priced_volume, %s,
                          min(%s) FILTER (WHERE price IS NOT NULL) AS open_place,
                          max(%s) FILTER (WHERE price IS NOT NULL) AS close_place
                     FROM market_data.btc_ticks GROUP BY 1, 2, symbol',
                  p.bin, p.buckets, p.open, p.range, p.close, p.sums, p.priced, p.ids, p.place, p.place) AS of_parts,
           format('SELECT bucket, date_bin(interval %L, bucket, timestamptz %L) AS bucket_5m, symbol,
                          %s.first(open, open_place) FILTER (WHERE open_place IS NOT NULL) AS open,
                          max(high) AS high, min(low) AS low,
                          %s.last(close, close_place) FILTER (WHERE close_place IS NOT NULL) AS close,
                          sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades)::bigint AS trades,
                          sum(taker_buy_volume) AS taker_buy_volume,
                          sum(taker_buy_quote_volume) AS taker_buy_quote_volume,
                          sum(quote_volume) / nullif(sum(priced_volume), 0) AS vwap,
                          min(first_trade_id) AS first_trade_id, max(last_trade_id) AS last_trade_id
                     FROM market_data.%I GROUP BY bucket, symbol',
                  '5 minutes', '1970-01-01 00:00:00+00', p.timescale, p.timescale, coalesce(p.aggregate, ''))
           AS together
      FROM parts p
), statements AS (
    -- A load that has begun without the aggregate would not tell it what it stores, so that the aggregate is made
    -- between loads. TimescaleDB itself does not wait for running INSERTs.
    SELECT 0 AS turn, 'LOCK TABLE ONLY market_data.btc_ticks IN SHARE ROW EXCLUSIVE MODE' AS sql
      FROM selected s WHERE s.community
    UNION ALL
    SELECT 1, format('CREATE MATERIALIZED VIEW market_data.%I WITH (timescaledb.continuous,
                                     timescaledb.materialized_only = false, timescaledb.create_group_indexes = false)
                              AS %s WITH NO DATA',
                             s.aggregate, CASE WHEN s.by_trade THEN s.of_parts ELSE s.by_event END)
      FROM selected s WHERE s.community
    UNION ALL
    SELECT 2, format('SELECT %s.set_chunk_time_interval(format(%L, a.materialization_hypertable_schema,
                                     a.materialization_hypertable_name)::regclass, interval %L)
                        FROM timescaledb_information.continuous_aggregates a
                       WHERE (a.view_schema, a.view_name) = (%L, %L)',
                     s.timescale, '%I.%I', $4::interval, 'market_data', s.aggregate)
      FROM selected s WHERE s.community
    UNION ALL
    SELECT 3, format('CREATE INDEX ON market_data.%I (symbol, bucket DESC)', s.aggregate)
      FROM selected s WHERE s.community
    UNION ALL
    SELECT 4, format('CREATE VIEW market_data.%I AS %s', s.name,
                     CASE WHEN s.community THEN s.together WHEN s.by_trade THEN s.by_trade_time ELSE s.by_event END)
      FROM selected s WHERE s.by_trade OR NOT s.community
    UNION ALL
    SELECT 5, format('GRANT SELECT ON market_data.%I TO btc_ingest_reader', r.name)
      FROM selected s CROSS JOIN LATERAL (VALUES (s.name), (s.aggregate)) AS r (name) WHERE r.name IS NOT NULL
    UNION ALL
    SELECT 6, format('COMMENT ON VIEW market_data.%I IS %L', s.name,
                     format('Candles of %s by %s; btc_ingest.candles lists them', s.width, $3))
      FROM selected s
    UNION ALL
    SELECT 7, format('COMMENT ON COLUMN market_data.%I.%I IS %L', s.name, c.name, c.description)
      FROM selected s CROSS JOIN (VALUES
        ('bucket', 'Start of the candle'),
        ('bucket_5m', 'Bucket in which the candle begins. A condition on it makes queries fast'),
        ('symbol', 'Symbol as stored'),
        ('open', 'Price of the first trade by time and trade id'),
        ('high', 'Highest price'),
        ('low', 'Lowest price'),
        ('close', 'Price of the last trade by time and trade id'),
        ('volume', 'Sum of quantity'),
        ('quote_volume', 'Sum of price * quantity'),
        ('trades', 'Number of trades'),
        ('taker_buy_volume', 'Sum of quantity of the trades whose taker bought'),
        ('taker_buy_quote_volume', 'Sum of price * quantity of these trades'),
        ('vwap', 'quote_volume / volume, without trades that have no price'),
        ('first_trade_id', 'Lowest trade id'),
        ('last_trade_id', 'Highest trade id')) AS c (name, description)
)
SELECT json_build_object('aggregate', (SELECT n.aggregate FROM named n),
                         'statements', (SELECT json_agg(s.sql ORDER BY s.turn) FROM statements s))::text
