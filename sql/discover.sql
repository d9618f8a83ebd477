-- Discovery: prefixes that the scheduler lists again and again.

CREATE FUNCTION btc_ingest.watch(prefix text, options jsonb DEFAULT '{}') RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'watch_wrapper';
COMMENT ON FUNCTION btc_ingest.watch(text, jsonb) IS
'Watches a prefix: the scheduler lists it again and again, and new or changed objects are loaded. Watching a prefix that
is watched already changes the options that are given; null removes one. Returns what was changed.

prefix: s3://bucket/prefix, which may contain the placeholders of backfill(); btc_ingest.allowed_prefixes must allow it.
options: JSON object, default {}:
  interval: pause between two listings, at least 100 ms. Default "1 minute".
  full_interval: pause between two listings from the beginning. Default "1 hour".
  enabled: false suspends the watch. Default true.
  symbol, exchange, time_unit, columns, aggregate_trades, source, on_conflict, sequential_ids: options of the loads, as
  for load_s3_slice().';

CREATE FUNCTION btc_ingest.unwatch(prefix text) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'unwatch_wrapper';
COMMENT ON FUNCTION btc_ingest.unwatch(text) IS
'Ends the watch of a prefix. Objects that it found stay registered and are loaded. Returns what was changed.

prefix: the prefix as it was given to watch().';

CREATE FUNCTION btc_ingest.discover(prefix text DEFAULT NULL)
RETURNS TABLE (prefix text, listed bigint, registered_new bigint, changed bigint, known bigint,
               passed_over bigint, skipped bigint, seconds double precision, problem text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'discover_wrapper';
COMMENT ON FUNCTION btc_ingest.discover(text) IS
'Lists prefixes from the beginning in the caller''s transaction, and registers new and changed objects as pending.
It lists nothing between pause_ingest() and resume_ingest().

prefix: prefix to list, watched or not. Default null: all watched prefixes.

Returns one row per prefix:
prefix: the prefix.
listed: keys that were listed.
registered_new: objects that were not known before, or that a cancelled backfill left unloaded.
changed: known objects with a new etag; they are pending again.
known: objects that are known with this etag.
passed_over: keys that are hidden, are no Parquet file by their name, or do not match the pattern.
skipped: changed objects that another session holds at this moment; the next listing registers them.
seconds: duration of the listing in seconds.
problem: why the prefix could not be listed; null if it could.';

CREATE FUNCTION btc_ingest_internal.watched()
RETURNS TABLE (prefix text, enabled boolean, options jsonb, last_listed_at timestamptz, last_full_at timestamptz,
               last_counts jsonb, groups bigint, sqlstate text, message text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT substr(w.source, 7), coalesce((w.state #>> '{options, enabled}')::boolean, true), w.state -> 'options',
           (w.state #>> '{last, at}')::timestamptz, (w.state ->> 'full_at')::timestamptz, w.state #> '{last, counts}',
           CASE WHEN jsonb_typeof(w.state -> 'cursors') = 'object' THEN
               (SELECT count(*) FROM jsonb_object_keys(w.state -> 'cursors')) END,
           w.state #>> '{last, problem, sqlstate}', w.state #>> '{last, problem, message}'
      FROM ingestion.stream_offsets w
     WHERE starts_with(w.source, 'watch:') AND w.state ? 'options'
     ORDER BY 1;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.watched() IS 'Rows of the view watches';

CREATE VIEW btc_ingest.watches AS SELECT * FROM btc_ingest_internal.watched();
COMMENT ON VIEW btc_ingest.watches IS 'Watched prefixes, and the result of the last listing of each';
COMMENT ON COLUMN btc_ingest.watches.prefix IS 'The prefix as it was given to watch()';
COMMENT ON COLUMN btc_ingest.watches.enabled IS 'Whether the prefix is listed';
COMMENT ON COLUMN btc_ingest.watches.options IS 'Options of the watch';
COMMENT ON COLUMN btc_ingest.watches.last_listed_at IS 'When the last listing ended; null before the first one';
COMMENT ON COLUMN btc_ingest.watches.last_full_at IS 'When the last listing from the beginning ended';
COMMENT ON COLUMN btc_ingest.watches.last_counts IS 'Counts of the last listing, as discover() returns them';
COMMENT ON COLUMN btc_ingest.watches.groups IS
    'Number of cursors from which listings continue; null if every listing begins at the beginning';
COMMENT ON COLUMN btc_ingest.watches.sqlstate IS 'SQLSTATE of the last listing''s failure; null if it succeeded';
COMMENT ON COLUMN btc_ingest.watches.message IS 'Message of the last listing''s failure; null if it succeeded';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest_internal.watched() TO btc_ingest_reader, btc_ingest_monitor;
GRANT SELECT ON btc_ingest.watches TO btc_ingest_reader, btc_ingest_monitor;
GRANT EXECUTE ON FUNCTION btc_ingest.discover(text) TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.watch(text, jsonb), btc_ingest.unwatch(text) TO btc_ingest_admin;
