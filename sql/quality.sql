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

CREATE FUNCTION btc_ingest_internal.begin_verification(asset text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (verification bigint, taken_up boolean)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'begin_verification_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.begin_verification(text, timestamptz, timestamptz) IS
    'Part of verify_all(): begins a verification, or finds the unfinished one with the same arguments (taken_up)';

CREATE FUNCTION btc_ingest_internal.verify_step(verification bigint, most integer)
RETURNS TABLE (done boolean, verified_to timestamptz, slices bigint, different bigint, unproven bigint)
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'verify_step_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.verify_step(bigint, integer) IS
    'Part of verify_all(): compares the next window of a verification, and returns how far it is';

CREATE FUNCTION btc_ingest_internal.loaded_assets() RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN (
        WITH RECURSIVE assets AS (
            (SELECT s.asset FROM ingestion.object_slices s ORDER BY s.asset LIMIT 1)
            UNION ALL
            SELECT (SELECT s.asset FROM ingestion.object_slices s WHERE s.asset > a.asset ORDER BY s.asset LIMIT 1)
              FROM assets a WHERE a.asset IS NOT NULL
        )
        SELECT coalesce(array_agg(a.asset ORDER BY a.asset), '{}') FROM assets a WHERE a.asset IS NOT NULL);
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.loaded_assets() IS
    'Part of verify_all(): the assets of which ticks were loaded';

CREATE FUNCTION btc_ingest.verification_status(verification bigint DEFAULT NULL)
RETURNS TABLE (
    id bigint, asset text, from_time timestamptz, to_time timestamptz, status text, verified_to timestamptz,
    slices bigint, ticks bigint, different bigint, unproven bigint, requested_by text, started_at timestamptz,
    updated_at timestamptz, finished_at timestamptz
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT v.id, v.asset, v.from_time, v.to_time, v.status, v.verified_to, v.slices, v.ticks, v.different, v.unproven,
           v.requested_by, v.started_at, v.updated_at, v.finished_at
      FROM ingestion.verifications v
     WHERE verification_status.verification IS NULL OR v.id = verification_status.verification
     ORDER BY v.id;
END
$$;
COMMENT ON FUNCTION btc_ingest.verification_status(bigint) IS
'Verifications by verify_all() and how far they are. ingestion.verification_findings has the slices that are not equal.

verification: id of one verification. Default null: all.

Returns one row per verification:
id: number of the verification.
asset: symbol of the asset.
from_time: beginning of the range; -infinity for no limit.
to_time: end (exclusive) of the range; infinity for no limit.
status: running (the next call with the same arguments goes on) or done.
verified_to: end (exclusive) of the buckets that are compared.
slices: slices that were compared.
ticks: stored ticks of these slices.
different: slices that differ from their objects.
unproven: slices of which an object is gone, was replaced or cannot be read.
requested_by: role that began it.
started_at: when it began.
updated_at: when it got further last.
finished_at: when it was done; null before.';

-- COMMIT is forbidden in a procedure that is SECURITY DEFINER or has SET. This one is neither, and qualifies all names.
CREATE PROCEDURE btc_ingest.verify_all(
    asset text DEFAULT NULL,
    "from" timestamptz DEFAULT '-infinity',
    "to" timestamptz DEFAULT 'infinity',
    most integer DEFAULT 10
)
LANGUAGE plpgsql
AS $$
DECLARE
    one pg_catalog.text;
    assets pg_catalog.text[] := CASE WHEN asset IS NULL THEN btc_ingest_internal.loaded_assets() ELSE ARRAY[asset] END;
    begun record;
    now_at record;
    said pg_catalog.timestamptz;
BEGIN
    FOREACH one IN ARRAY assets LOOP
        SELECT * INTO begun FROM btc_ingest_internal.begin_verification(one, "from", "to");
        COMMIT;
        IF begun.taken_up THEN
            RAISE NOTICE 'verification % of % goes on where it stood', begun.verification, one;
        END IF;
        said := pg_catalog.clock_timestamp();
        LOOP
            SELECT * INTO now_at FROM btc_ingest_internal.verify_step(begun.verification, coalesce(most, 10));
            COMMIT;
            EXIT WHEN now_at.done;
            IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) said
                   OPERATOR(pg_catalog.>) '3 seconds'::pg_catalog.interval THEN
                said := pg_catalog.clock_timestamp();
                RAISE NOTICE 'verification % of %: % slices until %', begun.verification, one, now_at.slices,
                    now_at.verified_to;
            END IF;
        END LOOP;
        RAISE NOTICE 'verification % of %: % slices, % different, % unproven', begun.verification, one,
            now_at.slices, now_at.different, now_at.unproven;
        IF now_at.different OPERATOR(pg_catalog.>) 0 OR now_at.unproven OPERATOR(pg_catalog.>) 0 THEN
            RAISE WARNING 'slices of % are not equal to their objects', one
                USING HINT = pg_catalog.format(
                    'SELECT * FROM ingestion.verification_findings WHERE verification = %s', begun.verification);
        END IF;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE btc_ingest.verify_all(text, timestamptz, timestamptz, integer) IS
'Compares all objects of long ranges with the table, as verify_range() does, a window of days per transaction. It writes
only how far it is and which slices are not equal. If it is interrupted, the next call with the same arguments goes on.
CALL it outside BEGIN … COMMIT, because it commits.

asset: symbol as stored, e.g. BTCUSDT. Default null: every asset that was loaded, one after another.
from: a time in the first bucket. Default: no limit.
to: end (exclusive) of the times. Default: no limit.
most: how many trade ids of each kind of difference are recorded per slice, 0 to 10,000. Default 10.';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.verify(text, integer), btc_ingest.verify_range(text, timestamptz, timestamptz, integer),
    btc_ingest_internal.begin_verification(text, timestamptz, timestamptz),
    btc_ingest_internal.verify_step(bigint, integer)
TO btc_ingest_loader;
GRANT EXECUTE ON PROCEDURE btc_ingest.verify_all(text, timestamptz, timestamptz, integer) TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.verification_status(bigint), btc_ingest_internal.loaded_assets()
TO btc_ingest_reader;
