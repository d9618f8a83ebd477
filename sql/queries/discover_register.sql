-- Registers one batch of a listing. New keys are pending, and so is an object whose etag differs from the known one.
-- It leaves and counts objects that another session holds, because it must not wait; the next listing registers them.
-- $1: uris, $2: etags (empty: the store names none), $3: sizes, $4 and $5: spans, $6: metadata, $7: prefix,
-- watched or not.
WITH listed AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::jsonb[])
        AS l (uri, etag, size, span_from, span_to, metadata)
), watched AS MATERIALIZED (
    SELECT $7::text AS prefix FROM ingestion.stream_offsets WHERE source = 'watch:' || $7 AND state ? 'options'
), known AS MATERIALIZED (
    SELECT o.s3_uri, o.generation, o.backfill IS NOT NULL AND o.status IN ('pending', 'failed') AS left_over,
           CASE
               -- skip() was called for it: every other reason to skip has a SQLSTATE.
               WHEN o.status = 'skipped' AND o.last_sqlstate IS NULL THEN NULL
               -- It belongs to an unfinished backfill, which loads it.
               WHEN b.id IS NOT NULL AND o.status <> 'loaded' THEN NULL
               -- A cancelled backfill has left it.
               WHEN o.backfill IS NOT NULL AND o.status IN ('pending', 'failed') THEN 'load'
               WHEN l.etag = '' OR (o.loaded_at IS NOT NULL AND o.etag = l.etag) OR o.listed_etag = l.etag THEN NULL
               WHEN o.status = 'loaded' OR o.listed_etag IS NOT NULL THEN 'load'
               -- From here on, no version is known. A load takes the version that it finds, so pending objects need no
               -- change.
               WHEN o.status = 'quarantined' THEN 'load'
               WHEN o.status = 'skipped' THEN 'note'
           END AS verdict
      FROM listed l
      JOIN ingestion.objects o ON o.s3_uri = l.uri
      LEFT JOIN ingestion.backfills b ON b.id = o.backfill AND b.status IN ('pending', 'listing', 'loading', 'stopped')
), held AS MATERIALIZED (
    -- The next listing judges an object that has changed since it was judged here.
    SELECT o.s3_uri, k.left_over, k.verdict
      FROM known k JOIN ingestion.objects o ON o.s3_uri = k.s3_uri AND o.generation = k.generation
     WHERE k.verdict IS NOT NULL
       FOR UPDATE OF o SKIP LOCKED
), changed AS (
    UPDATE ingestion.objects o
       SET status = 'pending', backfill = NULL, listed_etag = nullif(l.etag, ''), listed_size = l.size, rows_staged = 0,
           span_from = CASE WHEN isfinite(l.span_from) THEN l.span_from ELSE o.span_from END,
           span_to = CASE WHEN isfinite(l.span_to) THEN l.span_to ELSE o.span_to END,
           -- These keys described the earlier version.
           metadata = (o.metadata - '{sha256, rows, object_size_bytes}'::text[]) || l.metadata,
           asset = coalesce(l.metadata ->> 'symbol', o.asset),
           attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, last_sqlstate = NULL, last_error = NULL,
           queued_at = clock_timestamp(), watch = (SELECT w.prefix FROM watched w), generation = o.generation + 1
      FROM held h JOIN listed l ON l.uri = h.s3_uri
     WHERE o.s3_uri = h.s3_uri AND h.verdict = 'load'
    RETURNING h.left_over
), noted AS (
    UPDATE ingestion.objects o SET listed_etag = l.etag, listed_size = l.size
      FROM held h JOIN listed l ON l.uri = h.s3_uri
     WHERE o.s3_uri = h.s3_uri AND h.verdict = 'note'
), made AS (
    INSERT INTO ingestion.objects (s3_uri, listed_etag, listed_size, span_from, span_to, metadata, asset, watch)
    SELECT uri, nullif(etag, ''), size, span_from, span_to, metadata, metadata ->> 'symbol',
           (SELECT w.prefix FROM watched w)
      FROM listed
     WHERE uri NOT IN (SELECT s3_uri FROM known)
    ON CONFLICT (s3_uri) DO NOTHING
    RETURNING 1
)
SELECT json_build_object(
    'registered_new', (SELECT count(*) FROM made) + (SELECT count(*) FROM changed WHERE left_over),
    'changed', (SELECT count(*) FROM changed WHERE NOT left_over),
    'skipped', (SELECT count(*) FROM known WHERE verdict IS NOT NULL) - (SELECT count(*) FROM held)
)::text
