//! What must be true in the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postgres::Client;

use super::actors::Stage;
use super::objects::Objects;
use super::soak_fixture::SoakFixture;
use crate::amcheck;
use crate::fixture::plain;

/// Work that is not done by then hangs.
const LIMIT: Duration = Duration::from_secs(240);
/// The time to release claims of objects that needed no load.
const SOON: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

/// Counts objects, registry rows and backfills that are not finished.
const WAITING: &str = "SELECT (SELECT count(*) FROM btc_ingest.queue) + (SELECT count(*) FROM btc_ingest.progress)
    + (SELECT count(*) FROM landing.raw_blobs_5m WHERE status IN ('pending', 'failed'))";
/// Counts the locks, but for those by which workers reserve their numbers.
const LOCKS: &str = "SELECT (count(*) - count(DISTINCT a.pid) FILTER (WHERE a.backend_type = 'btc_ingest loader'))
      FROM pg_locks l JOIN pg_database d ON d.oid = l.database LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND d.datname = current_database()";

/// Waits until there is nothing left to do.
pub fn wait_until_nothing_waits(fixture: &SoakFixture, stage: &Stage) {
    let mut session = fixture.session();
    let began = Instant::now();
    loop {
        match session.number(WAITING) {
            Ok(0) => return,
            Ok(left) if began.elapsed() > LIMIT => {
                return stage.report_error(&format!("{left} still wait after {LIMIT:?}"));
            }
            Ok(_) => std::thread::sleep(STEP),
            Err(error) => return stage.report_error(&format!("the queue cannot be read: {error}")),
        }
    }
}

/// Returns everything that is wrong.
pub fn judge(fixture: &SoakFixture, objects: &Objects) -> Vec<String> {
    let mut client = fixture.client();
    let mut wrong = sums(&mut client, objects);
    wrong.extend(slices(&mut client, objects));
    wrong.extend(statuses(&mut client, objects));
    wrong.extend(left_behind(&mut client));
    // After all the kills, no index lacks a row and none has one twice.
    wrong.extend(few(amcheck::findings(&mut client)));
    wrong
}

/// Checks that counts and sums per asset are the generator's.
fn sums(client: &mut Client, objects: &Objects) -> Vec<String> {
    let sql = "SELECT count(*), count(DISTINCT (bucket_5m, trade_id)), min(trade_id), max(trade_id),
                      coalesce(sum(price * quantity), 0)::text
                 FROM market_data.btc_ticks WHERE symbol = $1";
    let mut wrong = Vec::new();
    for (asset, sums) in &objects.sums {
        let row = client.query_one(sql, &[asset]).expect("the ticks");
        let found = (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get(2), row.get(3), plain(row.get(4)));
        let rows = sums.rows as i64;
        let wanted = (rows, rows, sums.first_id, sums.last_id, plain(&sums.amount_text()));
        if found != wanted {
            wrong.push(format!("{asset}: rows, distinct rows, ids and sum are {found:?}, generated were {wanted:?}"));
        }
    }
    wrong
}

/// Checks that every slice has its ticks, and that there are no others.
fn slices(client: &mut Client, objects: &Objects) -> Vec<String> {
    let sql = "SELECT symbol, (extract(epoch FROM bucket_5m) * 1000000)::bigint, count(*) FROM market_data.btc_ticks
                GROUP BY 1, 2";
    let rows = client.query(sql, &[]).expect("the ticks");
    let mut found: BTreeMap<(String, i64), i64> =
        rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    let mut wrong = Vec::new();
    for ((asset, bucket), wanted) in &objects.counts {
        let stored = found.remove(&((*asset).to_owned(), *bucket)).unwrap_or(0);
        if stored != *wanted {
            wrong.push(format!("slice {asset} {bucket}: {stored} ticks, generated were {wanted}"));
        }
    }
    wrong.extend(found.iter().map(|(slice, ticks)| format!("{ticks} ticks of {slice:?}, which was never generated")));
    few(wrong)
}

/// Checks that good objects and their rows are loaded, and poisoned ones quarantined, each with its own reason.
fn statuses(client: &mut Client, objects: &Objects) -> Vec<String> {
    let sql =
        "SELECT o.s3_uri, o.status, coalesce(o.last_sqlstate, ''), coalesce(string_agg(b.status, ' '), 'unregistered')
                 FROM ingestion.objects o LEFT JOIN landing.raw_blobs_5m b ON b.s3_uri = o.s3_uri GROUP BY o.s3_uri";
    let rows = client.query(sql, &[]).expect("the objects");
    let mut wrong = Vec::new();
    for row in &rows {
        let (uri, status, sqlstate, registered): (&str, &str, &str, &str) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let poisoned = objects.poisoned.contains(uri);
        let wanted = if poisoned { "quarantined" } else { "loaded" };
        // Errors of the file, or of its absence.
        let its_own = !poisoned || sqlstate.starts_with("PQ") || sqlstate == "S3004";
        if status != wanted || registered != wanted || !its_own {
            wrong.push(format!("{uri}: {status} ({sqlstate}), its registry row: {registered}"));
        }
    }
    let wanted = objects.good + objects.poisoned.len();
    if rows.len() != wanted {
        wrong.push(format!("{} objects are known, {wanted} were made", rows.len()));
    }
    few(wrong)
}

/// Checks that no lock, no attempt and no backfill is left.
fn left_behind(client: &mut Client) -> Vec<String> {
    let mut wrong = Vec::new();
    let questions = [
        (
            "attempts that were begun and have no result",
            "SELECT count(*) FROM ingestion.objects WHERE status = 'pending' AND attempt_started_at IS NOT NULL",
        ),
        ("pages in the root of the hypertable", "SELECT pg_relation_size('market_data.btc_ticks')"),
        ("backfills that have not ended", "SELECT count(*) FROM ingestion.backfills WHERE status <> 'done'"),
        ("prepared transactions", "SELECT count(*) FROM pg_prepared_xacts"),
        ("advisory locks beside the workers' own", LOCKS),
    ];
    for (what, sql) in questions {
        let began = Instant::now();
        let mut found: i64 = client.query_one(sql, &[]).expect(what).get(0);
        while found != 0 && began.elapsed() < SOON {
            std::thread::sleep(STEP);
            found = client.query_one(sql, &[]).expect(what).get(0);
        }
        if found != 0 {
            wrong.push(format!("{found} {what}"));
        }
    }
    wrong
}

/// Shortens a long list to its first entries and the number of the others.
fn few(mut wrong: Vec<String>) -> Vec<String> {
    let all = wrong.len();
    if all > 10 {
        wrong.truncate(10);
        wrong.push(format!("… and {} more of the kind", all - 10));
    }
    wrong
}
