-- Loading, inspecting and registering one object, and doctor(). These functions run without jit: compiling the
-- statements of a load takes most of a second, running them takes milliseconds.

CREATE FUNCTION btc_ingest.load_s3_slice(
    uri text,
    on_bad_row text DEFAULT 'abort',
    force boolean DEFAULT false,
    options jsonb DEFAULT '{}'
) RETURNS btc_ingest.load_report
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'load_s3_slice_wrapper';
COMMENT ON FUNCTION btc_ingest.load_s3_slice(text, text, boolean, jsonb) IS
'Loads one Parquet object from S3 into market_data.btc_ticks, in the caller''s transaction, and returns a report.
An object whose etag is loaded already, with options that give the same ticks, is "already loaded" and is not read.
A new etag is compared tick by tick with what is stored.

uri: s3://bucket/key of the object; btc_ingest.allowed_prefixes must allow it.
on_bad_row: "abort" (default): a row that is no valid tick ends the load with an error; "reject": such rows are counted,
  and go to landing.rejected_ticks.
force: true also reads and compares an object that is loaded already. Default false. Where it contradicts other objects,
  the same one wins as before, unless options name on_conflict.
options: JSON object, default {}. Its keys count more than the same keys in the object''s metadata:
  symbol: stores this symbol for all rows; the object then needs no symbol column.
  time_unit: "s", "ms", "us" or "ns", for times that are bare integers.
  columns: an object that maps tick columns to columns of the file; null leaves an optional tick column out.
  aggregate_trades: true stores each row of a file of aggregate trades as one tick. Default false: it is refused.
  on_conflict: "keep" (default), "replace" or "abort", for ticks that are stored with other values.
  exchange: the exchange in the default source; by default the path segment before the asset.
  source: row of ingestion.stream_offsets that the load moves; by default s3:<exchange>:<asset>.
  sequential_ids: false declares that the trade ids of the object''s assets are no sequence, as declare_asset() does.';

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
'Reads the footer of a Parquet object in S3 and stores nothing.

uri: s3://bucket/key of the object; btc_ingest.allowed_prefixes must allow it.
options: JSON object as for load_s3_slice(), default {}.

Returns one row:
etag: version of the object.
size_bytes: size of the object in bytes.
row_count: rows of the object.
row_groups: row groups of the object.
writer: program that wrote the file; null if the footer does not name it.
schema_fingerprint: digest of the columns'' names and types.
time_from: first event time by the footer''s statistics; null if it has none.
time_to: last event time by the footer''s statistics; null if it has none.
codecs: compression codecs of the columns.
columns: JSON with the file''s columns and the tick column that each is used for.
problem: what prevents a load; null if nothing in the footer does.';

CREATE FUNCTION btc_ingest.register_s3_slice(
    uri text,
    asset text,
    bucket_5m timestamptz DEFAULT NULL,
    metadata jsonb DEFAULT '{}'
) RETURNS TABLE (registered_bucket timestamptz, registered_asset text, object_status text, note text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'register_s3_slice_wrapper';
COMMENT ON FUNCTION btc_ingest.register_s3_slice(text, text, timestamptz, jsonb) IS
'Registers an object as pending in ingestion.objects and, for its bucket and asset, in landing.raw_blobs_5m. Workers and
sweeps load it after the caller''s transaction commits. A registry row that names another object is kept.

uri: s3://bucket/key of the object; btc_ingest.allowed_prefixes must allow it.
asset: symbol of the registry row, e.g. BTCUSDT.
bucket_5m: any time in the 5-minute bucket. Default null: the bucket of the
  first event time in the footer''s statistics.
metadata: JSON object, default {}: options of the load, and sha256, rows and object_size_bytes, which the load checks.

Returns one row:
registered_bucket: start of the bucket.
registered_asset: the asset.
object_status: status of the object, "pending".
note: "registered", or the object that the registry row names instead.';

-- What doctor() reads of large tables, it reads in the order of an index up to a limit. A bitmap would read all first.
CREATE FUNCTION btc_ingest.doctor(since interval DEFAULT '24 hours')
RETURNS TABLE (name text, ok boolean, detail text, hint text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET lock_timeout = '1s'
SET enable_bitmapscan = off
AS 'MODULE_PATHNAME', 'doctor_wrapper';
COMMENT ON FUNCTION btc_ingest.doctor(interval) IS
'Checks the installation: libraries, versions, tables, indexes, workers, queue, disk, credentials, prefixes and clocks.
It changes nothing. It shows where credentials come from, never the credentials themselves.

since: how far back conflicts and rejected rows are findings. Default 24 hours.

Returns one row per check:
name: name of the check.
ok: false if something must be fixed.
detail: what was found.
hint: the statement or setting that fixes it; beside ok = true, something to be known; otherwise null.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.load_s3_slice(text, text, boolean, jsonb),
    btc_ingest.inspect_s3(text, jsonb),
    btc_ingest.register_s3_slice(text, text, timestamptz, jsonb),
    btc_ingest.doctor(interval)
TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION btc_ingest.doctor(interval) TO btc_ingest_monitor;
GRANT EXECUTE ON FUNCTION btc_ingest.migrate() TO btc_ingest_admin;
