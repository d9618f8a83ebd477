-- Records a load in the history. $1: uri, $2: etag, $3: outcome, $4: bytes, $5 to $10: rows read, inserted,
-- duplicate, conflicting, replaced and rejected, $11 to $14: milliseconds of fetching, decoding, inserting and in
-- all, $15: start.
INSERT INTO ingestion.load_history (s3_uri, etag, outcome, bytes, rows_read, rows_inserted, rows_duplicate,
                                    rows_conflicting, rows_replaced, rows_rejected, fetch_ms, decode_ms, insert_ms,
                                    elapsed_ms, started_at, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, clock_timestamp())
