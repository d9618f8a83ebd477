-- Stores rejected rows of an object. $1: uri, $2: etag, $3: row numbers, $4: reasons, $5: rows.
INSERT INTO landing.rejected_ticks (s3_uri, etag, row_number, reason, row_data)
SELECT $1, $2, r.*
  FROM unnest($3::bigint[], $4::text[], $5::jsonb[]) AS r
