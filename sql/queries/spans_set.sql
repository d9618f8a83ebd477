-- Writes spans that were read from footers. An object outside the backfill's time range is restored to its earlier
-- state, or deleted if it was not known before. $1: backfill, $2: uris, $3 and $4: spans, $5: whether each belongs to
-- the backfill.
WITH found AS (
    SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::boolean[])
        AS f (uri, span_from, span_to, wanted)
), kept AS (
    UPDATE ingestion.objects o
       SET span_from = f.span_from, span_to = f.span_to,
           status = CASE WHEN f.wanted OR o.loaded_at IS NULL THEN o.status ELSE 'loaded' END,
           reload = o.reload AND f.wanted
      FROM found f
     WHERE o.s3_uri = f.uri AND o.backfill = $1 AND (f.wanted OR o.loaded_at IS NOT NULL)
), dropped AS (
    DELETE FROM ingestion.objects o USING found f
     WHERE o.s3_uri = f.uri AND o.backfill = $1 AND o.loaded_at IS NULL AND NOT f.wanted
), counted AS (
    UPDATE ingestion.backfills b
       SET objects_total = b.objects_total - n.others,
           bytes_total = b.bytes_total - n.bytes,
           state = b.state || jsonb_build_object(
               'passed_over', coalesce((b.state ->> 'passed_over')::bigint, 0) + n.others)
      FROM (SELECT count(*) AS others, coalesce(sum(o.listed_size), 0) AS bytes
              FROM found f JOIN ingestion.objects o ON o.s3_uri = f.uri WHERE NOT f.wanted) AS n
     WHERE b.id = $1 AND n.others > 0
)
SELECT json_build_object('found', count(*))::text FROM found
