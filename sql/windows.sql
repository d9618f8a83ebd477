-- Windows: a vector per slice, what followed it, and the search for similar ones.

CREATE FUNCTION btc_ingest.embed("from" timestamptz, "to" timestamptz, asset text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'embed_wrapper';
COMMENT ON FUNCTION btc_ingest.embed(timestamptz, timestamptz, text) IS
'Makes the vectors of slices from their stored ticks and stores them in signals.btc_embeddings. What is there already
and has not changed stays as it is; so does what another program has written. Returns how many rows were new or have
changed.

from: first time; its whole bucket counts.
to: end (exclusive); the whole bucket that it lies in counts.
asset: symbol as stored. Default null: all assets of which loads have stored slices.';

CREATE FUNCTION btc_ingest_internal.label_windows(
    "from" timestamptz, "to" timestamptz, horizons interval[], assets text[], from_times timestamptz[],
    to_times timestamptz[]
) RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'label_windows_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.label_windows(
    timestamptz, timestamptz, interval[], text[], timestamptz[], timestamptz[]) IS
    'Part of label(): fills in labels, but for horizons that touch one of the given ranges of incomplete ticks';

CREATE FUNCTION btc_ingest.label(
    "from" timestamptz, "to" timestamptz, horizons interval[] DEFAULT '{5 minutes, 1 hour}'
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    missing record;
BEGIN
    SELECT array_agg(r.asset) AS assets, array_agg(r.from_time) AS firsts, array_agg(r.to_time) AS ends INTO missing
      FROM btc_ingest_internal.incomplete_ranges() r;
    RETURN btc_ingest_internal.label_windows(label."from", label."to", label.horizons,
               coalesce(missing.assets, '{}'), coalesce(missing.firsts, '{}'), coalesce(missing.ends, '{}'));
END
$$;
COMMENT ON FUNCTION btc_ingest.label(timestamptz, timestamptz, interval[]) IS
'Fills label_snapshot of the windows in a range with what followed them: {"5m": {"return": …, "realised_volatility": …},
"1h": …}. A horizon is filled in once, when it is over and no tick of it is known to be missing; a label that is there
stays. Returns how many rows have changed.

from: first bucket.
to: end (exclusive).
horizons: 1 to 16 multiples of 5 minutes, at most 30 days each. Default 5 minutes and 1 hour.

return: logarithm of the last price before the horizon''s end, less that of the window''s last price.
realised_volatility: root of the sum of squared changes of the logarithm over steps of ten seconds.';

CREATE FUNCTION btc_ingest_internal.nearest_windows(
    bucket timestamptz, asset text, numbers real[], version text, k integer, filter jsonb
)
RETURNS TABLE (found_bucket timestamptz, found_exchange text, found_asset text, distance double precision, labels text)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'nearest_windows_wrapper';
COMMENT ON FUNCTION btc_ingest_internal.nearest_windows(timestamptz, text, real[], text, integer, jsonb) IS
    'Part of similar() and similar_to(): the nearest windows to a stored one, or to a vector';

CREATE FUNCTION btc_ingest.similar(
    bucket timestamptz,
    asset text DEFAULT 'BTCUSDT',
    k integer DEFAULT 10,
    before timestamptz DEFAULT NULL,
    exclude interval DEFAULT '1 hour',
    assets text[] DEFAULT NULL,
    exchanges text[] DEFAULT NULL,
    "from" timestamptz DEFAULT NULL,
    "to" timestamptz DEFAULT NULL
) RETURNS TABLE (similar_bucket timestamptz, exchange text, similar_asset text, distance double precision, labels jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
-- The function's name is a reserved word, which cannot stand before a point.
#variable_conflict use_variable
BEGIN
    RETURN QUERY
    SELECT n.found_bucket, n.found_exchange, n.found_asset, n.distance, n.labels::jsonb
      FROM btc_ingest_internal.nearest_windows(bucket, asset, NULL, NULL, k,
               jsonb_build_object('before', before::text, 'exclude', exclude::text, 'assets', assets,
                                  'exchanges', exchanges, 'from', "from"::text, 'to', "to"::text)) n;
END
$$;
COMMENT ON FUNCTION btc_ingest.similar(
    timestamptz, text, integer, timestamptz, interval, text[], text[], timestamptz, timestamptz) IS
'The stored windows that are most like one, the most similar first, with what followed them. Only vectors of the same
feature version are compared. Returns k rows whenever so many windows match.

bucket: start of the window that the others are compared with.
asset: its symbol. Default BTCUSDT.
k: how many, 1 to 10,000. Default 10.
before: only windows whose labels were known at that time: the end of their longest label is not later. Default null:
  all, also those without labels.
exclude: windows of any asset that begin less than this before or after the bucket are left out. Default 1 hour.
assets: only windows of these symbols. Default null: all.
exchanges: only windows of these exchanges. Default null: all.
from: only windows that begin at this time or later.
to: only windows that begin before this time.

similar_bucket: start of the window.
exchange: its exchange.
similar_asset: its symbol.
distance: L2 distance of the two vectors, 0 to 2 for vectors of btc_ingest.
labels: what followed it, as label() has filled it in.';

CREATE FUNCTION btc_ingest.similar_to(
    numbers real[],
    k integer DEFAULT 10,
    version text DEFAULT NULL,
    before timestamptz DEFAULT NULL,
    assets text[] DEFAULT NULL,
    exchanges text[] DEFAULT NULL,
    "from" timestamptz DEFAULT NULL,
    "to" timestamptz DEFAULT NULL
) RETURNS TABLE (similar_bucket timestamptz, exchange text, similar_asset text, distance double precision, labels jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT n.found_bucket, n.found_exchange, n.found_asset, n.distance, n.labels::jsonb
      FROM btc_ingest_internal.nearest_windows(NULL, NULL, similar_to.numbers, similar_to.version, similar_to.k,
               jsonb_build_object('before', similar_to.before::text, 'assets', similar_to.assets,
                                  'exchanges', similar_to.exchanges,
                                  'from', similar_to."from"::text, 'to', similar_to."to"::text)) n;
END
$$;
COMMENT ON FUNCTION btc_ingest.similar_to(
    real[], integer, text, timestamptz, text[], text[], timestamptz, timestamptz) IS
'The stored windows whose vectors are nearest to a given one, the nearest first. Returns k rows whenever so many windows
match.

numbers: the vector, as an array or as pgvector''s type, with as many numbers as the stored ones.
k: how many, 1 to 10,000. Default 10.
version: feature version of the windows. Default null: that of btc_ingest itself.
before: only windows whose labels were known at that time. Default null: all.
assets: only windows of these symbols. Default null: all.
exchanges: only windows of these exchanges. Default null: all.
from: only windows that begin at this time or later.
to: only windows that begin before this time.

similar_bucket: start of the window.
exchange: its exchange.
similar_asset: its symbol.
distance: L2 distance of the two vectors.
labels: what followed it, as label() has filled it in.';

CREATE FUNCTION btc_ingest.rebuild_embedding_index(kind text DEFAULT 'ivfflat') RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'rebuild_embedding_index_wrapper';
COMMENT ON FUNCTION btc_ingest.rebuild_embedding_index(text) IS
'Makes the index on the vectors anew over those that are stored, with as many lists as suit their number, and gathers
the planner''s statistics. To be called after many vectors have come; doctor() says when. Until the transaction ends,
writers of vectors wait. Returns what it has made.

kind: "ivfflat" (default), or "hnsw", which finds more in less time and takes longer to build.';

CREATE FUNCTION btc_ingest.set_embedding_dimensions(dimensions integer, discard boolean DEFAULT false) RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'set_embedding_dimensions_wrapper';
COMMENT ON FUNCTION btc_ingest.set_embedding_dimensions(integer, boolean) IS
'Changes how many numbers a vector of signals.btc_embeddings has, and makes the index on them anew. Other numbers than
256 are for vectors of another program: embed() then refuses, and loads make no vectors. Until the transaction ends,
readers and writers of vectors wait. Returns what it has made.

dimensions: 1 to 2,000.
discard: whether stored vectors of another length are removed. Their rows and labels stay. Default false: they are an
  error.';

CREATE FUNCTION btc_ingest.reference_embeddings(target regclass, "column" text, asset_column text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'reference_embeddings_wrapper';
COMMENT ON FUNCTION btc_ingest.reference_embeddings(regclass, text, text) IS
'Links the vectors to the candles that they belong to: no vector is stored whose bucket they lack. The link to a table
is a foreign key, the one to a view or continuous aggregate a constraint trigger. It replaces an earlier link. Vectors
stay when a view or an aggregate loses rows, for example because their ticks were dropped. Returns what it has made.

target: a table, view or continuous aggregate of the owner of the tables.
column: its column with the bucket, of the type timestamptz.
asset_column: its column with the asset, of the type text. Default null: only buckets are compared.';

CREATE FUNCTION btc_ingest.unreference_embeddings() RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'unreference_embeddings_wrapper';
COMMENT ON FUNCTION btc_ingest.unreference_embeddings() IS
'Drops the link that reference_embeddings() has made. Returns what the vectors were linked to.';

CREATE FUNCTION btc_ingest.set_embedding_offset(
    source text, last_ts timestamptz, state jsonb DEFAULT '{}'
) RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'set_embedding_offset_wrapper';
COMMENT ON FUNCTION btc_ingest.set_embedding_offset(text, timestamptz, jsonb) IS
'Notes in ingestion.stream_offsets how far a program has made vectors. A program calls it in the transaction that stores
them. The row belongs to the role of the session that writes it first; no other role can change it by this function.

source: name of the row; it begins with "embed:".
last_ts: end of what is done.
state: what else is to be noted, as a JSON object; the key "role" is added. Default empty.';

REVOKE ALL ON ALL ROUTINES IN SCHEMA btc_ingest, btc_ingest_internal FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    btc_ingest.similar(timestamptz, text, integer, timestamptz, interval, text[], text[], timestamptz, timestamptz),
    btc_ingest.similar_to(real[], integer, text, timestamptz, text[], text[], timestamptz, timestamptz),
    btc_ingest_internal.nearest_windows(timestamptz, text, real[], text, integer, jsonb)
TO btc_ingest_reader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.embed(timestamptz, timestamptz, text), btc_ingest.label(timestamptz, timestamptz, interval[]),
    btc_ingest_internal.label_windows(timestamptz, timestamptz, interval[], text[], timestamptz[], timestamptz[]),
    btc_ingest.set_embedding_offset(text, timestamptz, jsonb)
TO btc_ingest_loader;
GRANT EXECUTE ON FUNCTION
    btc_ingest.rebuild_embedding_index(text), btc_ingest.set_embedding_dimensions(integer, boolean),
    btc_ingest.reference_embeddings(regclass, text, text), btc_ingest.unreference_embeddings()
TO btc_ingest_admin;
