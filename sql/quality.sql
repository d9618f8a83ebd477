-- Whether what is stored is what the objects hold. These functions read S3 and the tables, and write nothing.

CREATE FUNCTION btc_ingest.verify(uri text, most integer DEFAULT 10)
RETURNS TABLE (
    asset text,
    bucket_5m timestamptz,
    outcome text,
    object_rows bigint,
    table_rows bigint,
    object_quantity numeric,
    table_quantity numeric,
    object_amount numeric,
    table_amount numeric,
    object_digest text,
    table_digest text,
    missing bigint,
    extra bigint,
    differing bigint,
    missing_ids bigint[],
    extra_ids bigint[],
    differing_ids bigint[],
    problem text
)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'verify_wrapper';
COMMENT ON FUNCTION btc_ingest.verify(text, integer) IS
'Reads one Parquet object in S3 again and compares its ticks with market_data.btc_ticks, slice by slice. Stores nothing.

uri: s3://bucket/key of the object; btc_ingest.allowed_prefixes must allow it.
most: how many trade ids of each kind of difference are returned, 0 to 10,000. Default 10.

Returns one row per slice of the object:
asset: symbol of the slice.
bucket_5m: start of the slice''s bucket.
outcome: "equal"; "different"; or "unproven": the object is gone, was replaced, or cannot be read.
object_rows: ticks of the slice in the object.
table_rows: ticks of the slice in the table.
object_quantity: exact sum of quantity in the object.
table_quantity: exact sum of quantity in the table.
object_amount: exact sum of price * quantity in the object.
table_amount: exact sum of price * quantity in the table.
object_digest: digest of the object''s ticks, which does not depend on their order.
table_digest: the same digest of the table''s ticks.
missing: ticks of the object that are not stored in the slice.
extra: stored ticks of the slice that are not in the object; null if other objects hold ticks of it.
differing: ticks that are stored with other values.
missing_ids: lowest trade ids of the missing ticks.
extra_ids: lowest trade ids of the extra ticks; null where extra is null.
differing_ids: lowest trade ids of the differing ticks.
problem: why the object could not be compared; otherwise null.';

CREATE FUNCTION btc_ingest.verify_range(asset text, "from" timestamptz, "to" timestamptz, most integer DEFAULT 10)
RETURNS TABLE (
    asset text,
    bucket_5m timestamptz,
    outcome text,
    object_rows bigint,
    table_rows bigint,
    object_quantity numeric,
    table_quantity numeric,
    object_amount numeric,
    table_amount numeric,
    object_digest text,
    table_digest text,
    missing bigint,
    extra bigint,
    differing bigint,
    missing_ids bigint[],
    extra_ids bigint[],
    differing_ids bigint[],
    problem text
)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'verify_range_wrapper';
COMMENT ON FUNCTION btc_ingest.verify_range(text, timestamptz, timestamptz, integer) IS
'Reads all objects in S3 again that were loaded for an asset''s slices, and compares the ticks with
market_data.btc_ticks in both directions. Stores nothing.

asset: symbol as stored, e.g. BTCUSDT.
from: a time in the first bucket; -infinity for no limit.
to: end (exclusive) of the times; infinity for no limit.
most: how many trade ids of each kind of difference are returned, 0 to 10,000. Default 10.

Returns one row per slice that an object or the table holds ticks of. Several objects may hold ticks of one slice; their
sums are added, unless all of them hold the same ticks.
bucket_5m: start of the slice''s bucket.
outcome: "equal"; "different"; or "unproven": an object of the slice is gone, was replaced, or cannot be read.
object_rows: ticks of the slice in the objects.
table_rows: ticks of the slice in the table.
object_quantity: exact sum of quantity in the objects.
table_quantity: exact sum of quantity in the table.
object_amount: exact sum of price * quantity in the objects.
table_amount: exact sum of price * quantity in the table.
object_digest: digest of the objects'' ticks, which does not depend on their order.
table_digest: the same digest of the table''s ticks.
missing: ticks of the objects that are not stored in the slice.
extra: stored ticks of the slice that no object holds; null if an object could not be compared.
differing: ticks that are stored with values that no object has for them.
missing_ids: lowest trade ids of the missing ticks.
extra_ids: lowest trade ids of the extra ticks; null where extra is null.
differing_ids: lowest trade ids of the differing ticks.
problem: which objects could not be compared, and why; otherwise null.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.verify(text, integer), btc_ingest.verify_range(text, timestamptz, timestamptz, integer)
TO btc_ingest_loader;
