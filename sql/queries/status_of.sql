-- The status of an object: "registered" if no worker or sweep has enqueued its registry row yet, null if nothing is
-- known by this uri. $1: uri.
SELECT to_json(coalesce((SELECT o.status FROM ingestion.objects o WHERE o.s3_uri = $1),
                        (SELECT 'registered' FROM landing.raw_blobs_5m b WHERE b.s3_uri = $1 LIMIT 1)))::text
