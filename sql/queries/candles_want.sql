-- Notes a range that all continuous aggregates of candles are to compute again. $1 and $2: start and end (exclusive).
UPDATE ingestion.candles
   SET wanted_from = least(wanted_from, $1), wanted_to = greatest(wanted_to, $2), last_error = NULL
 WHERE aggregate IS NOT NULL
RETURNING 1
