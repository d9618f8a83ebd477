-- Those of the uris in $1 that nobody else has claimed; the claims are this session's until it gives them back or ends.
SELECT coalesce(json_agg(u.uri ORDER BY u.place), '[]')::text
  FROM unnest($1::text[]) WITH ORDINALITY AS u (uri, place)
 WHERE pg_try_advisory_lock(hashtextextended('btc_ingest.claim:' || u.uri, 0))
