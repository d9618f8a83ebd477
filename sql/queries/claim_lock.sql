-- The first $2 of the uris in $1 that nobody else has claimed; the claims are this session's until it gives them back or ends.
-- The limit stands outside of what takes the locks: it stops at the last one that is wanted.
SELECT coalesce(json_agg(c.uri ORDER BY c.place), '[]')::text
  FROM (
    SELECT u.uri, u.place
      FROM unnest($1::text[]) WITH ORDINALITY AS u (uri, place)
     WHERE pg_try_advisory_lock(hashtextextended('btc_ingest.claim:' || u.uri, 0))
     LIMIT $2
  ) AS c
