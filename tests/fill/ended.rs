//! Loads that end before they are done: rolled back to savepoints, cancelled, terminated.

use std::time::{Duration, Instant};

use btc_ingest_kit::Tick;
use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::cluster::backend_pid;
use btc_ingest_kit::fixture::load;
use btc_ingest_kit::process::is_running;
use btc_ingest_kit::rows::must_hold;
use btc_ingest_kit::sql::{execute, number};
use btc_ingest_kit::switches::{kills, seeds};
use btc_ingest_kit::ticks::{Random, time_us};
use btc_ingest_kit::wait::{SOON, wait_until};

use crate::fill_fixture::FillFixture;
use crate::random_ticks::{MIDDLE, Place, RandomTicks, shuffle};

both_ways!(
    savepoints_that_are_rolled_back_leave_dead_twins_and_sound_indexes,
    loads_that_are_cancelled_at_any_moment_leave_sound_indexes_and_are_repeated,
);

const START: &str = "2024-08-08T12:00:00Z";

/// Returns the ticks of an object of one slice, in a random order.
fn object(made: &RandomTicks, first: i64, count: i64, random: &mut Random) -> Vec<Tick> {
    let mut places: Vec<Place> =
        (0..count).map(|at| Place { bucket: 0, symbol: (at % 7 / 5) as usize, number: first + at }).collect();
    match random.below(3) {
        0 => shuffle(&mut places, random),
        1 => places.reverse(),
        _ => {}
    }
    made.ticks(&places)
}

fn savepoints_that_are_rolled_back_leave_dead_twins_and_sound_indexes(fill: &str) {
    for seed in seeds(2) {
        println!("seed {seed}, index_fill = {fill}");
        let mut fixture = FillFixture::new(fill);
        let (mut random, made) = (Random(seed), RandomTicks::new(seed, time_us(START), 2));
        let mut stored = object(&made, MIDDLE - 1, 1, &mut random);
        fixture.load(&stored);
        for transaction in 0..3 {
            execute(&mut fixture.client, "BEGIN");
            for at in 0..5 {
                let count = 1 + random.below(1200) as i64;
                let ticks = object(&made, MIDDLE + (transaction * 5 + at) * 2000, count, &mut random);
                // Up to two tries are undone: the next one meets the dead twins of all its keys.
                for _ in 0..random.below(3) {
                    execute(&mut fixture.client, "SAVEPOINT s");
                    assert_eq!(fixture.load(&ticks), count);
                    execute(&mut fixture.client, "ROLLBACK TO s");
                }
                assert_eq!(fixture.load(&ticks), count);
                stored.extend(ticks);
            }
            execute(&mut fixture.client, "COMMIT");
        }
        must_hold(&mut fixture.client, &stored);
        must_be_sound(&mut fixture.client, "after the savepoints");
        execute(&mut fixture.client, "VACUUM market_data.btc_ticks");
        must_be_sound(&mut fixture.client, "after a vacuum");
    }
}

fn loads_that_are_cancelled_at_any_moment_leave_sound_indexes_and_are_repeated(fill: &str) {
    let mut random = Random(1);
    let mut fixture = FillFixture::new(fill);
    let made = RandomTicks::new(1, time_us(START), 2);
    let mut stored = object(&made, MIDDLE - 1, 1, &mut random);
    fixture.load(&stored);
    // How long a load takes that is not cancelled.
    let mut usual = Duration::from_millis(300);
    for round in 0..kills(6) as i64 {
        let ticks = object(&made, MIDDLE + (round % 40) * 10_000, 4000 + random.below(6000) as i64, &mut random);
        let uri = fixture.put(&ticks);
        let mut loader = fixture.db.session();
        let pid = backend_pid(&mut loader);
        let function = if round % 2 == 0 { "pg_cancel_backend" } else { "pg_terminate_backend" };
        let cancelled = std::thread::scope(|scope| {
            let loading = scope.spawn(|| load(&mut loader, &uri, "").is_err());
            std::thread::sleep(usual.mul_f64(random.fraction()));
            fixture.client.query(&format!("SELECT {function}({pid})"), &[]).unwrap();
            loading.join().unwrap()
        });
        drop(loader);
        wait_until("the loader's end", SOON, || !is_running(pid));
        println!("round {round}: {function}, cancelled: {cancelled}");
        must_be_sound(&mut fixture.client, function);
        let rows = number(&mut fixture.client, "SELECT count(*) FROM market_data.btc_ticks");
        assert_eq!(rows as usize, stored.len() + if cancelled { 0 } else { ticks.len() });
        let began = Instant::now();
        let report = load(&mut fixture.client, &uri, "").unwrap();
        if cancelled {
            assert_eq!(report.inserted, ticks.len() as i64);
            usual = began.elapsed();
        }
        stored.extend(ticks);
        if (round + 1) % 40 == 0 {
            must_hold(&mut fixture.client, &stored);
            execute(&mut fixture.client, "DELETE FROM market_data.btc_ticks");
            execute(&mut fixture.client, "VACUUM market_data.btc_ticks");
            stored.clear();
        }
    }
    must_hold(&mut fixture.client, &stored);
    must_be_sound(&mut fixture.client, "after all");
}
