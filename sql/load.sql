-- The functions of the extension that live in its library. PUBLIC gets none of them. Without jit, because compiling the
-- statements of a load takes most of a second and running them takes milliseconds.

CREATE FUNCTION btc_ingest.load_s3_slice(
    uri text,
    on_bad_row text DEFAULT 'abort',
    force boolean DEFAULT false,
    options jsonb DEFAULT '{}'
) RETURNS btc_ingest.load_report
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'load_s3_slice_wrapper';
COMMENT ON FUNCTION btc_ingest.load_s3_slice(text, text, boolean, jsonb) IS
    'Loads one Parquet object from S3 into market_data.btc_ticks, in the caller''s transaction. The same etag again is "already loaded"; force, or a new etag, compares tick by tick. on_bad_row: abort or reject. options: symbol, time_unit, columns, source, exchange, on_conflict.';

CREATE FUNCTION btc_ingest.inspect_s3(uri text, options jsonb DEFAULT '{}')
RETURNS TABLE (
    etag text,
    size_bytes bigint,
    row_count bigint,
    row_groups integer,
    writer text,
    schema_fingerprint text,
    time_from timestamptz,
    time_to timestamptz,
    codecs text[],
    columns jsonb,
    problem text
)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'inspect_s3_wrapper';
COMMENT ON FUNCTION btc_ingest.inspect_s3(text, jsonb) IS
    'Reads an object''s footer only. time_from and time_to come from the statistics, null without them; problem says what keeps it from being loaded, null if nothing does.';

CREATE FUNCTION btc_ingest.register_s3_slice(
    uri text,
    asset text,
    bucket_5m timestamptz DEFAULT NULL,
    metadata jsonb DEFAULT '{}'
) RETURNS TABLE (registered_bucket timestamptz, registered_asset text, object_status text, note text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'register_s3_slice_wrapper';
COMMENT ON FUNCTION btc_ingest.register_s3_slice(text, text, timestamptz, jsonb) IS
    'Registers an object as pending in ingestion.objects and, for its bucket and asset, in landing.raw_blobs_5m. Without bucket_5m the bucket comes from the statistics in the object''s footer.';

CREATE FUNCTION btc_ingest.doctor()
RETURNS TABLE ("check" text, ok boolean, detail text, hint text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'doctor_wrapper';
COMMENT ON FUNCTION btc_ingest.doctor() IS
    'Everything an installation can get wrong, each with the line that mends it. Shows where credentials come from, never the credentials.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.load_s3_slice(text, text, boolean, jsonb),
    btc_ingest.inspect_s3(text, jsonb),
    btc_ingest.register_s3_slice(text, text, timestamptz, jsonb),
    btc_ingest.doctor()
TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.migrate() TO btc_ingest_admin;
