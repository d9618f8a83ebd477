-- Enqueues one batch of a listing for a backfill. An object that is loaded at the listed etag stays loaded, a live
-- object stays live, and an object that skip() was called for stays skipped. If the backfill is forced, loaded objects
-- are loaded again. $1: backfill, $2: uris, $3: etags (empty: the store names none), $4: sizes, $5 and $6: spans, $7:
-- metadata from the keys, $8: state of the listing, $9: number of keys that were passed over.
WITH this AS (
    SELECT force FROM ingestion.backfills WHERE id = $1
), listed AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::jsonb[])
        AS l (uri, etag, size, span_from, span_to, metadata)
    -- Prefixes may overlap: an object that another prefix of this backfill has enqueued counts once.
     WHERE NOT EXISTS (SELECT FROM ingestion.objects o
                        WHERE o.s3_uri = l.uri AND o.backfill = $1 AND o.status <> 'loaded')
), known AS (
    SELECT l.uri FROM listed l JOIN ingestion.objects o ON o.s3_uri = l.uri CROSS JOIN this
     WHERE (o.status = 'loaded' AND o.etag = l.etag
            -- What this backfill has loaded, it need not load again.
            AND (NOT this.force OR o.backfill = $1)) OR o.status = 'skipped'
        OR (o.status = 'pending' AND o.backfill IS NULL)
), written AS (
    INSERT INTO ingestion.objects AS o (s3_uri, listed_etag, listed_size, backfill, span_from, span_to, metadata,
                                        asset)
    SELECT uri, nullif(etag, ''), size, $1, span_from, span_to, metadata, metadata ->> 'symbol' FROM listed
     WHERE uri NOT IN (SELECT uri FROM known)
    ON CONFLICT (s3_uri) DO UPDATE
       SET status = 'pending', backfill = excluded.backfill, span_from = excluded.span_from, span_to = excluded.span_to,
           rows_staged = CASE WHEN o.listed_etag = excluded.listed_etag AND NOT (SELECT force FROM this)
                              THEN o.rows_staged ELSE 0 END,
           reload = o.reload OR (o.loaded_at IS NOT NULL AND (SELECT force FROM this)),
           listed_etag = excluded.listed_etag, listed_size = excluded.listed_size,
           metadata = o.metadata || excluded.metadata, asset = coalesce(excluded.asset, o.asset),
           attempts = 0, attempt_started_at = NULL, next_attempt_at = NULL, last_sqlstate = NULL, last_error = NULL,
           queued_at = clock_timestamp(), generation = o.generation + 1
    RETURNING listed_size
), counted AS (
    UPDATE ingestion.backfills
       SET objects_total = coalesce(objects_total, 0) + (SELECT count(*) FROM listed),
           objects_known = objects_known + (SELECT count(*) FROM known),
           sqlstate = NULL, message = NULL,
           bytes_total = bytes_total + (SELECT coalesce(sum(listed_size), 0) FROM written),
           state = state || $8 || jsonb_build_object('passed_over', coalesce((state ->> 'passed_over')::bigint, 0) + $9)
     WHERE id = $1
)
SELECT
