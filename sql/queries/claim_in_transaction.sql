-- The first of the uris in $1 that nobody else has claimed, claimed until the end of the transaction.
SELECT to_json(u.uri)::text
  FROM unnest($1::text[]) AS u (uri)
 WHERE pg_try_advisory_xact_lock(hashtextextended('btc_ingest.claim:' || u.uri, 0))
 LIMIT 1
