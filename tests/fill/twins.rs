//! Random loads compared with a twin table that PostgreSQL itself fills, row by row. `BTC_INGEST_TEST_SEED` repeats a
//! case, `BTC_INGEST_TEST_CASES` tries more of them.

use btc_ingest_kit::switches::seeds;

use crate::fill_fixture::FillFixture;
use crate::random_case::RandomCase;

both_ways!(random_loads_store_what_a_twin_holds_that_is_filled_row_by_row);

const STEPS: usize = 14;

fn random_loads_store_what_a_twin_holds_that_is_filled_row_by_row(fill: &str) {
    for seed in seeds(3) {
        println!("seed {seed}, index_fill = {fill}");
        let mut case = RandomCase::new(seed, FillFixture::new(fill));
        for step in 0..STEPS {
            case.step(step);
        }
        case.check();
    }
}
