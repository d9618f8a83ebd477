//! Tests that need a backend but no S3. `cargo pgrx test pg15` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[pgrx::pg_schema]
mod tests {
    use std::collections::HashSet;

    use pgrx::prelude::*;

    use crate::error::Error;
    use crate::model::bucket::{BUCKET_US, POSTGRES_EPOCH_US};
    use crate::model::tick::{NO_TIME, Symbols, TextColumn, TickBatch};
    use crate::pg::load::chunk;
    use crate::pg::session::ffi::{self, Failure};
    use crate::pg::session::{report, spi};
    use crate::tuple::batch::encode;
    use crate::tuple::pool::BufferPool;

    /// Returns one tick with a value in every column, one with null in every nullable column, and one with
    /// long texts.
    fn ticks() -> (TickBatch, Symbols) {
        let mut symbols = Symbols::default();
        let mut ticks = TickBatch {
            buyer_order_id: Some(TextColumn::default()),
            seller_order_id: Some(TextColumn::default()),
            ..TickBatch::default()
        };
        let long = "9".repeat(200);
        let rows = [
            ("BTCUSDT", 1, 5_729_588_000_000, 230_000_000, Some("123"), Some("45678901234"), Some(true), true),
            ("BTCUSDT", 2, 1, 999_999_999_999_999_999_999_999, None, None, None, false),
            ("ETHUSDT", 3, 999_999_999_999_999_999, 1, Some(long.as_str()), Some(""), Some(false), true),
        ];
        for (row, (symbol, id, price, quantity, buyer, seller, maker, traded)) in rows.into_iter().enumerate() {
            let time = POSTGRES_EPOCH_US + 776_000_000_000_000 + row as i64;
            ticks.row.push(row as u64);
            ticks.event_time.push(time);
            ticks.trade_time.push(if traded { time - 1 } else { NO_TIME });
            ticks.symbol.push(symbols.number(symbol).unwrap());
            ticks.trade_id.push(id);
            ticks.price.push(price);
            ticks.quantity.push(quantity);
            ticks.buyer_order_id.as_mut().unwrap().push(buyer.map(str::as_bytes));
            ticks.seller_order_id.as_mut().unwrap().push(seller.map(str::as_bytes));
            ticks.is_market_maker.push(maker);
        }
        (ticks, symbols)
    }

    /// The same ticks as SQL.
    const VALUES: &str =
        "SELECT bucket_5m, event_time, trade_time, symbol COLLATE \"C\", trade_id, price::numeric(18,8),
            quantity::numeric(24,12), buyer, seller, maker, row_number
       FROM (VALUES
         (NULL::timestamptz, '2000-01-01 00:00+00'::timestamptz + 776000000000000 * interval '1 microsecond',
          '2000-01-01 00:00+00'::timestamptz + 775999999999999 * interval '1 microsecond', 'BTCUSDT', 1::bigint,
          57295.88, 0.00023, '123', '45678901234', true, 0::bigint),
         (NULL, '2000-01-01 00:00+00'::timestamptz + 776000000000001 * interval '1 microsecond',
          NULL, 'BTCUSDT', 2, 0.00000001, 999999999999.999999999999, NULL, NULL, NULL, 1),
         (NULL, '2000-01-01 00:00+00'::timestamptz + 776000000000002 * interval '1 microsecond',
          '2000-01-01 00:00+00'::timestamptz + 776000000000001 * interval '1 microsecond', 'ETHUSDT', 3,
          9999999999.99999999, 0.000000000001, repeat('9', 200), '', false, 2)
       ) AS v (bucket, event_time, trade_time, symbol, trade_id, price, quantity, buyer, seller, maker, row_number),
       LATERAL (SELECT date_bin('5 minutes', event_time, 'epoch'::timestamptz) AS bucket_5m) AS b
      ORDER BY row_number";

    #[pg_test]
    fn units_are_planned_for_what_exists_and_not_for_what_lies_between() {
        Spi::run(
            "INSERT INTO ingestion.objects (s3_uri, backfill, span_from, span_to) VALUES
                ('s3://a/first-week', 1, '2024-08-08 00:00+00', '2024-08-08 00:05+00'),
                ('s3://a/two-weeks', 1, '2024-08-14 23:55+00', '2024-08-15 00:05+00'),
                ('s3://a/far-apart', 1, '1970-01-01 00:00+00', '9999-12-31 00:00+00'),
                ('s3://a/year', 1, '2020-01-02 00:00+00', '2021-01-01 00:00+00'),
                ('s3://a/unknown', 1, '-infinity', 'infinity'),
                ('s3://a/beginning', 1, '4714-11-24 00:00+00 BC', '4714-11-24 00:05+00 BC'),
                ('s3://a/end', 1, '294276-12-31 23:50+00', '294276-12-31 23:55+00')",
        )
        .unwrap();
        let week = 7 * 24 * 3_600_000_000_i64;
        Spi::connect_mut(|client| {
            let args = [1_i64.into(), week.into(), 64_i64.into()];
            spi::execute(client, statement!("units_plan"), &args).unwrap();
            let sql = "SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE chunk_from >= '2024-01-01 00:00+00'),
                                        min(chunk_from) = '2020-01-02 00:00+00', max(chunk_to) = '2024-08-22 00:00+00')
                         FROM ingestion.backfill_chunks";
            let found: Option<String> = client.select(sql, None, &[]).unwrap().first().get_one().unwrap();
            assert_eq!(found.as_deref(), Some("55 2 t t"));
        });
    }

    #[pg_test]
    fn functions_and_workers_have_the_same_fixed_settings() {
        let shown = |(name, value): &(&std::ffi::CStr, &std::ffi::CStr)| {
            format!("{}={}", name.to_str().unwrap(), value.to_str().unwrap())
        };
        let mut wanted: Vec<String> = ffi::FIXED.iter().map(shown).filter(|it| !it.starts_with("search")).collect();
        wanted.sort();
        let sql = "SELECT p.oid::regprocedure::text,
                          ARRAY(SELECT lower(split_part(s, '=', 1)) || '=' || split_part(s, '=', 2)
                                  FROM unnest(p.proconfig) AS s
                                 WHERE s !~ '^(search_path|jit|enable_.*|client_min_messages|lock_timeout)='
                                 ORDER BY 1)
                     FROM pg_proc p
                    WHERE p.pronamespace IN ('btc_ingest'::regnamespace, 'btc_ingest_internal'::regnamespace)
                      AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND p.proconfig IS NOT NULL";
        Spi::connect(|client| {
            let rows = client.select(sql, None, &[]).unwrap();
            assert!(rows.len() > 30);
            for row in rows {
                let (function, found): (String, Vec<String>) =
                    (row.get(1).unwrap().unwrap(), row.get(2).unwrap().unwrap());
                assert_eq!(found, wanted, "{function}");
            }
        });
    }

    #[pg_test]
    fn a_lock_has_the_key_that_sql_gives_it() {
        for name in ["", "s3://landing/Binance/BTCUSDT/2024/08/08/BTCUSDT_20240808T1200Z.parquet", "s3://a/ä €"] {
            let key = Spi::get_one_with_args("SELECT hashtextextended($1, 0)", &[name.into()]);
            assert_eq!(key, Ok(Some(ffi::lock_key(name))), "{name}");
        }
    }

    #[pg_test]
    fn an_encoded_tuple_is_byte_for_byte_what_postgres_forms() {
        let (ticks, symbols) = ticks();
        let batch = encode(&ticks, &symbols, &BufferPool::default(), 0);
        Spi::connect_mut(|client| {
            let mut rows = client.update(VALUES, None, &[]).unwrap();
            assert_eq!(rows.len(), 3);
            for index in 0..3 {
                rows.next();
                let mut datums = Vec::new();
                let mut nulls = Vec::new();
                for column in 1..=crate::tuple::COLUMNS.len() {
                    let datum = rows.get_datum_by_ordinal(column).unwrap();
                    nulls.push(datum.is_none());
                    datums.push(datum.unwrap_or(pg_sys::Datum::from(0)));
                }
                let theirs = ffi::test_support::formed_by_postgres(&mut datums, &mut nulls);
                let ours: Vec<u8> = batch.tuples.words(index).iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(ours[..theirs.len()], theirs[..], "tuple {index}");
            }
        });
    }

    #[pg_test]
    fn statements_read_a_registered_batch_without_the_skipped_tuples() {
        let (ticks, symbols) = ticks();
        let batch = encode(&ticks, &symbols, &BufferPool::default(), 0);
        Spi::connect_mut(|client| {
            let store = ffi::TickStore::register(&batch.tuples, &HashSet::from([1]), pg_sys::C_COLLATION_OID).unwrap();
            for _ in 0..2 {
                let rows = client
                    .update(
                        "SELECT string_agg(trade_id || ' ' || price || ' ' || quantity, ', ') FROM incoming_ticks",
                        None,
                        &[],
                    )
                    .unwrap();
                let text: Option<String> = rows.first().get_one().unwrap();
                assert_eq!(
                    text.as_deref(),
                    Some("1 57295.88000000 0.000230000000, 3 9999999999.99999999 0.000000000001")
                );
            }
            drop(store);
        });
    }

    /// Returns ticks of one symbol, three at each event time.
    fn many(first_id: i64, count: i64) -> crate::tuple::batch::EncodedBatch {
        let mut symbols = Symbols::default();
        let mut ticks = TickBatch::default();
        for row in 0..count {
            ticks.row.push(row as u64);
            ticks.event_time.push(POSTGRES_EPOCH_US + 776_000_000_000_000 + (first_id + row) / 3 * 70_000);
            ticks.trade_time.push(NO_TIME);
            ticks.symbol.push(symbols.number("BTCUSDT").unwrap());
            ticks.trade_id.push(first_id + row);
            ticks.price.push(5_700_000_000_000 + row);
            ticks.quantity.push(i128::from(1 + row));
            ticks.is_market_maker.push(None);
        }
        encode(&ticks, &symbols, &BufferPool::default(), 0)
    }

    /// Creates a table with the columns, constraints and indexes of a chunk, and returns its oid.
    fn table() -> pg_sys::Oid {
        Spi::run(
            "CREATE TABLE public.plain (LIKE market_data.btc_ticks INCLUDING ALL, CHECK (trade_id <> 13));
             CREATE EXTENSION IF NOT EXISTS amcheck",
        )
        .unwrap();
        Spi::get_one::<pg_sys::Oid>("SELECT 'public.plain'::regclass::oid").unwrap().unwrap()
    }

    /// Checks with PostgreSQL's own extension that every index is in order and has every row of the heap.
    fn check_indexes() {
        let checked = Spi::get_one::<i64>(
            "SELECT count(public.bt_index_check(indexrelid, true)) FROM pg_index
              WHERE indrelid = 'public.plain'::regclass",
        );
        assert_eq!(checked.unwrap(), Some(3), "the indexes of the contract");
    }

    #[pg_test]
    fn appended_ticks_are_in_the_heap_and_in_every_index() {
        let table = table();
        let none = HashSet::new();
        for first in [1_000, 20_000, 4_000] {
            let mut batch = many(first, 3_000);
            let appended = chunk::append(table, &mut batch, &none);
            assert_eq!((appended.stored, appended.maybe.len()), (3_000, 0));
            assert_eq!(batch.tuples.words(7).last(), Some(&7), "the rows' numbers are back");
        }
        check_indexes();
        let counts = "SELECT concat_ws(' ', count(*), count(DISTINCT trade_id), bool_and(ingested_at = now()),
                                       sum(price), min(quantity))
                        FROM public.plain";
        let found = Spi::get_one::<String>(counts).unwrap();
        assert_eq!(found.as_deref(), Some("9000 9000 t 513000000.13495500 0.000000000001"));
        Spi::run("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off").unwrap();
        let newest = "SELECT trade_id FROM public.plain WHERE symbol = 'BTCUSDT' ORDER BY event_time DESC LIMIT 1";
        assert!(Spi::get_one::<i64>(newest).unwrap() >= Some(22_997), "by the newest-first index");
    }

    #[pg_test]
    fn a_key_that_is_stored_already_is_named_and_is_no_error() {
        let table = table();
        let mut batch = many(100, 500);
        chunk::append(table, &mut batch, &HashSet::from([0, 1]));
        let mut again = many(90, 20);
        let appended = chunk::append(table, &mut again, &HashSet::new());
        assert_eq!(appended.stored, 12);
        assert_eq!(appended.maybe, (12..20).collect::<Vec<_>>(), "the two that were skipped are new");
        assert_eq!(Spi::get_one::<i64>("SELECT count(*) FROM public.plain").unwrap(), Some(510));
        check_indexes();
    }

    #[pg_test]
    #[should_panic(expected = "violates check constraint")]
    fn an_appended_tick_meets_the_tables_constraints() {
        let table = table();
        chunk::append(table, &mut many(10, 10), &HashSet::new());
    }

    #[pg_test]
    fn an_error_is_a_value_and_its_work_is_rolled_back() {
        Spi::run("CREATE TEMP TABLE kept (id int)").unwrap();
        let failed = ffi::attempt::<_, Failure>(|| {
            Spi::run("INSERT INTO kept VALUES (1); SELECT 1 / 0").unwrap();
            Ok(())
        });
        assert!(matches!(failed, Err(Failure::Postgres { sqlstate, .. }) if sqlstate == "22012"));
        let ours = ffi::attempt::<_, Failure>(|| {
            Spi::run("INSERT INTO kept VALUES (2)").unwrap();
            Err::<(), Failure>(Error::ReadOnly.into())
        });
        assert!(matches!(ours, Err(Failure::Ours(Error::ReadOnly))));
        assert!(
            ffi::attempt::<_, Failure>(|| Ok(Spi::run("INSERT INTO kept VALUES (3)").map_err(spi::internal)?)).is_ok()
        );
        assert_eq!(Spi::get_one::<String>("SELECT string_agg(id::text, ',') FROM kept").unwrap().as_deref(), Some("3"));
    }

    /// An error type of a caller, as `attempt` allows any.
    #[derive(Debug, PartialEq)]
    enum Objection {
        Raised(String),
        Own(i32),
    }

    impl From<Failure> for Objection {
        fn from(failure: Failure) -> Self {
            Objection::Raised(failure.sqlstate_and_message().0)
        }
    }

    #[pg_test]
    fn an_error_of_the_callers_own_type_is_returned_unchanged_and_its_work_is_rolled_back() {
        Spi::run("CREATE TEMP TABLE kept (id int)").unwrap();
        let own = ffi::attempt(|| {
            Spi::run("INSERT INTO kept VALUES (1)").unwrap();
            Err::<(), _>(Objection::Own(7))
        });
        assert_eq!(own, Err(Objection::Own(7)));
        let raised = ffi::attempt::<(), Objection>(|| {
            Spi::run("INSERT INTO kept VALUES (2); SELECT 1 / 0").unwrap();
            Ok(())
        });
        assert_eq!(raised, Err(Objection::Raised("22012".into())));
        assert_eq!(ffi::attempt::<_, Objection>(|| Ok(Spi::run("INSERT INTO kept VALUES (3)").is_ok())), Ok(true));
        assert_eq!(Spi::get_one::<String>("SELECT string_agg(id::text, ',') FROM kept").unwrap().as_deref(), Some("3"));
    }

    #[pg_test]
    fn a_raised_error_has_all_its_fields_and_leaves_a_session_that_goes_on() {
        Spi::run(
            "CREATE TEMP TABLE raised (sqlstate text, message text, detail text, hint text);
             SET LOCAL btc_ingest.allowed_prefixes = 's3://elsewhere/';
             DO $$
             DECLARE
                 its_message text;
                 its_detail text;
                 its_hint text;
             BEGIN
                 PERFORM btc_ingest.load_s3_slice('s3://landing/a.parquet');
             EXCEPTION WHEN OTHERS THEN
                 GET STACKED DIAGNOSTICS
                     its_message = MESSAGE_TEXT, its_detail = PG_EXCEPTION_DETAIL, its_hint = PG_EXCEPTION_HINT;
                 INSERT INTO raised VALUES (SQLSTATE, its_message, its_detail, its_hint);
             END $$",
        )
        .unwrap();
        let error = Error::UriNotAllowed { allowed: "s3://elsewhere/".into(), wanted: "s3://landing".into() };
        let field = |name: &str| Spi::get_one::<String>(&format!("SELECT {name} FROM raised")).unwrap();
        assert_eq!(field("sqlstate").as_deref(), Some(error.sqlstate()));
        assert_eq!(field("message"), Some(format!("s3://landing/a.parquet: {error}")));
        assert!(error.detail().is_some() && error.hint().is_some(), "the error that was chosen has both");
        assert_eq!(field("detail"), error.detail());
        assert_eq!(field("hint").as_deref(), error.hint().as_deref());
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row {
        id: i64,
        #[serde(deserialize_with = "spi::nullable")]
        name: Option<String>,
    }

    #[pg_test]
    fn a_key_that_is_missing_or_misspelt_is_an_error_and_a_null_is_none() {
        let row = |json: &str| Spi::connect_mut(|client| spi::fetch::<Row>(client, "SELECT $1::text", &[json.into()]));
        assert_eq!(row(r#"{"id": 1, "name": null}"#), Ok(Row { id: 1, name: None }));
        for json in [r#"{"id": 1}"#, r#"{"id": 1, "nane": "a"}"#, r#"{"id": null, "name": "a"}"#, "null"] {
            let error = row(json).unwrap_err();
            assert!(error.to_string().contains("unexpected row"), "{json}: {error}");
        }
        let absent = "SELECT '1' WHERE false";
        assert_eq!(Spi::connect_mut(|client| spi::fetch::<Option<i64>>(client, absent, &[])), Ok(None));
        assert!(Spi::connect_mut(|client| spi::fetch::<i64>(client, absent, &[])).is_err());
    }

    #[pg_test]
    fn a_line_for_the_log_is_said_by_a_statement_that_is_cancelled_and_the_work_is_rolled_back() {
        Spi::run("CREATE TEMP TABLE kept (id int)").unwrap();
        let mut said = false;
        let cancelled = ffi::attempt::<_, Failure>(|| {
            Spi::run("INSERT INTO kept VALUES (1)").unwrap();
            let pid = std::process::id().to_string();
            std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
            report::log("this statement was cancelled");
            said = true;
            pgrx::check_for_interrupts!();
            Ok(())
        });
        assert!(matches!(cancelled, Err(Failure::Postgres { sqlstate, .. }) if sqlstate == "57014"));
        assert!(said);
        assert_eq!(Spi::get_one::<i64>("SELECT count(*) FROM kept").unwrap(), Some(0));
    }

    #[pg_test]
    fn a_unique_violation_rolls_back_to_the_batch_and_the_session_goes_on() {
        Spi::run("CREATE TEMP TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1)").unwrap();
        Spi::connect_mut(|client| {
            let violated = ffi::unless_unique_violation(|| {
                client.update("INSERT INTO one VALUES (2), (1)", None, &[]).unwrap();
                Ok(())
            });
            assert_eq!(violated, Ok(None));
            let kept = ffi::unless_unique_violation(|| {
                client.update("INSERT INTO one VALUES (3)", None, &[]).unwrap();
                Ok(())
            });
            assert_eq!(kept, Ok(Some(())));
        });
        let ids = Spi::get_one::<String>("SELECT string_agg(id::text, ',' ORDER BY id) FROM one").unwrap();
        assert_eq!(ids.as_deref(), Some("1,3"));
    }

    #[pg_test]
    #[should_panic(expected = "division by zero")]
    fn an_error_other_than_a_unique_violation_is_raised_again() {
        let _ = ffi::unless_unique_violation(|| {
            Spi::run("SELECT 1 / 0").unwrap();
            Ok(())
        });
    }

    #[pg_test]
    fn the_library_and_its_tables_have_the_same_schema_version() {
        let version = Spi::get_one::<i32>("SELECT version FROM ingestion.schema_version").unwrap();
        assert_eq!(version, Some(crate::pg::session::target::SCHEMA_VERSION));
    }

    #[pg_test]
    fn buckets_of_rust_and_of_timescaledb_agree() {
        for time in [0_i64, 1, -1, BUCKET_US - 1, 1_723_118_399_999_999, -62_000_000_000_000_001] {
            let bucket = Spi::get_one_with_args::<i64>(
                "SELECT (extract(epoch FROM public.time_bucket(
                             '5 minutes', 'epoch'::timestamptz + $1 * interval '1 microsecond')) * 1000000)::bigint",
                &[time.into()],
            )
            .unwrap();
            assert_eq!(bucket, Some(crate::model::bucket::bucket_of(time)), "{time}");
        }
    }
}
