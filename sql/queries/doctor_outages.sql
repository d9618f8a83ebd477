-- Prefixes whose objects wait until S3 answers.
SELECT coalesce(json_agg(json_build_object('prefix', t.prefix, 'since', t.since::text, 'sqlstate', t.sqlstate,
                                           'message', t.message, 'probes', t.probes, 'next', t.next_probe_at::text)
                         ORDER BY t.since), '[]')::text
  FROM ingestion.outages t
 WHERE t.ended_at IS NULL
