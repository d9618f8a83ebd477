-- What is to be done so that TimescaleDB's jobs are those that ops.retention_jobs wants: the statements in their order,
-- each with what is wrong without it; and why a row cannot be applied. A job of ours has the name of its row in its
-- config, so that no other job is ever deleted. A job that a backfill has paused is as it should be. For the owner of
-- the tables. $1: names of the enabled rows, which have been checked, $2: whether workers drop chunks, so that no job
-- is to do it.
WITH given AS (
    SELECT quote_ident(n.nspname) AS timescale, o.oid AS owner, o.rolname, o.rolsuper, o.rolcanlogin,
           EXISTS (SELECT FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
                    WHERE s.nspname = 'btc_ingest' AND p.proname = 'run_retention'
                      AND has_schema_privilege(o.oid, s.oid, 'USAGE')
                      AND has_function_privilege(o.oid, p.oid, 'EXECUTE'))
               AS may_run
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
      JOIN pg_class t ON t.oid = 'market_data.btc_ticks'::regclass JOIN pg_roles o ON o.oid = t.relowner
     WHERE e.extname = 'timescaledb'
), relations AS (
    SELECT h.id, c.oid, 'TABLE' AS kind, c.relowner, h.schema_name AS sets_schema, h.table_name AS sets_name
      FROM _timescaledb_catalog.hypertable h JOIN pg_namespace n ON n.nspname = h.schema_name
      JOIN pg_class c ON (c.relnamespace, c.relname) = (n.oid, h.table_name)
    UNION ALL
    SELECT a.mat_hypertable_id, c.oid, 'MATERIALIZED VIEW', c.relowner, h.schema_name, h.table_name
      FROM _timescaledb_catalog.continuous_agg a JOIN _timescaledb_catalog.hypertable h ON h.id = a.mat_hypertable_id
      JOIN pg_namespace n ON n.nspname = a.user_view_schema
      JOIN pg_class c ON (c.relnamespace, c.relname) = (n.oid, a.user_view_name)
), wanted AS (
    SELECT r.job_name, r.hypertable, (r.policy ->> 'compress_after')::interval AS compress_after,
           (r.policy ->> 'drop_after')::interval AS drop_after, r.policy ->> 'segment_by' AS segment_by,
           r.policy ->> 'order_by' AS order_by, (r.policy ->> 'schedule_interval')::interval AS every,
           (r.policy ->> 'max_runtime')::interval AS max_runtime, to_regclass(r.hypertable)::oid AS oid
      FROM ops.retention_jobs r WHERE r.job_name = ANY ($1)
), compressed AS (
    SELECT w.*, x.id, x.kind, x.relowner, x.sets_schema, x.sets_name,
           jsonb_build_object('hypertable_id', x.id, 'compress_after', w.compress_after, 'btc_ingest', w.job_name)
               AS config,
           (SELECT string_agg(replace(lower(trim(p)), '"', ''), ',' ORDER BY place)
              FROM regexp_split_to_table(w.segment_by, ',') WITH ORDINALITY AS s (p, place)) AS segment,
           -- As TimescaleDB's catalog has it: NULLS LAST and ascending unless said otherwise.
           (SELECT string_agg(concat_ws(' ', m[1], CASE WHEN lower(m[2]) = 'desc' THEN 'desc' ELSE 'asc' END,
                                        CASE WHEN lower(m[3]) = 'first' OR (m[3] IS NULL AND lower(m[2]) = 'desc')
                                             THEN 'first' ELSE 'last' END), ',' ORDER BY place)
              FROM regexp_split_to_table(w.order_by, ',') WITH ORDINALITY AS s (p, place)
             CROSS JOIN LATERAL regexp_match(p, '^\s*"?(\w+)"?(?:\s+(asc|desc))?(?:\s+nulls\s+(first|last))?\s*$', 'i')
                     AS m) AS ordered
      FROM wanted w JOIN relations x ON x.oid = w.oid WHERE w.compress_after IS NOT NULL
), settings AS (
    SELECT s.hypertable_schema, s.hypertable_name,
           string_agg(s.attname, ',' ORDER BY s.segmentby_column_index)
               FILTER (WHERE s.segmentby_column_index IS NOT NULL) AS segment,
           string_agg(concat_ws(' ', s.attname, CASE WHEN s.orderby_asc THEN 'asc' ELSE 'desc' END,
                                CASE WHEN s.orderby_nullsfirst THEN 'first' ELSE 'last' END), ','
                      ORDER BY s.orderby_column_index) FILTER (WHERE s.orderby_column_index IS NOT NULL) AS ordered
      FROM timescaledb_information.compression_settings s GROUP BY 1, 2
), jobs AS (
    SELECT j.job_id, j.proc_name, j.schedule_interval, j.max_runtime, j.scheduled, j.config,
           j.config ->> 'btc_ingest' AS ours, (j.config ->> 'hypertable_id')::integer AS id,
           EXISTS (SELECT FROM ingestion.backfills b
                    WHERE b.status IN ('pending', 'listing', 'loading')
                      AND b.state -> 'paused_jobs' @> to_jsonb(j.job_id)) AS paused
      FROM timescaledb_information.jobs j
     WHERE (j.proc_name = 'policy_compression' AND j.config ? 'compress_after')
        OR (j.proc_schema, j.proc_name) = ('btc_ingest', 'run_retention')
), problems AS (
    SELECT w.job_name, CASE
               WHEN x.oid IS NULL THEN format('%s is no hypertable', w.hypertable)
               WHEN x.relowner <> g.owner
                    AND NOT (g.rolsuper AND (SELECT p.rolsuper FROM pg_roles p WHERE p.oid = x.relowner))
                   THEN format('%s does not belong to the owner of the tables', w.hypertable)
               WHEN EXISTS (SELECT FROM wanted o WHERE o.oid = w.oid AND o.job_name < w.job_name
                               AND ((o.drop_after IS NULL) = (w.drop_after IS NULL)
                                    OR (o.compress_after IS NULL) = (w.compress_after IS NULL)))
                   THEN format('another row wants the same for %s', w.hypertable)
               WHEN NOT g.rolcanlogin
                   THEN format('%I may not log in, as the owner of a job must: ALTER ROLE %I LOGIN', g.rolname,
                               g.rolname)
               WHEN w.drop_after IS NOT NULL AND NOT $2 AND NOT g.may_run
                   THEN format('%I may not run the job: GRANT btc_ingest_admin TO %I', g.rolname, g.rolname)
           END AS why
      FROM wanted w CROSS JOIN given g LEFT JOIN relations x ON x.oid = w.oid
), steps AS (
    SELECT c.job_name, 1 AS turn,
           format('%s is to be compressed%s%s', c.hypertable, ' by ' || c.segment_by, ' in the order ' || c.order_by)
               AS what,
           format('ALTER %s %s SET (timescaledb.compress = true%s%s)', c.kind, c.oid::regclass,
                  format(', timescaledb.compress_segmentby = %L', c.segment_by),
                  CASE WHEN c.order_by IS NOT NULL THEN format(', timescaledb.compress_orderby = %L', c.order_by) END)
               AS sql
      FROM compressed c
      LEFT JOIN settings s ON (s.hypertable_schema, s.hypertable_name) = (c.sets_schema, c.sets_name)
     WHERE s.hypertable_name IS NULL OR s.segment IS DISTINCT FROM coalesce(c.segment, s.segment)
        OR starts_with(s.ordered || ',', c.ordered || ',') IS FALSE
    UNION ALL
    SELECT c.job_name, 2, format('no job compresses %s after %s', c.hypertable, c.compress_after),
           format('SELECT %s.alter_job(%s.add_compression_policy(%L::regclass, interval %L), schedule_interval => %L,
                          max_runtime => %L, config => %L)', g.timescale, g.timescale, c.oid::regclass,
                  c.compress_after, coalesce(c.every, interval '12 hours'), coalesce(c.max_runtime, interval '0'),
                  c.config)
      FROM compressed c CROSS JOIN given g
     WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.proc_name = 'policy_compression' AND j.id = c.id)
    UNION ALL
    SELECT c.job_name, 2,
           format('job %s on %s %s', j.job_id, c.hypertable,
                  CASE WHEN j.ours IS DISTINCT FROM c.job_name THEN 'is a policy of its own, beside the row'
                       WHEN NOT j.scheduled THEN 'is not scheduled'
                       ELSE 'was changed: it compresses after ' || (j.config ->> 'compress_after') || ' every '
                            || j.schedule_interval END),
           format('SELECT %s.alter_job(%s, scheduled => %L, schedule_interval => %L, max_runtime => %L, config => %L)',
                  g.timescale, j.job_id, j.scheduled OR NOT j.paused, coalesce(c.every, interval '12 hours'),
                  coalesce(c.max_runtime, interval '0'), c.config)
      FROM compressed c CROSS JOIN given g JOIN jobs j ON j.proc_name = 'policy_compression' AND j.id = c.id
     WHERE j.ours IS DISTINCT FROM c.job_name OR (j.config ->> 'compress_after')::interval <> c.compress_after
        OR j.schedule_interval <> coalesce(c.every, interval '12 hours')
        OR j.max_runtime <> coalesce(c.max_runtime, interval '0') OR NOT (j.scheduled OR j.paused)
    UNION ALL
    SELECT w.job_name, 2, format('no job drops chunks of %s after %s', w.hypertable, w.drop_after),
           format('SELECT %s.add_job(%L::regproc, interval %L, config => %L)', g.timescale,
                  'btc_ingest.run_retention', coalesce(w.every, interval '1 day'),
                  jsonb_build_object('btc_ingest', w.job_name))
      FROM wanted w CROSS JOIN given g
     WHERE w.drop_after IS NOT NULL AND NOT $2
       AND NOT EXISTS (SELECT FROM jobs j WHERE j.proc_name = 'run_retention' AND j.ours = w.job_name)
    UNION ALL
    SELECT w.job_name, 2, format('job %s, which drops chunks of %s, %s', j.job_id, w.hypertable,
                                 CASE WHEN j.scheduled THEN 'runs every ' || j.schedule_interval
                                      ELSE 'is not scheduled' END),
           format('SELECT %s.alter_job(%s, scheduled => true, schedule_interval => %L)', g.timescale, j.job_id,
                  coalesce(w.every, interval '1 day'))
      FROM wanted w CROSS JOIN given g JOIN jobs j ON j.proc_name = 'run_retention' AND j.ours = w.job_name
     WHERE w.drop_after IS NOT NULL AND NOT $2
       AND (NOT j.scheduled OR j.schedule_interval <> coalesce(w.every, interval '1 day'))
    UNION ALL
    SELECT j.ours, 0, format('job %s is left of the row', j.job_id),
           format('SELECT %s.delete_job(%s)', g.timescale, j.job_id)
      FROM jobs j CROSS JOIN given g
     WHERE j.ours IS NOT NULL
       AND CASE WHEN j.proc_name = 'run_retention'
                THEN $2 OR NOT EXISTS (SELECT FROM wanted w WHERE w.job_name = j.ours AND w.drop_after IS NOT NULL)
                -- A row that compresses the same table takes the job over.
                ELSE NOT EXISTS (SELECT FROM compressed c WHERE c.id = j.id) END
)
SELECT json_build_object(
    'problems', (SELECT coalesce(json_agg(json_build_object('job', p.job_name, 'what', p.why) ORDER BY p.job_name),
                                 '[]')
                   FROM problems p WHERE p.why IS NOT NULL),
    'steps', (SELECT coalesce(json_agg(json_build_object('job', s.job_name, 'what', s.what, 'sql', s.sql)
                                       ORDER BY s.turn, s.job_name), '[]') FROM steps s)
)::text
