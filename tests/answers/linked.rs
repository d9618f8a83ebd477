//! Vectors that are linked to candles, and vectors of another dimension.

use btc_ingest_kit::dump;
use btc_ingest_kit::fixture::backfill::{owned_by, role};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::ticks;
use btc_ingest_kit::sql::{Session, number, text};
use btc_ingest_kit::{TestDb, Tick};

use crate::answers_fixture::{AnswersFixture, generated};

const EMBED_ALL: &str = "SELECT btc_ingest.embed('-infinity', 'infinity')";
const COUNT: &str = "SELECT count(*) FROM signals.btc_embeddings";
/// A vector of another writer for a bucket that has no ticks and no candles.
const STRANGER: &str = "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector)
                        VALUES ('2031-01-01', 'kraken', 'BTCUSDT', array_fill(0.5, ARRAY[256])::vector)";
/// A table with a candle for each slice that has ticks.
const TABLE: &str = "CREATE TABLE public.five (bucket timestamptz, symbol text, PRIMARY KEY (symbol, bucket));
                     INSERT INTO public.five SELECT DISTINCT bucket_5m, symbol FROM market_data.btc_ticks";
/// What links the vectors.
const LINKS: &str = "SELECT pg_get_constraintdef(oid) FROM pg_constraint
                      WHERE conrelid = 'signals.btc_embeddings'::regclass AND contype IN ('f', 't') ORDER BY 1";

/// A fixture with the ticks of four buckets of a symbol, and their vectors.
fn with_windows() -> AnswersFixture {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &generated("BTCUSDT", 3, 4));
    assert_eq!(fixture.number(EMBED_ALL), 4);
    fixture
}

fn is_community(fixture: &mut AnswersFixture) -> bool {
    fixture.text("SHOW timescaledb.license") == "timescale"
}

/// Ticks with other ids in the first of the buckets.
fn late() -> Vec<Tick> {
    ticks(9_000_000, 20)
}

/// Drops all chunks of the ticks, as retention does.
fn drop_ticks(fixture: &mut AnswersFixture) {
    fixture.run("SELECT drop_chunks('market_data.btc_ticks', older_than => timestamptz '2030-01-01')");
    assert_eq!(fixture.number("SELECT count(*) FROM market_data.btc_ticks"), 0);
}

#[test]
fn a_link_to_a_table_is_a_foreign_key_and_vectors_stay_when_ticks_are_dropped() {
    let mut fixture = with_windows();
    fixture.run(TABLE);
    let made = fixture.text("SELECT btc_ingest.reference_embeddings('public.five', 'bucket', 'symbol')");
    let wanted = "foreign key: signals.btc_embeddings (bucket, asset) to public.five (\"bucket\", \"symbol\")";
    assert_eq!(made, wanted);
    assert_eq!(fixture.texts(LINKS), ["FOREIGN KEY (bucket, asset) REFERENCES five(bucket, symbol)"]);
    fixture.refused(STRANGER, "23503");
    fixture.refused("DELETE FROM public.five", "23503");
    // Loads go on, and so do those that make vectors, of a bucket that the table has.
    fixture.run("SET btc_ingest.embed_on_load = on");
    fixture.load("late", &late());
    assert_eq!(
        fixture.number("SELECT max(ticks) FROM signals.btc_embeddings WHERE bucket = '2024-08-08 12:00Z'"),
        fixture.number("SELECT count(*) FROM market_data.btc_ticks WHERE bucket_5m = '2024-08-08 12:00Z'")
    );

    let copied = dump::copy(&fixture.db);
    must_have_link(&copied, "FOREIGN KEY (bucket, asset) REFERENCES five(bucket, symbol)");
    drop_ticks(&mut fixture);
    assert_eq!(fixture.number(COUNT), 4);

    let dropped = fixture.text("SELECT btc_ingest.unreference_embeddings()");
    assert_eq!(dropped, "signals.btc_embeddings is no longer linked to public.five");
    assert_eq!(fixture.texts(LINKS), [""; 0]);
    fixture.run("DELETE FROM public.five");
    fixture.run(STRANGER);
    assert_eq!(fixture.number(COUNT), 5);
}

/// Checks that a link is there after a dump, and that `migrate()` leaves it alone.
#[track_caller]
fn must_have_link(db: &TestDb<'_>, wanted: &str) {
    let mut client = db.client();
    assert!(text(&mut client, "SELECT btc_ingest.migrate()").ends_with("; nothing was missing"));
    assert_eq!(text(&mut client, LINKS), wanted);
    assert!(client.batch_execute(STRANGER).is_err());
    assert_eq!(number(&mut client, COUNT), 4);
}

#[test]
fn a_link_to_a_view_is_a_constraint_trigger_and_vectors_stay_when_it_loses_rows() {
    let mut fixture = with_windows();
    fixture.run("CREATE VIEW public.seen AS SELECT DISTINCT bucket_5m AS \"start 'of'\" FROM market_data.btc_ticks");
    fixture.run("CREATE TABLE public.five (bucket timestamptz PRIMARY KEY)");
    fixture.run("INSERT INTO public.five SELECT bucket FROM signals.btc_embeddings");
    // The second link takes the place of the first.
    fixture.run("SELECT btc_ingest.reference_embeddings('public.five', 'bucket')");
    let made = fixture.text("SELECT btc_ingest.reference_embeddings('public.seen', 'start ''of''')");
    let wanted = "constraint trigger: signals.btc_embeddings (bucket) to public.seen (\"start 'of'\")";
    assert_eq!(made, wanted);
    assert_eq!(fixture.texts(LINKS), ["TRIGGER"]);
    let refusal = fixture.refused(STRANGER, "23503");
    assert!(refusal.message.contains("public.seen"), "{refusal:?}");
    fixture.refused("UPDATE signals.btc_embeddings SET bucket = bucket + interval '1 year'", "23503");
    fixture.run("SET btc_ingest.embed_on_load = on");
    fixture.load("late", &late());
    fixture.load("next", &generated("BTCUSDT", 3, 6)[5_900..]);
    assert!(fixture.number(COUNT) > 4);
    fixture.run("DELETE FROM signals.btc_embeddings WHERE bucket >= '2024-08-08 12:20Z'");
    must_have_link(&dump::copy(&fixture.db), "TRIGGER");

    drop_ticks(&mut fixture);
    assert_eq!(fixture.number(COUNT), 4);
    fixture.run("UPDATE signals.btc_embeddings SET label_snapshot = '{}'");
    // The link goes with the view, and the vectors stay.
    fixture.run("DROP VIEW public.seen");
    assert_eq!(fixture.texts(LINKS), [""; 0]);
    fixture.run(STRANGER);
    let refusal = fixture.refused("SELECT btc_ingest.unreference_embeddings()", "TK053");
    assert!(refusal.message.contains("is linked to nothing"), "{refusal:?}");
}

#[test]
fn a_link_to_a_continuous_aggregate_lets_late_ticks_in_and_outlives_dropped_ticks() {
    let mut fixture = with_windows();
    if !is_community(&mut fixture) {
        println!("skipped: needs the Community edition");
        return;
    }
    fixture.run("SELECT btc_ingest.create_candles('5 minutes')");
    fixture.run("CALL btc_ingest.refresh_candles()");
    let link = "SELECT btc_ingest.reference_embeddings('market_data.btc_ohlcv_5m', 'bucket_5m', 'symbol')";
    let made = fixture.text(link);
    assert!(made.starts_with("constraint trigger: ") && made.contains("to market_data.btc_ohlcv_5m"), "{made}");
    fixture.refused(STRANGER, "23503");

    // Ticks below the watermark are not in the aggregate before its next refresh. Their load makes a vector all the
    // same.
    let early: Vec<Tick> = generated("ETHUSDT", 8, 1);
    fixture.run("SET btc_ingest.embed_on_load = on");
    fixture.load("early", &early);
    let seen = "SELECT count(*) FROM market_data.btc_ohlcv_5m WHERE symbol = 'ETHUSDT'";
    assert_eq!(fixture.number(seen), 0, "the test has ticks that the aggregate lacks");
    assert_eq!(fixture.number("SELECT count(*) FROM signals.btc_embeddings WHERE asset = 'ETHUSDT'"), 1);
    fixture.run("DELETE FROM signals.btc_embeddings WHERE asset = 'ETHUSDT'");
    must_have_link(&dump::copy(&fixture.db), "TRIGGER");

    // Candles that are dropped take no vector with them, and neither do ticks.
    drop_ticks(&mut fixture);
    assert_eq!(fixture.number(COUNT), 4);
    fixture.run("SELECT drop_chunks('market_data.btc_ohlcv_5m', older_than => timestamptz '2030-01-01')");
    assert_eq!(fixture.number("SELECT count(*) FROM market_data.btc_ohlcv_5m"), 0);
    assert_eq!(fixture.number(COUNT), 4);
    // A link cannot be made anew to what lacks their buckets.
    let refusal = fixture.refused(link, "TK054");
    assert!(
        refusal.message.contains(
            "no row for 4 of the stored vectors, the first of them that of 'BTCUSDT' for \
                                      2024-08-08T12:00:00Z"
        ),
        "{refusal:?}"
    );
    fixture.run("SELECT btc_ingest.drop_candles('btc_ohlcv_5m')");
    assert_eq!(fixture.texts(LINKS), [""; 0]);
    assert_eq!(fixture.number(COUNT), 4);
}

#[test]
fn a_target_that_does_not_suit_has_one_clear_error() {
    let mut fixture = with_windows();
    fixture.run(TABLE);
    fixture.run(&role("link_stranger"));
    fixture.run(
        "CREATE VIEW public.theirs AS SELECT bucket, symbol FROM public.five;
         ALTER VIEW public.theirs OWNER TO link_stranger;
         CREATE TEMP TABLE passing (bucket timestamptz PRIMARY KEY);
         CREATE TABLE public.days (bucket date PRIMARY KEY);
         CREATE TABLE public.empty (bucket timestamptz PRIMARY KEY)",
    );
    for (args, sqlstate, message) in [
        ("NULL, 'bucket'", "TK031", "must not be null"),
        ("'public.five', NULL", "TK031", "must not be null"),
        ("12345678::oid::regclass, 'x'", "TK053", "no table or view with the oid 12345678"),
        ("'signals.btc_embeddings', 'bucket'", "TK053", "itself"),
        ("'public.five', 'start'", "TK053", "public.five has no column \"start\""),
        ("'public.five', 'bucket', 'asset'", "TK053", "public.five has no column \"asset\""),
        ("'public.five', 'bucket'", "TK053", "no unique key over (\"bucket\")"),
        ("'public.five', 'symbol', 'bucket'", "TK053", "has the type text, and must have timestamp with time zone"),
        ("'public.days', 'bucket'", "TK053", "has the type date"),
        ("'public.theirs', 'bucket'", "TK053", "belongs to \"link_stranger\""),
        ("'pg_temp.passing', 'bucket'", "TK053", "that stays"),
        ("'signals.btc_embeddings_pkey', 'bucket'", "TK053", "is no table, view or continuous aggregate"),
        ("'public.empty', 'bucket'", "TK054", "public.empty has no row for 4 of the stored vectors"),
    ] {
        let refusal = fixture.refused(&format!("SELECT btc_ingest.reference_embeddings({args})"), sqlstate);
        assert!(refusal.message.contains(message) && !refusal.hint.is_empty(), "{args}: {refusal:?}");
    }
    assert_eq!(fixture.texts(LINKS), [""; 0]);
}

#[test]
fn a_linked_view_that_is_given_to_another_role_is_read_by_no_load() {
    let mut fixture = with_windows();
    fixture.run("CREATE VIEW public.seen AS SELECT DISTINCT bucket_5m FROM market_data.btc_ticks");
    fixture.run("SELECT btc_ingest.reference_embeddings('public.seen', 'bucket_5m')");
    let uri = fixture.put("late", &late());
    fixture.run(&format!("{}ALTER ROLE link_thief LOGIN", role("link_thief")));
    fixture.run("ALTER VIEW public.seen OWNER TO link_thief");
    let refusal = fixture.refused(&format!("SELECT btc_ingest.load_s3_slice('{uri}')"), "42501");
    assert!(refusal.message.contains("public.seen on signals.btc_embeddings of \"link_thief\""), "{refusal:?}");
    // Nor by a statement of another writer.
    let refusal = fixture.refused(STRANGER, "42501");
    assert!(refusal.message.contains("link_thief") && !refusal.hint.is_empty(), "{refusal:?}");
    fixture.run("ALTER VIEW public.seen OWNER TO CURRENT_USER");
    loaded(&mut fixture.client, &uri, "");
    // The trigger's function is for this table alone.
    fixture.run("GRANT USAGE, CREATE ON SCHEMA signals TO link_thief");
    let mut thief = fixture.db.client_as("link_thief");
    let stolen = "CREATE TABLE signals.bait (bucket timestamptz, asset text);
                  CREATE CONSTRAINT TRIGGER bait AFTER INSERT ON signals.bait FROM public.seen
                      FOR EACH ROW EXECUTE FUNCTION signals.btc_embeddings_reference('bucket_5m', '', 'view')";
    assert_eq!(thief.batch_execute(stolen).unwrap_err().code().unwrap().code(), "42501");
}

#[test]
fn an_administrator_links_what_belongs_to_the_tables_owner_and_a_loader_stores_vectors() {
    let mut fixture = AnswersFixture::new();
    fixture.run(&owned_by("link_owner"));
    fixture.load("a", &generated("BTCUSDT", 3, 2));
    fixture.run(TABLE);
    fixture.run(
        "GRANT CREATE, USAGE ON SCHEMA signals TO link_owner; ALTER TABLE public.five OWNER TO link_owner;
         GRANT USAGE ON SCHEMA public TO link_owner;
         SET ROLE link_owner; CREATE VIEW signals.seen AS SELECT bucket, symbol FROM public.five; RESET ROLE",
    );
    for name in ["admin", "loader"] {
        let user = format!("link_{name}");
        fixture.run(&format!("{}ALTER ROLE {user} LOGIN; GRANT btc_ingest_{name} TO {user}", role(&user)));
    }
    let (mut admin, mut loader) = (fixture.db.client_as("link_admin"), fixture.db.client_as("link_loader"));
    for call in [
        "reference_embeddings('public.five', 'bucket', 'symbol')",
        "unreference_embeddings()",
        "set_embedding_dimensions(3)",
    ] {
        let error = loader.batch_execute(&format!("SELECT btc_ingest.{call}")).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{call}");
    }
    // The loader may read neither of the targets.
    for target in ["public.five", "signals.seen"] {
        text(&mut admin, &format!("SELECT btc_ingest.reference_embeddings('{target}', 'bucket', 'symbol')"));
        assert_eq!(number(&mut loader, EMBED_ALL), 2, "{target}");
        assert_eq!(loader.batch_execute(STRANGER).unwrap_err().code().unwrap().code(), "23503");
        fixture.run("DELETE FROM signals.btc_embeddings");
    }
    text(&mut admin, "SELECT btc_ingest.unreference_embeddings()");
    text(&mut admin, "SELECT btc_ingest.set_embedding_dimensions(3)");
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'btc_embeddings_feature_vector_idx'";
    assert_eq!(fixture.text(owner), "link_owner");
}

#[test]
fn vectors_of_another_dimension_are_for_other_writers_and_come_back() {
    let mut fixture = with_windows();
    fixture.run("SELECT btc_ingest.label('-infinity', 'infinity', '{5 minutes}')");
    let before = fixture.texts("SELECT md5(feature_vector::text) FROM signals.btc_embeddings ORDER BY bucket");
    let labels = "SELECT count(label_snapshot) FROM signals.btc_embeddings";
    let labelled = fixture.number(labels);
    assert!(labelled > 0);
    fixture.run("SELECT btc_ingest.rebuild_embedding_index('hnsw')");

    let refusal = fixture.refused("SELECT btc_ingest.set_embedding_dimensions(3)", "TK056");
    assert!(refusal.message.contains("4 vectors of 256 numbers") && refusal.hint.contains("discard"), "{refusal:?}");
    assert_eq!(fixture.text("SELECT btc_ingest.set_embedding_dimensions(256)"), "vectors of 256 numbers, as before");
    let made = fixture.text("SELECT btc_ingest.set_embedding_dimensions(3, discard => true)");
    assert_eq!(made, "vectors of 3 numbers, 4 of 256 numbers removed; hnsw over 0 vectors");
    assert_eq!(fixture.number(labels), labelled, "rows and labels stay");

    // The library's own vectors do not fit. What is loaded is stored all the same.
    let refusal = fixture.refused(EMBED_ALL, "TK055");
    assert!(refusal.message.contains("3 numbers") && refusal.hint.contains("(256)"), "{refusal:?}");
    fixture.run("SET btc_ingest.embed_on_load = on");
    assert_eq!(fixture.load("late", &late()).inserted, 20);
    let told = "SELECT ok::text || detail || hint FROM btc_ingest.doctor() WHERE name = 'windows' AND NOT ok";
    let told = fixture.text(told);
    assert!(told.contains("those of 3 numbers") && told.contains("embed_on_load"), "{told}");
    fixture.run("RESET btc_ingest.embed_on_load");

    // Those of another writer do, also after dump and restore.
    fixture.run(
        "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector, feature_version)
         SELECT '2024-09-09 12:00Z'::timestamptz + n * interval '5 minutes', 'x', 'BTCUSDT',
                ARRAY[n, 1, 2]::real[]::vector, 'mine 1' FROM generate_series(1, 50) AS n",
    );
    let nearest = "SELECT string_agg(to_char(similar_bucket AT TIME ZONE 'UTC', 'HH24:MI'), ' ')
                     FROM btc_ingest.similar_to('{7,1,2}', k => 1, version => 'mine 1')";
    assert_eq!(fixture.text(nearest), "12:35");
    fixture.refused("SELECT btc_ingest.similar_to('{7,1,2,3}', version => 'mine 1')", "TK051");
    let copied = dump::copy(&fixture.db);
    let mut client = copied.client();
    assert!(text(&mut client, "SELECT btc_ingest.migrate()").ends_with("; nothing was missing"));
    assert_eq!(text(&mut client, nearest), "12:35");

    fixture.refused("SELECT btc_ingest.set_embedding_dimensions(256)", "TK056");
    fixture.run("SELECT btc_ingest.set_embedding_dimensions(256, discard => true)");
    assert!(fixture.number(EMBED_ALL) >= 4);
    let sql = "SELECT md5(feature_vector::text) FROM signals.btc_embeddings
                WHERE bucket > '2024-08-08 12:00Z' AND feature_version <> 'mine 1' ORDER BY bucket";
    assert_eq!(fixture.texts(sql), before[1..], "the slices without late ticks have their vectors again");
    assert_eq!(fixture.number(labels), labelled);
    for (sql, message) in [
        ("SELECT btc_ingest.set_embedding_dimensions(0)", "must be 1 to 2000"),
        ("SELECT btc_ingest.set_embedding_dimensions(2001)", "must be 1 to 2000"),
        ("SELECT btc_ingest.set_embedding_dimensions(NULL)", "must not be null"),
    ] {
        let refusal = fixture.refused(sql, "TK031");
        assert!(refusal.message.contains(message), "{refusal:?}");
    }
}

#[test]
fn an_offset_of_vectors_belongs_to_the_role_that_wrote_it_first() {
    let mut fixture = AnswersFixture::new();
    fixture.load("a", &ticks(1, 20));
    for name in ["one", "two"] {
        let user = format!("offset_{name}");
        fixture.run(&format!("{}ALTER ROLE {user} LOGIN; GRANT btc_ingest_loader TO {user}", role(&user)));
    }
    let (mut one, mut two) = (fixture.db.client_as("offset_one"), fixture.db.client_as("offset_two"));
    let set = |source: &str, time: &str| {
        format!("SELECT btc_ingest.set_embedding_offset('{source}', '{time}', '{{\"n\": 1}}')")
    };
    one.batch_execute(&set("embed:mine", "2024-08-08 12:00Z")).unwrap();
    one.batch_execute(&set("embed:mine", "2024-08-08 11:00Z")).unwrap();
    let offsets = "SELECT concat_ws('|', source, last_sequence, to_char(last_ts AT TIME ZONE 'UTC', 'HH24:MI'),
                                    state ->> 'role', state ->> 'n') FROM ingestion.stream_offsets ORDER BY source";
    let rows = fixture.texts(offsets);
    assert!(rows.contains(&"embed:mine|11:00|offset_one|1".to_owned()) && rows.len() == 2, "{rows:?}");
    let of_loads = fixture.text("SELECT source FROM ingestion.stream_offsets WHERE source NOT LIKE 'embed:%'");
    fixture.run("UPDATE ingestion.stream_offsets SET source = 'embed:load' WHERE source NOT LIKE 'embed:%'");
    fixture.run("INSERT INTO ingestion.stream_offsets (source, last_ts) VALUES ('embed:plain', now())");

    for (source, sqlstate) in [
        ("embed:mine", "TK057"),
        ("embed:load", "TK057"),
        ("embed:plain", "TK057"),
        (&*of_loads, "TK031"),
        ("watch:s3://x/", "TK031"),
        ("embed:", "TK031"),
        ("", "TK031"),
    ] {
        let error = two.batch_execute(&set(source, "2024-08-08 12:00Z")).unwrap_err();
        assert_eq!(error.code().unwrap().code(), sqlstate, "{source}");
    }
    for sql in [
        "UPDATE ingestion.stream_offsets SET last_ts = now() WHERE source = 'embed:mine'",
        "INSERT INTO ingestion.stream_offsets (source) VALUES ('embed:x')",
        "DELETE FROM ingestion.stream_offsets",
    ] {
        assert_eq!(one.batch_execute(sql).unwrap_err().code().unwrap().code(), "42501", "{sql}");
    }
    for args in ["NULL, now()", "'embed:x', NULL", "'embed:x', now(), '[1]'"] {
        fixture.refused(&format!("SELECT btc_ingest.set_embedding_offset({args})"), "TK031");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM ingestion.stream_offsets"), 3, "no row was written");
}
