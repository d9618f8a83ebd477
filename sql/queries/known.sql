-- What is registered of an object. The size in a registry row that was never loaded is the claim of its producer; the
-- size in a loaded or empty row is ours. A negative one counts as 0, which fits no object. listed_etag is a
-- version that was listed and has not been loaded since.
-- Metadata is text, because one value that cannot be read must not hide the others; null stands for a value that is far
-- too long. watch_options are the present ones of the watch that found the object, or the last ones if it has
-- ended. $1: uri.
SELECT json_build_object(
    'object', (SELECT row_to_json(o) FROM (
        SELECT CASE WHEN loaded_at IS NOT NULL THEN etag END AS etag, listed_etag, listed_size, rows_staged, reload,
               coalesce(rows_rejected, 0) > 0 AS had_bad_rows, metadata::text AS metadata, options::text AS options,
               generation, watch,
               (SELECT coalesce(w.state -> 'options', w.state -> 'ended_options')::text
                  FROM ingestion.stream_offsets w WHERE w.source = 'watch:' || watch) AS watch_options
          FROM ingestion.objects WHERE s3_uri = $1) AS o),
    'registry', (SELECT json_agg(json_build_object(
                            'version', xmin::text,
                            -- These keys described the version that is loaded, and must not be checked for the next.
                            'metadata', CASE WHEN metadata IS NULL THEN 'null'
                                             WHEN pg_column_size(metadata) > 131072 THEN NULL
                                             WHEN status IN ('loaded', 'empty') AND jsonb_typeof(metadata) = 'object'
                                             THEN (metadata - '{sha256, rows, object_size_bytes}'::text[])::text
                                             ELSE metadata::text END,
                            'pending_size', CASE WHEN status IN ('loaded', 'empty') THEN NULL
                                                 WHEN object_size_bytes < 0 THEN 0 ELSE object_size_bytes END)
                        ORDER BY bucket_5m, asset)
                   FROM landing.raw_blobs_5m WHERE s3_uri = $1)
)::text
