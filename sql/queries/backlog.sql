-- How much waits for loaders, counted up to $1 each: objects, and registry rows that no queue knows of yet.
SELECT ((SELECT count(*) FROM (SELECT FROM ingestion.objects o
                                WHERE o.backfill IS NULL AND o.status = 'pending' LIMIT $1) AS queued)
      + (SELECT count(*) FROM (SELECT FROM landing.raw_blobs_5m b
                                WHERE b.status = 'pending' AND b.queued_at IS NULL LIMIT $1) AS registered))::text
