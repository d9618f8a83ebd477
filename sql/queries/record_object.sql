-- Records a load in the object's row. $1: uri, $2: etag, $3: size, $4 to $9: rows read, inserted, duplicate,
-- conflicting, replaced and rejected, $10: metadata, $11: options, $12: generation of the object when the load began,
-- $13: 'replace' if the load has replaced what was stored, else 'keep'.
INSERT INTO ingestion.objects AS o (s3_uri, etag, size_bytes, status, rows_read, rows_inserted, rows_duplicate,
                                    rows_conflicting, rows_replaced, rows_rejected, metadata, options, loaded_at,
                                    on_conflict)
VALUES ($1, $2, $3, 'loaded', $4, $5, $6, $7, $8, $9, $10, $11, now(), $13)
ON CONFLICT (s3_uri) DO UPDATE
   SET etag = excluded.etag, size_bytes = excluded.size_bytes,
       -- With another generation, the object was registered anew during the load, and stays pending.
       status = CASE WHEN o.generation = $12 THEN 'loaded' ELSE o.status END,
       attempt_started_at = CASE WHEN o.generation = $12 THEN o.attempt_started_at END,
       rows_read = excluded.rows_read, rows_inserted = excluded.rows_inserted,
       rows_duplicate = excluded.rows_duplicate, rows_conflicting = excluded.rows_conflicting,
       rows_replaced = excluded.rows_replaced, rows_rejected = excluded.rows_rejected,
       -- These keys described this version, and must not be checked for the next.
       metadata = (o.metadata - '{sha256, rows, object_size_bytes}'::text[]) || excluded.metadata,
       options = excluded.options,
       -- A load that replaces puts the object above all others. No other load changes the place of an object that has
       -- one, so that a correction stays one when it is loaded again. excluded holds a new place.
       on_conflict = CASE WHEN $13 = 'replace' THEN 'replace' ELSE o.on_conflict END,
       load_order = CASE WHEN $13 = 'replace' OR (o.loaded_at IS NULL AND o.rows_staged = 0)
                         THEN excluded.load_order ELSE o.load_order END,
       reload = false,
       listed_etag = NULL, listed_size = NULL, rows_staged = 0,
       last_sqlstate = NULL, last_error = NULL, next_attempt_at = NULL,
       generation = o.generation + 1, loaded_at = excluded.loaded_at
