//! What a session remembers of a chunk from one load to the next is forgotten when another session changes the chunk.

use btc_ingest_kit::fixture::{loaded, refused};
use btc_ingest_kit::rows::{moved, must_hold, ticks_of};
use btc_ingest_kit::sql::{number, text};
use btc_ingest_kit::{ParquetFile, ServerFixture, TestDb, Tick};
use postgres::Client;

/// The table of the chunk that holds what is stored.
const CHUNK: &str = "(SELECT format('%I.%I', chunk_schema, chunk_name)::regclass FROM timescaledb_information.chunks
                       WHERE hypertable_schema = 'market_data' AND hypertable_name = 'btc_ticks')";
/// Ticks of a slice.
const TICKS: i64 = 50;

/// A session that has loaded two slices: the second one was appended to the chunk that the first one had made.
struct RememberedFixture {
    db: TestDb<'static>,
    client: Client,
    ticks: Vec<Tick>,
    slices: i64,
}

impl RememberedFixture {
    fn new() -> RememberedFixture {
        let db = ServerFixture::shared().db();
        let client = db.client();
        let mut this = RememberedFixture { db, client, ticks: Vec::new(), slices: 0 };
        for _ in 0..2 {
            this.load();
        }
        this
    }

    /// Stores the next slice and returns its uri.
    fn put(&mut self) -> String {
        let first = 1 + self.slices * TICKS;
        let ticks = ticks_of("BTCUSDT", first, TICKS as usize);
        let ticks: Vec<Tick> = ticks.iter().map(|tick| moved(tick, self.slices)).collect();
        let key = format!("{}/{}.parquet", self.db.name(), self.slices);
        self.slices += 1;
        let uri = ServerFixture::shared().put(&key, ParquetFile::new().bytes(&ticks));
        self.ticks.extend(ticks);
        uri
    }

    /// Loads the next slice, which must be stored with all before it.
    #[track_caller]
    fn load(&mut self) {
        let uri = self.put();
        let report = loaded(&mut self.client, &uri, "");
        assert_eq!(report.inserted, TICKS);
        must_hold(&mut self.client, &self.ticks);
    }

    /// Another session drops all chunks meanwhile.
    fn lose_chunks(&mut self) {
        self.meanwhile("SELECT drop_chunks('market_data.btc_ticks', older_than => 'infinity'::timestamptz)");
        self.ticks.clear();
    }

    /// What another session does meanwhile.
    #[track_caller]
    fn meanwhile(&self, sql: &str) {
        self.db.client().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Whether code for the Community edition can run.
fn community(session: &mut RememberedFixture) -> bool {
    let community = text(&mut session.client, "SHOW timescaledb.license") == "timescale";
    if !community {
        println!("skipped: needs the Community edition");
    }
    community
}

#[test]
fn a_trigger_that_comes_between_two_loads_sees_every_tick_of_the_second() {
    let mut session = RememberedFixture::new();
    session.meanwhile(
        "CREATE TABLE public.seen (id bigint);
         CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO public.seen VALUES (NEW.trade_id); RETURN NEW; END $$;
         CREATE TRIGGER see AFTER INSERT ON market_data.btc_ticks FOR EACH ROW EXECUTE FUNCTION public.see()",
    );
    session.load();
    assert_eq!(number(&mut session.client, "SELECT count(*) FROM public.seen"), TICKS);
    session.meanwhile("DROP TRIGGER see ON market_data.btc_ticks");
    session.load();
    assert_eq!(number(&mut session.client, "SELECT count(*) FROM public.seen"), TICKS);
}

#[test]
fn an_index_with_a_condition_that_comes_between_two_loads_knows_the_right_ticks_of_the_second() {
    let mut session = RememberedFixture::new();
    session.meanwhile("CREATE INDEX by_price ON market_data.btc_ticks (price) WHERE is_market_maker");
    session.load();
    // Every entry of the index, also of rows that are dead in the table.
    session.meanwhile("CREATE EXTENSION pageinspect");
    let entries = format!(
        "SELECT sum(s.live_items)::bigint
           FROM pg_index x, generate_series(1,
               pg_relation_size(x.indexrelid) / current_setting('block_size')::int - 1) AS page,
                bt_page_stats(x.indexrelid::regclass::text, page) AS s
          WHERE x.indrelid = {CHUNK} AND x.indpred IS NOT NULL AND s.type = 'l'"
    );
    let makers = session.ticks.iter().filter(|tick| tick.is_market_maker).count() as i64;
    assert!((1..session.ticks.len() as i64).contains(&makers));
    assert_eq!(number(&mut session.client, &entries), makers);
}

#[test]
fn a_chunk_that_is_dropped_between_two_loads_is_made_again() {
    let mut session = RememberedFixture::new();
    session.lose_chunks();
    session.load();
    session.load();
}

#[test]
fn a_load_that_was_rolled_back_leaves_nothing_remembered_that_is_not_so() {
    let mut session = RememberedFixture::new();
    session.lose_chunks();
    // The chunk that these two fill goes with their transaction.
    session.client.batch_execute("BEGIN").unwrap();
    session.load();
    session.load();
    session.client.batch_execute("ROLLBACK").unwrap();
    session.ticks.clear();
    session.load();
    session.load();
}

#[test]
fn a_chunk_that_is_compressed_between_two_loads_takes_the_second_all_the_same() {
    let mut session = RememberedFixture::new();
    if !community(&mut session) {
        return;
    }
    session.meanwhile(&format!(
        "ALTER TABLE market_data.btc_ticks SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol');
         SELECT compress_chunk({CHUNK})"
    ));
    session.load();
    session.meanwhile(&format!("SELECT decompress_chunk({CHUNK})"));
    must_hold(&mut session.client, &session.ticks);
    session.load();
}

#[test]
fn a_continuous_aggregate_that_comes_between_two_loads_learns_of_the_second() {
    let mut session = RememberedFixture::new();
    if !community(&mut session) {
        return;
    }
    let refresh = "CALL refresh_continuous_aggregate('public.counts', NULL, NULL)";
    session.meanwhile(
        "CREATE MATERIALIZED VIEW public.counts WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
         SELECT time_bucket('1 hour', bucket_5m) AS hour, count(*) FROM market_data.btc_ticks GROUP BY 1 WITH NO DATA",
    );
    session.meanwhile(refresh);
    session.load();
    // Only chunks that were marked as changed are counted again.
    session.meanwhile(refresh);
    assert_eq!(number(&mut session.client, "SELECT sum(count)::bigint FROM public.counts"), 3 * TICKS);
}

#[test]
fn a_chunk_that_is_frozen_between_two_loads_takes_nothing_any_more() {
    let mut session = RememberedFixture::new();
    if !community(&mut session) {
        return;
    }
    session.meanwhile(&format!("SELECT _timescaledb_functions.freeze_chunk({CHUNK})"));
    let uri = session.put();
    refused(&mut session.client, &uri, "", "0A000");
    session.meanwhile(&format!("SELECT _timescaledb_functions.unfreeze_chunk({CHUNK})"));
    assert_eq!(loaded(&mut session.client, &uri, "").inserted, TICKS);
    must_hold(&mut session.client, &session.ticks);
}
