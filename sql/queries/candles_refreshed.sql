-- Records that candles are refreshed. A range that was wanted meanwhile stays wanted. $1: name, $2: when the refresh
-- began, $3 and $4: the range that was wanted then, as texts.
UPDATE ingestion.candles c
   SET refreshed_at = $2, last_error = NULL,
       wanted_from = CASE WHEN done.whole THEN NULL ELSE c.wanted_from END,
       wanted_to = CASE WHEN done.whole THEN NULL ELSE c.wanted_to END
  FROM (SELECT (i.wanted_from::text, i.wanted_to::text) IS NOT DISTINCT FROM ($3::text, $4::text) AS whole
          FROM ingestion.candles i WHERE i.name = $1) AS done
 WHERE c.name = $1
