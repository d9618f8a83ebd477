-- Discovery: prefixes that workers list again and again.

CREATE FUNCTION btc_ingest.watch(prefix text, options jsonb DEFAULT '{}') RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'watch_wrapper';
COMMENT ON FUNCTION btc_ingest.watch(text, jsonb) IS
    'Has the worker list a prefix (placeholders as in backfill) again and again, and load what is new or changed. options: interval, full_interval, enabled, and options of the loads: symbol, exchange, time_unit, columns, source, on_conflict. Again: changes the options';

CREATE FUNCTION btc_ingest.unwatch(prefix text) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'unwatch_wrapper';
COMMENT ON FUNCTION btc_ingest.unwatch(text) IS 'Ends a watch; what was found stays registered and is loaded';

CREATE FUNCTION btc_ingest.discover(prefix text DEFAULT NULL)
RETURNS TABLE (prefix text, listed bigint, registered_new bigint, changed bigint, known bigint, passed_over bigint,
               skipped bigint, seconds double precision, problem text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'discover_wrapper';
COMMENT ON FUNCTION btc_ingest.discover(text) IS
    'Lists a prefix from its beginning, watched or not, or all watched ones, in the caller''s transaction, and registers what is new or changed. skipped: changed, but held by somebody at this moment';

CREATE FUNCTION btc_ingest_internal.watched()
RETURNS TABLE (prefix text, enabled boolean, options jsonb, last_listed_at timestamptz, last_full_at timestamptz, last_counts jsonb,
               groups bigint, sqlstate text, message text)
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
COMMENT ON FUNCTION btc_ingest_internal.watched() IS 'See the view watches';

CREATE VIEW btc_ingest.watches AS SELECT * FROM btc_ingest_internal.watched();
COMMENT ON VIEW btc_ingest.watches IS
    'Watched prefixes: when they were listed, what was found, and why the last listing failed. groups: cursors by which only new keys are listed; null: every listing begins at the beginning';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION btc_ingest_internal.watched() TO btc_ingest_reader;
GRANT SELECT ON btc_ingest.watches TO btc_ingest_reader;
GRANT EXECUTE ON FUNCTION btc_ingest.discover(text) TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.watch(text, jsonb), btc_ingest.unwatch(text) TO btc_ingest_admin;
