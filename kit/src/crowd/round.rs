//! One round: a few objects, and what must be true of them when all actors have ended.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postgres::Client;

use crate::ParquetFile;
use crate::fixture::plain;
use crate::rows::{moved, ticks_of};
use crate::soak::soak_fixture::{ASSETS, BUCKET, SoakFixture};
use crate::ticks::{BUCKET_US, Random, Sums, Tick, time_text};

/// Few, so that all actors meet at each of them.
const OBJECTS: i64 = 12;
/// The number of ticks of each object.
const TICKS: usize = 20;
/// One of so many objects grows during the round.
const GROWS: u64 = 3;
/// Work that is not done by then is forgotten.
const LIMIT: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

/// What a producer has written.
pub struct Slice {
    pub uri: String,
    pub asset: &'static str,
    /// As PostgreSQL reads it.
    pub bucket: String,
    key: String,
    ticks: Vec<Tick>,
    /// What the object becomes: its present content, or more of it.
    whole: Bytes,
    /// Calls of `reload_slice` that were committed.
    pub reloads: AtomicI64,
}

/// The objects of one round, which share nothing with those of any other.
pub struct Round {
    pub slices: Vec<Slice>,
    /// `s3://bucket/prefix`.
    pub prefix: String,
}

impl Round {
    /// Stores its objects.
    pub fn make(fixture: &SoakFixture, number: u64, seed: u64) -> Round {
        let mut random = Random(seed);
        let folder = format!("crowd/{number:06}");
        let slice = |n: i64| {
            let place = number as i64 * OBJECTS + n;
            let asset = ASSETS[n as usize % ASSETS.len()];
            let ticks: Vec<Tick> =
                ticks_of(asset, 1 + place * TICKS as i64, TICKS).iter().map(|tick| moved(tick, place)).collect();
            let key = format!("{folder}/{asset}_{n:02}.parquet");
            let whole = ParquetFile::new().bytes(&ticks);
            let grows = random.below(GROWS) == 0;
            put(fixture, &key, if grows { ParquetFile::new().bytes(&ticks[..TICKS / 2]) } else { whole.clone() });
            let uri = format!("s3://{BUCKET}/{key}");
            let bucket = time_text(ticks[0].bucket_us(), "%Y-%m-%d %H:%M:%S+00");
            Slice { uri, asset, bucket, key, ticks, whole, reloads: AtomicI64::new(0) }
        };
        let slices: Vec<Slice> = (0..OBJECTS).map(slice).collect();
        Round { slices, prefix: format!("s3://{BUCKET}/{folder}") }
    }

    /// Stores the whole content of an object.
    pub fn complete(&self, fixture: &SoakFixture, slice: &Slice) {
        put(fixture, &slice.key, slice.whole.clone());
    }

    /// Waits until what the actors have left is loaded; then completes, registers and retries every object, and waits
    /// until these are loaded, too. Returns how long both took.
    pub fn settle(&self, fixture: &SoakFixture) -> Result<Duration, String> {
        let began = Instant::now();
        let mut client = fixture.client();
        self.wait(&mut client, "as they were left")?;
        self.slices.iter().for_each(|slice| self.complete(fixture, slice));
        for slice in &self.slices {
            client.query("SELECT btc_ingest.retry($1)", &[&slice.uri]).map_err(|error| format!("retry: {error:?}"))?;
            register(&mut client, slice).map_err(|error| format!("register: {error:?}"))?;
        }
        self.wait(&mut client, "after all were registered once more")?;
        Ok(began.elapsed())
    }

    /// Waits until nothing is left to do.
    fn wait(&self, client: &mut Client, when: &str) -> Result<(), String> {
        let waiting = "
            SELECT (SELECT count(*) FROM ingestion.objects
                WHERE starts_with(s3_uri, $1) AND status IN ('pending', 'failed'))
                 + (SELECT count(*) FROM landing.raw_blobs_5m
                     WHERE starts_with(s3_uri, $1) AND status IN ('pending', 'failed'))
                 + (SELECT count(*) FROM ingestion.backfills WHERE status IN ('pending', 'listing', 'loading'))";
        let began = Instant::now();
        loop {
            let left: i64 = client.query_one(waiting, &[&self.prefix]).expect("the queue").get(0);
            if left == 0 {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                return Err(format!("{left} still wait {LIMIT:?} {when}:\n{}", self.story(client, |_| true)));
            }
            std::thread::sleep(STEP);
        }
    }

    /// Checks that every tick is stored once, every version of an object is loaded once, and no lock is held.
    pub fn judge(&self, fixture: &SoakFixture) -> Result<(), String> {
        let mut client = fixture.client();
        let mut wrong = self.sums(&mut client);
        wrong.extend(self.loads(&mut client));
        let held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE d.datname = current_database() AND l.locktype = 'advisory'
                       AND l.pid NOT IN (SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'btc_ingest %')";
        let held: i64 = client.query_one(held, &[]).expect("the locks").get(0);
        if held > 0 {
            wrong.push(format!("{held} advisory locks are held by other processes than workers"));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn sums(&self, client: &mut Client) -> Vec<String> {
        let sql = "SELECT count(*), count(DISTINCT trade_id), min(trade_id), max(trade_id),
                          coalesce(sum(price * quantity), 0)::text
                     FROM market_data.btc_ticks
                    WHERE symbol = $1 AND bucket_5m >= $2::text::timestamptz AND bucket_5m < $3::text::timestamptz";
        let mut wrong = Vec::new();
        let from = &self.slices[0].bucket;
        let to = time_text(self.slices[0].ticks[0].bucket_us() + OBJECTS * BUCKET_US, "%Y-%m-%d %H:%M:%S+00");
        for asset in ASSETS {
            let all = self.slices.iter().filter(|slice| slice.asset == asset).flat_map(|slice| &slice.ticks);
            let sums = Sums::of(all);
            let row = client.query_one(sql, &[&asset, from, &to]).expect("the ticks");
            let found = (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get(2), row.get(3), plain(row.get(4)));
            let rows = sums.rows as i64;
            let wanted = (rows, rows, sums.first_id, sums.last_id, plain(&sums.amount_text()));
            if found != wanted {
                let story = self.story(client, |slice| slice.asset == asset);
                wrong.push(format!(
                    "{asset}: rows, distinct ids, ids and sum are {found:?}, made were {wanted:?}\n{story}"
                ));
            }
        }
        wrong
    }

    /// Checks that each version of each object is loaded once, but for reloads, and that no attempt is open or missing.
    fn loads(&self, client: &mut Client) -> Vec<String> {
        let sql = "
            SELECT o.status, o.attempt_started_at IS NOT NULL AND o.status = 'pending', o.attempts,
                   (SELECT count(*) FROM ingestion.load_history h
                       WHERE h.s3_uri = o.s3_uri AND h.outcome IN ('failed', 'quarantined')),
                   (SELECT coalesce(max(v.loads), 0) FROM (SELECT count(*) AS loads FROM ingestion.load_history h
                     WHERE h.s3_uri = o.s3_uri AND h.outcome = 'loaded' GROUP BY h.etag) AS v),
                   (SELECT count(*) FROM ingestion.load_history h
                       WHERE h.s3_uri = o.s3_uri AND h.outcome = 'quarantined'),
                   (SELECT string_agg(DISTINCT b.status, ' ') FROM landing.raw_blobs_5m b WHERE b.s3_uri = o.s3_uri)
              FROM ingestion.objects o WHERE o.s3_uri = $1";
        let mut wrong = Vec::new();
        for slice in &self.slices {
            let row = client.query_one(sql, &[&slice.uri]).expect("the object");
            let (status, open, attempts): (String, bool, i32) = (row.get(0), row.get(1), row.get(2));
            let (failed, loads, quarantined): (i64, i64, i64) = (row.get(3), row.get(4), row.get(5));
            let registered: Option<String> = row.get(6);
            let reloads = slice.reloads.load(Ordering::SeqCst);
            let questions = [
                (
                    status != "loaded" || registered.as_deref() != Some("loaded"),
                    format!("is {status}, its row {registered:?}"),
                ),
                (quarantined > 0, "was quarantined".to_owned()),
                (open, "has an attempt without a result".to_owned()),
                (i64::from(attempts) > 1 + failed, format!("has {attempts} attempts, and {failed} failures")),
                (loads > 1 + reloads, format!("was loaded {loads} times in one version, and reloaded {reloads} times")),
            ];
            for (_, text) in questions.into_iter().filter(|(is_wrong, _)| *is_wrong) {
                let story = self.story(client, |other| other.uri == slice.uri);
                wrong.push(format!("{} {text}\n{story}", slice.uri));
            }
        }
        wrong
    }

    /// Returns what the tables tell of some of the objects.
    fn story(&self, client: &mut Client, which: impl Fn(&Slice) -> bool) -> String {
        let sql = "
            SELECT coalesce(string_agg(line, E'\n'), '  nothing') FROM (
                SELECT format('  object %s: %s', s3_uri, to_jsonb(o) - '{s3_uri, metadata}'::text[]) AS line
                  FROM ingestion.objects o WHERE s3_uri = $1
                UNION ALL
                SELECT format('  row %s %s: %s, queued %s, version %s', bucket_5m, asset, status, queued_at, xmin)
                    FROM landing.raw_blobs_5m WHERE s3_uri = $1
                UNION ALL
                SELECT format('  %s %s to %s: %s %s, %s of %s inserted', id, started_at, finished_at,
                    concat_ws(' ', outcome, sqlstate, message), etag, rows_inserted, rows_read)
                  FROM (SELECT * FROM ingestion.load_history WHERE s3_uri = $1 ORDER BY id) AS h) AS lines";
        let told = self.slices.iter().filter(|slice| which(slice));
        let told = told.map(|slice| client.query_one(sql, &[&slice.uri]).expect("a story").get::<_, String>(0));
        told.collect::<Vec<_>>().join("\n")
    }
}

/// Stores in memory: a file is replaced in two steps, and a read between them would see what S3 never shows.
fn put(fixture: &SoakFixture, key: &str, bytes: Bytes) {
    fixture.s3.put_copies(BUCKET, [key.to_owned()].into_iter(), bytes);
}

/// Inserts a registry row, as a producer does.
pub fn register(client: &mut impl postgres::GenericClient, slice: &Slice) -> Result<(), postgres::Error> {
    let sql = "INSERT INTO landing.raw_blobs_5m (bucket_5m, asset, s3_uri) VALUES ($1::text::timestamptz, $2, $3)
               ON CONFLICT (bucket_5m, asset) DO UPDATE SET s3_uri = excluded.s3_uri";
    client.execute(sql, &[&slice.bucket, &slice.asset, &slice.uri]).map(drop)
}
