INSERT INTO ingestion.objects AS o (s3_uri, metadata) VALUES ($1, $2)
ON CONFLICT (s3_uri) DO UPDATE
   SET status = 'pending', metadata = o.metadata || excluded.metadata, attempts = 0, next_attempt_at = NULL,
       generation = o.generation + 1
