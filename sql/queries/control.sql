-- What every process asks before it takes work: whether pause_ingest() is in force, and which prefixes that wait for S3
-- are to be looked at now.
SELECT json_build_object(
    'paused', c.paused,
    'probes', (SELECT coalesce(json_agg(json_build_object('prefix', t.prefix, 'probes', t.probes)
                                        ORDER BY t.next_probe_at), '[]')
                 FROM ingestion.outages t
                WHERE t.ended_at IS NULL AND t.next_probe_at <= clock_timestamp())
)::text
  FROM ingestion.control c
