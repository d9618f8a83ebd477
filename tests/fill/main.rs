//! How the append path fills indexes, with each value of `btc_ingest.index_fill`: PostgreSQL's own checks of indexes
//! and tables are clean and the rows are exact after all that may happen to a load or beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Makes two tests of each function, one for each value of `btc_ingest.index_fill`.
macro_rules! both_ways {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[test]
            fn row() {
                super::$test("row");
            }

            #[test]
            fn runs() {
                super::$test("runs");
            }
        })+
    };
}

mod alongside;
mod damage;
mod disk;
mod ended;
mod fill_fixture;
mod hints;
mod killed;
mod pages;
mod paused_vacuum;
mod random_case;
mod random_ticks;
mod readers;
mod replayed;
mod scans;
mod serializable;
mod twins;
mod unfinished;
mod vacuumed;
