-- Units of work for jobs outside the database (Spark, Glue, Airflow): which slices of an asset and day are to be read
-- from which objects, leased by a token under which results are staged and published once.

-- It runs with the privileges of the role that stages, which may read the units.
CREATE FUNCTION btc_ingest_internal.staged_for_lease() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stray uuid;
BEGIN
    SELECT a.token INTO stray FROM added a
     WHERE NOT EXISTS (SELECT FROM ingestion.work_units u WHERE u.token = a.token AND u.state = 'leased') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the token % leases no unit', stray
            USING ERRCODE = 'TK060', SCHEMA = 'ingestion', TABLE = TG_TABLE_NAME,
                  HINT = 'The unit was taken over, given back, forgotten or finished. '
                         'Call btc_ingest.work_units() again.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.staged_for_lease() IS
    'Trigger of the tables ingestion.staged_…: refuses rows whose token leases no unit';

CREATE FUNCTION btc_ingest_internal.lease_units(
    "from" timestamptz, "to" timestamptz, by text, kind text, limits integer[], lease interval, assets text[]
) RETURNS SETOF bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'lease_units_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.lease_units(
    timestamptz, timestamptz, text, text, integer[], interval, text[]) IS
    'Part of work_units(): adds the units of a range, leases some and returns their numbers. limits: most and '
    'max_attempts';

CREATE FUNCTION btc_ingest.work_units(
    "from" timestamptz, "to" timestamptz, by text DEFAULT 'day', kind text DEFAULT 'verify', most integer DEFAULT 100,
    lease interval DEFAULT '15 minutes', assets text[] DEFAULT NULL, max_attempts integer DEFAULT 5
) RETURNS TABLE (
    unit bigint, token uuid, asset text, from_time timestamptz, to_time timestamptz, slices bigint, objects bigint,
    ticks bigint, bytes bigint, work jsonb, attempt integer, leased_until timestamptz
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    leased CONSTANT bigint[] := ARRAY(SELECT btc_ingest_internal.lease_units(
                                          "from", "to", by, kind, ARRAY[most, max_attempts], lease, assets));
BEGIN
    RETURN QUERY
    WITH units AS (
        SELECT u.* FROM ingestion.work_units u WHERE u.id = ANY (leased)
    ), registered AS (
        SELECT u.id, b.bucket_5m, b.s3_uri, b.metadata, b.object_size_bytes
          FROM units u
          JOIN landing.raw_blobs_5m b ON b.asset = u.asset AND b.bucket_5m = ANY (u.buckets) AND b.status <> 'skipped'
    ), loaded AS (
        SELECT u.id, s.bucket_5m, s.s3_uri, s.ticks
          FROM units u
          JOIN ingestion.object_slices s ON s.asset = u.asset AND s.bucket_5m = ANY (u.buckets)
          JOIN ingestion.objects o ON o.s3_uri = s.s3_uri AND o.etag = s.etag
    ), found AS (
        SELECT coalesce(r.id, l.id) AS id, coalesce(r.bucket_5m, l.bucket_5m) AS bucket_5m,
               coalesce(r.s3_uri, l.s3_uri) AS s3_uri, r.metadata, r.object_size_bytes,
               -- What a producer says of its object holds for the slice if the object has no other.
               coalesce(l.ticks, CASE WHEN count(*) OVER (PARTITION BY r.s3_uri) = 1
                                       AND jsonb_typeof(r.metadata -> 'rows') = 'number'
                                      THEN (r.metadata ->> 'rows')::numeric::bigint END) AS ticks
          FROM registered r
          FULL JOIN loaded l ON (l.id, l.bucket_5m, l.s3_uri) = (r.id, r.bucket_5m, r.s3_uri)
    ), objects AS (
        SELECT f.id, f.s3_uri, max(o.etag) AS etag, max(coalesce(o.size_bytes, f.object_size_bytes)) AS size,
               max(o.on_conflict) AS on_conflict, max(o.load_order) AS load_order,
               coalesce((array_agg(o.options))[1], '{}') AS options,
               coalesce((array_agg(o.metadata))[1], '{}')
                   || coalesce((array_agg(f.metadata) FILTER (WHERE jsonb_typeof(f.metadata) = 'object'))[1], '{}')
                   AS metadata,
               jsonb_agg((extract(epoch FROM f.bucket_5m) * 1000000)::bigint ORDER BY f.bucket_5m) AS buckets
          FROM found f LEFT JOIN ingestion.objects o ON o.s3_uri = f.s3_uri
         GROUP BY f.id, f.s3_uri
    ), sums AS (
        SELECT o.id, count(*) AS objects, sum(o.size)::bigint AS bytes,
               jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                   'uri', o.s3_uri, 'etag', o.etag, 'size', o.size, 'buckets', o.buckets, 'options', o.options,
                   'replaces', CASE WHEN o.on_conflict = 'replace' THEN true END, 'exchange', o.metadata ->> 'exchange',
                   'metadata', nullif(o.metadata - '{etag,writer,schema_fingerprint,row_count}'::text[], '{}')))
                   ORDER BY o.load_order NULLS LAST, o.s3_uri) AS work
          FROM objects o GROUP BY o.id
    ), counts AS (
        -- An object of the slice without a number makes the sum unknown.
        SELECT f.id, CASE WHEN bool_and(f.ticks IS NOT NULL) THEN sum(f.ticks)::bigint END AS ticks
          FROM found f GROUP BY f.id
    )
    SELECT u.id, u.token, u.asset, u.from_time, u.to_time, cardinality(u.buckets)::bigint, coalesce(s.objects, 0),
           c.ticks, s.bytes,
           jsonb_build_object(
               'buckets', (SELECT coalesce(jsonb_agg((extract(epoch FROM b) * 1000000)::bigint ORDER BY b), '[]')
                             FROM unnest(u.buckets) AS b),
               'objects', coalesce(s.work, '[]')),
           u.attempts, u.leased_until
      FROM units u LEFT JOIN sums s ON s.id = u.id LEFT JOIN counts c ON c.id = u.id
     ORDER BY u.from_time, u.asset;
END
$$;
COMMENT ON FUNCTION btc_ingest.work_units(
    timestamptz, timestamptz, text, text, integer, interval, text[], integer) IS
'Leases units of work for jobs outside the database: the slices of an asset and day, or hour, with their objects. A unit
is handed out to one call at a time. When its lease ends before finish_unit() or fail_unit(), another call takes it
over, and the old token can neither stage nor publish. A finished unit is handed out again when one of its objects was
registered anew, or was loaded in another version.

from: a time in the first day or hour (UTC).
to: end (exclusive) of the times.
by: day or hour. Default day.
kind: what the work is for; results are published under this name. Default verify.
most: how many units are leased, 1 to 100. Default 100.
lease: how long; extend_units() makes it longer. Default 15 minutes.
assets: only these assets. Default null: all.
max_attempts: a unit that was leased so often without being finished is not handed out. Default 5.

Returns one row per unit:
unit: number of the unit.
token: for staging, and for finish_unit() or fail_unit().
asset: symbol of its asset.
from_time: start of the day or hour.
to_time: its end (exclusive).
slices: slices of the unit.
objects: objects that hold or may hold their ticks.
ticks: ticks of these objects in the slices as far as they are known beforehand; null if not of all.
bytes: size of the objects; null if no size is known.
work: buckets (starts of the slices, in microseconds since 1970), and objects in the order of their loads: uri, etag (of
  the loaded version), size, buckets (those that they are registered or loaded for), options (of the load), replaces
  (true if its ticks replace others), exchange and metadata.
attempt: which lease this is, counted from 1.
leased_until: when the lease ends.';

CREATE FUNCTION btc_ingest.extend_units(tokens uuid[], lease interval DEFAULT '15 minutes') RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'extend_units_wrapper';
COMMENT ON FUNCTION btc_ingest.extend_units(uuid[], interval) IS
'Makes leases of work_units() end later.

tokens: of the units.
lease: from now on. Default 15 minutes.

Returns how many of the tokens still lease a unit.';

CREATE FUNCTION btc_ingest.finish_unit(token uuid, parts uuid[] DEFAULT NULL)
RETURNS TABLE (outcome text, unit bigint, slices bigint, candles bigint, vectors bigint)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'finish_unit_wrapper';
COMMENT ON FUNCTION btc_ingest.finish_unit(uuid, uuid[]) IS
'Publishes what was staged for a unit: slices to ops.slice_digests, candles to ops.slice_candles, vectors to
signals.btc_embeddings. All of it is published in one transaction, together with the state of the unit, and replaces
what was published for the unit before. Each slice of the unit must be staged exactly once in the given parts.

token: of the lease.
parts: the attempts of the job that count; what others have staged is deleted. Default null: all.

Returns one row:
outcome: "published"; or "already published" if a call with this token did it before, which changes nothing.
unit: number of the unit.
slices: slices that were published.
candles: candles that were published.
vectors: vectors that were published; a row of another feature version stays as it is and does not count.';

CREATE FUNCTION btc_ingest.fail_unit(token uuid, reason text) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'fail_unit_wrapper';
COMMENT ON FUNCTION btc_ingest.fail_unit(uuid, text) IS
'Gives a unit back, and deletes what was staged for it. work_units() hands it out again, after units with fewer
attempts.

token: of the lease.
reason: why; the view units shows it.';

CREATE FUNCTION btc_ingest.forget_units(kind text, "from" timestamptz, "to" timestamptz) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'forget_units_wrapper';
COMMENT ON FUNCTION btc_ingest.forget_units(text, timestamptz, timestamptz) IS
'Deletes the units of a kind with their published digests and candles, so that work_units() hands them out anew. Vectors
stay. A token of such a unit can stage and publish nothing any more.

kind: kind of the units.
from: units that begin at or after this time.
to: units that end at or before this time.

Returns how many units were deleted.';

CREATE FUNCTION btc_ingest.slice_digests(asset text, "from" timestamptz, "to" timestamptz)
RETURNS TABLE (bucket_5m timestamptz, ticks bigint, quantity numeric, amount numeric, digest text)
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'slice_digests_wrapper';
COMMENT ON FUNCTION btc_ingest.slice_digests(text, timestamptz, timestamptz) IS
'Digests of the stored ticks. Reads no object.

asset: symbol as stored, e.g. BTCUSDT.
from: a time in the first bucket; -infinity for no limit.
to: end (exclusive) of the times; infinity for no limit.

Returns one row per slice with ticks:
bucket_5m: start of the slice''s bucket.
ticks: stored ticks.
quantity: exact sum of quantity.
amount: exact sum of price * quantity.
digest: digest of the ticks, which does not depend on their order; docs/use/verify.md defines it.';

CREATE FUNCTION btc_ingest.verify_archive(
    "from" timestamptz, "to" timestamptz, only_asset text DEFAULT NULL, kind text DEFAULT 'verify'
) RETURNS TABLE (
    asset text, bucket_5m timestamptz, outcome text, object_ticks bigint, table_ticks bigint, object_digest text,
    table_digest text, problem text
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    first CONSTANT timestamptz := date_bin('5 minutes', "from", 'epoch'::timestamptz);
BEGIN
    IF first IS NULL OR "to" IS NULL OR kind IS NULL OR NOT isfinite("to") THEN
        RAISE EXCEPTION 'from, to and kind must not be null, and the times must be finite' USING ERRCODE = 'TK031',
            HINT = 'SELECT * FROM btc_ingest.verify_archive(''2024-08-08'', ''2024-08-09'');';
    END IF;
    RETURN QUERY
    WITH published AS (
        SELECT d.* FROM ops.slice_digests d
         WHERE d.kind = verify_archive.kind AND d.bucket_5m >= first AND d.bucket_5m < "to"
           AND (only_asset IS NULL OR d.asset = only_asset)
    ), days AS (
        SELECT p.asset, date_bin('1 day', p.bucket_5m, 'epoch'::timestamptz) AS day FROM published p
        UNION
        SELECT s.asset, date_bin('1 day', s.bucket_5m, 'epoch'::timestamptz) FROM ingestion.object_slices s
         WHERE s.bucket_5m >= first AND s.bucket_5m < "to"
           AND (only_asset IS NULL OR s.asset = only_asset)
    ), stored AS MATERIALIZED (
        SELECT d.asset, t.bucket_5m, t.ticks, t.digest
          FROM days d
         CROSS JOIN LATERAL btc_ingest.slice_digests(
             d.asset, greatest(d.day, first), least(d.day + interval '24 hours', "to")) AS t
    ), changed AS (
        -- Objects that the job has read in another version than the one that is loaded.
        SELECT p.asset, p.bucket_5m,
               string_agg(format('%s was read with etag %s, and %s is loaded', r.uri, r.etag, o.etag), '; '
                          ORDER BY r.uri) AS problem
          FROM published p
         CROSS JOIN LATERAL jsonb_to_recordset(p.objects) AS r (uri text, etag text)
          JOIN ingestion.objects o ON o.s3_uri = r.uri AND o.etag <> r.etag
         GROUP BY p.asset, p.bucket_5m
    )
    SELECT coalesce(p.asset, s.asset), coalesce(p.bucket_5m, s.bucket_5m),
           CASE WHEN p.digest IS NULL THEN 'unproven'
                WHEN p.digest = coalesce(s.digest, repeat('0', 32)) AND p.ticks = coalesce(s.ticks, 0) THEN 'equal'
                WHEN s.digest IS NULL THEN 'not stored'
                ELSE 'different' END,
           p.ticks, coalesce(s.ticks, 0), p.digest, s.digest,
           CASE WHEN p.asset IS NULL THEN 'no finished unit has read the slice' ELSE coalesce(p.problem, c.problem) END
      FROM published p
      FULL JOIN stored s ON (s.asset, s.bucket_5m) = (p.asset, p.bucket_5m)
      LEFT JOIN changed c ON (c.asset, c.bucket_5m) = (p.asset, p.bucket_5m)
     ORDER BY 1, 2;
END
$$;
COMMENT ON FUNCTION btc_ingest.verify_archive(timestamptz, timestamptz, text, text) IS
'Compares what finished units have read of the objects with what is stored, by the digests of the slices. Reads the
table and no object.

from: a time in the first bucket.
to: end (exclusive) of the times.
only_asset: only this asset. Default null: all.
kind: kind of the units. Default verify.

Returns one row per slice that was published or is stored:
asset: symbol of the slice.
bucket_5m: start of the slice''s bucket.
outcome: "equal"; "different"; "not stored": the objects hold ticks, and the table none; or "unproven": the slice could
  not be read, or no finished unit has read it.
object_ticks: ticks of the objects.
table_ticks: stored ticks.
object_digest: digest of the objects'' ticks.
table_digest: digest of the stored ticks; null if there are none.
problem: why the slice is unproven, or which objects were read in another version than the loaded one; otherwise null.';

CREATE FUNCTION btc_ingest_internal.unit_rows()
RETURNS TABLE (unit bigint, kind text, asset text, from_time timestamptz, to_time timestamptz, state text,
               attempts integer, leased_by text, leased_until timestamptz, last_error text, slices bigint,
               candles bigint, vectors bigint, finished_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT u.id, u.kind, u.asset, u.from_time, u.to_time,
           CASE WHEN u.state = 'leased' AND u.leased_until < clock_timestamp() THEN 'expired'
                WHEN u.state = 'open' AND u.last_error IS NOT NULL THEN 'failed' ELSE u.state END,
           u.attempts, u.leased_by, u.leased_until, u.last_error, u.slices, u.candles, u.vectors, u.finished_at
      FROM ingestion.work_units u;
END
$$;
COMMENT ON FUNCTION btc_ingest_internal.unit_rows() IS 'Rows of the view units';

CREATE VIEW btc_ingest.units AS SELECT * FROM btc_ingest_internal.unit_rows();
COMMENT ON VIEW btc_ingest.units IS 'Units of work that work_units() has made, one row each';
COMMENT ON COLUMN btc_ingest.units.unit IS 'Number of the unit';
COMMENT ON COLUMN btc_ingest.units.kind IS 'What the work is for';
COMMENT ON COLUMN btc_ingest.units.asset IS 'Symbol of the asset';
COMMENT ON COLUMN btc_ingest.units.from_time IS 'Start of the day or hour';
COMMENT ON COLUMN btc_ingest.units.to_time IS 'End (exclusive) of the day or hour';
COMMENT ON COLUMN btc_ingest.units.state IS
    'open: to be handed out; leased; expired: leased, and the lease has ended; failed: given back by fail_unit(), to '
    'be handed out again; finished: published';
COMMENT ON COLUMN btc_ingest.units.attempts IS 'Leases since its objects have changed';
COMMENT ON COLUMN btc_ingest.units.leased_by IS 'Role that leased it last; null if none has';
COMMENT ON COLUMN btc_ingest.units.leased_until IS 'End of that lease';
COMMENT ON COLUMN btc_ingest.units.last_error IS 'Reason of the last fail_unit(); null after it was finished';
COMMENT ON COLUMN btc_ingest.units.slices IS 'Slices that were published last; null if none were';
COMMENT ON COLUMN btc_ingest.units.candles IS 'Candles that were published last';
COMMENT ON COLUMN btc_ingest.units.vectors IS 'Vectors that were published last';
COMMENT ON COLUMN btc_ingest.units.finished_at IS 'When they were; null if never';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest_internal.lease_units(timestamptz, timestamptz, text, text, integer[], interval, text[]),
    btc_ingest.work_units(timestamptz, timestamptz, text, text, integer, interval, text[], integer),
    btc_ingest.extend_units(uuid[], interval), btc_ingest.finish_unit(uuid, uuid[]),
    btc_ingest.fail_unit(uuid, text)
TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.slice_digests(text, timestamptz, timestamptz),
    btc_ingest.verify_archive(timestamptz, timestamptz, text, text), btc_ingest_internal.unit_rows()
TO btc_ingest_reader;
GRANT SELECT ON btc_ingest.units TO btc_ingest_reader;
GRANT EXECUTE ON FUNCTION btc_ingest.forget_units(text, timestamptz, timestamptz) TO btc_ingest_admin;
