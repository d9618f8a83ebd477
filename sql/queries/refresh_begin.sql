-- Starts an attempt to refresh the continuous aggregates over the next attached chunk of any backfill. The refresh is
-- given up, with a note, after $1 attempts, or if the functions of an aggregate would run with the privileges of
-- another role: if an aggregate does not belong to the tables' owner, nor both to superusers. An owner that is no
-- superuser must be allowed to log in, because a process with a session of that role refreshes. $1: attempts at most.
WITH owner AS (
    SELECT r.* FROM pg_class h JOIN pg_roles r ON r.oid = h.relowner WHERE h.oid = 'market_data.btc_ticks'::regclass
), obstacle AS (
    SELECT coalesce(
        (SELECT format('they belong to %s', string_agg(DISTINCT quote_ident(r.rolname), ', '))
           FROM timescaledb_information.continuous_aggregates a JOIN pg_roles r ON r.rolname = a.view_owner
          WHERE a.hypertable_schema = 'market_data' AND a.hypertable_name = 'btc_ticks'
            AND r.oid <> owner.oid AND NOT (r.rolsuper AND owner.rolsuper) HAVING count(*) > 0),
        (SELECT format('the owner %I may not log in', owner.rolname)
          WHERE NOT owner.rolsuper AND NOT owner.rolcanlogin)) AS what
      FROM owner
)
UPDATE ingestion.backfill_chunks c
   SET attempts = c.attempts + 1,
       refresh_due = c.attempts < $1 AND o.what IS NULL,
       note = CASE WHEN c.attempts < $1 AND o.what IS NULL THEN c.note
              ELSE concat_ws('; ', c.note, 'its continuous aggregates were not refreshed'
                             || coalesce(' (' || o.what || ')', '')
                             || ': CALL refresh_continuous_aggregate(…, force => true) over it') END
  FROM obstacle o
 WHERE (c.backfill, c.chunk_from) = (SELECT d.backfill, d.chunk_from FROM ingestion.backfill_chunks d
                                      WHERE d.refresh_due
                                      ORDER BY d.backfill, d.chunk_from LIMIT 1)
RETURNING json_build_object('backfill', c.backfill, 'chunk', CASE WHEN c.refresh_due THEN
                                (extract(epoch FROM c.chunk_from) * 1000000)::bigint END)::text
