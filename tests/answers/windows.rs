//! Vectors of slices, their labels, and the search for similar ones.

use btc_ingest_kit::dump;
use btc_ingest_kit::fixture::backfill::{BackfillFixture, owned_by, role};
use btc_ingest_kit::fixture::called::say;
use btc_ingest_kit::fixture::chunks::{chunk_fixture, put_slice, some_ticks, week};
use btc_ingest_kit::fixture::loaded;
use btc_ingest_kit::rows::{but, ticks};
use btc_ingest_kit::sql::{Session, execute, number, text, texts};
use btc_ingest_kit::ticks::{BUCKET_US, Random};
use btc_ingest_kit::{ParquetFile, Tick};

use crate::answers_fixture::{AnswersFixture, generated};

/// Every vector with all that is stored of it, but for the time.
const VECTORS: &str =
    "SELECT concat_ws('|', bucket, exchange, asset, feature_version, ticks, md5(feature_vector::text))
                         FROM signals.btc_embeddings ORDER BY bucket, exchange, asset";
const EMBED_ALL: &str = "SELECT btc_ingest.embed('-infinity', 'infinity')";
const ON: &str = "SET btc_ingest.embed_on_load = on";

/// Loads ticks under a key that names exchange and asset.
fn load(fixture: &mut AnswersFixture, key: &str, ticks: &[Tick]) {
    let uri = fixture.server.put(&format!("{}/{key}", fixture.db.name()), ParquetFile::new().bytes(ticks));
    loaded(&mut fixture.client, &uri, "");
}

/// A fixture with some hours of vectors and an index on them.
fn with_windows(buckets: usize) -> AnswersFixture {
    let mut fixture = AnswersFixture::new();
    fixture.run(ON);
    load(&mut fixture, "Binance/BTCUSDT/a.parquet", &generated("BTCUSDT", 3, buckets));
    fixture
}

#[test]
fn a_vector_is_the_same_on_load_and_from_the_table_in_halves_and_in_any_order() {
    let all: Vec<Tick> = [generated("BTCUSDT", 3, 3), generated("ETHUSDT", 4, 3)].concat();
    let mut at_once = AnswersFixture::new();
    at_once.run(ON);
    load(&mut at_once, "Binance/BTCUSDT/a.parquet", &all);
    let wanted = at_once.texts(VECTORS);
    assert_eq!(wanted.len(), 6, "{wanted:#?}");
    assert!(wanted[0].contains("|btc_ingest 1|"), "{wanted:#?}");
    let counts = at_once.texts(
        "SELECT concat_ws('|', e.ticks = count(*),
                          abs(1 + (e.feature_vector OPERATOR(public.<#>) e.feature_vector)) < 0.000001)
           FROM signals.btc_embeddings e JOIN market_data.btc_ticks t ON (t.bucket_5m, t.symbol) = (e.bucket, e.asset)
          GROUP BY e.bucket, e.exchange, e.asset",
    );
    assert_eq!(counts, ["t|t"; 6]);
    assert_eq!(at_once.number(EMBED_ALL), 0, "nothing has changed");

    let mut by_table = AnswersFixture::new();
    load(&mut by_table, "Binance/BTCUSDT/a.parquet", &all);
    assert_eq!(by_table.number("SELECT count(*) FROM signals.btc_embeddings"), 0);
    assert_eq!(by_table.number(EMBED_ALL), 6);
    assert_eq!(by_table.texts(VECTORS), wanted, "from the table");
    assert_eq!(by_table.number("SELECT btc_ingest.embed('2024-08-08 12:02Z', '2024-08-08 12:04Z', 'BTCUSDT')"), 0);
    by_table.run("DELETE FROM signals.btc_embeddings");
    assert_eq!(by_table.number("SELECT btc_ingest.embed('2024-08-08 12:02Z', '2024-08-08 12:04Z', 'BTCUSDT')"), 1);

    let mut in_halves = AnswersFixture::new();
    in_halves.run(ON);
    let half = |odd: i64| -> Vec<Tick> { all.iter().filter(|tick| tick.trade_id % 2 == odd).rev().cloned().collect() };
    load(&mut in_halves, "Binance/BTCUSDT/odd.parquet", &half(1));
    let before = in_halves.texts(VECTORS);
    assert!(before.len() == 6 && before.iter().all(|line| !wanted.contains(line)), "{before:#?}");
    load(&mut in_halves, "Binance/BTCUSDT/even.parquet", &half(0));
    assert_eq!(in_halves.texts(VECTORS), wanted, "in halves, the last tick first");

    let restored = dump::copy(&in_halves.db);
    let mut client = restored.client();
    assert_eq!(texts(&mut client, VECTORS), wanted, "after dump and restore");
    assert_eq!(number(&mut client, EMBED_ALL), 0, "after dump and restore");
}

#[test]
fn chunk_mode_makes_the_vectors_that_loads_of_objects_make() {
    let ticks = some_ticks("BTCUSDT", week(0), 4);
    let made = |mut fixture: BackfillFixture, mode: &str| {
        fixture.set("embed_on_load", "on");
        for (place, slice) in ticks.chunk_by(|one, next| one.bucket_us() == next.bucket_us()).enumerate() {
            put_slice(&fixture, week(0) + place as i64 * BUCKET_US, slice);
        }
        fixture.done(&[fixture.prefix("")], &format!("mode => '{mode}'"));
        fixture.texts(VECTORS)
    };
    let Some(chunks) = chunk_fixture() else { return };
    let wanted = made(BackfillFixture::new(), "object");
    assert_eq!(wanted.len(), 4, "{wanted:#?}");
    assert_eq!(made(chunks, "chunk"), wanted);
}

#[test]
fn a_slice_of_two_exchanges_is_mixed_and_rows_of_others_stay() {
    let mut fixture = AnswersFixture::new();
    fixture.run(ON);
    fixture.run(
        "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector)
         SELECT '2024-08-08 12:00Z', e, 'BTCUSDT', array_fill(0.5, ARRAY[256])::vector
           FROM unnest(ARRAY['kraken', 'unknown']) AS e",
    );
    let exchanges = "SELECT concat_ws('|', exchange, feature_version, ticks) FROM signals.btc_embeddings ORDER BY 1";
    let others = ["kraken|external", "unknown|external"];
    load(&mut fixture, "plain.parquet", &ticks(1, 20));
    assert_eq!(fixture.texts(exchanges), others, "the row of another writer stays");
    load(&mut fixture, "Binance/BTCUSDT/a.parquet", &ticks(100, 20));
    assert_eq!(fixture.texts(exchanges), ["binance|btc_ingest 1|40", others[0], others[1]]);
    fixture.run("UPDATE signals.btc_embeddings SET label_snapshot = '{\"5m\": 1}' WHERE exchange = 'binance'");
    let uri = fixture.put("Binance/BTCUSDT/b", &ticks(200, 20));
    loaded(&mut fixture.client, &uri, "options => '{\"exchange\": \"Coinbase\"}'");
    assert_eq!(fixture.texts(exchanges), [others[0], "mixed|btc_ingest 1|60", others[1]]);
    assert_eq!(
        fixture.text("SELECT label_snapshot::text FROM signals.btc_embeddings WHERE exchange = 'mixed'"),
        "{\"5m\": 1}"
    );
    assert_eq!(fixture.number(EMBED_ALL), 0, "from the table, the exchange is the same");
    let found = fixture.text("SELECT string_agg(detail || hint, '; ') FROM btc_ingest.doctor() WHERE name = 'windows'");
    assert!(found.contains("1 windows are of slices whose objects name several exchanges"), "{found}");
}

#[test]
fn labels_say_what_followed_once_it_is_complete_and_stay() {
    let mut fixture = with_windows(4);
    let call = "SELECT btc_ingest.label('-infinity', 'infinity', '{5 minutes, 10 minutes}')";
    assert_eq!(fixture.number(call), 2);
    let shown = "SELECT concat_ws('|', to_char(bucket, 'MI'), to_char(labelled_to, 'MI'),
                        ARRAY(SELECT jsonb_object_keys(label_snapshot) ORDER BY 1)::text)
                   FROM signals.btc_embeddings ORDER BY bucket";
    // The last tick is before 12:20, so that horizon is not over.
    assert_eq!(fixture.texts(shown), ["00|15|{10m,5m}", "05|15|{5m}", "10|{}", "15|{}"]);
    let wanted = fixture.texts(
        "SELECT concat_ws('|', to_char(bucket, 'MI'), round((label_snapshot -> '5m' ->> 'return')::numeric, 9),
                          round((label_snapshot -> '5m' ->> 'realised_volatility')::numeric, 9))
           FROM signals.btc_embeddings WHERE label_snapshot ? '5m' ORDER BY bucket",
    );
    let computed = fixture.texts(
        "WITH steps AS (
             SELECT DISTINCT ON (step) date_bin('10 seconds', event_time, 'epoch') AS step, ln(price) AS log
               FROM market_data.btc_ticks ORDER BY step, event_time DESC, trade_id DESC
         ), changes AS (SELECT step, log, log - lag(log) OVER (ORDER BY step) AS change FROM steps)
         SELECT concat_ws('|', to_char(e.bucket, 'MI'),
                    round((SELECT c.log FROM changes c WHERE c.step < e.bucket + interval '10 minutes'
                            ORDER BY c.step DESC LIMIT 1)
                          - (SELECT c.log FROM changes c WHERE c.step < e.bucket + interval '5 minutes'
                              ORDER BY c.step DESC LIMIT 1), 9),
                    (SELECT round(sqrt(sum(c.change * c.change)), 9) FROM changes c
                      WHERE c.step >= e.bucket + interval '5 minutes' AND c.step < e.bucket + interval '10 minutes'))
           FROM signals.btc_embeddings e WHERE e.label_snapshot ? '5m' ORDER BY e.bucket",
    );
    assert_eq!(wanted, computed);
    fixture.run("UPDATE market_data.btc_ticks SET price = price * 2 WHERE bucket_5m = '2024-08-08 12:05Z'");
    assert_eq!(fixture.number(call), 0, "a label is filled in once");

    // While an object waits, nothing about its time is complete.
    load(&mut fixture, "Binance/BTCUSDT/b.parquet", &ticks(9_000_000, 2_500)[1_300..]);
    fixture.run("SELECT btc_ingest.register_s3_slice('s3://landing/waits', 'BTCUSDT', '2024-08-08 12:15Z')");
    fixture.run("SELECT btc_ingest.declare_asset('BTCUSDT', sequential_ids => false)");
    fixture.number(call);
    assert_eq!(fixture.texts(shown)[..4], ["00|15|{10m,5m}", "05|15|{5m}", "10|{}", "15|{}"]);
    fixture.run("DELETE FROM landing.raw_blobs_5m; DELETE FROM ingestion.objects WHERE s3_uri = 's3://landing/waits'");
    fixture.number(call);
    assert_eq!(fixture.texts(shown)[..3], ["00|15|{10m,5m}", "05|20|{10m,5m}", "10|25|{10m,5m}"]);
}

#[test]
fn similar_returns_the_nearest_that_match_as_an_exact_search_finds_them() {
    let mut fixture = with_windows(60);
    load(&mut fixture, "Kraken/ETHUSDT/a.parquet", &generated("ETHUSDT", 9, 60));
    assert!(fixture.number("SELECT btc_ingest.label('-infinity', 'infinity')") > 80);
    let exact = |condition: &str, k: i64| {
        format!(
            "SELECT concat_ws('|', e.bucket, e.exchange, e.asset,
                              round((e.feature_vector <-> o.feature_vector)::numeric, 6))
               FROM signals.btc_embeddings e, signals.btc_embeddings o
              WHERE (o.bucket, o.asset) = ('2024-08-08 14:00Z', 'BTCUSDT') AND e.bucket <> o.bucket AND {condition}
              ORDER BY e.feature_vector <-> o.feature_vector, e.bucket, e.exchange, e.asset LIMIT {k}"
        )
    };
    let asked = |args: &str| {
        format!(
            "SELECT concat_ws('|', similar_bucket, exchange, similar_asset, round(distance::numeric, 6))
               FROM btc_ingest.similar('2024-08-08 14:00Z', {args})"
        )
    };
    let far = "abs(extract(epoch FROM e.bucket - o.bucket)) >= 3600";
    for kind in ["ivfflat", "hnsw"] {
        fixture.run(&format!("SELECT btc_ingest.rebuild_embedding_index('{kind}')"));
        for (args, condition, k) in [
            ("exclude => '1 hour'", far, 10),
            ("k => 3, exclude => '0'", "true", 3),
            ("k => 7, assets => '{ETHUSDT}', exclude => '0'", "e.asset = 'ETHUSDT'", 7),
            ("exchanges => '{binance}'", &format!("e.exchange = 'binance' AND {far}"), 10),
            (
                "exclude => '0', \"from\" => '2024-08-08 15:00Z', \"to\" => '2024-08-08 15:30Z'",
                "e.bucket >= '2024-08-08 15:00Z' AND e.bucket < '2024-08-08 15:30Z'",
                10,
            ),
            ("before => '2024-08-08 14:00Z', exclude => '0'", "e.labelled_to <= '2024-08-08 14:00Z'", 10),
            ("k => 500, exclude => '0'", "true", 500),
        ] {
            assert_eq!(fixture.texts(&asked(args)), fixture.texts(&exact(condition, k)), "{kind}: {args}");
        }
    }
    let with = "SELECT string_agg(similar_bucket::text, ' ') FROM btc_ingest.similar_to(
                    (SELECT feature_vector FROM signals.btc_embeddings
                      WHERE (bucket, asset) = ('2024-08-08 14:00Z', 'BTCUSDT')), k => 1)";
    assert_eq!(fixture.text(with), "2024-08-08 14:00:00+00");
    let labels = "SELECT bool_and(labels ? '5m' AND labels ? '1h')::text
                    FROM btc_ingest.similar('2024-08-08 14:00Z', before => '2024-08-08 16:00Z')";
    assert_eq!(fixture.text(labels), "true");
}

#[test]
fn similar_goes_through_the_index() {
    let mut fixture = with_windows(20);
    // Enough rows that the planner prefers the index; one of them has another version and is never found.
    fixture.run(
        "INSERT INTO signals.btc_embeddings (bucket, exchange, asset, feature_vector, feature_version)
         SELECT e.bucket - n * interval '1 day', e.exchange, e.asset, e.feature_vector,
                CASE n WHEN 7 THEN 'other' ELSE e.feature_version END
           FROM signals.btc_embeddings e, generate_series(1, 400) AS n",
    );
    for kind in ["ivfflat", "hnsw"] {
        fixture.run(&format!("SELECT btc_ingest.rebuild_embedding_index('{kind}')"));
        let explained = say(
            &fixture.db.connection_string(),
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
             SET auto_explain.log_level = 'notice'; SELECT * FROM btc_ingest.similar('2024-08-08 12:05Z', k => 5)",
        );
        let plans = explained.of("NOTICE").join("\n");
        let index = "Index Scan using btc_embeddings_feature_vector_idx on btc_embeddings";
        assert!(plans.contains(index), "{kind}: {plans}");
        let migrated = fixture.text("SELECT btc_ingest.migrate()");
        assert!(migrated.ends_with("; nothing was missing"), "{kind}: {migrated}");
    }
    // A copy of the window a week before belongs to the other version.
    let versions = "SELECT count(*) FILTER (WHERE similar_bucket = '2024-08-01 12:05Z')
                      FROM btc_ingest.similar('2024-08-08 12:05Z', k => 399)";
    assert_eq!(fixture.number(versions), 0);
}

#[test]
fn a_search_sees_what_the_statement_that_calls_it_sees() {
    let mut fixture = with_windows(12);
    // The search begins when the lock is free, long after the statement has its snapshot.
    let nearest = "SELECT s.distance::text FROM (SELECT pg_advisory_lock(7)::text AS lock OFFSET 0) AS waited,
                          LATERAL btc_ingest.similar(
                              timestamptz '2024-08-08 12:05Z' + length(waited.lock) * interval '1 day',
                              k => 1, exclude => '0') AS s";
    let before = text(&mut fixture.db.client(), nearest);
    assert_ne!(before, "0");
    fixture.run("SELECT pg_advisory_lock(7)");
    let mut other = fixture.db.client();
    // Its plans are kept from here on.
    execute(&mut other, "SELECT * FROM btc_ingest.similar('2024-08-08 12:05Z', exclude => '0')");
    let asked = std::thread::spawn(move || text(&mut other, nearest));
    fixture.wait_for("the statement", "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)");
    fixture.run(
        "UPDATE signals.btc_embeddings e SET feature_vector = o.feature_vector FROM signals.btc_embeddings o
          WHERE e.bucket = '2024-08-08 12:05Z' AND o.bucket = '2024-08-08 12:10Z'",
    );
    fixture.run("SELECT pg_advisory_unlock(7)");
    assert_eq!(asked.join().unwrap(), before);
    assert_eq!(text(&mut fixture.db.client(), nearest), "0");
}

#[test]
fn bad_input_has_one_clear_error() {
    let mut fixture = with_windows(1);
    let one = "'2024-08-08 12:00Z'";
    for (sql, sqlstate, message) in [
        (
            "SELECT btc_ingest.similar('2024-08-08 12:05Z')",
            "TK050",
            "no vector of 'BTCUSDT' is stored for 2024-08-08T12:05:00Z",
        ),
        (&format!("SELECT btc_ingest.similar({one}, 'XRP')"), "TK050", "no vector of 'XRP'"),
        (&format!("SELECT btc_ingest.similar({one}, k => 0)"), "TK031", "k must be 1 to 10000, not 0"),
        ("SELECT btc_ingest.similar_to('{1,2}')", "TK051", "the vector has 2 numbers"),
        ("SELECT btc_ingest.similar_to(array_fill('NaN'::real, ARRAY[256]))", "TK031", "finite"),
        ("SELECT btc_ingest.similar_to(array_fill(0.1, ARRAY[256])::real[], version => 'x')", "TK052", "version 'x'"),
        ("SELECT btc_ingest.rebuild_embedding_index('gist')", "TK031", "kind must be"),
        ("SELECT btc_ingest.embed('2024-08-09', '2024-08-08')", "TK031", "the range must begin before it ends"),
        ("SELECT btc_ingest.label('2024-08-08', '2024-08-09', '{7 minutes}')", "TK031", "multiple of 5 minutes"),
    ] {
        let refusal = fixture.refused(sql, sqlstate);
        assert!(refusal.message.contains(message) && !refusal.hint.is_empty(), "{sql}: {refusal:?}");
    }
}

#[test]
fn everything_runs_with_the_owners_privileges_and_each_role_may_do_its_part() {
    let mut fixture = AnswersFixture::new();
    fixture.run(&owned_by("window_owner"));
    load(&mut fixture, "Binance/BTCUSDT/a.parquet", &generated("BTCUSDT", 3, 3));
    // What the owner attaches to its table runs as the owner.
    fixture.run(
        "GRANT CREATE, USAGE ON SCHEMA signals TO window_owner; SET ROLE window_owner;
         CREATE TABLE signals.seen (who name);
         CREATE FUNCTION signals.see() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
             $$ BEGIN INSERT INTO signals.seen VALUES (current_user); RETURN NEW; END $$;
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON signals.btc_embeddings
             FOR EACH ROW EXECUTE FUNCTION signals.see(); RESET ROLE",
    );
    for name in ["admin", "loader", "reader"] {
        let user = format!("window_{name}");
        fixture.run(&format!("{}ALTER ROLE {user} LOGIN; GRANT btc_ingest_{name} TO {user}", role(&user)));
    }
    let mut reader = fixture.db.client_as("window_reader");
    for call in ["embed('2024-08-08', '2024-08-09')", "label('2024-08-08', '2024-08-09')", "rebuild_embedding_index()"]
    {
        let error = reader.batch_execute(&format!("SELECT btc_ingest.{call}")).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{call}");
    }
    let mut loader = fixture.db.client_as("window_loader");
    assert_eq!(number(&mut loader, "SELECT btc_ingest.embed('2024-08-08', '2024-08-09')"), 3);
    assert_eq!(number(&mut loader, "SELECT btc_ingest.label('2024-08-08', '2024-08-09')"), 1);
    execute(&mut fixture.db.client_as("window_admin"), "SELECT btc_ingest.rebuild_embedding_index('hnsw')");
    assert_eq!(number(&mut reader, "SELECT count(*) FROM btc_ingest.similar('2024-08-08 12:00Z', exclude => '0')"), 2);
    assert_eq!(
        text(&mut fixture.client, "SELECT string_agg(DISTINCT who::text, ' ') FROM signals.seen"),
        "window_owner"
    );
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'btc_embeddings_feature_vector_idx'";
    assert_eq!(fixture.text(owner), "window_owner");
}

#[test]
fn a_repeated_window_at_another_price_and_volume_with_fewer_trades_is_found_first() {
    let mut fixture = AnswersFixture::new();
    fixture.run(ON);
    let all = generated("BTCUSDT", 21, 400);
    let pattern: Vec<Tick> =
        all.iter().filter(|tick| tick.bucket_us() == all[0].bucket_us() + 40 * BUCKET_US).cloned().collect();
    let mut random = Random(5);
    // A day later at a third of the price and forty times the volume, without a fifth of its trades, each price off by
    // one step of 0.01 at most.
    let repeated: Vec<Tick> = pattern
        .iter()
        .filter(|_| random.fraction() > 0.2)
        .cloned()
        .collect::<Vec<_>>()
        .iter()
        .map(|tick| {
            but(tick, |tick| {
                tick.event_time_us += 3 * 288 * BUCKET_US;
                tick.trade_id += 50_000_000;
                tick.price = tick.price / 3 / 1_000_000 * 1_000_000 + (random.below(3) as i64 - 1) * 1_000_000;
                tick.quantity *= 40;
            })
        })
        .collect();
    load(&mut fixture, "Binance/BTCUSDT/a.parquet", &all);
    load(&mut fixture, "Binance/BTCUSDT/b.parquet", &repeated);
    fixture.run("SELECT btc_ingest.rebuild_embedding_index('hnsw')");
    let found = fixture.texts(
        "SELECT similar_bucket::text FROM btc_ingest.similar('2024-08-11 15:20Z', k => 2, exclude => '0')
          ORDER BY distance",
    );
    assert_eq!(found.first().map(String::as_str), Some("2024-08-08 15:20:00+00"), "{found:?}");
}
