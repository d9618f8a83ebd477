//! Two loaders and a client that store the same ticks at once, in the same leaf pages: each tick is stored once.

use std::collections::BTreeSet;
use std::sync::Barrier;

use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::rows::must_hold;
use btc_ingest_kit::sql::text;
use btc_ingest_kit::switches::seeds;
use btc_ingest_kit::ticks::{Random, time_us};

use crate::fill_fixture::{FillFixture, chunk, load_until_it_succeeds};
use crate::random_ticks::{MIDDLE, Place, RandomTicks, insert, shuffle};
use crate::scans;

both_ways!(two_loaders_and_a_client_that_store_the_same_ticks_store_each_once);

const START: &str = "2024-08-08T12:00:00Z";
const OBJECTS: usize = 5;

/// Returns the places of one object of a loader: every second tick, and some of the other loader's.
fn places(of: usize, object: usize, random: &mut Random) -> Vec<Place> {
    let count = 200 + random.below(1500) as i64;
    let first = MIDDLE + object as i64 * 2000;
    let number = |at: i64, random: &mut Random| {
        let own = first + 2 * at + of as i64;
        if random.below(5) == 0 { own ^ 1 } else { own }
    };
    let numbers: BTreeSet<i64> = (0..count).map(|at| number(at, random)).collect();
    let mut places: Vec<Place> =
        numbers.into_iter().map(|number| Place { bucket: 0, symbol: (number % 3 / 2) as usize, number }).collect();
    match random.below(3) {
        0 => shuffle(&mut places, random),
        1 => places.reverse(),
        _ => {}
    }
    places
}

fn two_loaders_and_a_client_that_store_the_same_ticks_store_each_once(fill: &str) {
    for seed in seeds(3) {
        println!("seed {seed}, index_fill = {fill}");
        let mut fixture = FillFixture::new(fill);
        let made = RandomTicks::new(seed, time_us(START), 2);
        let mut all = BTreeSet::from([Place { bucket: 0, symbol: 0, number: MIDDLE - 1 }]);
        fixture.load(&made.ticks(&all.iter().copied().collect::<Vec<_>>()));
        let mut random = Random(seed);
        let mut uris: [Vec<String>; 2] = Default::default();
        for (of, uris) in uris.iter_mut().enumerate() {
            for object in 0..OBJECTS {
                let places = places(of, object, &mut random);
                uris.push(fixture.put(&made.ticks(&places)));
                all.extend(places);
            }
        }
        let some: Vec<Place> = all.iter().copied().filter(|_| random.below(10) == 0).collect();
        let ready = Barrier::new(3);
        let inserted: u64 = std::thread::scope(|scope| {
            let loads: Vec<_> = uris
                .iter()
                .map(|uris| {
                    let (ready, db) = (&ready, &fixture.db);
                    scope.spawn(move || {
                        let mut client = db.session();
                        ready.wait();
                        uris.iter().map(|uri| load_until_it_succeeds(&mut client, uri).inserted as u64).sum::<u64>()
                    })
                })
                .collect();
            let mut client = fixture.db.session();
            ready.wait();
            let ticks = some.iter().map(|place| made.tick(*place));
            let by_hand: u64 = ticks.map(|tick| insert(&mut client, "market_data.btc_ticks", &[tick])).sum();
            by_hand + loads.into_iter().map(|load| load.join().unwrap()).sum::<u64>()
        });
        must_hold(&mut fixture.client, &made.ticks(&all.iter().copied().collect::<Vec<_>>()));
        assert_eq!(inserted + 1, all.len() as u64, "each tick was inserted by one session");
        must_be_sound(&mut fixture.client, "after both loaders");
        let chunk = chunk(&mut fixture.client);
        assert_eq!(scans::must_agree(&mut fixture.client, &chunk, "true"), all.len() as i64);
        let status = "SELECT string_agg(DISTINCT status, ',') FROM ingestion.objects";
        assert_eq!(text(&mut fixture.client, status), "loaded");
    }
}
