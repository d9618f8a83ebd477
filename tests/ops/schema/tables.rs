//! Tables, columns, keys, indexes and hypertables.

use super::*;

/// Checks `name type [not null] [default …]` of every column of a table, in order.
#[track_caller]
pub fn columns(table: &str, wanted: &str) {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                        CASE WHEN a.attcollation <> t.typcollation THEN (
                            SELECT 'collate ' || quote_ident(collname) FROM pg_collation
                             WHERE oid = a.attcollation) END,
                        CASE WHEN a.attnotnull THEN 'not null' END,
                        CASE a.attidentity WHEN 'a' THEN 'always identity' WHEN 'd' THEN 'default identity' END,
                        'default ' || pg_get_expr(d.adbin, d.adrelid))
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum"
        ),
    );
    must_be(&found, wanted);
}

#[test]
fn the_tables_are_these() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT format('%s.%s %s', n.nspname, c.relname, c.relkind)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN {SCHEMAS} AND c.relkind NOT IN ('i', 'S') ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.assets r
         ingestion.backfill_chunks r
         ingestion.backfill_workers r
         ingestion.backfills r
         ingestion.candles r
         ingestion.control r
         ingestion.gap_notes r
         ingestion.id_sets r
         ingestion.load_history r
         ingestion.object_slices r
         ingestion.objects r
         ingestion.outages r
         ingestion.schema_version r
         ingestion.staged_candles r
         ingestion.staged_slices r
         ingestion.stream_offsets r
         ingestion.verification_findings r
         ingestion.verifications r
         ingestion.work_units r
         landing.raw_blobs_5m r
         landing.rejected_ticks r
         market_data.btc_ticks r
         ops.chunk_drops r
         ops.dropped_ranges r
         ops.retention_checks r
         ops.retention_jobs r
         ops.slice_candles r
         ops.slice_digests r
         signals.btc_embeddings r",
    );
}

#[test]
fn the_registry_has_the_documented_columns_and_four_of_ours() {
    columns(
        "landing.raw_blobs_5m",
        "bucket_5m timestamp with time zone not null
         asset text not null
         s3_uri text not null
         object_size_bytes bigint
         ingested_tick_span tsrange
         metadata jsonb
         created_at timestamp with time zone default now()
         status text not null default 'pending'::text
         loaded_at timestamp with time zone
         queued_at timestamp with time zone
         registered_at timestamp with time zone default now()",
    );
}

#[test]
fn the_ticks_have_the_documented_columns() {
    columns(
        "market_data.btc_ticks",
        "bucket_5m timestamp with time zone not null
         event_time timestamp with time zone not null
         trade_time timestamp with time zone
         symbol text collate \"C\" not null
         trade_id bigint not null
         price numeric(18,8)
         quantity numeric(24,12)
         buyer_order_id text
         seller_order_id text
         is_market_maker boolean
         ingested_at timestamp with time zone default now()",
    );
}

#[test]
fn the_embeddings_have_the_documented_columns_and_four_of_ours() {
    columns(
        "signals.btc_embeddings",
        "bucket timestamp with time zone not null
         exchange text not null
         feature_vector vector(256)
         label_snapshot jsonb
         created_at timestamp with time zone default now()
         asset text not null default 'BTCUSDT'::text
         feature_version text not null default 'external'::text
         ticks bigint
         labelled_to timestamp with time zone",
    );
}

#[test]
fn offsets_and_retention_jobs_have_the_documented_columns() {
    columns(
        "ingestion.stream_offsets",
        "source text not null
         last_sequence bigint
         last_ts timestamp with time zone
         state jsonb
         updated_at timestamp with time zone default now()",
    );
    columns(
        "ops.retention_jobs",
        "job_name text not null
         hypertable text not null
         policy jsonb not null
         enabled boolean default true
         created_at timestamp with time zone default now()",
    );
}

/// The tables that the documented schema does not have, and their columns.
const OUR_TABLES: [(&str, &str); 12] = [
    (
        "ingestion.objects",
        "s3_uri text not null
         etag text
         size_bytes bigint
         status text not null default 'pending'::text
         attempts integer not null default 0
         attempt_started_at timestamp with time zone
         next_attempt_at timestamp with time zone
         last_sqlstate text
         last_error text
         rows_read bigint
         rows_inserted bigint
         rows_duplicate bigint
         rows_conflicting bigint
         rows_replaced bigint
         rows_rejected bigint
         metadata jsonb not null default '{}'::jsonb
         options jsonb not null default '{}'::jsonb
         generation bigint not null default 0
         registered_at timestamp with time zone not null default now()
         loaded_at timestamp with time zone
         listed_etag text
         listed_size bigint
         backfill bigint
         span_from timestamp with time zone not null default '-infinity'::timestamp with time zone
         span_to timestamp with time zone not null default 'infinity'::timestamp with time zone
         rows_staged bigint not null default 0
         asset text
         queued_at timestamp with time zone not null default now()
         watch text
         on_conflict text not null default 'keep'::text
         load_order bigint not null default identity
         reload boolean not null default false",
    ),
    (
        "ingestion.object_slices",
        "s3_uri text not null
         etag text not null
         bucket_5m timestamp with time zone not null
         asset text not null
         ticks bigint not null
         first_trade_id bigint not null
         last_trade_id bigint not null
         first_event_time timestamp with time zone not null
         last_event_time timestamp with time zone not null
         loaded_at timestamp with time zone not null default now()
         ids int8multirange
         missing_ids bigint not null default 0
         out_of_order bigint not null default 0
         max_time_skew interval
         skewed bigint not null default 0
         duplicates bigint not null default 0
         conflicts bigint not null default 0
         unregistered boolean not null default false
         first_seen timestamp with time zone",
    ),
    (
        "ingestion.id_sets",
        "id bigint not null always identity
         asset text not null
         kind text not null
         ids int8multirange",
    ),
    (
        "ingestion.gap_notes",
        "asset text not null
         first_trade_id bigint not null
         last_trade_id bigint not null
         kind text not null
         reason text
         noted_by text not null default SESSION_USER
         noted_at timestamp with time zone not null default now()",
    ),
    (
        "ingestion.assets",
        "asset text not null
         sequential_ids boolean not null default true
         changed_by text
         changed_at timestamp with time zone not null default now()
         open_gaps bigint
         missing_ids bigint
         gaps_counted_at timestamp with time zone",
    ),
    (
        "ingestion.verifications",
        "id bigint not null always identity
         asset text not null
         from_time timestamp with time zone not null
         to_time timestamp with time zone not null
         status text not null default 'running'::text
         verified_to timestamp with time zone not null
         slices bigint not null default 0
         ticks bigint not null default 0
         different bigint not null default 0
         unproven bigint not null default 0
         requested_by text not null default SESSION_USER
         started_at timestamp with time zone not null default clock_timestamp()
         updated_at timestamp with time zone not null default clock_timestamp()
         finished_at timestamp with time zone",
    ),
    (
        "ingestion.verification_findings",
        "verification bigint not null
         bucket_5m timestamp with time zone not null
         outcome text not null
         missing bigint
         extra bigint
         differing bigint
         missing_ids bigint[]
         extra_ids bigint[]
         differing_ids bigint[]
         problem text
         found_at timestamp with time zone not null default now()",
    ),
    (
        "ingestion.load_history",
        "id bigint not null always identity
         s3_uri text not null
         etag text
         outcome text not null
         bytes bigint
         rows_read bigint
         rows_inserted bigint
         rows_duplicate bigint
         rows_conflicting bigint
         rows_replaced bigint
         rows_rejected bigint
         fetch_ms double precision
         decode_ms double precision
         insert_ms double precision
         elapsed_ms double precision
         sqlstate text
         message text
         started_at timestamp with time zone not null
         finished_at timestamp with time zone
         pid integer not null default pg_backend_pid()",
    ),
    (
        "landing.rejected_ticks",
        "id bigint not null always identity
         s3_uri text not null
         etag text not null
         row_number bigint not null
         reason text not null
         row_data jsonb not null
         rejected_at timestamp with time zone not null default now()",
    ),
    (
        "ingestion.outages",
        "prefix text not null
         sqlstate text not null
         message text not null
         s3_uri text not null
         since timestamp with time zone not null default clock_timestamp()
         probes bigint not null default 0
         probed_at timestamp with time zone
         next_probe_at timestamp with time zone not null default clock_timestamp()
         ended_at timestamp with time zone",
    ),
    (
        "ingestion.candles",
        "name text not null
         width interval not null
         by_time text not null default 'event_time'::text
         aggregate text
         chunk_interval interval not null default '7 days'::interval
         refreshed_at timestamp with time zone
         wanted_from timestamp with time zone
         wanted_to timestamp with time zone
         last_error text
         created_by text not null default SESSION_USER
         created_at timestamp with time zone not null default now()",
    ),
    (
        "ingestion.schema_version",
        "only_row boolean not null default true
         version integer not null
         migrated_at timestamp with time zone not null default now()",
    ),
];

#[test]
fn our_own_tables_have_these_columns() {
    for (table, wanted) in OUR_TABLES {
        columns(table, wanted);
    }
}

#[test]
fn keys_and_checks_are_these() {
    let sql = format!(
        "SELECT format('%s %s', k.conrelid::regclass, pg_get_constraintdef(k.oid))
           FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname IN {SCHEMAS} ORDER BY 1"
    );
    let found = texts(&mut client(), &sql);
    must_be(
        &found,
        "ingestion.assets PRIMARY KEY (asset)
         ingestion.backfill_chunks CHECK ((status = ANY (ARRAY['pending'::text, 'attached'::text, 'objects'::text, \
            'done'::text])))
         ingestion.backfill_chunks PRIMARY KEY (backfill, chunk_from)
         ingestion.backfill_workers PRIMARY KEY (backfill, slot)
         ingestion.backfills CHECK ((mode = ANY (ARRAY['object'::text, 'chunk'::text])))
         ingestion.backfills CHECK ((status = ANY (ARRAY['pending'::text, 'listing'::text, 'loading'::text, \
             'done'::text, 'stopped'::text, 'cancelled'::text])))
         ingestion.backfills PRIMARY KEY (id)
         ingestion.candles CHECK ((by_time = ANY (ARRAY['event_time'::text, 'trade_time'::text])))
         ingestion.candles PRIMARY KEY (name)
         ingestion.control CHECK (only_row)
         ingestion.control PRIMARY KEY (only_row)
         ingestion.gap_notes CHECK ((kind = ANY (ARRAY['explained'::text, 'reported'::text])))
         ingestion.gap_notes PRIMARY KEY (asset, first_trade_id, last_trade_id, kind)
         ingestion.id_sets CHECK ((kind = ANY (ARRAY['held'::text, 'lost'::text, 'sparse'::text])))
         ingestion.id_sets PRIMARY KEY (id)
         ingestion.load_history PRIMARY KEY (id)
         ingestion.object_slices PRIMARY KEY (s3_uri, etag, bucket_5m, asset)
         ingestion.objects CHECK ((on_conflict = ANY (ARRAY['keep'::text, 'replace'::text])))
         ingestion.objects CHECK ((status = ANY (ARRAY['pending'::text, 'loaded'::text, 'failed'::text, \
             'quarantined'::text, 'skipped'::text])))
         ingestion.objects PRIMARY KEY (s3_uri)
         ingestion.outages PRIMARY KEY (prefix)
         ingestion.schema_version CHECK (only_row)
         ingestion.schema_version PRIMARY KEY (only_row)
         ingestion.staged_candles PRIMARY KEY (token, part, minute)
         ingestion.staged_slices CHECK ((digest ~ '^[0-9a-f]{32}$'::text))
         ingestion.staged_slices CHECK ((feature_version !~ '^btc_ingest '::text))
         ingestion.staged_slices PRIMARY KEY (token, part, bucket_5m)
         ingestion.stream_offsets PRIMARY KEY (source)
         ingestion.verification_findings PRIMARY KEY (verification, bucket_5m)
         ingestion.verifications CHECK ((status = ANY (ARRAY['running'::text, 'done'::text])))
         ingestion.verifications PRIMARY KEY (id)
         ingestion.work_units CHECK ((state = ANY (ARRAY['open'::text, 'leased'::text, 'finished'::text])))
         ingestion.work_units PRIMARY KEY (id)
         landing.raw_blobs_5m CHECK ((status = ANY (ARRAY['pending'::text, 'loaded'::text, 'empty'::text, \
             'failed'::text, 'quarantined'::text, 'skipped'::text])))
         landing.raw_blobs_5m PRIMARY KEY (bucket_5m, asset)
         landing.rejected_ticks PRIMARY KEY (id)
         market_data.btc_ticks PRIMARY KEY (bucket_5m, symbol, trade_id)
         ops.chunk_drops PRIMARY KEY (hypertable, from_time)
         ops.dropped_ranges PRIMARY KEY (id)
         ops.retention_checks PRIMARY KEY (chunk_from)
         ops.retention_jobs PRIMARY KEY (job_name)
         ops.slice_candles PRIMARY KEY (kind, asset, minute)
         ops.slice_digests PRIMARY KEY (kind, asset, bucket_5m)
         signals.btc_embeddings PRIMARY KEY (bucket, exchange, asset)",
    );
}

#[test]
fn indexes_are_these() {
    let found = texts(
        &mut client(),
        &format!(
            "SELECT concat_ws(' ', x.indrelid::regclass, CASE WHEN x.indisunique THEN 'unique' END,
                              substring(regexp_replace(pg_get_indexdef(x.indexrelid), '\\s+', ' ', \
                                  'g') FROM 'USING .*'))
               FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN {SCHEMAS} AND NOT x.indisprimary AND x.indisvalid ORDER BY 1"
        ),
    );
    must_be(
        &found,
        "ingestion.id_sets USING btree (asset) WHERE (kind <> 'held'::text)
         ingestion.load_history USING btree (s3_uri, started_at)
         ingestion.load_history USING btree (started_at)
         ingestion.load_history USING btree (started_at) WHERE ((rows_conflicting > 0) OR (rows_rejected > 0))
         ingestion.load_history USING btree (started_at) WHERE (sqlstate IS NOT NULL)
         ingestion.object_slices USING btree (asset, bucket_5m)
         ingestion.object_slices USING btree (asset, first_trade_id)
         ingestion.objects USING btree (( CASE WHEN isfinite(span_from) THEN span_from ELSE registered_at END), \
             s3_uri) WHERE ((status = 'pending'::text) AND (backfill IS NULL))
         ingestion.objects USING btree (asset, span_from, queued_at, backfill) WHERE (status = ANY \
             (ARRAY['pending'::text, \
             'failed'::text]))
         ingestion.objects USING btree (backfill, next_attempt_at) WHERE (status = ANY (ARRAY['failed'::text, \
             'quarantined'::text]))
         ingestion.objects USING btree (backfill, span_from, s3_uri) WHERE ((status = 'pending'::text) AND (backfill \
             IS NOT NULL))
         ingestion.objects USING btree (loaded_at) WHERE ((rows_conflicting > 0) OR (rows_rejected > 0))
         ingestion.objects USING btree (status, next_attempt_at, registered_at)
         ingestion.work_units USING btree (token)
         ingestion.work_units unique USING btree (kind, asset, from_time, to_time)
         landing.raw_blobs_5m USING btree (bucket_5m, asset) WHERE ((status = 'pending'::text) AND (queued_at IS NULL))
         landing.raw_blobs_5m USING btree (bucket_5m, asset) WHERE (status = 'empty'::text)
         landing.raw_blobs_5m USING btree (s3_uri)
         landing.raw_blobs_5m USING btree (s3_uri) WHERE (status = 'quarantined'::text)
         landing.raw_blobs_5m unique USING btree (asset, bucket_5m)
         landing.rejected_ticks USING btree (s3_uri, etag)
         market_data.btc_ticks USING btree (bucket_5m)
         market_data.btc_ticks USING btree (symbol, event_time DESC)
         ops.dropped_ranges USING btree (from_time, to_time) WHERE (restored_at IS NULL)
         ops.dropped_ranges USING btree (to_time, from_time) WHERE (restored_at IS NULL)
         signals.btc_embeddings USING ivfflat (feature_vector) WITH (lists='200')",
    );
}

#[test]
fn the_ticks_are_a_hypertable_of_seven_day_chunks() {
    let found = texts(
        &mut client(),
        "SELECT format('%s %s %s of %s', hypertable_name, column_name, time_interval, num_dimensions)
           FROM timescaledb_information.dimensions JOIN timescaledb_information.hypertables
                USING (hypertable_schema, hypertable_name)
          WHERE hypertable_schema = 'market_data'",
    );
    must_be(&found, "btc_ticks bucket_5m 7 days of 1");
}

#[test]
fn the_chunk_interval_of_the_setting_is_honoured_at_install() {
    let db = TestDb::new(&ServerFixture::shared().cluster);
    let mut client = db.client();
    client
        .batch_execute(
            "SET client_min_messages = warning; SET btc_ingest.chunk_time_interval = '1 day'; CREATE EXTENSION \
                btc_ingest CASCADE",
        )
        .unwrap();
    let interval = "SELECT time_interval::text FROM timescaledb_information.dimensions";
    assert_eq!(texts(&mut client, interval), ["1 day"]);
    // Later TimescaleDB's own function changes it, and migrate() keeps it.
    client.batch_execute("SELECT set_chunk_time_interval('market_data.btc_ticks', interval '2 days')").unwrap();
    client.batch_execute("SELECT btc_ingest.migrate()").unwrap();
    assert_eq!(texts(&mut client, interval), ["2 days"]);
}

#[test]
fn a_producer_who_writes_the_documented_columns_gets_a_pending_row() {
    let db = ServerFixture::shared().db();
    let mut client = db.client();
    let row = "SELECT concat_ws(' ', status, s3_uri, loaded_at IS NULL, object_size_bytes) FROM landing.raw_blobs_5m";
    let upsert = |uri: &str, size: &str| {
        format!(
            "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri, object_size_bytes)
             VALUES ('2024-08-08T12:00:00Z', 'A', '{uri}', {size}) ON CONFLICT (bucket_5m, asset)
             DO UPDATE SET s3_uri = excluded.s3_uri, object_size_bytes = excluded.object_size_bytes"
        )
    };
    client.batch_execute(&upsert("one", "7")).unwrap();
    assert_eq!(texts(&mut client, row), ["pending one t 7"]);
    client.batch_execute("UPDATE landing.raw_blobs_5m SET status = 'loaded', loaded_at = now()").unwrap();
    assert_eq!(texts(&mut client, row), ["loaded one f 7"], "our own statements never set s3_uri");
    client.batch_execute("UPDATE landing.raw_blobs_5m SET s3_uri = 'two'").unwrap();
    assert_eq!(texts(&mut client, row), ["pending two t"], "the size was that of the object before");
    client.batch_execute("UPDATE landing.raw_blobs_5m SET status = 'loaded', loaded_at = now()").unwrap();
    client.batch_execute(&upsert("two", "9")).unwrap();
    assert_eq!(texts(&mut client, row), ["pending two t 9"]);
    let error = client.batch_execute("UPDATE landing.raw_blobs_5m SET status = 'done'").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23514");
}
