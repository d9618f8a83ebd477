//! kill -9 of backends, of the postmaster and of everything at random moments of loads: what recovery leaves is sound,
//! holds each object as a whole or not at all, and is exact after the loads are repeated. `BTC_INGEST_TEST_KILLS` kills
//! more often; `make soak` kills a whole pipeline.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::cluster::{backend_pid, client_again, tail};
use btc_ingest_kit::fixture::load;
use btc_ingest_kit::process::{is_running, kill};
use btc_ingest_kit::rows::must_hold;
use btc_ingest_kit::sql::{execute, number};
use btc_ingest_kit::switches::{kills, seeds};
use btc_ingest_kit::ticks::{Random, time_us};
use btc_ingest_kit::wait::{SOON, wait_until};

use crate::fill_fixture::{FillFixture, chunk, load_until_it_succeeds};
use crate::random_ticks::{MIDDLE, NUMBERS, Place, RandomTicks, shuffle};
use crate::scans;

both_ways!(
    what_a_kill_leaves_is_sound_and_a_repeated_load_makes_it_exact,
    what_a_kill_leaves_without_full_pages_in_the_log_is_sound_as_well,
);

const START: &str = "2024-08-08T00:00:00Z";
/// Rounds until the chunk is emptied: more ticks would make the checks slow.
const ROUNDS: i64 = 8;
/// Objects of a loader in a round: some are stored, and not checked, when the kill comes.
const OBJECTS: i64 = 3;
/// The most ticks of an object.
const MOST: i64 = 5000;
/// The number of the tick that makes the chunk.
const FIRST: i64 = 1;

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Backend,
    Postmaster,
    All,
}

fn what_a_kill_leaves_is_sound_and_a_repeated_load_makes_it_exact(fill: &str) {
    // Many buffers, so that what was not logged is lost.
    kill_again_and_again(fill, &[("full_page_writes", "on"), ("shared_buffers", "128MB")]);
}

fn what_a_kill_leaves_without_full_pages_in_the_log_is_sound_as_well(fill: &str) {
    // Few buffers, so that pages are written, and read again, in the middle of a load.
    kill_again_and_again(fill, &[("full_page_writes", "off"), ("shared_buffers", "2MB")]);
}

fn kill_again_and_again(fill: &str, settings: &[(&str, &str)]) {
    for seed in seeds(1) {
        println!("seed {seed}, index_fill = {fill}, {settings:?}");
        let fixture = FillFixture::alone(fill, settings);
        let mut killer = KillFixture::new(fixture, seed);
        for round in 0..kills(3) as i64 {
            killer.round(round);
        }
    }
}

/// Returns the key of an object of a round. Rounds after the chunk was emptied have others at the same places.
fn key(places: &[Place]) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}.parquet", places[0].id(), NUMBER.fetch_add(1, Ordering::SeqCst))
}

/// A server that is killed, and what it must hold.
struct KillFixture {
    fixture: FillFixture,
    random: Random,
    made: RandomTicks,
    stored: Vec<Place>,
    /// How long a load takes that is not killed.
    usual: Duration,
}

impl KillFixture {
    fn new(mut fixture: FillFixture, seed: u64) -> KillFixture {
        let made = RandomTicks::new(seed, time_us(START), 3);
        let first = Place { bucket: 0, symbol: 2, number: FIRST };
        fixture.load(&made.ticks(&[first]));
        let usual = Duration::from_millis(150);
        KillFixture { fixture, random: Random(seed), made, stored: vec![first], usual }
    }

    /// Returns the places of the objects of each loader. Two loaders have slices of their own, or the ticks of one take
    /// turns with those of the other.
    fn objects(&mut self, round: i64) -> Vec<Vec<Vec<Place>>> {
        let loaders = 1 + self.random.below(2) as i64;
        let step = if loaders == 2 && self.random.below(2) == 0 { 2 } else { 1 };
        (0..loaders)
            .map(|loader| {
                let bucket = (round + if step == 2 { 0 } else { loader }) % 3;
                (0..OBJECTS)
                    .map(|object| {
                        let first = (round % ROUNDS) * OBJECTS + object;
                        let first = MIDDLE + first * 2 * MOST + if step == 2 { loader } else { 0 };
                        self.places(bucket, first, step)
                    })
                    .collect()
            })
            .collect()
    }

    fn places(&mut self, bucket: i64, first: i64, step: i64) -> Vec<Place> {
        let count = [300, 1500, 2048, MOST][self.random.below(4) as usize];
        let symbols = 1 + self.random.below(2) as i64;
        let place = |at| Place { bucket, symbol: (at % symbols) as usize, number: first + step * at };
        let mut places: Vec<Place> = (0..count).map(place).collect();
        match self.random.below(4) {
            0 => shuffle(&mut places, &mut self.random),
            1 => places.reverse(),
            _ => {}
        }
        places
    }

    /// Lets one or two sessions load, kills, and checks what is left before and after the loads are repeated.
    fn round(&mut self, round: i64) {
        let victim = [Victim::Backend, Victim::Postmaster, Victim::All][(round % 3) as usize];
        let objects = self.objects(round);
        let put = |places: &Vec<Place>| self.fixture.db.put_as(&key(places), &self.made.ticks(places));
        let uris: Vec<Vec<String>> = objects.iter().map(|objects| objects.iter().map(put).collect()).collect();
        let moment = self.usual.mul_f64(objects.len() as f64 * OBJECTS as f64 * self.random.fraction());
        let checkpoint = (self.random.below(3) == 0).then(|| moment.mul_f64(self.random.fraction()));
        println!("round {round}: {victim:?} after {moment:?}, checkpoint after {checkpoint:?}, {} loaders", uris.len());
        self.strike(&uris, victim, moment, checkpoint);

        let connection = self.fixture.db.connection_string();
        self.fixture.client = client_again(&connection);
        let client = &mut self.fixture.client;
        must_be_sound(client, &format!("round {round}, after the recovery from the kill of {victim:?}"));
        let mut wanted = self.stored.len() as i64;
        let mut whole = 0;
        for places in objects.iter().flatten() {
            let ids: Vec<i64> = places.iter().map(|place| place.id()).collect();
            let sql = "SELECT count(*) FROM market_data.btc_ticks WHERE trade_id = ANY ($1)";
            let found: i64 = client.query_one(sql, &[&ids]).unwrap().get(0);
            assert!(found == 0 || found == ids.len() as i64, "{found} of {} ticks are left", ids.len());
            wanted += found;
            whole += usize::from(found > 0);
        }
        println!("{whole} objects are left");
        assert_eq!(number(client, "SELECT count(*) FROM market_data.btc_ticks"), wanted);
        for (uri, places) in uris.iter().flatten().zip(objects.iter().flatten()) {
            let began = Instant::now();
            if load_until_it_succeeds(client, uri).inserted > 0 {
                self.usual = (self.usual + began.elapsed()) / 2;
            }
            self.stored.extend(places);
        }
        must_hold(client, &self.made.ticks(&self.stored));
        must_be_sound(client, &format!("round {round}, after the repeated loads"));
        let chunk = chunk(client);
        assert_eq!(scans::must_agree(client, &chunk, "true"), self.stored.len() as i64);
        if (round + 1) % ROUNDS == 0 {
            execute(client, &format!("DELETE FROM {chunk} WHERE trade_id % {NUMBERS} <> {FIRST}"));
            scans::must_have_no_more_entries(client, &chunk);
            self.stored.retain(|place| place.number == FIRST);
        }
    }

    /// Kills in the middle of loads, and starts the server again.
    fn strike(&mut self, uris: &[Vec<String>], victim: Victim, moment: Duration, checkpoint: Option<Duration>) {
        let before = self.fixture.db.cluster().log().len();
        let fixture = &self.fixture;
        std::thread::scope(|scope| {
            let (mut pids, mut loads) = (Vec::new(), Vec::new());
            for uris in uris {
                let mut session = fixture.db.session();
                pids.push(backend_pid(&mut session));
                // Which loads succeed depends on the moment. The session stays, so that there is something to kill.
                loads.push(scope.spawn(move || {
                    uris.iter().all(|uri| load(&mut session, uri, "").is_ok());
                    session
                }));
            }
            let began = Instant::now();
            if let Some(checkpoint) = checkpoint {
                let mut session = fixture.db.session();
                scope.spawn(move || {
                    std::thread::sleep(checkpoint);
                    drop(session.batch_execute("CHECKPOINT"));
                });
            }
            std::thread::sleep(moment.saturating_sub(began.elapsed()));
            match victim {
                Victim::Backend => {
                    kill(pids[0]);
                    wait_until("the killed backend", SOON, || !is_running(pids[0]));
                }
                Victim::Postmaster => fixture.db.cluster().kill_postmaster(),
                Victim::All => fixture.db.cluster().kill(),
            }
        });
        if !matches!(victim, Victim::Backend) {
            self.fixture.db.cluster().start();
        }
        let ready = "database system is ready to accept connections";
        wait_until("the recovery", SOON, || {
            let log = self.fixture.db.cluster().log().split_off(before);
            assert!(!log.contains("PANIC"), "{}", tail(&log, 40));
            log.contains(ready)
        });
    }
}
