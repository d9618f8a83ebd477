-- How many vectors have no row in the target that they are to be linked to, and the first of them; null if there are
-- none. {target} is the target, {matches} says which of its rows belongs to the vector e. A row that an aggregate will
-- have after its next refresh counts: {aggregate} is true for one.
SELECT CASE WHEN count(*) > 0
            THEN json_build_object('count', count(*), 'first', min(array_to_string(ARRAY[
                     to_char(e.bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), e.asset], ' '))) END::text
  FROM signals.btc_embeddings e
 WHERE NOT EXISTS (SELECT FROM {target} t WHERE {matches})
   AND NOT ({aggregate} AND EXISTS (SELECT FROM market_data.btc_ticks k
                                     WHERE k.bucket_5m = e.bucket AND k.symbol = e.asset))
