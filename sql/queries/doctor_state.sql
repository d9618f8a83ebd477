-- What the ingestion's own tables say about backfills that have stopped or wait for a listing, watches whose last
-- listing failed or found keys of which none fits, and loads since $1 with rows that conflicted or were rejected. $2:
-- loads to look at.
SELECT json_build_object(
    'backfills', (SELECT coalesce(json_agg(json_build_object(
                             'id', b.id, 'message', coalesce(b.message, 'unknown'),
                             'sqlstate', coalesce(b.sqlstate, '?'),
                             'call', format('CALL btc_ingest.backfill(%L::text[], %L, %L, parallel => %s, mode => %L);',
                                            b.prefixes, b.from_time, b.to_time, b.parallel, b.mode))
                         ORDER BY b.id), '[]')
                    FROM ingestion.backfills b WHERE b.status = 'stopped'),
    'listings', (SELECT coalesce(json_agg(json_build_object(
                            'id', b.id, 'message', coalesce(b.message, 'unknown'), 'sqlstate', b.sqlstate,
                            'call', format('SELECT * FROM btc_ingest.backfill_status(%s);', b.id))
                        ORDER BY b.id), '[]')
                   FROM ingestion.backfills b WHERE b.status = 'listing' AND b.sqlstate LIKE 'S3%'),
    'watches', (SELECT coalesce(json_agg(json_build_object(
                           'prefix', substr(w.source, 7),
                           'sqlstate', w.state #>> '{last, problem, sqlstate}',
                           'message', w.state #>> '{last, problem, message}',
                           'again', format('SELECT * FROM btc_ingest.discover(%L);', substr(w.source, 7)))
                       ORDER BY w.source), '[]')
                  FROM ingestion.stream_offsets w
                 WHERE starts_with(w.source, 'watch:') AND w.state ? 'options'
                   AND coalesce((w.state #>> '{options, enabled}')::boolean, true)
                   AND w.state #> '{last, problem}' IS NOT NULL),
    'vain', (SELECT coalesce(json_agg(json_build_object(
                        'prefix', substr(w.source, 7), 'keys', (w.state #>> '{last, counts, passed_over}')::bigint,
                        'end', format('SELECT btc_ingest.unwatch(%L);', substr(w.source, 7)))
                    ORDER BY w.source), '[]')
               FROM ingestion.stream_offsets w
              WHERE starts_with(w.source, 'watch:') AND w.state ? 'options'
                AND coalesce((w.state #>> '{options, enabled}')::boolean, true)
                AND w.state #> '{last, problem}' IS NULL
                AND (w.state #>> '{last, counts, passed_over}')::bigint > 0
                AND w.state #> '{last, counts, passed_over}' = w.state #> '{last, counts, listed}'
                -- Where objects were found, a listing continues behind them.
                AND coalesce(w.state -> 'cursors', '{}') IN ('{}', 'null')),
    'differing', (SELECT json_build_object(
                             'conflicts', coalesce(sum(h.rows_conflicting), 0)::bigint,
                             'rejects', coalesce(sum(h.rows_rejected), 0)::bigint,
                             'loads', count(*), 'since', min(h.started_at)::text, 'example', min(h.s3_uri))
                    FROM (SELECT rows_conflicting, rows_rejected, started_at, s3_uri
                            FROM ingestion.load_history
                           WHERE (rows_conflicting > 0 OR rows_rejected > 0) 
                             AND started_at >= coalesce(now() - $1::interval, '-infinity')
                           ORDER BY started_at DESC LIMIT $2) AS h)
)::text
