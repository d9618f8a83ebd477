-- Whether resources have run out at an object before, since it was queued, and other objects were loaded since then.
-- TK034 is ours: a transaction that has used up its locks. $1: uri.
SELECT to_json(EXISTS (
    SELECT FROM ingestion.load_history h
     WHERE h.started_at > (SELECT min(f.started_at) FROM ingestion.load_history f
                              JOIN ingestion.objects o ON o.s3_uri = f.s3_uri
                            WHERE f.s3_uri = $1 AND f.outcome = 'failed' AND f.started_at >= o.queued_at
                              AND (f.sqlstate ^@ '53' OR f.sqlstate = 'TK034') AND f.sqlstate <> '53100')
       AND h.outcome IN ('loaded', 'already loaded') AND h.s3_uri <> $1))::text
