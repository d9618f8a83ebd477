//! The same day in slices, a transaction each, as a live feed brings them and as it is replayed.

use postgres::Client;

use crate::bench::Bench;
use crate::day::{NO_SETTING, WITHOUT_LEDGER, must_be_without_ledger};
use crate::results::{Results, median};
use crate::servers::{copy_statement, timed};

/// How often the replay of a slice is timed in one round.
const REPLAYS: usize = 100;

/// Measures a COPY for each slice, on `connections` connections that take turns.
pub fn copy(bench: &Bench, results: &mut Results, key: &'static str, connections: usize) {
    bench.servers.reset();
    let statements: Vec<String> = bench.day.slices.iter().map(|slice| copy_statement(&slice.copy_file)).collect();
    let mut clients: Vec<_> = (0..connections).map(|_| bench.servers.session()).collect();
    let ((), seconds) = timed(|| {
        std::thread::scope(|scope| {
            for (first, client) in clients.iter_mut().enumerate() {
                let turns = statements.iter().skip(first).step_by(connections);
                scope.spawn(move || turns.for_each(|sql| client.batch_execute(sql).expect("a COPY")));
            }
        });
        Ok(())
    });
    bench.servers.check(&bench.day.sums, key);
    results.add(key, seconds, bench.day.whole.ticks);
}

/// Measures loads of the slices, one after another on one connection; then, if wanted, forced loads and replays.
pub fn load(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let mut client = bench.servers.session();
    let seconds = load_all(bench, &mut client, "");
    bench.servers.check(&bench.day.sums, "load-slices");
    results.add("load-slices", seconds, bench.day.whole.ticks);

    if bench.options.wants("force") {
        bench.servers.checkpoint();
        let seconds = load_all(bench, &mut client, ", force => true");
        bench.servers.check(&bench.day.sums, "force");
        results.add("force", seconds, bench.day.whole.ticks);
    }
    if bench.options.wants("replay") {
        let sql = "SELECT outcome FROM btc_ingest.load_s3_slice($1)";
        let calls: Vec<f64> = bench
            .day
            .slices
            .iter()
            .cycle()
            .take(REPLAYS)
            .map(|slice| {
                let (row, seconds) = timed(|| client.query_one(sql, &[&slice.uri]));
                assert_eq!(row.get::<_, String>(0), "already loaded");
                seconds
            })
            .collect();
        results.add("replay", median(&calls).expect("calls"), 0);
    }
}

/// Measures the same loads in a session without the ledger.
pub fn load_bare(bench: &Bench, results: &mut Results) {
    bench.servers.reset();
    let mut client = bench.servers.session();
    client.batch_execute(WITHOUT_LEDGER).expect("a setting");
    let seconds = load_all(bench, &mut client, "");
    must_be_without_ledger(&mut client);
    bench.servers.check(&bench.day.sums, "slices-bare");
    results.add("slices-bare", seconds, bench.day.whole.ticks);
}

/// Measures the same loads with the setting of the command line.
pub fn load_set(bench: &Bench, results: &mut Results) {
    let Some((name, value)) = &bench.options.set else {
        results.note("slices-set", NO_SETTING);
        return;
    };
    bench.servers.reset();
    let mut client = bench.servers.session();
    let setting = format!("LOAD 'btc_ingest'; SET {name} = '{}'", value.replace('\'', "''"));
    client.batch_execute(&setting).expect("a setting");
    let seconds = load_all(bench, &mut client, "");
    bench.servers.check(&bench.day.sums, "slices-set");
    results.add("slices-set", seconds, bench.day.whole.ticks);
    results.note("slices-set", format!("{name} = {value}"));
}

/// Loads all slices with these further arguments, and returns the seconds that it took.
fn load_all(bench: &Bench, client: &mut Client, arguments: &str) -> f64 {
    let sql = format!("SELECT outcome FROM btc_ingest.load_s3_slice($1{arguments})");
    timed(|| bench.day.slices.iter().try_for_each(|slice| client.query_one(&sql, &[&slice.uri]).map(drop))).1
}
