SELECT count(pg_advisory_unlock(hashtextextended('btc_ingest.claim:' || u, 0)))::text FROM unnest($1::text[]) AS u
