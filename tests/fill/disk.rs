//! An index on a disk that becomes full while a load fills it.

use btc_ingest_kit::amcheck::must_be_sound;
use btc_ingest_kit::fixture::{Refusal, load, loaded};
use btc_ingest_kit::rows::must_hold;
use btc_ingest_kit::sql::execute;
use btc_ingest_kit::ticks::{Random, time_us};
use btc_ingest_kit::{SmallDisk, Tick};

use crate::fill_fixture::{COLUMNS, FillFixture, chunk, index};
use crate::random_ticks::{MIDDLE, Place, RandomTicks, shuffle};
use crate::scans;

both_ways!(an_index_whose_disk_is_full_stays_sound_and_the_load_is_repeated_when_there_is_space);

const START: &str = "2024-08-08T12:00:00Z";
/// Ticks of an object.
const TICKS: i64 = 1500;

/// Returns the ticks of an object, in an order of its own.
fn object(made: &RandomTicks, number: i64, random: &mut Random) -> Vec<Tick> {
    let first = MIDDLE + number * TICKS;
    let mut places: Vec<Place> =
        (0..TICKS).map(|at| Place { bucket: number % 3, symbol: (at % 2) as usize, number: first + at }).collect();
    match number % 3 {
        0 => shuffle(&mut places, random),
        1 => places.reverse(),
        _ => {}
    }
    made.ticks(&places)
}

fn an_index_whose_disk_is_full_stays_sound_and_the_load_is_repeated_when_there_is_space(fill: &str) {
    // Lists of rows make the last index small.
    for (number, (columns, size)) in COLUMNS.into_iter().zip(["1m", "1m", "160k"]).enumerate() {
        let Some(disk) = SmallDisk::mount(size) else { return };
        let mut fixture = FillFixture::new(fill);
        let (mut random, made) = (Random(1), RandomTicks::new(number as u64, time_us(START), 2));
        let mut stored = vec![made.tick(Place { bucket: 0, symbol: 0, number: 0 })];
        fixture.load(&stored);
        let chunk = chunk(&mut fixture.client);
        let index = index(&mut fixture.client, &chunk, columns);
        let space = format!("full_{fill}_{number}");
        execute(&mut fixture.client, &format!("CREATE TABLESPACE {space} LOCATION '{}'", disk.path().display()));
        execute(&mut fixture.client, &format!("ALTER INDEX {index} SET TABLESPACE {space}"));

        // Each object is tried until one does not fit; several tries meet the full disk at different pages.
        let mut objects = 0;
        let (uri, ticks) = loop {
            let ticks = object(&made, objects, &mut random);
            let uri = fixture.put(&ticks);
            match load(&mut fixture.client, &uri, "") {
                Ok(report) => assert_eq!(report.inserted, TICKS),
                Err(error) => break (must_be_full(error, &uri), ticks),
            }
            stored.extend(ticks);
            objects += 1;
            assert!(objects < 60, "{objects} objects fit on the disk");
        };
        assert!(objects > 0, "nothing has fitted");
        must_be_sound(&mut fixture.client, columns);
        must_hold(&mut fixture.client, &stored);
        for other in 1..6 {
            let ticks = object(&made, objects + other, &mut random);
            // A load of less may still fit.
            let some = &ticks[..ticks.len() / other as usize];
            let uri = fixture.put(some);
            match load(&mut fixture.client, &uri, "") {
                Ok(_) => stored.extend_from_slice(some),
                Err(error) => drop(must_be_full(error, &uri)),
            }
            must_be_sound(&mut fixture.client, columns);
        }
        must_hold(&mut fixture.client, &stored);

        disk.resize("64m");
        assert_eq!(loaded(&mut fixture.client, &uri, "").inserted, TICKS);
        stored.extend(ticks);
        must_hold(&mut fixture.client, &stored);
        must_be_sound(&mut fixture.client, columns);
        assert_eq!(scans::must_agree(&mut fixture.client, &chunk, "true"), stored.len() as i64);
        execute(&mut fixture.client, &format!("ALTER INDEX {index} SET TABLESPACE pg_default"));
        execute(&mut fixture.client, "CHECKPOINT");
        execute(&mut fixture.client, &format!("DROP TABLESPACE {space}"));
    }
}

/// Checks that an error is that of a full disk, and returns the uri.
#[track_caller]
fn must_be_full(error: postgres::Error, uri: &str) -> String {
    let refusal = Refusal::from(error);
    assert_eq!(refusal.sqlstate, "53100", "{refusal:?}");
    assert!(refusal.message.contains("could not extend file"), "{refusal:?}");
    uri.to_owned()
}
