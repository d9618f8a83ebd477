-- Publishes the staged candles of a unit. $1: token, $2: parts that count, or null for all.
INSERT INTO ops.slice_candles (kind, asset, minute, open, high, low, close, volume, amount, taker_buy_volume, ticks,
                               unit)
SELECT u.kind, u.asset, c.minute, c.open, c.high, c.low, c.close, c.volume, c.amount, c.taker_buy_volume, c.ticks, u.id
  FROM ingestion.work_units u
  JOIN ingestion.staged_candles c ON c.token = u.token
 WHERE u.token = $1 AND ($2::uuid[] IS NULL OR c.part = ANY ($2))
