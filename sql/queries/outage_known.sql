-- What tells whether a fault is an object's own or that of its prefix. others_loaded: another object of the prefix was
-- loaded since an attempt at this one failed for the first time since it was queued. over: an outage of the prefix has
-- ended since the object was asked for. $1: uri, $2: prefix (null: none), $3: milliseconds since it was asked for.
SELECT json_build_object(
    'outage', EXISTS (SELECT FROM ingestion.outages t WHERE t.prefix = $2 AND t.ended_at IS NULL),
    'over', EXISTS (SELECT FROM ingestion.outages t
                     WHERE t.prefix = $2 AND t.ended_at > clock_timestamp() - $3 * interval '1 millisecond'),
    'others_loaded', EXISTS (
        SELECT FROM ingestion.load_history h
         WHERE h.started_at > (SELECT min(f.started_at) FROM ingestion.load_history f
                                  JOIN ingestion.objects o ON o.s3_uri = f.s3_uri
                                WHERE f.s3_uri = $1 AND f.outcome = 'failed' AND f.started_at >= o.queued_at)
           AND h.outcome IN ('loaded', 'already loaded') AND h.s3_uri ^@ $2 AND h.s3_uri <> $1)
)::text
